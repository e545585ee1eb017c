/* burial.c - what becomes of events that are given up: dead letters first, acknowledged then. */
#include "delivery/worker.h"

#include <stdio.h>

enum { AGE_BATCH_EVENTS = 256 }; /* so many are synced to disk at once */

static void log_dead_letter(struct cg_delivery *delivery, const struct cg_event *event,
                            enum cg_letter_reason reason)
{
    uint64_t suppressed = 0;
    if (cg_log_limit_pass(&delivery->event_log_limit, cg_clock_monotonic(delivery->config.clock),
                          &suppressed)) {
        CG_LOG(CG_LOG_ERROR, "event_dead_lettered", CG_F_STR("exporter", delivery->config.name),
               CG_F_BYTES("id", cg_event_get(event, CG_TEXT_ID)),
               CG_F_BYTES("cell", cg_event_get(event, CG_TEXT_CELL)),
               CG_F_BYTES("run", cg_event_get(event, CG_TEXT_RUN)),
               CG_F_U64("sequence", event->meta.sequence),
               CG_F_STR("reason", cg_letter_reason_name(reason)),
               CG_F_STR("detail", delivery->verdict.detail),
               CG_F_U64("kept", delivery->letters.path != NULL),
               CG_F_U64("suppressed", suppressed));
    }
}

static enum cg_keep keep_letters(struct cg_delivery *delivery, uint64_t count, struct cg_error *err)
{
    const struct cg_batch batch = {.events = delivery->window.events, .count = count};
    return cg_dead_letters_keep(&delivery->letters, &batch, delivery->burial.reason,
                                &delivery->verdict, cg_clock_realtime(delivery->config.clock), err);
}

/* What was given up is kept as dead letters before it is acknowledged, however long that takes:
 * while it cannot be kept the exporter holds, so that nothing is lost. */
void cg_burial_step(struct cg_delivery *delivery)
{
    uint64_t count = delivery->burial.count;
    struct cg_error err = {0};
    enum cg_keep outcome = keep_letters(delivery, count, &err);
    if (outcome == CG_KEEP_FULL && count > 1) {
        count = 1; /* as long as there is room for any */
        outcome = keep_letters(delivery, count, &err);
    }
    delivery->letters_full = outcome == CG_KEEP_FULL;
    if (outcome != CG_KEEP_DONE) {
        /* Letters that are sent again make room: until that is done it is no use to wait long. */
        struct cg_plan_step step = cg_plan_pause(&delivery->plan, CG_PLAN_HOLD);
        if (delivery->letters_full && delivery->replay.wanted) {
            uint64_t now = cg_clock_monotonic(delivery->config.clock);
            uint64_t next_ns = delivery->replay.not_before_ns;
            uint64_t delay_ns = next_ns > now ? next_ns - now : 0;
            step.delay_ns = delay_ns < step.delay_ns ? delay_ns : step.delay_ns;
        }
        cg_worker_wait_out(delivery, &step, err.text, true);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        log_dead_letter(delivery, &delivery->window.events[i], delivery->burial.reason);
    }
    pthread_mutex_lock(&delivery->mutex);
    delivery->status.dead_lettered_events += count;
    delivery->status.expired_events += delivery->burial.reason == CG_LETTER_AGE ? count : 0;
    pthread_mutex_unlock(&delivery->mutex);
    delivery->burial.count -= count;
    cg_worker_acknowledge(delivery, count);
}

/* Gives up the events at the head that are too old, some of them at a time. True if there are any.
 */
bool cg_burial_of_old(struct cg_delivery *delivery)
{
    uint64_t now = cg_clock_realtime(delivery->config.clock);
    uint64_t max_age_ns = delivery->config.max_age_ns;
    if (max_age_ns == 0 || now <= max_age_ns) {
        return false;
    }
    uint64_t most = delivery->window.count < AGE_BATCH_EVENTS ? delivery->window.count
                                                              : (uint64_t)AGE_BATCH_EVENTS;
    uint64_t count = 0;
    most = cg_plan_undelivered(&delivery->plan, most);
    while (count < most && delivery->window.events[count].meta.received_ns < now - max_age_ns) {
        count++;
    }
    if (count > 0) {
        cg_plan_give_up(&delivery->plan, count);
        memset(&delivery->verdict, 0, sizeof(delivery->verdict));
        (void)snprintf(delivery->verdict.detail, sizeof(delivery->verdict.detail),
                       "older than retry.max_age");
        delivery->burial.count = count;
        delivery->burial.reason = CG_LETTER_AGE;
    }
    return count > 0;
}
