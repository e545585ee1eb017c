/* The watchdog's judgement; its thread is in test_delivery.c. All times are made up. */
#include "delivery/watchdog.h"

#include "cellgate/clock.h"

#include <check.h>

#define LIMIT (300 * CG_NS_PER_S)

static struct cg_watchdog watchdog;
static struct cg_watchdog_view view;

static void setup(void)
{
    cg_watchdog_init(&watchdog, LIMIT, 0);
    view = (struct cg_watchdog_view){.backlog = true};
}

static enum cg_watchdog_turn look_at(uint64_t now_s)
{
    view.now_ns = now_s * CG_NS_PER_S;
    return cg_watchdog_look(&watchdog, &view);
}

START_TEST(a_backlog_without_an_answer_for_the_limit_is_a_stall)
{
    ck_assert_int_eq(look_at(1), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(299), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(300), CG_WATCHDOG_STALLS);
    /* It is told of once, and rebuilt once a limit. */
    ck_assert_int_eq(look_at(301), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(599), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(600), CG_WATCHDOG_REBUILD);
    ck_assert_int_eq(look_at(900), CG_WATCHDOG_REBUILD);
    view.progress_ns = 901 * CG_NS_PER_S;
    ck_assert_int_eq(look_at(902), CG_WATCHDOG_RECOVERED);
    ck_assert_int_eq(look_at(1200), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(1201), CG_WATCHDOG_STALLS);
}
END_TEST

START_TEST(progress_of_any_kind_puts_it_off)
{
    for (uint64_t now_s = 0; now_s < 5000; now_s += 299) {
        view.progress_ns = now_s * CG_NS_PER_S;
        ck_assert_int_eq(look_at(now_s), CG_WATCHDOG_NOTHING);
    }
}
END_TEST

START_TEST(without_a_backlog_nothing_is_expected)
{
    view.backlog = false;
    ck_assert_int_eq(look_at(10000), CG_WATCHDOG_NOTHING);
    view.backlog = true; /* it counts from here */
    ck_assert_int_eq(look_at(10299), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(10300), CG_WATCHDOG_STALLS);
    view.backlog = false;
    ck_assert_int_eq(look_at(10301), CG_WATCHDOG_RECOVERED);
}
END_TEST

START_TEST(a_wait_that_was_asked_for_does_not_count)
{
    view.excused_until_ns = 3600 * CG_NS_PER_S; /* Retry-After: an hour */
    ck_assert_int_eq(look_at(3000), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(3599), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(3600 + 299), CG_WATCHDOG_NOTHING);
    ck_assert_int_eq(look_at(3600 + 300), CG_WATCHDOG_STALLS);
}
END_TEST

START_TEST(without_a_limit_it_never_complains)
{
    cg_watchdog_init(&watchdog, 0, 0);
    ck_assert_int_eq(look_at(1000000), CG_WATCHDOG_NOTHING);
}
END_TEST

START_TEST(it_looks_often_enough_and_not_too_often)
{
    static const struct {
        uint64_t limit_ms, interval_ms;
    } cases[] = {{1, 5}, {80, 10}, {8000, 1000}, {300000, 10000}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cg_watchdog_init(&watchdog, cases[i].limit_ms * CG_NS_PER_MS, 0);
        ck_assert_uint_eq(cg_watchdog_interval_ns(&watchdog), cases[i].interval_ms * CG_NS_PER_MS);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watchdog");
    TCase *tests = tcase_create("watchdog");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, a_backlog_without_an_answer_for_the_limit_is_a_stall);
    tcase_add_test(tests, progress_of_any_kind_puts_it_off);
    tcase_add_test(tests, without_a_backlog_nothing_is_expected);
    tcase_add_test(tests, a_wait_that_was_asked_for_does_not_count);
    tcase_add_test(tests, without_a_limit_it_never_complains);
    tcase_add_test(tests, it_looks_often_enough_and_not_too_often);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
