#include "ingress/reader.h"

#include "ingress/reader_state.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { READ_BYTES_MIN = 4096 };

/* A frame becomes a record of so many times its size, about: near the end of a cell's share reads
 * become small, so that it is not passed by much. */
enum { RECORD_GROWTH = 8 };

/* --- making --- */

bool cg_reader_new(const struct cg_ingress_config *config, struct cg_ingress_shared *shared,
                   const struct cg_envelope *envelope, const struct cg_signing_key *key,
                   struct cg_spool *spool, struct cg_reader **ret_reader, struct cg_error *err)
{
    struct cg_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return cg_error_set(err, "out of memory for an ingress thread");
    }
    reader->loop = (struct cg_loop){.epoll_fd = -1, .wake_fd = -1};
    reader->config = config;
    reader->shared = shared;
    reader->spool = spool;
    reader->settings = (struct cg_ingress_settings){
        .frames_per_second = config->frames_per_second,
        .frames_burst = config->frames_burst,
        .frame_deadline_ns = config->frame_deadline_ns,
        .boot_grace_ns = config->boot_grace_ns,
        .keepalive_once = config->keepalive_once,
        .spool_gives_up = config->spool_gives_up,
    };
    atomic_store(&shared->boot_grace_ns, config->boot_grace_ns);
    reader->partial_bytes_max = config->partial_bytes_max / config->threads;
    (void)pthread_mutex_init(&reader->inbox_lock, NULL);
    (void)pthread_cond_init(&reader->changed, NULL);
    cg_list_init(&reader->inbox);
    cg_list_init(&reader->notes);
    cg_list_init(&reader->channels);
    cg_list_init(&reader->leaving);
    cg_list_init(&reader->ended);
    cg_list_init(&reader->paused);
    cg_list_init(&reader->draining);
    cg_list_init(&reader->closed);
    cg_partials_init(&reader->partials);
    if (!cg_loop_init(&reader->loop, err) ||
        !cg_pipeline_new(envelope, key, spool, &reader->pipeline, err)) {
        cg_reader_free(reader);
        return false;
    }
    cg_reader_settle(reader);
    *ret_reader = reader;
    return true;
}

/* --- reading --- */

/* Beyond the ceiling the cell that holds most loses the connection of its oldest partial frame. */
static void enforce_ceiling(struct cg_reader *reader)
{
    while (reader->partials.bytes > reader->partial_bytes_max) {
        struct cg_connection *victim = NULL;
        struct cg_list *head = &reader->partials.by_age;
        for (struct cg_list *at = head->next; at != head; at = at->next) {
            struct cg_connection *owner = CG_LIST_ENTRY(at, struct cg_partial, by_age)->owner;
            if (victim == NULL || owner->channel->partial_bytes > victim->channel->partial_bytes) {
                victim = owner;
            }
        }
        CG_ASSERT(victim != NULL);
        cg_reader_close_stalled(reader, victim, "too many bytes of partly sent frames");
    }
}

static void hold_partial(struct cg_reader *reader, struct cg_connection *connection,
                         struct cg_bytes bytes, size_t needed)
{
    size_t grown = cg_partial_append(&reader->partials, &connection->partial, connection, bytes,
                                     needed, cg_reader_reading_time(reader));
    if (grown == SIZE_MAX) {
        cg_reader_close_stalled(reader, connection, "no memory for a partly sent frame");
        return;
    }
    connection->channel->partial_bytes += (uint32_t)grown;
    enforce_ceiling(reader);
}

static void spend_rate(struct cg_reader *reader, struct cg_channel *channel, uint64_t frames)
{
    cg_rate_take(&reader->rate, &channel->bucket, frames, reader->now_ns);
    bool unlimited = reader->unlimited || channel->forgotten;
    if (!unlimited && !cg_list_is_linked(&channel->in_paused) &&
        cg_rate_in_debt(&reader->rate, &channel->bucket, reader->now_ns)) {
        cg_reader_pause(reader, channel, CG_PAUSE_RATE);
        cg_metric_add(CG_SERIES_ingress_paused_rate, 1);
    }
}

/* Keeps the frame that the stream ends in. A frame that was held already goes on being the same
 * one, with its age, if nothing was taken off the stream. */
static void keep_rest(struct cg_reader *reader, struct cg_connection *connection,
                      struct cg_bytes stream, size_t needed)
{
    size_t held = connection->partial == NULL ? 0 : connection->partial->len;
    if (stream.len > held) {
        hold_partial(reader, connection, cg_bytes(stream.data + held, stream.len - held), needed);
    }
}

