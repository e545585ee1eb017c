#include "delivery/worker.h"

#include <stdio.h>

/* --- what others see --- */

static uint64_t now_ns(const struct cg_delivery *delivery)
{
    return cg_clock_monotonic(delivery->config.clock);
}

static void set_state(struct cg_delivery *delivery, enum cg_delivery_state state)
{
    atomic_store_explicit(&delivery->state, state, memory_order_relaxed);
}

static const enum cg_outcome outcome_of[] = {
    [CG_VERDICT_DELIVERED] = CG_OUTCOME_OK,        [CG_VERDICT_BACKOFF] = CG_OUTCOME_BACKOFF,
    [CG_VERDICT_TOO_LARGE] = CG_OUTCOME_TOO_LARGE, [CG_VERDICT_SUSPECT] = CG_OUTCOME_POISON,
    [CG_VERDICT_CONFIG] = CG_OUTCOME_CONFIG,
};

/* Counts one answer to `count` events. */
static void count_answer(struct cg_delivery *delivery, uint64_t count)
{
    const struct cg_verdict *verdict = &delivery->verdict;
    pthread_mutex_lock(&delivery->mutex);
    struct cg_delivery_status *status = &delivery->status;
    status->requests[outcome_of[verdict->kind]]++;
    if (verdict->kind == CG_VERDICT_DELIVERED) {
        uint64_t rejected = verdict->rejected < count ? verdict->rejected : count;
        status->up = true;
        status->delivered_events += count - rejected;
        status->rejected_events += rejected;
    }
    pthread_mutex_unlock(&delivery->mutex);
}

static void note_error(struct cg_delivery *delivery, const char *text, uint64_t retry_at_ns)
{
    uint64_t realtime_ns = cg_clock_realtime(delivery->config.clock);
    pthread_mutex_lock(&delivery->mutex);
    struct cg_delivery_status *status = &delivery->status;
    status->up = false;
    status->retry_at_ns = retry_at_ns;
    status->last_error_realtime_ns = realtime_ns;
    (void)snprintf(status->last_error, sizeof(status->last_error), "%.*s",
                   CG_VERDICT_DETAIL_MAX - 1, text);
    pthread_mutex_unlock(&delivery->mutex);
}

/* Transitions are logged, tries are not. */
static void log_trouble(struct cg_delivery *delivery, enum cg_delivery_state state,
                        const char *text, uint64_t delay_ns)
{
    uint64_t now = now_ns(delivery);
    uint64_t suppressed = 0;
    if (delivery->trouble == state) {
        return;
    }
    if (delivery->trouble == CG_DELIVERY_SENDING) {
        delivery->trouble_since_ns = now;
    }
    delivery->trouble = state;
    if (!cg_log_limit_pass(&delivery->log_limit, now, &suppressed)) {
        return;
    }
    CG_LOG(state == CG_DELIVERY_HOLDING ? CG_LOG_ERROR : CG_LOG_WARNING,
           state == CG_DELIVERY_HOLDING ? "exporter_holding" : "exporter_backoff",
           CG_F_STR("exporter", delivery->config.name), CG_F_STR("error", text),
           CG_F_U64("retry_ms", delay_ns / CG_NS_PER_MS), CG_F_U64("suppressed", suppressed));
}

static void log_recovery(struct cg_delivery *delivery)
{
    uint64_t now = now_ns(delivery);
    uint64_t suppressed = 0;
    if (delivery->trouble == CG_DELIVERY_SENDING) {
        return;
    }
    delivery->trouble = CG_DELIVERY_SENDING;
    set_state(delivery, CG_DELIVERY_SENDING);
    if (cg_log_limit_pass(&delivery->log_limit, now, &suppressed)) {
        CG_LOG(CG_LOG_INFO, "exporter_recovered", CG_F_STR("exporter", delivery->config.name),
               CG_F_U64("after_ms", (now - delivery->trouble_since_ns) / CG_NS_PER_MS),
               CG_F_U64("suppressed", suppressed));
    }
}

