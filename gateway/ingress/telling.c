/* telling.c - what cells go through becomes events. */
#include "ingress/reader_state.h"

/* Between looks for losses while nobody speaks: where the spool gives events up, and where they
 * come of damage only. */
enum { LOOK_MS = 500, LOOK_SELDOM_MS = 5000 };

void cg_reader_note(struct cg_reader *reader, struct cg_channel *channel)
{
    bool first = cg_list_is_empty(&reader->notes);
    if (!cg_list_is_linked(&channel->in_notes)) {
        cg_list_append(&reader->notes, &channel->in_notes);
    }
    if (first) {
        cg_loop_wake(&reader->loop);
    }
}

void cg_reader_adopt(struct cg_reader *reader, struct cg_channel *channel)
{
    const struct cg_cell *cell = channel->cell;
    atomic_store_explicit(&channel->cell->awaited_from_ns,
                          cell->registered_ns + atomic_load(&reader->shared->boot_grace_ns),
                          memory_order_relaxed);
    (void)pthread_mutex_lock(&reader->inbox_lock);
    cg_reader_note(reader, channel);
    (void)pthread_mutex_unlock(&reader->inbox_lock);
}

void cg_reader_note_refused(struct cg_reader *reader, struct cg_channel *channel,
                            enum cg_connect_refusal refusal)
{
    CG_ASSERT(refusal < CG_CONNECT_REFUSAL_COUNT);
    (void)pthread_mutex_lock(&reader->inbox_lock);
    channel->refused[refusal]++;
    cg_reader_note(reader, channel);
    (void)pthread_mutex_unlock(&reader->inbox_lock);
}

void cg_reader_know(struct cg_reader *reader, struct cg_channel *channel)
{
    if (!cg_list_is_linked(&channel->in_reader)) {
        cg_list_append(&reader->channels, &channel->in_reader);
    }
}

/* --- what the spool has lost --- */

static void take_losses(struct cg_reader *reader, struct cg_channel *channel)
{
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    const struct cg_cell *cell = channel->cell;
    size_t count = cg_spool_run_take_losses(reader->spool, cell->run, losses);
    for (size_t i = 0; i < count; i++) {
        cg_life_lose(&channel->life, &losses[i]);
    }
}

void cg_reader_look_for_losses(struct cg_reader *reader)
{
    unsigned wait_ms = reader->settings.spool_gives_up ? LOOK_MS : LOOK_SELDOM_MS;
    reader->look_at_ns = reader->now_ns + wait_ms * CG_NS_PER_MS;
    uint64_t losses = cg_spool_losses(reader->spool);
    if (losses == reader->losses_seen) {
        return;
    }
    reader->losses_seen = losses;
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        struct cg_channel *channel = CG_LIST_ENTRY(at, struct cg_channel, in_reader);
        take_losses(reader, channel);
        cg_reader_schedule(reader, channel);
    }
}

static void take_note(struct cg_reader *reader, struct cg_channel *channel)
{
    static const enum cg_life_drop drops[CG_CONNECT_REFUSAL_COUNT] = {
        [CG_CONNECT_CAP] = CG_DROP_CONNECTION_CAP,
        [CG_CONNECT_DESCRIPTORS] = CG_DROP_DESCRIPTORS,
        [CG_CONNECT_MEMORY] = CG_DROP_MEMORY,
        [CG_CONNECT_PEER] = CG_DROP_PEER,
    };
    for (unsigned i = 0; i < CG_CONNECT_REFUSAL_COUNT; i++) {
        if (channel->refused[i] > 0) {
            cg_life_drop(&channel->life, drops[i], channel->refused[i]);
            channel->refused[i] = 0;
        }
    }
    cg_reader_take_readings(channel);
    cg_reader_know(reader, channel);
    take_losses(reader, channel); /* what an earlier process could not tell any more */
    cg_reader_schedule(reader, channel);
}

void cg_reader_take_notes(struct cg_reader *reader, struct cg_list *ret_connections,
                          struct cg_list *ret_forgotten)
{
    (void)pthread_mutex_lock(&reader->inbox_lock);
    while (!cg_list_is_empty(&reader->notes)) {
        struct cg_channel *channel = CG_LIST_ENTRY(reader->notes.next, struct cg_channel, in_notes);
        cg_list_remove(&channel->in_notes);
        take_note(reader, channel);
        if (channel->forgotten && !cg_list_is_linked(&channel->in_leaving)) {
            cg_list_append(ret_forgotten, &channel->in_leaving);
        }
    }
    while (!cg_list_is_empty(&reader->inbox)) {
        struct cg_list *node = reader->inbox.next;
        cg_list_remove(node);
        cg_list_append(ret_connections, node);
    }
    (void)pthread_mutex_unlock(&reader->inbox_lock);
}