/* Frames were accepted: a first one ends the grace, and one after a silence is told. */
static void hear(struct cg_reader *reader, struct cg_channel *channel, bool first)
{
    if (first) {
        atomic_store_explicit(&channel->cell->awaited_from_ns, reader->now_ns,
                              memory_order_relaxed);
        cg_reader_schedule(reader, channel);
    }
    if (channel->life.silent_since_ns != 0) {
        cg_life_heard(&channel->life, reader->now_ns);
        (void)cg_reader_tell(reader, channel, false);
    }
}

/* Sends a stream, which begins with what the connection holds, down the pipeline, and deals with
 * how that ends. */
static void take(struct cg_reader *reader, struct cg_connection *connection, uint64_t received_ns,
                 struct cg_bytes stream)
{
    const char *start = stream.data;
    struct cg_channel *channel = connection->channel;
    bool first = atomic_load_explicit(&channel->cell->last_frame_ns, memory_order_relaxed) == 0;
    uint64_t frames = 0;
    struct cg_pipeline_taken taken;
    do {
        cg_pipeline_take(reader->pipeline, connection, received_ns, reader->now_ns, &stream,
                         &taken);
        reader->tally.frames += taken.frames;
        reader->tally.bytes += taken.bytes;
        if (taken.unsigned_events > 0) {
            cg_reader_report_unsigned(reader, channel, taken.unsigned_events);
            (void)cg_reader_tell(reader, channel, false);
        }
        frames += taken.frames;
        spend_rate(reader, channel, taken.frames);
    } while (taken.end == CG_TAKEN_BLOCKED && cg_reader_commit(reader));
    if (frames > 0) {
        hear(reader, channel, first);
    }

    if (stream.data != start || taken.end == CG_TAKEN_BLOCKED) {
        cg_reader_drop_partial(reader, connection);
    }
    switch (taken.end) {
    case CG_TAKEN_ALL:
        keep_rest(reader, connection, stream, taken.needed);
        break;
    case CG_TAKEN_REFUSED:
        cg_reader_refuse(reader, connection, taken.refusal, taken.why);
        break;
    case CG_TAKEN_BLOCKED:
        reader->blocked = (struct cg_reader_blocked){connection, stream, received_ns};
        break;
    }
}

static void end_of_stream(struct cg_reader *reader, struct cg_connection *connection)
{
    if (connection->shut) {
        cg_reader_close(reader, connection, CG_CLOSE_SHUTDOWN);
    } else if (connection->partial != NULL) {
        atomic_fetch_add_explicit(&connection->channel->cell->frames_rejected, 1,
                                  memory_order_relaxed);
        cg_reader_refuse(reader, connection, CG_REFUSAL_TRUNCATED,
                         "the stream ended inside a frame");
    } else {
        cg_reader_close(reader, connection, CG_CLOSE_EOF);
    }
}

/* A cell's share of a turn is divided among its connections. */
static size_t share_bytes(const struct cg_reader *reader, const struct cg_channel *channel)
{
    size_t share = reader->read_bytes;
    uint64_t room = cg_spool_run_room(reader->spool, channel->cell->run) / RECORD_GROWTH;
    share = room < share ? (size_t)room : share;
    share /= channel->connections_count;
    return share < READ_BYTES_MIN ? READ_BYTES_MIN : share;
}

void cg_reader_read(struct cg_reader *reader, struct cg_connection *connection, size_t bytes_max)
{
    char *area = reader->buffer + CG_HEADROOM_BYTES;
    size_t share = share_bytes(reader, connection->channel);
    ssize_t got = recv(connection->fd, area, bytes_max < share ? bytes_max : share, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        end_of_stream(reader, connection);
        return;
    }
    connection->held_bytes -=
        connection->held_bytes < (size_t)got ? connection->held_bytes : (uint32_t)got;
    struct cg_bytes stream = cg_bytes(area, (size_t)got);
    struct cg_partial *partial = connection->partial;
    if (partial != NULL) {
        if (partial->len + stream.len < partial->needed) {
            hold_partial(reader, connection, stream, partial->needed);
            return;
        }
        CG_ASSERT(partial->len < CG_HEADROOM_BYTES);
        stream = cg_bytes(area - partial->len, partial->len + stream.len);
        memcpy(area - partial->len, partial->bytes, partial->len);
    }
    take(reader, connection, cg_clock_realtime(reader->config->clock), stream);
}

