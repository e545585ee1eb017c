/* leaving.c - the end of a run: what its connections held is read, then it is told. */
#include "ingress/reader_state.h"

#include <stdlib.h>
#include <sys/ioctl.h>

/* How long the caller waits beyond the deadline for a reader that the disk holds up. */
enum { ANSWER_GRACE_MS = 500 };

/* Where a caller waits; on its stack, and under the reader's inbox lock. */
struct cg_farewell {
    pthread_cond_t answered;
    uint64_t deadline_ns;
    struct cg_run_totals totals;
    bool done, appended;
};

static struct cg_run_totals totals_of(const struct cg_channel *channel)
{
    const struct cg_cell *cell = channel->cell;
    return (struct cg_run_totals){
        .last_sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed),
        .frames = atomic_load_explicit(&cell->frames, memory_order_relaxed),
        .bytes = atomic_load_explicit(&cell->frame_bytes, memory_order_relaxed),
        .silences = cg_life_silences(&channel->life),
        .drops = cg_life_drops(&channel->life),
    };
}

/* --- the caller's side --- */

static struct timespec wait_until(const struct cg_clock *clock, uint64_t deadline_ns)
{
    uint64_t now_ns = cg_clock_monotonic(clock);
    uint64_t wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    uint64_t until_ns = cg_clock_monotonic(&cg_clock_system) + wait_ns;
    until_ns += ANSWER_GRACE_MS * CG_NS_PER_MS;
    return (struct timespec){.tv_sec = (time_t)(until_ns / CG_NS_PER_S),
                             .tv_nsec = (long)(until_ns % CG_NS_PER_S)};
}

bool cg_reader_forget(struct cg_reader *reader, struct cg_channel *channel, uint64_t deadline_ns,
                      struct cg_run_totals *ret_totals)
{
    struct cg_farewell farewell = {.deadline_ns = deadline_ns};
    (void)pthread_cond_init(&farewell.answered, NULL);
    const struct timespec until = wait_until(reader->config->clock, deadline_ns);

    (void)pthread_mutex_lock(&reader->inbox_lock);
    channel->forgotten = true;
    channel->farewell = &farewell;
    if (!cg_list_is_linked(&channel->in_notes)) {
        cg_list_append(&reader->notes, &channel->in_notes);
    }
    cg_loop_wake(&reader->loop);
    int waited = 0;
    while (!farewell.done && waited == 0) {
        waited = pthread_cond_clockwait(&farewell.answered, &reader->inbox_lock, CLOCK_MONOTONIC,
                                        &until);
    }
    if (!farewell.done) {
        /* The reader frees a channel only after it has looked here: this one is still there. It
         * may go on counting meanwhile, so the totals are atomics. */
        channel->farewell = NULL;
        farewell.totals = totals_of(channel);
    }
    (void)pthread_mutex_unlock(&reader->inbox_lock);
    (void)pthread_cond_destroy(&farewell.answered);
    *ret_totals = farewell.totals;
    return farewell.appended;
}

/* --- the reader's side --- */

static void answer(struct cg_reader *reader, struct cg_channel *channel, bool appended)
{
    const struct cg_run_totals totals = totals_of(channel);
    (void)pthread_mutex_lock(&reader->inbox_lock);
    struct cg_farewell *farewell = channel->farewell;
    channel->farewell = NULL;
    if (farewell != NULL) {
        farewell->totals = totals;
        farewell->appended = appended;
        farewell->done = true;
        (void)pthread_cond_signal(&farewell->answered);
    }
    (void)pthread_mutex_unlock(&reader->inbox_lock);
}

/* 0 when nobody waits any more. */
static uint64_t deadline_of(struct cg_reader *reader, const struct cg_channel *channel)
{
    (void)pthread_mutex_lock(&reader->inbox_lock);
    uint64_t deadline_ns = channel->farewell == NULL ? 0 : channel->farewell->deadline_ns;
    (void)pthread_mutex_unlock(&reader->inbox_lock);
    return deadline_ns;
}

void cg_reader_begin_leaving(struct cg_reader *reader, struct cg_channel *channel)
{
    if (cg_list_is_linked(&channel->in_paused)) {
        cg_reader_resume_channel(reader, channel);
    }
    struct cg_list *head = &channel->connections;
    for (struct cg_list *at = head->next; at != head; at = at->next) {
        struct cg_connection *connection = CG_LIST_ENTRY(at, struct cg_connection, in_channel);
        int held = 0;
        if (ioctl(connection->fd, FIONREAD, &held) == 0 && held > 0) {
            connection->held_bytes = (uint32_t)held;
        }
    }
    cg_list_append(&reader->leaving, &channel->in_leaving);
}

