#include "delivery/backoff.h"

#include <check.h>

enum { DRAWS = 20000 };

START_TEST(the_bound_doubles_from_initial_to_max)
{
    static const uint64_t bounds[] = {500, 1000, 2000, 4000, 8000, 10000, 10000, 10000};
    uint64_t highest[8] = {0};
    struct cg_jitter jitter;
    cg_jitter_init(&jitter, 7);
    for (unsigned draw = 0; draw < DRAWS; draw++) {
        struct cg_backoff backoff;
        cg_backoff_init(&backoff, 500, 10000, 0);
        for (unsigned i = 0; i < 8; i++) {
            uint64_t delay = cg_backoff_next(&backoff, &jitter);
            ck_assert_uint_le(delay, bounds[i]);
            highest[i] = delay > highest[i] ? delay : highest[i];
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_uint_gt(highest[i], bounds[i] - bounds[i] / 100);
    }
}
END_TEST

START_TEST(full_jitter_fills_the_whole_range_evenly)
{
    unsigned tenths[10] = {0};
    struct cg_jitter jitter;
    cg_jitter_init(&jitter, 1);
    for (unsigned draw = 0; draw < DRAWS; draw++) {
        struct cg_backoff backoff;
        cg_backoff_init(&backoff, 999, 5000, 0);
        tenths[cg_backoff_next(&backoff, &jitter) / 100]++;
    }
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_uint_gt(tenths[i], DRAWS / 10 * 9 / 10);
        ck_assert_uint_lt(tenths[i], DRAWS / 10 * 11 / 10);
    }
}
END_TEST

START_TEST(a_floor_keeps_delays_from_being_short)
{
    struct cg_jitter jitter;
    cg_jitter_init(&jitter, 3);
    struct cg_backoff backoff;
    cg_backoff_init(&backoff, 30000, 300000, 50);
    for (unsigned draw = 0; draw < DRAWS; draw++) {
        uint64_t delay = cg_backoff_next(&backoff, &jitter);
        ck_assert_uint_ge(delay, draw == 0 ? 15000 : 30000);
        ck_assert_uint_le(delay, 300000);
    }
}
END_TEST

START_TEST(a_reset_starts_again_from_initial)
{
    struct cg_jitter jitter;
    cg_jitter_init(&jitter, 3);
    struct cg_backoff backoff;
    cg_backoff_init(&backoff, 1000, 1000000, 100);
    ck_assert_uint_eq(cg_backoff_next(&backoff, &jitter), 1000);
    ck_assert_uint_eq(cg_backoff_next(&backoff, &jitter), 2000);
    cg_backoff_reset(&backoff);
    ck_assert_uint_eq(cg_backoff_next(&backoff, &jitter), 1000);
}
END_TEST

START_TEST(extreme_schedules_do_not_overflow)
{
    struct cg_jitter jitter;
    cg_jitter_init(&jitter, 0);
    struct cg_backoff backoff;
    cg_backoff_init(&backoff, 1, UINT64_MAX, 100);
    uint64_t before = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t delay = cg_backoff_next(&backoff, &jitter);
        ck_assert_uint_ge(delay, before);
        before = delay;
    }
    cg_backoff_init(&backoff, 0, 0, 0);
    ck_assert_uint_eq(cg_backoff_next(&backoff, &jitter), 0);
    cg_backoff_init(&backoff, 5000, 10, 100); /* the larger of the two is the bound */
    ck_assert_uint_eq(cg_backoff_next(&backoff, &jitter), 5000);
}
END_TEST

START_TEST(a_seed_gives_the_same_delays_and_another_gives_others)
{
    struct cg_jitter first, second, other;
    cg_jitter_init(&first, 42);
    cg_jitter_init(&second, 42);
    cg_jitter_init(&other, 43);
    unsigned differ = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t value = cg_jitter_upto(&first, UINT64_MAX);
        ck_assert_uint_eq(value, cg_jitter_upto(&second, UINT64_MAX));
        differ += value != cg_jitter_upto(&other, UINT64_MAX);
    }
    ck_assert_uint_eq(differ, 100);
    ck_assert_uint_eq(cg_jitter_upto(&first, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backoff");
    TCase *tests = tcase_create("backoff");
    tcase_add_test(tests, the_bound_doubles_from_initial_to_max);
    tcase_add_test(tests, full_jitter_fills_the_whole_range_evenly);
    tcase_add_test(tests, a_floor_keeps_delays_from_being_short);
    tcase_add_test(tests, a_reset_starts_again_from_initial);
    tcase_add_test(tests, extreme_schedules_do_not_overflow);
    tcase_add_test(tests, a_seed_gives_the_same_delays_and_another_gives_others);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
