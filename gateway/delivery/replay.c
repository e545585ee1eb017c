#include "delivery/replay.h"

#include "delivery/worker.h"

enum { HOLD_FLOOR_PERCENT = 50 };

void cg_replay_init(struct cg_delivery *delivery)
{
    const struct cg_delivery_config *config = &delivery->config;
    struct cg_replay *replay = &delivery->replay;
    cg_letter_reader_init(&replay->json);
    cg_buf_init(&replay->taken.text, CG_REPLAY_BYTES_MAX + CG_LETTER_BYTES_MAX);
    replay->taken.places = replay->places;
    replay->taken.count_max = config->batch_events < CG_REPLAY_EVENTS_MAX
                                  ? (size_t)config->batch_events
                                  : CG_REPLAY_EVENTS_MAX;
    cg_backoff_init(&replay->backoff, config->backoff_initial_ns, config->backoff_max_ns, 0);
    cg_backoff_init(&replay->hold, config->hold_initial_ns, config->hold_max_ns,
                    HOLD_FLOOR_PERCENT);
    replay->wanted = delivery->letters.replaying > 0; /* a kill came in between */
}

void cg_replay_fini(struct cg_delivery *delivery)
{
    cg_json_fini(&delivery->replay.json);
    cg_buf_fini(&delivery->replay.taken.text);
}

void cg_replay_want(struct cg_delivery *delivery)
{
    struct cg_replay *replay = &delivery->replay;
    replay->wanted = true;
    replay->not_before_ns = 0;
    replay->taken.from = 0;
}

/* While the destination is in trouble it is the events of the spool that are tried, if there are
 * any. A full store is no trouble of the destination's. */
static bool has_its_turn(struct cg_delivery *delivery)
{
    struct cg_spool_backlog backlog;
    if (delivery->trouble == CG_DELIVERY_SENDING || delivery->letters_full) {
        return true;
    }
    cg_spool_reader_backlog(delivery->reader, &backlog);
    return backlog.events == 0;
}

bool cg_replay_is_due(struct cg_delivery *delivery)
{
    const struct cg_replay *replay = &delivery->replay;
    return replay->wanted && has_its_turn(delivery) &&
           cg_clock_monotonic(delivery->config.clock) >= replay->not_before_ns;
}

/* --- what it is doing --- */

static void put_off(struct cg_replay *replay, struct cg_delivery *delivery,
                    struct cg_backoff *schedule, uint64_t retry_after_ns)
{
    uint64_t delay_ns = cg_backoff_next(schedule, &delivery->plan.jitter);
    uint64_t max_ns = delivery->config.retry_after_max_ns;
    if (retry_after_ns > 0) {
        delay_ns = retry_after_ns < max_ns ? retry_after_ns : max_ns;
    }
    replay->failures++;
    replay->not_before_ns = cg_clock_monotonic(delivery->config.clock) + delay_ns;
}

static void trouble_with_file(struct cg_delivery *delivery, const struct cg_error *err)
{
    struct cg_replay *replay = &delivery->replay;
    uint64_t suppressed = 0;
    put_off(replay, delivery, &replay->hold, 0);
    replay->taken.count = replay->at = 0; /* taken anew */
    replay->taken.from = 0;
    if (cg_log_limit_pass(&delivery->event_log_limit, cg_clock_monotonic(delivery->config.clock),
                          &suppressed)) {
        CG_LOG(CG_LOG_ERROR, "dead_letters_failed", CG_F_STR("exporter", delivery->config.name),
               CG_F_STR("error", err->text), CG_F_U64("suppressed", suppressed));
    }
}

static void finish(struct cg_delivery *delivery)
{
    struct cg_replay *replay = &delivery->replay;
    struct cg_error err = {0};
    replay->wanted = false;
    if (replay->sent + replay->refused > 0) {
        CG_LOG(CG_LOG_INFO, "dead_letters_replayed", CG_F_STR("exporter", delivery->config.name),
               CG_F_U64("delivered", replay->sent), CG_F_U64("refused_again", replay->refused),
               CG_F_U64("left", delivery->letters.letters));
    }
    replay->sent = replay->refused = 0;
    cg_buf_fini(&replay->taken.text);
    cg_json_fini(&replay->json);
    if (!cg_dead_letters_compact(&delivery->letters, &err)) {
        CG_LOG(CG_LOG_WARNING, "dead_letters_failed", CG_F_STR("exporter", delivery->config.name),
               CG_F_STR("error", err.text));
    }
}

/* --- taking and settling --- */

/* Those at `at` are done with, one way or the other. */
static bool settle(struct cg_delivery *delivery, size_t count, enum cg_letter_state state)
{
    struct cg_replay *replay = &delivery->replay;
    struct cg_error err = {0};
    if (!cg_dead_letters_settle(&delivery->letters, &replay->taken, replay->at, count, state,
                                &err)) {
        trouble_with_file(delivery, &err);
        return false;
    }
    replay->at += count;
    replay->failures = 0;
    return true;
}

