/* The plan, walked through one situation after the other; test_plan_model.c has the random ones. */
#include "unit/delivery/plan_world.h"

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
    run(&world, 1);
    ck_assert_uint_eq(world.last_count, 40);
    run(&world, 28); /* an outage: what is tried is small, and begins at the head */
    ck_assert_uint_eq(world.last_count, CG_PLAN_HALF_OPEN_EVENTS);
    ck_assert_uint_eq(world.backoffs, 30);
    ck_assert_uint_eq(world.head, 0);
    run(&world, 10);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.order_broken, 0);
}
END_TEST

START_TEST(after_an_outage_batches_grow_back_from_a_small_one)
{
    static const uint64_t counts[] = {64, 64, 8, 8, 8, 16, 32, 8, 64};
    static struct world world;
    make_world(&world, 1000, judge_after_outage);
    world.outage = 4;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        run(&world, 1);
        /* The first window had 64 events: 8 of them are left over. */
        ck_assert_uint_eq(world.last_count, counts[i]);
    }
    run(&world, 100);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.order_broken, 0);
}
END_TEST

START_TEST(configuration_trouble_is_an_outage_too)
{
    static struct world world;
    make_world(&world, 1000, refuse_all);
    world.poison_kind = CG_VERDICT_CONFIG;
    run(&world, 20);
    ck_assert_uint_eq(world.last_count, CG_PLAN_HALF_OPEN_EVENTS);
    world.answer = accept_all;
    run(&world, 1);
    ck_assert_uint_eq(world.last_count, CG_PLAN_HALF_OPEN_EVENTS);
    run(&world, 1);
    ck_assert_uint_eq(world.last_count, 2 * CG_PLAN_HALF_OPEN_EVENTS);
    run(&world, 100);
    assert_all_accounted(&world);
}
END_TEST

START_TEST(a_single_failure_is_no_outage)
{
    static struct world world;
    make_world(&world, 64, judge_after_outage);
    world.outage = 1;
    run(&world, 2);
    ck_assert_uint_eq(world.last_count, 64);
    assert_all_accounted(&world);
}
END_TEST

START_TEST(a_destination_too_slow_for_full_batches_gets_smaller_ones)
{
    static struct world world;
    make_world(&world, 2000, take_twenty);
    run(&world, 2000);
    assert_all_accounted(&world);
    ck_assert_uint_eq(world.order_broken, 0);
}
END_TEST

START_TEST(events_that_are_given_up_for_their_age_leave_the_trouble_of_the_others)
{
    static struct world world;
    make_world(&world, 64, judge_honestly);
    world.poison[30] = world.poison[40] = true;
    run(&world, 4); /* bisecting */
    ck_assert_int_eq(world.plan.phase, CG_PLAN_BISECTING);
    give_up(&world, 5);
    run(&world, 100);
    ck_assert_uint_eq(world.head, world.there);
    ck_assert_uint_eq(world.expired_count, 5);
    ck_assert_uint_eq(world.dead_count, 2);
    ck_assert_uint_eq(world.delivered_count, 64 - 7);
}
END_TEST

START_TEST(what_was_delivered_ahead_is_not_given_up)
{
    static struct world world;
    make_world(&world, 200, judge_honestly);
    world.poison[0] = world.poison[1] = true;
    while (world.plan.ahead == 0) {
        run(&world, 1);
    }
    ck_assert_uint_eq(cg_plan_undelivered(&world.plan, 64), 2);
    give_up(&world, 2);
    run(&world, 100);
    ck_assert_uint_eq(world.head, world.there);
    ck_assert_uint_eq(world.dead_count, 0);
    ck_assert_uint_eq(world.delivered_count, 198);
}
END_TEST

START_TEST(where_the_spool_jumps_nothing_is_taken_for_delivered)
{
    static struct world world;
    make_world(&world, 400, judge_honestly);
    world.poison[0] = world.poison[1] = true;
    while (world.plan.ahead == 0) {
        run(&world, 1);
    }
    jump(&world, 100);
    run(&world, 1000);
    ck_assert_uint_eq(world.head, world.there);
    for (uint64_t i = 100; i < world.there; i++) {
        ck_assert_uint_eq(world.delivered[i], 1);
    }
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
    tcase_add_test(tests, after_an_outage_batches_grow_back_from_a_small_one);
    tcase_add_test(tests, configuration_trouble_is_an_outage_too);
    tcase_add_test(tests, a_single_failure_is_no_outage);
    tcase_add_test(tests, a_destination_too_slow_for_full_batches_gets_smaller_ones);
    tcase_add_test(tests, events_that_are_given_up_for_their_age_leave_the_trouble_of_the_others);
    tcase_add_test(tests, what_was_delivered_ahead_is_not_given_up);
    tcase_add_test(tests, where_the_spool_jumps_nothing_is_taken_for_delivered);
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
