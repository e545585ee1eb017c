/*
 * A world in which the plan is the worker's brain: a backlog of numbered events, a scripted
 * destination, and a count of everything that happens. No time passes; waits are added up.
 */
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
    uint64_t dead_count, delivered_count;
    uint64_t order_broken; /* events delivered after one with a higher number */
    uint64_t highest;
    uint64_t ahead; /* events delivered ahead of the head */
    uint64_t requests, accepted_requests, largest_passed;
    uint64_t backoffs, holds;
    uint64_t waited_ns;
    bool waits_for_more;
    uint64_t last_count; /* of the last slice */
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
        ck_assert(world->delivered[world->head] > 0 || world->dead[world->head]);
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
    uint64_t bytes = 0;
    ck_assert_uint_gt(next->count, 0);
    ck_assert_uint_le(next->offset + next->count, world->window.count);
    for (uint64_t i = 0; i < next->count; i++) {
        bytes += slice.events[i].bytes.len;
        ck_assert_uint_eq(world->delivered[first + i], 0); /* nothing is sent twice */
    }
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

/* --- tests --- */

START_TEST(a_healthy_destination_gets_full_batches_in_order)
{
    static struct world world;
    make_world(&world, 640, accept_all);
    run(&world, 100);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.requests, 10);
    ck_assert_uint_eq(world.order_broken, 0);
    ck_assert_uint_eq(world.waited_ns, 0);
}
END_TEST

START_TEST(a_destination_that_refuses_everything_loses_nothing)
{
    static const enum cg_verdict_kind kinds[] = {CG_VERDICT_SUSPECT, CG_VERDICT_TOO_LARGE,
                                                 CG_VERDICT_CONFIG, CG_VERDICT_BACKOFF};
    static struct world world;
    make_world(&world, 200, refuse_all);
    world.poison_kind = kinds[_i];
    run(&world, 3000);
    ck_assert_uint_eq(world.head, 0);
    ck_assert_uint_eq(world.dead_count, 0);
    /* It is asked slowly: in the long run a wait for each round of probes. */
    ck_assert_uint_gt(world.holds + world.backoffs, 3000 / (CG_PLAN_PROBES_A_ROUND + 2));
    if (kinds[_i] == CG_VERDICT_BACKOFF) {
        ck_assert_uint_eq(world.holds, 0);
    } else {
        ck_assert_uint_eq(world.backoffs, 0);
    }

    /* And once it is mended all goes out, in order, or one event ahead of it. */
    world.answer = accept_all;
    run(&world, 1000);
    assert_all_accounted(&world);
    ck_assert_uint_le(world.ahead, 1);
}
END_TEST

START_TEST(one_poison_event_is_found_and_the_others_stay_in_order)
{
    static struct world world;
    for (uint64_t culprit = 0; culprit < 63; culprit++) {
        make_world(&world, 64, judge_honestly);
        world.poison[culprit] = true;
        run(&world, 100);
        assert_all_accounted(&world);
        ck_assert_uint_eq(world.order_broken, 0);
        ck_assert_uint_eq(world.holds + world.backoffs, 0);
        ck_assert_uint_le(world.requests, 20);
    }
}
END_TEST

START_TEST(the_last_event_may_be_poison_too)
{
    static struct world world;
    make_world(&world, 64, judge_honestly);
    world.poison[63] = true;
    run(&world, 100);
    assert_all_accounted(&world);
}
END_TEST

START_TEST(every_third_event_is_poison)
{
    static struct world world;
    make_world(&world, 600, judge_honestly);
    for (uint64_t i = 0; i < 600; i += 3) {
        world.poison[i] = true;
    }
    run(&world, 20000);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.holds, 0);
}
END_TEST

START_TEST(neighbouring_poison_at_the_end_of_the_backlog_is_given_up)
{
    static struct world world;
    make_world(&world, 10, judge_honestly);
    world.poison[7] = world.poison[8] = world.poison[9] = true;
    run(&world, 100);
    assert_all_accounted(&world);
}
END_TEST

START_TEST(a_poisoned_head_waits_for_company)
{
    static struct world world;
    make_world(&world, 1, judge_honestly);
    world.poison[0] = true;
    run(&world, 50);
    ck_assert_uint_eq(world.head, 0);
    ck_assert_uint_eq(world.dead_count, 0);
    ck_assert_uint_gt(world.holds, 10);
    ck_assert(world.waits_for_more);

    world.there = 2;
    run(&world, 50);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.delivered[1], 1);
}
END_TEST

START_TEST(a_run_of_poison_at_the_head_is_probed_past)
{
    static struct world world;
    make_world(&world, 200, judge_honestly);
    for (uint64_t i = 0; i < 30; i++) {
        world.poison[i] = true;
    }
    run(&world, 3000);
    assert_all_accounted(&world);
}
END_TEST