/* Reads what was taken. A line that is no letter of ours stops at the first such: it is settled as
 * kept, and what follows is taken anew. */
static bool read_taken(struct cg_delivery *delivery)
{
    struct cg_replay *replay = &delivery->replay;
    const char *text = replay->taken.text.data;
    for (size_t i = 0; i < replay->taken.count; i++) {
        struct cg_letter letter;
        struct cg_error err = {0};
        struct cg_bytes line = cg_bytes(text, replay->taken.places[i].len);
        if (!cg_letter_read(&replay->json, line, &letter, &err)) {
            replay->at = i;
            if (settle(delivery, 1, CG_LETTER_KEPT)) {
                trouble_with_file(delivery, &err);
                replay->not_before_ns = 0; /* the others need not wait */
            }
            return false;
        }
        replay->events[i] = letter.event;
        text += line.len;
    }
    return true;
}

/* False: there is nothing to send now. */
static bool take(struct cg_delivery *delivery)
{
    struct cg_replay *replay = &delivery->replay;
    struct cg_error err = {0};
    uint64_t batch_bytes = delivery->config.batch_bytes;
    size_t bytes_max =
        batch_bytes < CG_REPLAY_BYTES_MAX ? (size_t)batch_bytes : CG_REPLAY_BYTES_MAX;
    replay->at = 0;
    replay->single = false;
    if (!cg_dead_letters_take(&delivery->letters, bytes_max, &replay->taken, &err)) {
        trouble_with_file(delivery, &err);
        return false;
    }
    if (replay->taken.count == 0) {
        finish(delivery);
        return false;
    }
    return read_taken(delivery);
}

/* --- sending --- */

static void log_refused(struct cg_delivery *delivery, const struct cg_verdict *verdict)
{
    struct cg_replay *replay = &delivery->replay;
    uint64_t suppressed = 0;
    if (cg_log_limit_pass(&delivery->event_log_limit, cg_clock_monotonic(delivery->config.clock),
                          &suppressed)) {
        CG_LOG(CG_LOG_WARNING, "dead_letter_refused", CG_F_STR("exporter", delivery->config.name),
               CG_F_BYTES("id", cg_event_get(&replay->events[replay->at], CG_TEXT_ID)),
               CG_F_STR("detail", verdict->detail), CG_F_U64("suppressed", suppressed));
    }
}

/* Something in the slice is not wanted: found out one by one. */
static void judge_refused(struct cg_delivery *delivery, size_t count,
                          const struct cg_verdict *verdict)
{
    struct cg_replay *replay = &delivery->replay;
    if (count > 1) {
        replay->single = true;
        replay->failures = 0;
        return;
    }
    log_refused(delivery, verdict);
    if (settle(delivery, 1, CG_LETTER_KEPT)) {
        replay->refused++;
    }
}

static void judge_delivered(struct cg_delivery *delivery, size_t count)
{
    struct cg_replay *replay = &delivery->replay;
    cg_backoff_reset(&replay->backoff);
    cg_backoff_reset(&replay->hold);
    if (settle(delivery, count, CG_LETTER_SENT)) {
        replay->sent += count;
        pthread_mutex_lock(&delivery->mutex);
        delivery->status.replayed_events += count;
        pthread_mutex_unlock(&delivery->mutex);
    }
}

static void judge(struct cg_delivery *delivery, size_t count, const struct cg_verdict *verdict)
{
    struct cg_replay *replay = &delivery->replay;
    switch (verdict->kind) {
    case CG_VERDICT_DELIVERED:
        if (verdict->rejected > 0) {
            judge_refused(delivery, count, verdict);
        } else {
            judge_delivered(delivery, count);
        }
        return;
    case CG_VERDICT_TOO_LARGE:
    case CG_VERDICT_SUSPECT:
        judge_refused(delivery, count, verdict);
        return;
    case CG_VERDICT_BACKOFF:
        put_off(replay, delivery, &replay->backoff, verdict->retry_after_ns);
        if (verdict->suspicious_when_repeated &&
            replay->failures >= delivery->config.suspect_after) {
            judge_refused(delivery, count, verdict);
        }
        return;
    case CG_VERDICT_CONFIG:
        put_off(replay, delivery, &replay->hold, verdict->retry_after_ns);
        return;
    }
}

void cg_replay_step(struct cg_delivery *delivery)
{
    struct cg_replay *replay = &delivery->replay;
    bool stale = replay->taken.generation != delivery->letters.generation;
    if ((stale || replay->at == replay->taken.count) && !take(delivery)) {
        return;
    }
    size_t count = replay->single ? 1 : replay->taken.count - replay->at;
    struct cg_batch slice = {.events = replay->events + replay->at, .count = count};
    for (size_t i = 0; i < count; i++) {
        slice.bytes += slice.events[i].bytes.len;
    }
    struct cg_verdict *verdict = &delivery->replay_verdict;
    if (cg_worker_deliver(delivery, &slice, verdict)) {
        judge(delivery, count, verdict);
    }
}
