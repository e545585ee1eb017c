/*
 * plan_world.h - a world in which the plan is the worker's brain: a backlog of numbered events, a
 * scripted destination, and a count of everything that happens. No time passes; waits are added up.
 */
#ifndef CELLGATE_TESTS_PLAN_WORLD_H
#define CELLGATE_TESTS_PLAN_WORLD_H

#include "delivery/plan.h"

#include <check.h>
#include <stdlib.h>

enum { EVENTS_MAX = 4096 };

struct world;
typedef void (*destination)(struct world *world, const struct cg_batch *slice,
                            struct cg_verdict *ret_verdict);

struct world {
    struct cg_event events[EVENTS_MAX];
    uint64_t there; /* appended so far */
    uint64_t head;
    struct cg_batch window;
    struct cg_plan plan;
    destination answer;

    /* What the destination is scripted to do. */
    bool poison[EVENTS_MAX];
    enum cg_verdict_kind poison_kind;
    uint64_t bytes_max;
    uint64_t outage; /* so many more requests fail */
    struct cg_jitter dice;

    /* What happened. */
    unsigned delivered[EVENTS_MAX];
    bool dead[EVENTS_MAX];
    bool expired[EVENTS_MAX], lost[EVENTS_MAX]; /* by age; by the spool */
    uint64_t dead_count, delivered_count, expired_count;
    uint64_t order_broken; /* events delivered after one with a higher number */
    uint64_t highest;
    uint64_t ahead; /* events delivered ahead of the head */
    uint64_t requests, accepted_requests, largest_passed;
    uint64_t backoffs, holds;
    uint64_t waited_ns;
    bool waits_for_more;
    uint64_t last_count; /* of the last slice */
    uint64_t jumps;
};

static char filler[1];

static void make_world(struct world *world, uint64_t events, destination answer)
{
    static const struct cg_plan_limits limits = {
        .batch_events = 64,
        .batch_bytes = 1 << 20,
        .suspect_after = 8,
        .backoff_initial_ns = 500,
        .backoff_max_ns = 60000,
        .hold_initial_ns = 30000,
        .hold_max_ns = 300000,
        .retry_after_max_ns = 3600000,
        .jitter_seed = 11,
    };
    memset(world, 0, sizeof(*world));
    for (uint64_t i = 0; i < EVENTS_MAX; i++) {
        world->events[i].index = i;
        world->events[i].bytes = cg_bytes(filler, 600);
    }
    world->there = events;
    world->answer = answer;
    world->poison_kind = CG_VERDICT_SUSPECT;
    cg_plan_init(&world->plan, &limits);
    cg_jitter_init(&world->dice, 5);
}

static void peek(struct world *world)
{
    uint64_t events, bytes;
    cg_plan_window(&world->plan, &events, &bytes);
    world->window = (struct cg_batch){.events = world->events + world->head};
    while (world->head + world->window.count < world->there && world->window.count < events) {
        uint64_t len = world->events[world->head + world->window.count].bytes.len;
        if (world->window.count > 0 && world->window.bytes + len > bytes) {
            break;
        }
        world->window.bytes += len;
        world->window.count++;
    }
}

static void acknowledge(struct world *world, uint64_t count)
{
    ck_assert_uint_le(count, world->window.count);
    for (uint64_t i = 0; i < count; i++) {
        if (world->delivered[world->head] == 0 && !world->dead[world->head] &&
            !world->expired[world->head]) {
            ck_abort_msg("event %u is acknowledged and has not ended", (unsigned)world->head);
        }
        world->window.bytes -= world->window.events[0].bytes.len;
        world->window.events++;
        world->window.count--;
        world->head++;
    }
}

static void take_step(struct world *world, const struct cg_plan_step *step)
{
    if (step->dead_letter) {
        ck_assert_uint_eq(step->ack, 1);
        ck_assert_uint_eq(world->delivered[world->head], 0);
        ck_assert_uint_gt(world->accepted_requests, 0);
        world->dead[world->head] = true;
        world->dead_count++;
    }
    acknowledge(world, step->ack);
    world->backoffs += step->wait == CG_PLAN_BACKOFF;
    world->holds += step->wait == CG_PLAN_HOLD;
    world->waited_ns += step->delay_ns;
    world->waits_for_more = world->waits_for_more || step->until_more;
}

static void send(struct world *world, const struct cg_plan_next *next)
{
    const struct cg_batch slice = {world->window.events + next->offset, next->count, next->bytes};
    uint64_t first = world->head + next->offset;
    uint64_t bytes = 0, twice = 0;
    ck_assert_uint_gt(next->count, 0);
    ck_assert_uint_le(next->offset + next->count, world->window.count);
    for (uint64_t i = 0; i < next->count; i++) {
        bytes += slice.events[i].bytes.len;
        twice += world->delivered[first + i];
    }
    /* Nothing is sent twice, but where a jump made the plan forget. */
    ck_assert(twice == 0 || world->jumps > 0);
    ck_assert_uint_eq(bytes, next->bytes);

    struct cg_verdict verdict = {0};
    world->answer(world, &slice, &verdict);
    world->requests++;
    world->last_count = next->count;
    if (verdict.kind == CG_VERDICT_DELIVERED) {
        world->accepted_requests++;
        world->ahead += next->offset > 0;
        world->delivered_count += next->count;
        world->largest_passed = bytes > world->largest_passed ? bytes : world->largest_passed;
        for (uint64_t at = first; at < first + next->count; at++) {
            world->delivered[at]++;
            world->order_broken += at < world->highest;
            world->highest = at > world->highest ? at : world->highest;
        }
    }
    struct cg_plan_step step = cg_plan_judge(&world->plan, &verdict);
    take_step(world, &step);
}

