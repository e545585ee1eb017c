#include "delivery/plan.h"

#include "cellgate/limits.h"

enum {
    HOLD_FLOOR_PERCENT = 50, /* configuration trouble is not asked about in quick succession */
    PASSES_WANTED_MIN = 8,
    PASSES_WANTED_MAX = 1024,
    GROWTH_DIVISOR = 4, /* a limit that has held grows by a quarter */
};

void cg_plan_init(struct cg_plan *plan, const struct cg_plan_limits *limits)
{
    CG_ASSERT(limits->batch_events > 0 && limits->batch_bytes > 0 && limits->suspect_after > 0);
    *plan = (struct cg_plan){
        .limits = *limits,
        .bytes_limit = limits->batch_bytes,
        .passes_wanted = PASSES_WANTED_MIN,
    };
    cg_backoff_init(&plan->backoff, limits->backoff_initial_ns, limits->backoff_max_ns, 0);
    cg_backoff_init(&plan->hold, limits->hold_initial_ns, limits->hold_max_ns, HOLD_FLOOR_PERCENT);
    cg_jitter_init(&plan->jitter, limits->jitter_seed);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* --- what to send --- */

void cg_plan_window(const struct cg_plan *plan, uint64_t *ret_events, uint64_t *ret_bytes)
{
    *ret_events = plan->limits.batch_events;
    *ret_bytes = plan->bytes_limit;
    if (plan->phase == CG_PLAN_PLAIN && plan->ramp > 0) {
        *ret_events = smaller(*ret_events, plan->ramp);
    }
    if (plan->phase == CG_PLAN_PROBING) {
        *ret_events = larger(*ret_events, CG_PLAN_WINDOW_EVENTS);
        *ret_bytes =
            larger(plan->limits.batch_bytes, (uint64_t)CG_PLAN_WINDOW_EVENTS * CG_EVENT_BYTES_MAX);
    }
}

static struct cg_plan_next send_slice(struct cg_plan *plan, uint64_t offset, uint64_t count,
                                      uint64_t bytes)
{
    plan->offset = offset;
    plan->count = count;
    plan->bytes = bytes;
    return (struct cg_plan_next){CG_PLAN_SEND, offset, count, bytes};
}

/* The longest run from the head of at most `count` events and bytes_limit bytes, but at least one
 * event. */
static struct cg_plan_next send_from_head(struct cg_plan *plan, const struct cg_batch *window,
                                          uint64_t count)
{
    if (count == window->count && window->bytes <= plan->bytes_limit) {
        return send_slice(plan, 0, count, window->bytes); /* the usual case: nothing to add up */
    }
    uint64_t taken = 1;
    uint64_t bytes = window->events[0].bytes.len;
    while (taken < count && bytes + window->events[taken].bytes.len <= plan->bytes_limit) {
        bytes += window->events[taken].bytes.len;
        taken++;
    }
    return send_slice(plan, 0, taken, bytes);
}

static bool is_ahead(const struct cg_plan *plan, uint64_t offset)
{
    return offset < CG_PLAN_WINDOW_EVENTS && ((plan->ahead >> offset) & 1) != 0;
}

static struct cg_plan_next send_probe(struct cg_plan *plan, const struct cg_batch *window)
{
    if (plan->head_next) {
        return send_slice(plan, 0, 1, window->events[0].bytes.len);
    }
    uint64_t end = smaller(window->count, CG_PLAN_WINDOW_EVENTS);
    for (uint64_t at = plan->probe; at < end; at++) {
        if (!is_ahead(plan, at)) {
            plan->probe = at;
            return send_slice(plan, at, 1, window->events[at].bytes.len);
        }
    }
    plan->alone = true;
    for (uint64_t at = 1; at < end; at++) {
        plan->alone = plan->alone && is_ahead(plan, at);
    }
    return (struct cg_plan_next){.action = CG_PLAN_MORE};
}

/* `count` events at the head are done with: everything that is counted from the head moves. */
static void pass_head(struct cg_plan *plan, uint64_t count)
{
    plan->ahead = count < CG_PLAN_WINDOW_EVENTS ? plan->ahead >> count : 0;
    plan->suspects -= smaller(plan->suspects, count);
    plan->trouble -= smaller(plan->trouble, count);
    plan->vouched = false;
    if (plan->phase != CG_PLAN_PLAIN && plan->suspects == 0) {
        plan->phase = CG_PLAN_PLAIN;
    }
}

struct cg_plan_next cg_plan_next(struct cg_plan *plan, const struct cg_batch *window)
{
    CG_ASSERT(window->count > 0);
    if (is_ahead(plan, 0)) {
        pass_head(plan, 1);
        return (struct cg_plan_next){.action = CG_PLAN_SKIP};
    }
    if (plan->phase == CG_PLAN_PROBING) {
        return send_probe(plan, window);
    }
    uint64_t count = smaller(window->count, plan->limits.batch_events);
    if (plan->trouble > 0) {
        count = smaller(count, plan->trouble);
    }
    if (plan->phase == CG_PLAN_BISECTING) {
        count = smaller(count, plan->suspects > 1 ? plan->suspects / 2 : 1);
    } else if (plan->repeats > 0) {
        count = smaller(count, plan->count); /* the slice that is under suspicion */
    } else if (plan->ramp > 0) {
        count = smaller(count, plan->ramp);
    }
    return send_from_head(plan, window, cg_plan_undelivered(plan, count));
}

/* --- what an answer means --- */

static struct cg_plan_step go_on(void)
{
    return (struct cg_plan_step){.wait = CG_PLAN_GO_ON};
}

struct cg_plan_step cg_plan_pause(struct cg_plan *plan, enum cg_plan_wait wait)
{
    struct cg_backoff *schedule = wait == CG_PLAN_HOLD ? &plan->hold : &plan->backoff;
    return (struct cg_plan_step){.wait = wait,
                                 .delay_ns = cg_backoff_next(schedule, &plan->jitter)};
}

/* The destination failed: a wait after which the next slice is chosen anew. Its own word on the
 * length wins. */
static struct cg_plan_step wait_for(struct cg_plan *plan, enum cg_plan_wait wait,
                                    uint64_t retry_after_ns)
{
    struct cg_plan_step step = cg_plan_pause(plan, wait);
    if (retry_after_ns > 0) {
        step.delay_ns = smaller(retry_after_ns, plan->limits.retry_after_max_ns);
    }
    plan->head_next = true;
    if (++plan->failures >= CG_PLAN_OUTAGE_FAILURES) {
        plan->ramp = CG_PLAN_HALF_OPEN_EVENTS;
    }
    return step;
}

/* The destination is in trouble, whatever it was sent: the same events come out again, fewer of
 * them once it is an outage. */
static struct cg_plan_step wait_out_trouble(struct cg_plan *plan, enum cg_plan_wait wait,
                                            uint64_t retry_after_ns)
{
    plan->repeats = 0;
    plan->vouched = false; /* what a neighbour showed is stale after an outage */
    return wait_for(plan, wait, retry_after_ns);
}

static void begin_trouble(struct cg_plan *plan)
{
    if (plan->trouble == 0) {
        plan->trouble = plan->count;
        plan->bytes_before = plan->bytes_limit;
        plan->suspicion = false;
    }
}

/* The slice is under suspicion. What was accepted before that says nothing about it, even where a
 * batch was being split for its size already: a destination that turns against everything then
 * must show itself healthy first. */
static void begin_suspicion(struct cg_plan *plan)
{
    begin_trouble(plan);
    if (!plan->suspicion) {
        plan->suspicion = true;
        plan->convictions = 0;
    }
}

static void begin_bisecting(struct cg_plan *plan, uint64_t suspects)
{
    plan->phase = CG_PLAN_BISECTING;
    plan->suspects = suspects;
    plan->repeats = 0;
}

static void begin_probing(struct cg_plan *plan, bool doubtful)
{
    plan->phase = CG_PLAN_PROBING;
    plan->suspects = 1;
    plan->doubtful = doubtful;
    plan->head_next = doubtful;
    /* Behind what was accepted ahead before, the next acceptance is likeliest. */
    plan->probe = plan->ahead == 0 ? 1 : (uint64_t)(64 - __builtin_clzll(plan->ahead));
    plan->probes_left = CG_PLAN_PROBES_A_ROUND;
}

static struct cg_plan_step convict(struct cg_plan *plan)
{
    if (plan->convictions > 0) {
        plan->convictions--;
    }
    plan->repeats = 0;
    pass_head(plan, 1);
    return (struct cg_plan_step){.ack = 1, .dead_letter = true};
}

static void learn_passed(struct cg_plan *plan)
{
    plan->bytes_passed = larger(plan->bytes_passed, plan->bytes);
    if (plan->bytes_limit == plan->limits.batch_bytes || plan->bytes <= plan->bytes_limit / 2) {
        return; /* nothing to grow, or too small a slice to say anything */
    }
    if (++plan->passes >= plan->passes_wanted) {
        plan->passes = 0;
        plan->bytes_limit = smaller(plan->bytes_limit + plan->bytes_limit / GROWTH_DIVISOR + 1,
                                    plan->limits.batch_bytes);
        if (plan->bytes_limit == plan->limits.batch_bytes) {
            plan->passes_wanted = PASSES_WANTED_MIN;
        }
    }
}

static void learn_recovered(struct cg_plan *plan)
{
    plan->failures = 0;
    if (plan->ramp > 0 && plan->count >= plan->ramp) {
        plan->ramp *= 2;
        if (plan->ramp >= plan->limits.batch_events) {
            plan->ramp = 0;
        }
    }
}

static struct cg_plan_step judge_delivered(struct cg_plan *plan)
{
    cg_backoff_reset(&plan->backoff);
    cg_backoff_reset(&plan->hold);
    learn_recovered(plan);
    plan->repeats = 0;
    plan->convictions = CG_PLAN_CONVICTIONS_MAX;
    if (plan->offset > 0) {
        /* Probing: the destination is healthy. The head gets one more chance, and the trouble is
         * about all that were tried. */
        plan->ahead |= UINT64_C(1) << plan->offset;
        plan->trouble = larger(plan->trouble, plan->offset + 1);
        begin_bisecting(plan, 1);
        plan->vouched = true;
        return go_on();
    }
    learn_passed(plan);
    pass_head(plan, plan->count);
    return (struct cg_plan_step){.ack = plan->count};
}

static struct cg_plan_step judge_too_large(struct cg_plan *plan)
{
    CG_ASSERT(plan->bytes > 0);
    plan->repeats = 0;
    begin_trouble(plan);
    if (plan->bytes_passed >= plan->bytes) {
        plan->bytes_passed = 0; /* what passed once no longer does */
    }
    plan->passes = 0;
    plan->bytes_limit = larger(plan->bytes / 2, 1);
    if (plan->bytes_passed > plan->bytes_limit) {
        /* Growth was a disappointment: back to what passed, and more patience. */
        plan->bytes_limit = plan->bytes_passed;
        plan->passes_wanted = smaller(plan->passes_wanted * 2, PASSES_WANTED_MAX);
    }
    return go_on();
}

/* A neighbour failed too. */
static struct cg_plan_step probe_failed(struct cg_plan *plan, const struct cg_verdict *verdict,
                                        enum cg_plan_wait wait)
{
    plan->probe = plan->offset + 1;
    plan->probes_left--;
    if (wait == CG_PLAN_HOLD && plan->probes_left > 0) {
        return go_on();
    }
    plan->probes_left = CG_PLAN_PROBES_A_ROUND;
    return wait_for(plan, wait, verdict->retry_after_ns);
}

/* The destination says that something in the slice is wrong. */
static struct cg_plan_step judge_refused(struct cg_plan *plan, const struct cg_verdict *verdict)
{
    plan->repeats = 0;
    begin_suspicion(plan);
    if (plan->count > 1) {
        begin_bisecting(plan, plan->count);
        return go_on();
    }
    if (plan->offset > 0) {
        return probe_failed(plan, verdict, CG_PLAN_HOLD);
    }
    if (verdict->kind == CG_VERDICT_TOO_LARGE) {
        plan->bytes_limit = plan->bytes_before; /* it was this event, not the size of batches */
    }
    if (plan->convictions > 0) {
        return convict(plan);
    }
    if (plan->phase != CG_PLAN_PROBING) {
        begin_probing(plan, false);
    }
    plan->doubtful = false;
    plan->head_next = false;
    return go_on();
}

/* An answer that may be the destination's own trouble, or this slice's. */
static struct cg_plan_step judge_suspicious(struct cg_plan *plan, const struct cg_verdict *verdict)
{
    plan->repeats++;
    if (plan->phase == CG_PLAN_PROBING) {
        if (plan->offset > 0) {
            return probe_failed(plan, verdict, CG_PLAN_BACKOFF);
        }
        plan->head_next = false; /* the head failed again: now its neighbours */
        return go_on();
    }
    if (plan->vouched) {
        return convict(plan);
    }
    bool narrowing = plan->phase == CG_PLAN_BISECTING && plan->count > 1;
    if (!narrowing && plan->repeats < plan->limits.suspect_after) {
        return wait_for(plan, CG_PLAN_BACKOFF, verdict->retry_after_ns);
    }
    begin_suspicion(plan);
    if (plan->count > 1) {
        begin_bisecting(plan, plan->count);
    } else {
        begin_probing(plan, true);
    }
    return wait_for(plan, CG_PLAN_BACKOFF, verdict->retry_after_ns);
}

struct cg_plan_step cg_plan_judge(struct cg_plan *plan, const struct cg_verdict *verdict)
{
    switch (verdict->kind) {
    case CG_VERDICT_DELIVERED:
        return judge_delivered(plan);
    case CG_VERDICT_BACKOFF:
        if (verdict->suspicious_when_repeated) {
            return judge_suspicious(plan, verdict);
        }
        return wait_out_trouble(plan, CG_PLAN_BACKOFF, verdict->retry_after_ns);
    case CG_VERDICT_TOO_LARGE:
        return plan->count > 1 ? judge_too_large(plan) : judge_refused(plan, verdict);
    case CG_VERDICT_SUSPECT:
        return judge_refused(plan, verdict);
    case CG_VERDICT_CONFIG:
        return wait_out_trouble(plan, CG_PLAN_HOLD, verdict->retry_after_ns);
    }
    CG_ASSERT(!"a verdict is one of enum cg_verdict_kind");
    return go_on();
}

struct cg_plan_step cg_plan_starved(struct cg_plan *plan)
{
    CG_ASSERT(plan->phase == CG_PLAN_PROBING);
    if (plan->alone && plan->convictions > 0) {
        CG_ASSERT(plan->offset == 0);
        return convict(plan);
    }
    plan->probe = 1;
    plan->probes_left = CG_PLAN_PROBES_A_ROUND;
    struct cg_plan_step step = wait_for(plan, plan->doubtful ? CG_PLAN_BACKOFF : CG_PLAN_HOLD, 0);
    step.until_more = plan->alone;
    return step;
}

/* --- what happens to the head without the destination --- */

uint64_t cg_plan_undelivered(const struct cg_plan *plan, uint64_t count)
{
    return plan->ahead == 0 ? count : smaller(count, (uint64_t)__builtin_ctzll(plan->ahead));
}

void cg_plan_give_up(struct cg_plan *plan, uint64_t count)
{
    CG_ASSERT(count == cg_plan_undelivered(plan, count));
    plan->repeats = 0;
    pass_head(plan, count);
}

void cg_plan_lost_place(struct cg_plan *plan)
{
    plan->phase = CG_PLAN_PLAIN;
    plan->repeats = 0;
    plan->trouble = 0;
    plan->suspects = 0;
    plan->ahead = 0;
    plan->vouched = false;
    plan->alone = false;
}