/* A cell that holds its share of the spool is not read, and what it sends waits in the guest. */
static void hold_to_share(struct cg_reader *reader, struct cg_channel *channel)
{
    if (!cg_list_is_linked(&channel->in_paused) && cg_reader_over_share(reader, channel)) {
        cg_reader_pause(reader, channel, CG_PAUSE_SHARE);
        cg_metric_add(CG_SERIES_ingress_paused_share, 1);
    }
}

static void serve(struct cg_reader *reader, struct cg_connection *connection)
{
    struct cg_channel *channel = connection->channel;
    switch ((enum cg_connection_state)connection->state) {
    case CG_CONNECTION_OPEN:
        if (!reader->stalled) {
            hold_to_share(reader, channel);
        }
        if (cg_list_is_linked(&channel->in_paused)) {
            cg_loop_remove(&reader->loop, connection->fd);
            connection->state = CG_CONNECTION_SUSPENDED;
        } else if (!reader->stalled && !channel->forgotten) { /* leaving.c reads those */
            cg_reader_read(reader, connection, SIZE_MAX);
        }
        break;
    case CG_CONNECTION_DRAINING:
        if (!reader->stalled) { /* the buffer is taken */
            cg_reader_discard(reader, connection);
        }
        break;
    case CG_CONNECTION_SUSPENDED:
    case CG_CONNECTION_CLOSED:
        break;
    }
}

/* --- new connections --- */

void cg_reader_give(struct cg_reader *reader, struct cg_connection *connection)
{
    (void)pthread_mutex_lock(&reader->inbox_lock);
    bool first = cg_list_is_empty(&reader->inbox);
    cg_list_append(&reader->inbox, &connection->in_channel);
    (void)pthread_mutex_unlock(&reader->inbox_lock);
    if (first) {
        cg_loop_wake(&reader->loop);
    }
}

static void take_up(struct cg_reader *reader, struct cg_connection *connection)
{
    struct cg_channel *channel = connection->channel;
    cg_reader_know(reader, channel);
    if (cg_list_is_empty(&channel->connections)) {
        cg_reader_set_paused(reader, channel,
                             reader->stalled || cg_list_is_linked(&channel->in_paused));
    }
    cg_list_append(&channel->connections, &connection->in_channel);
    channel->connections_count++;
    CG_LOG(CG_LOG_DEBUG, "connection_opened", CG_F_BYTES("cell", channel->cell->identity.cell_id),
           CG_F_U64("connection", connection->ordinal));
    if (!connection->resumed) {
        cg_reader_tell_stream(reader, connection, NULL);
    } else if (connection->partial != NULL) {
        channel->partial_bytes += (uint32_t)cg_partials_adopt(
            &reader->partials, connection->partial, connection, cg_reader_reading_time(reader));
    }
    if (!cg_loop_add(&reader->loop, connection->fd, connection, NULL)) {
        connection->state = CG_CONNECTION_SUSPENDED;
        cg_reader_close_stalled(reader, connection, "no memory to watch it");
    }
    enforce_ceiling(reader);
}

void cg_reader_empty_inbox(struct cg_reader *reader)
{
    struct cg_list connections, forgotten;
    cg_list_init(&connections);
    cg_list_init(&forgotten);
    cg_reader_take_notes(reader, &connections, &forgotten);
    while (!cg_list_is_empty(&connections)) {
        struct cg_list *node = connections.next;
        cg_list_remove(node);
        take_up(reader, CG_LIST_ENTRY(node, struct cg_connection, in_channel));
    }
    while (!cg_list_is_empty(&forgotten)) {
        struct cg_list *node = forgotten.next;
        cg_list_remove(node);
        cg_reader_begin_leaving(reader, CG_LIST_ENTRY(node, struct cg_channel, in_leaving));
    }
}