static void log_rejected(struct cg_delivery *delivery, const struct cg_batch *slice)
{
    uint64_t suppressed = 0;
    if (cg_log_limit_pass(&delivery->log_limit, now_ns(delivery), &suppressed)) {
        CG_LOG(CG_LOG_WARNING, "events_rejected", CG_F_STR("exporter", delivery->config.name),
               CG_F_U64("rejected", delivery->verdict.rejected), CG_F_U64("events", slice->count),
               CG_F_BYTES("first", cg_event_get(&slice->events[0], CG_TEXT_ID)),
               CG_F_BYTES("last", cg_event_get(&slice->events[slice->count - 1], CG_TEXT_ID)),
               CG_F_STR("detail", delivery->verdict.detail), CG_F_U64("suppressed", suppressed));
    }
}

static void log_dead_letter(struct cg_delivery *delivery, const struct cg_event *event)
{
    uint64_t suppressed = 0;
    if (cg_log_limit_pass(&delivery->log_limit, now_ns(delivery), &suppressed)) {
        CG_LOG(CG_LOG_ERROR, "event_dead_lettered", CG_F_STR("exporter", delivery->config.name),
               CG_F_BYTES("id", cg_event_get(event, CG_TEXT_ID)),
               CG_F_BYTES("cell", cg_event_get(event, CG_TEXT_CELL)),
               CG_F_BYTES("run", cg_event_get(event, CG_TEXT_RUN)),
               CG_F_U64("sequence", event->meta.sequence),
               CG_F_STR("detail", delivery->verdict.detail),
               CG_F_U64("kept", delivery->letters.path != NULL),
               CG_F_U64("suppressed", suppressed));
    }
}

/* --- waiting --- */

/* Takes up what other threads asked for. True if a wait is to end. */
static bool take_wishes(struct cg_delivery *delivery)
{
    if (atomic_exchange(&delivery->flush, false)) {
        delivery->hurry = true;
    }
    bool reopen = atomic_exchange(&delivery->reopen, false);
    if (reopen) {
        cg_dead_letters_reopen(&delivery->letters);
    }
    /* Whoever asks to reopen has mended something: it is tried at once. */
    return reopen || atomic_load(&delivery->stopping);
}

static bool has_company(const struct cg_delivery *delivery)
{
    struct cg_spool_backlog backlog;
    cg_spool_reader_backlog(delivery->reader, &backlog);
    return backlog.events > cg_selection_left(&delivery->selection);
}

/* Whether an event that comes behind the window is worth ending the wait for. Once only: if it
 * could not be peeked then, it would end every wait at once. */
static bool wants_company(struct cg_delivery *delivery, const struct cg_plan_step *step)
{
    /* Most of what comes may be no company at all: the next look at it is after the wait. */
    if (!step->until_more || cg_filter_is_set(&delivery->selection.filter)) {
        return false;
    }
    uint64_t last_index = delivery->window.events[delivery->window.count - 1].index;
    bool again = delivery->lonely && delivery->lonely_index == last_index;
    delivery->lonely = true;
    delivery->lonely_index = last_index;
    return !again || !has_company(delivery);
}

static void wait_out(struct cg_delivery *delivery, const struct cg_plan_step *step,
                     const char *text)
{
    enum cg_delivery_state state =
        step->wait == CG_PLAN_HOLD ? CG_DELIVERY_HOLDING : CG_DELIVERY_BACKOFF;
    uint64_t deadline_ns = now_ns(delivery) + step->delay_ns;
    note_error(delivery, text, deadline_ns);
    set_state(delivery, state);
    log_trouble(delivery, state, text, step->delay_ns);

    bool until_more = wants_company(delivery, step);
    uint64_t events = until_more ? cg_selection_left(&delivery->selection) + 1 : UINT64_MAX;
    while (!take_wishes(delivery) && now_ns(delivery) < deadline_ns) {
        if (until_more && has_company(delivery)) {
            break;
        }
        (void)cg_spool_reader_wait(delivery->reader, events, UINT64_MAX, deadline_ns);
    }
    pthread_mutex_lock(&delivery->mutex);
    delivery->status.retry_at_ns = 0;
    pthread_mutex_unlock(&delivery->mutex);
}

