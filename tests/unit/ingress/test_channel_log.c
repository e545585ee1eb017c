/* How much the log says of one cell, and that the rest is counted. */
#include "ingress/connection.h"

#include "support/captured_log.h"
#include "unit/ingress/fixture.h"

enum { LINES = 3 }; /* of a kind, in PERIOD_NS */
static const uint64_t PERIOD_NS = 10 * CG_NS_PER_S;

static struct cg_ingress_shared shared;
static struct cg_channel *channel_a, *channel_b;
static uint64_t suppressed;

static void set_up(void)
{
    set_up_common();
    shared = (struct cg_ingress_shared){.log_limit = {.period_ns = PERIOD_NS, .burst = 100}};
    const struct cg_listening none = {.fd = -1};
    channel_a = cg_channel_new(add_cell("cell-a", "/run/a"), NULL, &none);
    channel_b = cg_channel_new(add_cell("cell-b", "/run/b"), NULL, &none);
    capture_log();
}

static void tear_down(void)
{
    release_log();
    cg_channel_free(channel_a);
    cg_channel_free(channel_b);
    tear_down_common();
}

static bool may_log(struct cg_channel *channel, enum cg_line_kind kind)
{
    return cg_channel_may_log(channel, kind, &shared, fake_now_ns, &suppressed);
}

/* Uses up what a kind has in this period, and goes on for `more`. */
static void say_all(struct cg_channel *channel, enum cg_line_kind kind, unsigned more)
{
    for (unsigned i = 0; i < LINES; i++) {
        ck_assert(may_log(channel, kind));
    }
    for (unsigned i = 0; i < more; i++) {
        ck_assert(!may_log(channel, kind));
    }
}

START_TEST(broken_frames_do_not_hide_refused_connections)
{
    ck_assert_ptr_null(channel_a->log); /* an idle cell pays nothing */
    say_all(channel_a, CG_LINE_FRAME, 50);
    say_all(channel_b, CG_LINE_FRAME, 0);
    ck_assert(may_log(channel_a, CG_LINE_CONNECTION));
    ck_assert(may_log(channel_a, CG_LINE_OTHER));
}
END_TEST

START_TEST(the_next_line_of_the_cell_counts_what_was_suppressed)
{
    say_all(channel_a, CG_LINE_FRAME, 5);
    ck_assert(may_log(channel_b, CG_LINE_FRAME));
    ck_assert_uint_eq(suppressed, 0);
    say_all(channel_a, CG_LINE_CONNECTION, 2);
    ck_assert(may_log(channel_a, CG_LINE_OTHER));
    ck_assert_uint_eq(suppressed, 2); /* the five went with the first refused connection */
    ck_assert(!may_log(channel_a, CG_LINE_FRAME));
    fake_now_ns += PERIOD_NS;
    ck_assert(may_log(channel_a, CG_LINE_FRAME));
    ck_assert_uint_eq(suppressed, 1);
    ck_assert(may_log(channel_a, CG_LINE_FRAME));
    ck_assert_uint_eq(suppressed, 0);
}
END_TEST

START_TEST(what_the_common_limit_refuses_takes_no_place_and_is_counted)
{
    shared.log_limit.burst = 1;
    ck_assert(may_log(channel_b, CG_LINE_FRAME));
    fake_now_ns += PERIOD_NS / 2;
    for (unsigned i = 0; i < 10; i++) {
        ck_assert(!may_log(channel_a, CG_LINE_FRAME));
    }
    fake_now_ns += PERIOD_NS / 2; /* the common period is over, the cell's own is not */
    shared.log_limit.burst = 100;
    ck_assert(may_log(channel_a, CG_LINE_FRAME));
    ck_assert_uint_eq(suppressed, 10);
    ck_assert(may_log(channel_a, CG_LINE_FRAME));
    ck_assert(may_log(channel_a, CG_LINE_FRAME));
    ck_assert(!may_log(channel_a, CG_LINE_FRAME));
}
END_TEST

START_TEST(what_no_later_line_counts_is_written_at_the_end)
{
    cg_channel_end_log(channel_a);
    say_all(channel_a, CG_LINE_OTHER, 0);
    cg_channel_end_log(channel_a);
    ck_assert_str_eq(captured_log(), "");
    say_all(channel_a, CG_LINE_CONNECTION, 7);
    ck_assert(may_log(channel_a, CG_LINE_FRAME));
    ck_assert_uint_eq(suppressed, 7);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert(!may_log(channel_a, CG_LINE_CONNECTION));
    }
    ck_assert(!may_log(channel_a, CG_LINE_OTHER));
    cg_channel_end_log(channel_a);
    ck_assert_ptr_nonnull(strstr(captured_log(),
                                 "event=lines_suppressed cell=cell-a run=run-1 frames_rejected=0 "
                                 "connections_refused=4 others=1\n"));
    cg_channel_end_log(channel_a);
    ck_assert_str_eq(captured_log(), "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_log");
    TCase *tests = tcase_create("channel_log");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, broken_frames_do_not_hide_refused_connections);
    tcase_add_test(tests, the_next_line_of_the_cell_counts_what_was_suppressed);
    tcase_add_test(tests, what_the_common_limit_refuses_takes_no_place_and_is_counted);
    tcase_add_test(tests, what_no_later_line_counts_is_written_at_the_end);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