START_TEST(more_poison_than_the_window_holds_is_configuration_trouble)
{
    static struct world world;
    make_world(&world, 200, judge_honestly);
    for (uint64_t i = 0; i < CG_PLAN_WINDOW_EVENTS; i++) {
        world.poison[i] = true;
    }
    run(&world, 3000);
    ck_assert_uint_eq(world.head, 0);
    ck_assert_uint_eq(world.dead_count, 0);
    ck_assert_uint_gt(world.holds, 100);
}
END_TEST

START_TEST(a_destination_that_turns_against_everything_gets_few_convictions)
{
    static struct world world;
    make_world(&world, 640, judge_honestly);
    for (uint64_t i = 10; i < EVENTS_MAX; i++) {
        world.poison[i] = true;
    }
    run(&world, 5000);
    ck_assert_uint_le(world.dead_count, CG_PLAN_CONVICTIONS_MAX);
    ck_assert_uint_eq(world.delivered_count, 10);
    ck_assert_uint_gt(world.holds, 100);
}
END_TEST

START_TEST(the_size_that_passes_is_remembered)
{
    static struct world world;
    make_world(&world, 2048, judge_honestly);
    world.bytes_max = 20 * 600;
    run(&world, 1000);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.order_broken, 0);
    ck_assert_uint_eq(world.holds + world.backoffs, 0);
    /* 103 requests would do; the rest are halves and careful growth. */
    ck_assert_uint_le(world.requests, 160);
}
END_TEST

START_TEST(the_size_grows_back_when_the_limit_is_gone)
{
    static struct world world;
    make_world(&world, 64, judge_honestly);
    world.bytes_max = 16 * 600;
    run(&world, 1000);
    world.bytes_max = 0;
    world.there = EVENTS_MAX;
    run(&world, 10000);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.largest_passed, 64 * 600);
}
END_TEST

START_TEST(a_single_event_that_is_too_large_is_poison)
{
    static struct world world;
    for (uint64_t culprit = 0; culprit < 64; culprit += 9) {
        make_world(&world, 256, judge_honestly);
        world.bytes_max = 50000;
        world.events[culprit].bytes.len = 60000;
        world.poison[culprit] = true;
        world.poison_kind = CG_VERDICT_TOO_LARGE;
        run(&world, 100);
        assert_all_accounted(&world);
        ck_assert_uint_eq(world.holds, 0);
        /* It was the event: batches are as large as before. */
        ck_assert_uint_eq(world.plan.bytes_limit, world.plan.limits.batch_bytes);
    }
}
END_TEST

START_TEST(trouble_that_passes_repeats_the_same_batch)
{
    static struct world world;
    make_world(&world, 40, judge_after_outage);
    world.outage = 30;
    run(&world, 1);
    ck_assert_uint_eq(world.last_count, 40);
    world.there = 100; /* new events do not change the batch */
    run(&world, 29);
    ck_assert_uint_eq(world.last_count, 40);
    ck_assert_uint_eq(world.backoffs, 30);
    ck_assert_uint_eq(world.head, 0);
    run(&world, 2);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.order_broken, 0);
}
END_TEST

START_TEST(a_500_that_follows_one_batch_is_bisected)
{
    static struct world world;
    for (uint64_t culprit = 0; culprit < 64; culprit += 21) {
        make_world(&world, 128, judge_honestly);
        world.poison[culprit] = true;
        world.poison_kind = CG_VERDICT_BACKOFF;
        run(&world, 8);
        ck_assert_uint_eq(world.last_count, 64);
        run(&world, 1);
        ck_assert_uint_eq(world.last_count, 32);
        run(&world, 200);
        assert_all_accounted(&world);
        ck_assert_uint_eq(world.holds, 0);
    }
}
END_TEST

START_TEST(a_last_event_that_crashes_its_destination_is_given_up)
{
    static struct world world;
    make_world(&world, 5, judge_honestly);
    world.poison[4] = true;
    world.poison_kind = CG_VERDICT_BACKOFF;
    run(&world, 200);
    assert_all_accounted(&world);
}
END_TEST

START_TEST(an_outage_of_500s_convicts_nobody)
{
    static struct world world;
    for (uint64_t length = 1; length < 60; length++) {
        make_world(&world, 200, judge_honestly);
        memset(world.poison, 1, sizeof(world.poison));
        world.poison_kind = CG_VERDICT_BACKOFF;
        run(&world, length);
        memset(world.poison, 0, sizeof(world.poison));
        run(&world, 1000);
        assert_all_accounted(&world);
    }
}
END_TEST

START_TEST(the_destinations_own_word_on_the_delay_wins)
{
    static struct world world;
    make_world(&world, 1, refuse_all);
    peek(&world);
    struct cg_verdict verdict = {.kind = CG_VERDICT_BACKOFF, .retry_after_ns = 123456};
    (void)cg_plan_next(&world.plan, &world.window);
    struct cg_plan_step step = cg_plan_judge(&world.plan, &verdict);
    ck_assert_int_eq(step.wait, CG_PLAN_BACKOFF);
    ck_assert_uint_eq(step.delay_ns, 123456);
    verdict.retry_after_ns = UINT64_MAX;
    (void)cg_plan_next(&world.plan, &world.window);
    step = cg_plan_judge(&world.plan, &verdict);
    ck_assert_uint_eq(step.delay_ns, world.plan.limits.retry_after_max_ns);
}
END_TEST