/* Our side failed, not the destination. */
static void pause_for(struct cg_delivery *delivery, enum cg_plan_wait wait, const char *text)
{
    struct cg_plan_step step = cg_plan_pause(&delivery->plan, wait);
    wait_out(delivery, &step, text);
}

/* --- the window --- */

/* Acknowledges events of the spool, `filtered` of which were not for this exporter. */
static void pass(struct cg_delivery *delivery, uint64_t events, uint64_t filtered)
{
    cg_spool_reader_ack(delivery->reader, events);
    pthread_mutex_lock(&delivery->mutex);
    delivery->status.filtered_events += filtered;
    pthread_cond_broadcast(&delivery->changed);
    pthread_mutex_unlock(&delivery->mutex);
}

/* How much to read: what the plan wants to see, or more where a filter takes events out of it. */
static void window_wanted(const struct cg_delivery *delivery, uint64_t *ret_events,
                          uint64_t *ret_bytes)
{
    cg_plan_window(&delivery->plan, ret_events, ret_bytes);
    cg_selection_reads(&delivery->selection, CG_SPOOL_PEEK_EVENTS_MAX, ret_events, ret_bytes);
}

static void peek(struct cg_delivery *delivery)
{
    uint64_t events, bytes, passed_over;
    struct cg_batch read, window;
    struct cg_error err = {0};
    window_wanted(delivery, &events, &bytes);
    if (!cg_spool_reader_peek(delivery->reader, events, bytes, &read, &err) ||
        !cg_selection_make(&delivery->selection, &read, delivery->config.batch_events, &window,
                           &passed_over, &err)) {
        /* What was peeked before may be gone; the next round peeks again. */
        delivery->window = (struct cg_batch){0};
        pause_for(delivery, CG_PLAN_BACKOFF, err.text);
        return;
    }
    delivery->window = window;
    if (passed_over > 0) {
        pass(delivery, passed_over, passed_over);
    }
}

/* Waits for events, lingers for more of them, and peeks. The window may stay empty. */
static void fill_window(struct cg_delivery *delivery)
{
    if (!cg_spool_reader_wait(delivery->reader, 1, UINT64_MAX, 0)) {
        delivery->hurry = false;
        set_state(delivery, CG_DELIVERY_IDLE);
        /* That look may have used up the interruption that came with a wish to stop. */
        if (atomic_load(&delivery->stopping) ||
            !cg_spool_reader_wait(delivery->reader, 1, UINT64_MAX, UINT64_MAX)) {
            return;
        }
    }
    (void)take_wishes(delivery);
    if (delivery->config.linger_ns > 0 && !delivery->hurry) {
        uint64_t events, bytes;
        window_wanted(delivery, &events, &bytes);
        (void)cg_spool_reader_wait(delivery->reader, events, bytes,
                                   now_ns(delivery) + delivery->config.linger_ns);
    }
    peek(delivery);
}

static void acknowledge(struct cg_delivery *delivery, uint64_t count)
{
    struct cg_batch *window = &delivery->window;
    CG_ASSERT(count <= window->count);
    uint64_t events = cg_selection_take(&delivery->selection, count);
    if (count == window->count) {
        *window = (struct cg_batch){0};
    } else {
        for (uint64_t i = 0; i < count; i++) {
            window->bytes -= window->events[i].bytes.len;
        }
        window->events += count;
        window->count -= count;
    }
    pass(delivery, events, events - count);
}

/* --- acting --- */

/* Keeps the head as a dead letter, however long that takes: while it cannot be kept the exporter
 * holds, so that nothing is lost. False if it is told to stop before. */
static bool bury_head(struct cg_delivery *delivery)
{
    const struct cg_event *head = &delivery->window.events[0];
    struct cg_error err = {0};
    while (!cg_dead_letters_keep(&delivery->letters, head, &delivery->verdict,
                                 cg_clock_realtime(delivery->config.clock), &err)) {
        if (atomic_load(&delivery->stopping)) {
            return false;
        }
        pause_for(delivery, CG_PLAN_HOLD, err.text);
    }
    log_dead_letter(delivery, head);
    pthread_mutex_lock(&delivery->mutex);
    delivery->status.dead_lettered_events++;
    pthread_mutex_unlock(&delivery->mutex);
    return true;
}