/* Reads on from one connection, or closes it, if it has nothing more or there is no more time.
 * One at a time: what a read brings may close others too. */
static void read_rest(struct cg_reader *reader, struct cg_channel *channel, bool late)
{
    struct cg_connection *connection = NULL;
    struct cg_list *head = &channel->connections;
    for (struct cg_list *at = head->next; at != head && connection == NULL; at = at->next) {
        connection = CG_LIST_ENTRY(at, struct cg_connection, in_channel);
        connection = connection->state == CG_CONNECTION_DRAINING ? NULL : connection;
    }
    if (connection == NULL || reader->stalled) {
        return;
    }
    uint32_t before = connection->held_bytes;
    if (before > 0 && !late) {
        cg_reader_read(reader, connection, before);
        if (connection->state != CG_CONNECTION_OPEN || reader->stalled) {
            return;
        }
    }
    if (late || connection->held_bytes == 0 || connection->held_bytes == before) {
        cg_reader_close(reader, connection, CG_CLOSE_DEREGISTERED);
    }
}

static bool tell_end(struct cg_reader *reader, struct cg_channel *channel)
{
    const struct cg_run_totals totals = totals_of(channel);
    const struct cg_life_end end = {
        .last_sequence = totals.last_sequence + 1,
        .frames = totals.frames,
        .bytes = totals.bytes,
        .silences = totals.silences,
        .drops = totals.drops,
    };
    cg_life_ended(&end, &reader->event);
    enum cg_told told = cg_pipeline_tell(reader->pipeline, channel, &reader->event,
                                         cg_clock_realtime(reader->config->clock));
    if (told == CG_TOLD_UNSIGNED) {
        cg_reader_report_unsigned(reader, channel, 1);
    }
    return told != CG_TOLD_BLOCKED;
}

/* Nothing refers to it any more but connections that are read to their end. */
static void end(struct cg_reader *reader, struct cg_channel *channel, bool appended)
{
    cg_timers_set(&reader->timers, &channel->timer, CG_TIMER_NEVER);
    cg_list_remove(&channel->in_leaving);
    cg_list_remove(&channel->in_reader);
    cg_list_append(&reader->ended, &channel->in_leaving);
    answer(reader, channel, appended);
}

/* Returns false if the spool refuses: there is no use in going on with others. */
static bool tend(struct cg_reader *reader, struct cg_channel *channel)
{
    uint64_t deadline_ns = deadline_of(reader, channel);
    read_rest(reader, channel, deadline_ns <= reader->now_ns);
    if (channel->connections_count > 0) {
        return !reader->stalled;
    }
    if (reader->stalled) {
        return false;
    }
    if (!channel->end_told) {
        if (!cg_reader_tell(reader, channel, true) ||
            !cg_reader_corroborate(reader, channel, true) || !tell_end(reader, channel)) {
            return false;
        }
        channel->end_told = true;
    }
    if (!cg_reader_commit(reader)) {
        return false;
    }
    cg_metric_add(CG_SERIES_runs_ended, 1);
    channel->cell->run_over = true; /* nothing of it is staged any more */
    end(reader, channel, true);
    return true;
}

void cg_reader_tend_leaving(struct cg_reader *reader)
{
    struct cg_list *next;
    for (struct cg_list *at = reader->leaving.next; at != &reader->leaving; at = next) {
        next = at->next;
        struct cg_channel *channel = CG_LIST_ENTRY(at, struct cg_channel, in_leaving);
        if (!tend(reader, channel) && deadline_of(reader, channel) <= reader->now_ns) {
            answer(reader, channel, false);
        }
    }
}

void cg_reader_bury_ended(struct cg_reader *reader)
{
    struct cg_list *next;
    for (struct cg_list *at = reader->ended.next; at != &reader->ended; at = next) {
        next = at->next;
        struct cg_channel *channel = CG_LIST_ENTRY(at, struct cg_channel, in_leaving);
        if (cg_list_is_empty(&channel->connections)) {
            cg_list_remove(&channel->in_leaving);
            cg_channel_end_log(channel);
            cg_channel_free(channel);
        }
    }
}

void cg_reader_end_leaving(struct cg_reader *reader)
{
    while (!cg_list_is_empty(&reader->leaving)) {
        end(reader, CG_LIST_ENTRY(reader->leaving.next, struct cg_channel, in_leaving), false);
    }
    cg_reader_bury_ended(reader);
}
