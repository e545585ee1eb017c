#include "ingress/reader_state.h"

enum {
    PAUSE_MS = 10,        /* how long a cell over its rate or share is left alone before a look */
    COMMIT_RETRY_MS = 20, /* after the spool refused */
};

void cg_reader_set_paused(struct cg_reader *reader, struct cg_channel *channel, bool paused)
{
    struct cg_cell *cell = channel->cell;
    if (paused) {
        cg_life_pause(&channel->life, reader->stalled ? CG_PAUSE_SPOOL : channel->pause,
                      reader->now_ns);
    } else {
        cg_life_unpause(&channel->life, cell->keepalive_window_ns, reader->now_ns);
    }
    atomic_store_explicit(&cell->paused, paused, memory_order_relaxed);
    cg_reader_schedule(reader, channel);
}

/* Frames are awaited anew: what came while nobody read is only read now. */
static void await_anew(const struct cg_reader *reader, struct cg_channel *channel)
{
    _Atomic uint64_t *awaited_from_ns = &channel->cell->awaited_from_ns;
    if (atomic_load_explicit(awaited_from_ns, memory_order_relaxed) < reader->now_ns) {
        atomic_store_explicit(awaited_from_ns, reader->now_ns, memory_order_relaxed);
    }
}

bool cg_reader_over_share(struct cg_reader *reader, const struct cg_channel *channel)
{
    return !reader->unlimited && !channel->forgotten &&
           cg_spool_run_over_share(reader->spool, channel->cell->run);
}

void cg_reader_pause(struct cg_reader *reader, struct cg_channel *channel, enum cg_life_pause why)
{
    channel->pause = why;
    channel->pause_ends_ns = reader->now_ns + PAUSE_MS * CG_NS_PER_MS;
    cg_list_append(&reader->paused, &channel->in_paused);
    cg_reader_set_paused(reader, channel, true);
}

void cg_reader_resume_channel(struct cg_reader *reader, struct cg_channel *channel)
{
    cg_list_remove(&channel->in_paused);
    await_anew(reader, channel);
    cg_reader_set_paused(reader, channel, reader->stalled);
    struct cg_list *next;
    for (struct cg_list *at = channel->connections.next; at != &channel->connections; at = next) {
        next = at->next;
        struct cg_connection *connection = CG_LIST_ENTRY(at, struct cg_connection, in_channel);
        if (connection->state != CG_CONNECTION_SUSPENDED) {
            continue;
        }
        connection->state = CG_CONNECTION_OPEN;
        if (!cg_loop_add(&reader->loop, connection->fd, connection, NULL)) {
            connection->state = CG_CONNECTION_SUSPENDED;
            cg_reader_close_stalled(reader, connection, "no memory to watch it again");
        }
    }
}

static void pause_all(struct cg_reader *reader)
{
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        struct cg_channel *channel = CG_LIST_ENTRY(at, struct cg_channel, in_reader);
        cg_reader_set_paused(reader, channel, !cg_list_is_empty(&channel->connections));
    }
}

static void unpause_all(struct cg_reader *reader)
{
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        struct cg_channel *channel = CG_LIST_ENTRY(at, struct cg_channel, in_reader);
        await_anew(reader, channel);
        cg_reader_set_paused(reader, channel, cg_list_is_linked(&channel->in_paused));
    }
}

/* The spool refused: what is staged stays staged, and nothing is read until it is taken. */
static void stall(struct cg_reader *reader, enum cg_append outcome)
{
    reader->retry_at_ns = reader->now_ns + COMMIT_RETRY_MS * CG_NS_PER_MS;
    if (reader->stalled) {
        return;
    }
    reader->stalled = true;
    reader->stalled_since_ns = reader->now_ns;
    pause_all(reader);
    cg_metric_add(CG_SERIES_ingress_paused_spool, 1);
    uint64_t suppressed;
    if (cg_log_limit_pass(&reader->shared->pause_log_limit, reader->now_ns, &suppressed)) {
        CG_LOG(CG_LOG_WARNING, "ingress_paused", CG_F_STR("reason", "spool"),
               CG_F_STR("detail", outcome == CG_APPEND_FULL ? "the spool is full"
                                                            : reader->pipeline->commit_error.text),
               CG_F_U64("suppressed", suppressed));
    }
}

static void unstall(struct cg_reader *reader)
{
    reader->stalled = false;
    reader->stalled_total_ns += reader->now_ns - reader->stalled_since_ns;
    reader->untold = false;
    unpause_all(reader);
}

/* True if everything staged is published. */
bool cg_reader_commit(struct cg_reader *reader)
{
    enum cg_append outcome = cg_pipeline_commit(reader->pipeline);
    cg_overflow_report(&reader->shared->overflow, reader->now_ns);
    if (outcome != CG_APPEND_DONE) {
        stall(reader, outcome);
        return false;
    }
    if (reader->stalled) {
        unstall(reader);
    }
    return true;
}

void cg_reader_end_pauses(struct cg_reader *reader)
{
    while (!cg_list_is_empty(&reader->paused)) {
        struct cg_channel *channel =
            CG_LIST_ENTRY(reader->paused.next, struct cg_channel, in_paused);
        if (channel->pause_ends_ns > reader->now_ns && !reader->unlimited) {
            return;
        }
        bool over_share = cg_reader_over_share(reader, channel);
        if (over_share || (!reader->unlimited &&
                           cg_rate_in_debt(&reader->rate, &channel->bucket, reader->now_ns))) {
            cg_list_remove(&channel->in_paused);
            cg_reader_pause(reader, channel, over_share ? CG_PAUSE_SHARE : CG_PAUSE_RATE);
        } else {
            cg_reader_resume_channel(reader, channel);
        }
    }
}