static void take_step(struct cg_delivery *delivery, const struct cg_plan_step *step)
{
    if (step->dead_letter && !bury_head(delivery)) {
        return;
    }
    if (step->ack > 0) {
        acknowledge(delivery, step->ack);
    }
    if (step->wait != CG_PLAN_GO_ON) {
        wait_out(delivery, step, delivery->verdict.detail);
    }
}

static void send(struct cg_delivery *delivery, const struct cg_plan_next *next)
{
    const struct cg_batch slice = {
        .events = delivery->window.events + next->offset,
        .count = next->count,
        .bytes = next->bytes,
    };
    memset(&delivery->verdict, 0, sizeof(delivery->verdict));
    set_state(delivery, delivery->trouble); /* which lasts until something is delivered */
    uint64_t started_ns = now_ns(delivery);
    delivery->config.ops->deliver(delivery->exporter, &slice, &delivery->verdict);
    cg_histogram_observe(&delivery->durations, now_ns(delivery) - started_ns);
    CG_ASSERT(delivery->verdict.answer_len <= CG_VERDICT_ANSWER_MAX);

    bool delivered = delivery->verdict.kind == CG_VERDICT_DELIVERED;
    if (!delivered && atomic_load(&delivery->stopping)) {
        return; /* cancelled: no word of the destination's */
    }
    count_answer(delivery, slice.count);
    if (delivered) {
        log_recovery(delivery);
        if (delivery->verdict.rejected > 0) {
            log_rejected(delivery, &slice);
        }
    }
    struct cg_plan_step step = cg_plan_judge(&delivery->plan, &delivery->verdict);
    take_step(delivery, &step);
}

/* The plan wants to see more events behind the head. */
static void widen(struct cg_delivery *delivery)
{
    peek(delivery);
    if (delivery->window.count == 0) {
        return;
    }
    struct cg_plan_next next = cg_plan_next(&delivery->plan, &delivery->window);
    if (next.action == CG_PLAN_SEND) {
        send(delivery, &next);
        return;
    }
    CG_ASSERT(next.action == CG_PLAN_MORE);
    struct cg_plan_step step = cg_plan_starved(&delivery->plan);
    take_step(delivery, &step);
}

static void deliver_until_stopped(struct cg_delivery *delivery)
{
    while (!atomic_load(&delivery->stopping)) {
        (void)take_wishes(delivery);
        if (delivery->window.count == 0) {
            fill_window(delivery);
            continue;
        }
        struct cg_plan_next next = cg_plan_next(&delivery->plan, &delivery->window);
        switch (next.action) {
        case CG_PLAN_SEND:
            send(delivery, &next);
            break;
        case CG_PLAN_SKIP:
            acknowledge(delivery, 1);
            break;
        case CG_PLAN_MORE:
            widen(delivery);
            break;
        }
    }
}

void *cg_worker_main(void *argument)
{
    struct cg_delivery *delivery = argument;
    const struct cg_exporter_ops *ops = delivery->config.ops;
    void *exporter = NULL;
    struct cg_error err = {0};
    bool open = ops->open(delivery->config.exporter_config, &delivery->config.env, &exporter, &err);

    pthread_mutex_lock(&delivery->mutex);
    delivery->exporter = exporter;
    delivery->opened = open;
    delivery->open_failed = !open;
    delivery->open_error = err;
    pthread_cond_broadcast(&delivery->changed);
    pthread_mutex_unlock(&delivery->mutex);
    if (!open) {
        return NULL;
    }
    deliver_until_stopped(delivery);

    /* cancel and reopen use the exporter under the mutex. */
    pthread_mutex_lock(&delivery->mutex);
    delivery->exporter = NULL;
    pthread_mutex_unlock(&delivery->mutex);
    ops->close(exporter);
    return NULL;
}