static struct cg_life_facts facts_of(const struct cg_reader *reader,
                                     const struct cg_channel *channel, bool flush)
{
    struct cg_life_facts facts = {
        .silence = cg_silence_facts_of(channel->cell),
        .now_ns = reader->now_ns,
        .once = reader->settings.keepalive_once,
        .flush = flush,
    };
    /* While nothing is read nobody is silent, and a run that is over is not asked any more. */
    facts.silence.paused |= reader->stalled || channel->forgotten || reader->unlimited;
    return facts;
}

void cg_reader_schedule(struct cg_reader *reader, struct cg_channel *channel)
{
    if (!cg_list_is_linked(&channel->in_reader)) {
        return; /* its end has been told */
    }
    const struct cg_life_facts facts = facts_of(reader, channel, false);
    bool observed = !cg_list_is_empty(&channel->readings);
    cg_timers_set(&reader->timers, &channel->timer,
                  observed ? 0 : cg_life_due_ns(&channel->life, &facts));
}

void cg_reader_report_unsigned(struct cg_reader *reader, struct cg_channel *channel, uint64_t count)
{
    cg_metric_add(CG_SERIES_events_dropped_signing, count);
    uint64_t suppressed;
    if (cg_channel_may_log(channel, CG_LINE_OTHER, reader->shared, reader->now_ns, &suppressed)) {
        CG_LOG(CG_LOG_ERROR, "signing_failed", CG_F_BYTES("cell", channel->cell->identity.cell_id),
               CG_F_BYTES("run", channel->cell->identity.run_id), CG_F_U64("events", count),
               CG_F_U64("suppressed", suppressed));
    }
}

static void count_told(const struct cg_life *life, const struct cg_life_event *event)
{
    switch (event->type) {
    case CG_GATEWAY_AGENT_SILENCED:
        cg_metric_add(CG_SERIES_agent_silenced, 1);
        break;
    case CG_GATEWAY_AGENT_RESUMED:
        cg_metric_add(CG_SERIES_agent_resumed, 1);
        break;
    case CG_GATEWAY_STREAM_OPENED:
    case CG_GATEWAY_STREAM_CLOSED:
        cg_metric_add(CG_SERIES_stream_events_suppressed, life->streams_suppressed);
        break;
    default:
        break;
    }
}

enum cg_told cg_reader_tell_event(struct cg_reader *reader, struct cg_channel *channel)
{
    uint64_t realtime_ns = cg_clock_realtime(reader->config->clock);
    enum cg_told told;
    do {
        told = cg_pipeline_tell(reader->pipeline, channel, &reader->event, realtime_ns);
    } while (told == CG_TOLD_BLOCKED && !reader->stalled && cg_reader_commit(reader));
    return told;
}

bool cg_reader_tell(struct cg_reader *reader, struct cg_channel *channel, bool flush)
{
    if (!cg_reader_tell_readings(reader, channel)) {
        reader->untold = true;
        cg_reader_schedule(reader, channel);
        return false;
    }
    const struct cg_life_facts facts = facts_of(reader, channel, flush);
    while (cg_life_next(&channel->life, &facts, &reader->event)) {
        enum cg_told told = cg_reader_tell_event(reader, channel);
        if (told == CG_TOLD_BLOCKED) {
            reader->untold = true;
            cg_reader_schedule(reader, channel);
            return false;
        }
        count_told(&channel->life, &reader->event);
        cg_life_told(&channel->life, &facts, &reader->event, told == CG_TOLD_STAGED);
        if (told == CG_TOLD_UNSIGNED) {
            cg_reader_report_unsigned(reader, channel, 1);
            if (flush) {
                break; /* no account of what cannot be signed can be signed either */
            }
        }
    }
    cg_reader_schedule(reader, channel);
    return true;
}

void cg_reader_tell_due(struct cg_reader *reader)
{
    struct cg_timer *first;
    while (!reader->untold && (first = reader->timers.first) != NULL &&
           first->due_ns <= reader->now_ns) {
        struct cg_channel *channel = CG_LIST_ENTRY(first, struct cg_channel, timer);
        (void)cg_reader_tell(reader, channel, false);
    }
}

bool cg_reader_tell_all(struct cg_reader *reader)
{
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        if (!cg_reader_tell(reader, CG_LIST_ENTRY(at, struct cg_channel, in_reader), true)) {
            return false;
        }
    }
    return true;
}

void cg_reader_tell_stream(struct cg_reader *reader, const struct cg_connection *connection,
                           const char *reason)
{
    struct cg_channel *channel = connection->channel;
    const struct cg_life_stream stream = {
        .connection = connection->ordinal,
        .closed = reason != NULL,
        .reason = reason,
        .frames = connection->frames,
        .bytes = connection->bytes,
    };
    const struct cg_silence_facts facts = cg_silence_facts_of(channel->cell);
    cg_life_stream(&channel->life, &stream, &facts, reader->now_ns);
    (void)cg_reader_tell(reader, channel, false);
}