/* --- timers --- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_deadline(const struct cg_reader *reader)
{
    uint64_t deadline = reader->look_at_ns;
    if (!cg_list_is_empty(&reader->paused)) {
        deadline = earlier(
            deadline,
            CG_LIST_ENTRY(reader->paused.next, struct cg_channel, in_paused)->pause_ends_ns);
    }
    if (!cg_list_is_empty(&reader->draining)) {
        deadline = earlier(
            deadline,
            CG_LIST_ENTRY(reader->draining.next, struct cg_connection, in_draining)->drain_ends_ns);
    }
    if (reader->timers.first != NULL && !reader->untold) {
        deadline = earlier(deadline, reader->timers.first->due_ns);
    }
    const struct cg_partial *oldest = cg_partial_oldest(&reader->partials);
    if (reader->stalled) {
        deadline = earlier(deadline, reader->retry_at_ns);
    } else if (!cg_list_is_empty(&reader->leaving)) {
        deadline = 0; /* there is something to read, or to append */
    } else if (oldest != NULL) {
        deadline = earlier(deadline, oldest->begun_ns + reader->settings.frame_deadline_ns +
                                         reader->stalled_total_ns);
    }
    return deadline;
}

static void end_partials(struct cg_reader *reader)
{
    struct cg_partial *oldest;
    while (!reader->stalled && (oldest = cg_partial_oldest(&reader->partials)) != NULL &&
           cg_reader_reading_time(reader) - oldest->begun_ns >=
               reader->settings.frame_deadline_ns) {
        struct cg_connection *owner = oldest->owner;
        if (cg_list_is_linked(&owner->channel->in_paused)) {
            /* It is we who do not read. */
            cg_partial_renew(&reader->partials, oldest, cg_reader_reading_time(reader));
        } else {
            cg_reader_close_stalled(reader, owner, "a frame begun was not ended in time");
        }
    }
}

/* --- turning --- */

/* Tries again what the spool refused, and goes on with the read that it stopped. */
static void retry(struct cg_reader *reader)
{
    if (reader->now_ns < reader->retry_at_ns || !cg_reader_commit(reader)) {
        return;
    }
    struct cg_reader_blocked blocked = reader->blocked;
    reader->blocked.connection = NULL;
    if (blocked.connection != NULL) {
        take(reader, blocked.connection, blocked.received_ns, blocked.stream);
    }
}

unsigned cg_reader_turn(struct cg_reader *reader, uint64_t wait_until_ns)
{
    const struct cg_clock *clock = reader->config->clock;
    struct cg_loop_ready ready;
    uint64_t before_ns = cg_clock_monotonic(clock);
    uint64_t until_ns = earlier(wait_until_ns, next_deadline(reader));
    if (reader->stalled) {
        cg_loop_pause(&reader->loop, before_ns, until_ns, &ready);
    } else {
        cg_loop_wait(&reader->loop, before_ns, until_ns, &ready);
    }
    reader->now_ns = cg_clock_monotonic(clock);
    cg_reader_take_change(reader);
    if (ready.woken) {
        cg_reader_empty_inbox(reader);
    }
    if (reader->stalled) {
        retry(reader);
    }
    for (unsigned i = 0; i < ready.count; i++) {
        serve(reader, ready.data[i]);
    }
    cg_reader_end_pauses(reader);
    cg_reader_end_draining(reader);
    end_partials(reader);
    cg_reader_look_for_losses(reader);
    cg_reader_tell_due(reader);
    cg_reader_tend_leaving(reader);
    if (!reader->stalled) {
        (void)cg_reader_commit(reader);
    }
    if (reader->tally.frames > 0) {
        cg_metric_add(CG_SERIES_frames_received, reader->tally.frames);
        cg_metric_add(CG_SERIES_frame_bytes, reader->tally.bytes);
        reader->tally = (struct cg_reader_tally){0};
    }
    cg_reader_bury(reader);
    cg_reader_bury_ended(reader);
    atomic_fetch_add_explicit(&reader->turns, 1, memory_order_release);
    return ready.count;
}

/* Nothing more is taken from this guest than its socket holds now: what it sends from here on fails
 * at its side, so it knows. One that has ended its stream itself is left to end as any. */
static void shut(struct cg_connection *connection)
{
    struct pollfd end = {.fd = connection->fd, .events = POLLRDHUP};
    if (poll(&end, 1, 0) == 1 && (end.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
        return;
    }
    connection->shut = true;
    (void)shutdown(connection->fd, SHUT_RDWR);
}

/* The end for all guests, before the last reading. */
static void shut_all(struct cg_reader *reader)
{
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        struct cg_list *head = &CG_LIST_ENTRY(at, struct cg_channel, in_reader)->connections;
        for (struct cg_list *node = head->next; node != head; node = node->next) {
            struct cg_connection *connection =
                CG_LIST_ENTRY(node, struct cg_connection, in_channel);
            if (connection->state != CG_CONNECTION_DRAINING) {
                shut(connection);
            }
        }
    }
}