START_TEST(the_two_schedules_are_separate_and_start_again_after_success)
{
    static struct world world;
    make_world(&world, 2, refuse_all);
    world.plan.limits.batch_events = 1;
    for (unsigned round = 0; round < 2; round++) {
        peek(&world);
        for (unsigned i = 0; i < 50; i++) {
            (void)cg_plan_next(&world.plan, &world.window);
            struct cg_verdict verdict = {.kind = CG_VERDICT_BACKOFF};
            (void)cg_plan_judge(&world.plan, &verdict);
        }
        (void)cg_plan_next(&world.plan, &world.window);
        struct cg_verdict verdict = {.kind = CG_VERDICT_CONFIG};
        struct cg_plan_step step = cg_plan_judge(&world.plan, &verdict);
        ck_assert_int_eq(step.wait, CG_PLAN_HOLD);
        ck_assert_uint_ge(step.delay_ns, 15000);
        ck_assert_uint_le(step.delay_ns, 30000);
        (void)cg_plan_next(&world.plan, &world.window);
        verdict.kind = CG_VERDICT_DELIVERED;
        step = cg_plan_judge(&world.plan, &verdict);
        ck_assert_uint_eq(step.ack, 1);
        world.head++;
    }
}
END_TEST

/* Random backlogs with random poison, sizes, outages and arrivals. The plan has to account for each
 * event exactly as the destination would judge it alone. */
START_TEST(random_worlds_lose_nothing_and_convict_only_poison)
{
    static struct world world;
    for (unsigned seed = 0; seed < 400; seed++) {
        make_world(&world, 0, judge_and_flap);
        cg_jitter_init(&world.dice, seed * 1000 + (unsigned)_i);
        world.poison_kind = _i == 0   ? CG_VERDICT_SUSPECT
                            : _i == 1 ? CG_VERDICT_TOO_LARGE
                                      : CG_VERDICT_BACKOFF;
        world.plan.limits.batch_events = 1 + cg_jitter_upto(&world.dice, 99);
        world.bytes_max = 2000 + cg_jitter_upto(&world.dice, 40000);
        uint64_t one_in = 1 + cg_jitter_upto(&world.dice, 200);
        uint64_t events = 50 + cg_jitter_upto(&world.dice, 300);
        for (uint64_t i = 0; i < events; i++) {
            world.events[i].bytes.len = 1 + cg_jitter_upto(&world.dice, 1500);
            world.poison[i] = cg_jitter_upto(&world.dice, one_in + 1) == 0;
        }
        world.poison[events] = false; /* the last shows the destination healthy */
        while (world.there <= events) {
            world.there += 1 + cg_jitter_upto(&world.dice, 100);
            world.there = world.there > events ? events + 1 : world.there;
            run(&world, cg_jitter_upto(&world.dice, 100));
        }
        run(&world, 1000000);
        assert_all_accounted(&world);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tests = tcase_create("plan");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_healthy_destination_gets_full_batches_in_order);
    tcase_add_loop_test(tests, a_destination_that_refuses_everything_loses_nothing, 0, 4);
    tcase_add_test(tests, one_poison_event_is_found_and_the_others_stay_in_order);
    tcase_add_test(tests, the_last_event_may_be_poison_too);
    tcase_add_test(tests, every_third_event_is_poison);
    tcase_add_test(tests, neighbouring_poison_at_the_end_of_the_backlog_is_given_up);
    tcase_add_test(tests, a_poisoned_head_waits_for_company);
    tcase_add_test(tests, a_run_of_poison_at_the_head_is_probed_past);
    tcase_add_test(tests, more_poison_than_the_window_holds_is_configuration_trouble);
    tcase_add_test(tests, a_destination_that_turns_against_everything_gets_few_convictions);
    tcase_add_test(tests, the_size_that_passes_is_remembered);
    tcase_add_test(tests, the_size_grows_back_when_the_limit_is_gone);
    tcase_add_test(tests, a_single_event_that_is_too_large_is_poison);
    tcase_add_test(tests, trouble_that_passes_repeats_the_same_batch);
    tcase_add_test(tests, a_500_that_follows_one_batch_is_bisected);
    tcase_add_test(tests, a_last_event_that_crashes_its_destination_is_given_up);
    tcase_add_test(tests, an_outage_of_500s_convicts_nobody);
    tcase_add_test(tests, the_destinations_own_word_on_the_delay_wins);
    tcase_add_test(tests, the_two_schedules_are_separate_and_start_again_after_success);
    tcase_add_loop_test(tests, random_worlds_lose_nothing_and_convict_only_poison, 0, 3);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
