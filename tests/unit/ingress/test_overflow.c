#include "ingress/overflow.h"

#include "cellgate/clock.h"
#include "cellgate/metrics.h"

#include "support/captured_log.h"

static struct cg_overflow overflow;
static uint64_t now_ns;

static void set_up(void)
{
    cg_metric_add(CG_SERIES_events_dropped_overflow, 1000); /* before this gateway's time */
    cg_overflow_init(&overflow);
    now_ns = 1000 * CG_NS_PER_S;
    capture_log();
}

static void tear_down(void)
{
    release_log();
}

static void drop(uint64_t events)
{
    cg_metric_add(CG_SERIES_events_dropped_overflow, events);
    cg_overflow_report(&overflow, now_ns);
}

START_TEST(what_is_given_up_is_told_once_in_ten_seconds)
{
    drop(0);
    ck_assert_str_eq(captured_log(), "");
    drop(7);
    ck_assert_ptr_nonnull(strstr(captured_log(), "event=spool_overflow events=7\n"));
    now_ns += 9 * CG_NS_PER_S;
    drop(20);
    drop(0);
    ck_assert_str_eq(captured_log(), "");
    now_ns += CG_NS_PER_S;
    drop(3);
    ck_assert_ptr_nonnull(strstr(captured_log(), "event=spool_overflow events=23\n"));
    now_ns += 100 * CG_NS_PER_S;
    drop(0);
    ck_assert_str_eq(captured_log(), "");
}
END_TEST

START_TEST(the_end_tells_the_rest)
{
    drop(1);
    drop(5);
    ck_assert_ptr_nonnull(strstr(captured_log(), "events=1\n"));
    cg_overflow_report_rest(&overflow);
    ck_assert_ptr_nonnull(strstr(captured_log(), "event=spool_overflow events=5\n"));
    cg_overflow_report_rest(&overflow);
    ck_assert_str_eq(captured_log(), "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("overflow");
    TCase *tests = tcase_create("overflow");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, what_is_given_up_is_told_once_in_ten_seconds);
    tcase_add_test(tests, the_end_tells_the_rest);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