/* What a run has lost is told in two steps: some of it may wait behind what is being told. What
 * making room for these events costs is told after the next start. */
static bool tell_the_rest(struct cg_reader *reader)
{
    for (unsigned step = 0; step < 2; step++) {
        cg_reader_look_for_losses(reader);
        if (!cg_reader_tell_all(reader) || !cg_reader_commit(reader)) {
            return false;
        }
    }
    return true;
}

/* The last events of cells whose runs go on after us, with the drops and streams that limits held
 * back; waits for a full spool. */
void cg_reader_tell_the_rest(struct cg_reader *reader, uint64_t deadline_ns)
{
    while (!tell_the_rest(reader)) {
        struct cg_loop_ready ready;
        if (reader->now_ns >= deadline_ns) {
            return;
        }
        cg_loop_pause(&reader->loop, reader->now_ns, earlier(deadline_ns, reader->retry_at_ns),
                      &ready);
        reader->now_ns = cg_clock_monotonic(reader->config->clock);
        (void)cg_reader_commit(reader);
    }
}

void cg_reader_drain(struct cg_reader *reader, uint64_t deadline_ns)
{
    reader->now_ns = cg_clock_monotonic(reader->config->clock);
    reader->unlimited = true;
    cg_reader_empty_inbox(reader);
    cg_reader_end_pauses(reader);
    shut_all(reader);
    /* What many full sockets hold must not use up the time that exporters have after this. */
    const uint64_t reading_ends_ns =
        earlier(deadline_ns, reader->now_ns + reader->config->drain_timeout_ns);
    bool more;
    do {
        /* While the spool refuses there is something to wait for, otherwise only to look at. */
        bool stalled = reader->stalled;
        unsigned ready = cg_reader_turn(reader, stalled ? deadline_ns : 0);
        bool busy = ready > 0 || stalled || !cg_list_is_empty(&reader->leaving);
        more = reader->stalled ? reader->now_ns < deadline_ns
                               : busy && reader->now_ns < reading_ends_ns;
    } while (more);
    reader->blocked.connection = NULL;
    cg_reader_close_all(reader);
    cg_reader_tell_the_rest(reader, deadline_ns);
    if (reader->stalled) {
        CG_LOG(CG_LOG_ERROR, "ingress_events_lost", CG_F_STR("reason", "the spool refuses them"),
               CG_F_U64("events", cg_spool_writer_staged(reader->pipeline->writer)));
    }
    cg_reader_end_leaving(reader);
}

void cg_reader_order(struct cg_reader *reader, enum cg_reader_order order, uint64_t deadline_ns)
{
    atomic_store_explicit(&reader->order_deadline_ns, deadline_ns, memory_order_relaxed);
    atomic_store_explicit(&reader->order, order, memory_order_release);
    cg_loop_wake(&reader->loop);
}

uint64_t cg_reader_turns(const struct cg_reader *reader)
{
    return atomic_load_explicit(&reader->turns, memory_order_acquire);
}

void cg_reader_poke(struct cg_reader *reader)
{
    cg_loop_wake(&reader->loop);
}

void cg_reader_run(struct cg_reader *reader)
{
    int order;
    while ((order = atomic_load_explicit(&reader->order, memory_order_acquire)) == CG_READER_TURN) {
        (void)cg_reader_turn(reader, UINT64_MAX);
    }
    uint64_t deadline_ns = atomic_load_explicit(&reader->order_deadline_ns, memory_order_relaxed);
    if (order == CG_READER_DRAIN) {
        cg_reader_drain(reader, deadline_ns);
    } else if (order == CG_READER_QUIESCE) {
        reader->quiet = cg_reader_quiesce(reader, deadline_ns);
    }
}

void cg_reader_free(struct cg_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    if (reader->pipeline != NULL) {
        reader->unlimited = true;
        cg_reader_empty_inbox(reader);
        cg_reader_close_all(reader);
        cg_reader_end_leaving(reader);
    }
    cg_pipeline_free(reader->pipeline);
    cg_loop_fini(&reader->loop);
    cg_reader_change_free(reader->change);
    (void)pthread_cond_destroy(&reader->changed);
    (void)pthread_mutex_destroy(&reader->inbox_lock);
    free(reader);
}