/* Events at the head are too old: they are kept as dead letters, and acknowledged. */
static void give_up(struct world *world, uint64_t count)
{
    count = cg_plan_undelivered(&world->plan, count);
    cg_plan_give_up(&world->plan, count);
    for (uint64_t i = 0; i < count; i++) {
        world->expired[world->head + i] = true;
        world->expired_count++;
    }
    acknowledge(world, count);
}

/* The spool gave up what lies before `to`, under the reader. */
static void jump(struct world *world, uint64_t to)
{
    for (uint64_t at = world->head; at < to; at++) {
        world->lost[at] = true;
    }
    world->head = to;
    world->window = (struct cg_batch){0};
    world->jumps++;
    cg_plan_lost_place(&world->plan);
}

/* Until the backlog is gone or so many requests were made. */
static void run(struct world *world, uint64_t requests)
{
    uint64_t end = world->requests + requests;
    bool widened = false;
    uint64_t starved = 0;
    while (world->head < world->there && world->requests < end) {
        if (world->window.count == 0) {
            peek(world);
        }
        struct cg_plan_next next = cg_plan_next(&world->plan, &world->window);
        if (next.action == CG_PLAN_SEND) {
            send(world, &next);
            widened = false;
        } else if (next.action == CG_PLAN_SKIP) {
            acknowledge(world, 1);
        } else if (!widened) {
            peek(world);
            widened = true;
        } else {
            struct cg_plan_step step = cg_plan_starved(&world->plan);
            ck_assert(step.dead_letter || step.wait != CG_PLAN_GO_ON);
            ck_assert_uint_lt(starved++, requests); /* it always comes back to sending */
            take_step(world, &step);
            widened = false;
        }
    }
}

static void assert_all_accounted(const struct world *world)
{
    ck_assert_uint_eq(world->head, world->there);
    for (uint64_t i = 0; i < world->there; i++) {
        ck_assert_uint_eq(world->delivered[i] + world->dead[i], 1);
        ck_assert_int_eq(world->dead[i], world->poison[i]);
    }
}

/* --- destinations --- */

static void accept_all(struct world *world, const struct cg_batch *slice,
                       struct cg_verdict *ret_verdict)
{
    (void)world;
    (void)slice;
    ret_verdict->kind = CG_VERDICT_DELIVERED;
}

static void refuse_all(struct world *world, const struct cg_batch *slice,
                       struct cg_verdict *ret_verdict)
{
    (void)slice;
    ret_verdict->kind = world->poison_kind;
    ret_verdict->suspicious_when_repeated = world->poison_kind == CG_VERDICT_BACKOFF;
}

static bool has_poison(const struct world *world, const struct cg_batch *slice)
{
    for (size_t i = 0; i < slice->count; i++) {
        if (world->poison[slice->events[i].index]) {
            return true;
        }
    }
    return false;
}

/* Refuses slices with poison in them, and those that are too large. */
static void judge_honestly(struct world *world, const struct cg_batch *slice,
                           struct cg_verdict *ret_verdict)
{
    if (has_poison(world, slice)) {
        refuse_all(world, slice, ret_verdict);
    } else if (world->bytes_max > 0 && slice->bytes > world->bytes_max) {
        ret_verdict->kind = CG_VERDICT_TOO_LARGE;
    } else {
        accept_all(world, slice, ret_verdict);
    }
}

/* Times out with more than twenty events. */
static void take_twenty(struct world *world, const struct cg_batch *slice,
                        struct cg_verdict *ret_verdict)
{
    (void)world;
    ret_verdict->kind = slice->count > 20 ? CG_VERDICT_BACKOFF : CG_VERDICT_DELIVERED;
}

/* Down for `outage` requests, and honest before and after. */
static void judge_after_outage(struct world *world, const struct cg_batch *slice,
                               struct cg_verdict *ret_verdict)
{
    if (world->outage > 0) {
        world->outage--;
        ret_verdict->kind = CG_VERDICT_BACKOFF;
        return;
    }
    judge_honestly(world, slice, ret_verdict);
}

/* Honest but for outages of every kind at random instants: 503, 500, 404. */
static void judge_and_flap(struct world *world, const struct cg_batch *slice,
                           struct cg_verdict *ret_verdict)
{
    if (world->outage == 0 && cg_jitter_upto(&world->dice, 9) == 0) {
        world->outage = cg_jitter_upto(&world->dice, 5);
    }
    if (world->outage > 0) {
        world->outage--;
        ret_verdict->kind =
            cg_jitter_upto(&world->dice, 3) == 0 ? CG_VERDICT_CONFIG : CG_VERDICT_BACKOFF;
        ret_verdict->suspicious_when_repeated = cg_jitter_upto(&world->dice, 1) == 0;
        return;
    }
    judge_honestly(world, slice, ret_verdict);
}

#endif
