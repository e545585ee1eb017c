/* test_base.c - errors, buffers, time texts, log lines and limits. */
#include "cellgate/buf.h"
#include "cellgate/clock.h"
#include "cellgate/error.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

START_TEST(an_error_gathers_its_context_in_front)
{
    struct cg_error err = {0};
    ck_assert(!cg_error_errno(&err, ENOENT, "open %s", "key"));
    ck_assert(!cg_error_context(&err, "signing"));
    ck_assert_str_eq(err.text, "signing: open key: No such file or directory");
}
END_TEST

START_TEST(an_error_too_long_is_cut_and_terminated)
{
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct cg_error err;
    ck_assert(!cg_error_set(&err, "%s", text));
    ck_assert_uint_eq(strlen(err.text), CG_ERROR_TEXT_MAX - 1);
    ck_assert(!cg_error_context(&err, "outer"));
    ck_assert_int_eq(strncmp(err.text, "outer: xxx", 10), 0);
}
END_TEST

START_TEST(a_buffer_refuses_to_pass_its_maximum_and_stays_refused)
{
    cg_auto_buf struct cg_buf buf;
    cg_buf_init(&buf, 10);
    ck_assert(cg_buf_append_str(&buf, "12345678"));
    ck_assert(!cg_buf_append_str(&buf, "abc"));
    ck_assert(!cg_buf_append_str(&buf, "a"));
    ck_assert_uint_eq(buf.len, 8);
    ck_assert_ptr_null(cg_buf_str(&buf));
    cg_buf_clear(&buf);
    ck_assert(cg_buf_append_str(&buf, "0123456789"));
    ck_assert_uint_eq(buf.len, 10);
}
END_TEST

START_TEST(a_buffer_prints_numbers_in_full)
{
    cg_auto_buf struct cg_buf buf;
    cg_buf_init(&buf, 1000);
    cg_buf_append_u64(&buf, 0);
    cg_buf_append_char(&buf, ' ');
    cg_buf_append_u64(&buf, UINT64_MAX);
    cg_buf_printf(&buf, " %s", "end");
    ck_assert_str_eq(cg_buf_str(&buf), "0 18446744073709551615 end");
}
END_TEST

START_TEST(times_agree_with_the_c_library)
{
    /* Both ends of months and years, leap days, and the last second that fits. */
    const uint64_t seconds[] = {0,          951782399,  951782400,   951868799,   951868800,
                                1078012799, 1709164800, 1763902800,  4107542399,  4107542400,
                                1767225599, 1767225600, 13569465600, 18446744072, 68169600};
    for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
        time_t at = (time_t)seconds[i];
        struct tm parts;
        ck_assert_ptr_nonnull(gmtime_r(&at, &parts));
        char expected[64];
        ck_assert_uint_gt(
            strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.000000007Z", &parts), 0);
        char text[CG_TIME_TEXT_LEN + 1] = {0};
        cg_time_format(seconds[i] * CG_NS_PER_S + 7, text);
        ck_assert_str_eq(text, expected);
    }
}
END_TEST

START_TEST(untrusted_text_is_escaped_for_people)
{
    static const struct {
        const char *in;
        size_t len;
        const char *out;
    } cases[] = {
        {"plain \xc3\xa9\xe2\x82\xac", 13 - 2, "plain \xc3\xa9\xe2\x82\xac"},
        {"a\nb\x1b[31m", 8, "a\\u000ab\\u001b[31m"},
        {"\0", 1, "\\u0000"},
        {"\"\\", 2, "\\\"\\\\"},
        {"\xff\xc3", 2, "\\ufffd\\ufffd"},
        {"\xe2\x80\xae", 3, "\\u202e"},               /* right-to-left override */
        {"\xc2\x9b", 2, "\\u009b"},                   /* C1: a terminal's CSI */
        {"\xed\xa0\x80", 3, "\\ufffd\\ufffd\\ufffd"}, /* a surrogate is not UTF-8 */
        {"\xc0\x80", 2, "\\ufffd\\ufffd"},            /* nor is an overlong form */
        {"\xf0\x9f\x90\xa7", 4, "\xf0\x9f\x90\xa7"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[64];
        size_t len = cg_text_escape(cg_bytes(cases[i].in, cases[i].len), out, sizeof(out));
        ck_assert_str_eq(out, cases[i].out);
        ck_assert_uint_eq(len, strlen(out));
    }
}
END_TEST

START_TEST(a_long_text_is_cut_with_dots)
{
    char in[100];
    memset(in, '\n', sizeof(in));
    char out[32];
    size_t len = cg_text_escape(cg_bytes(in, sizeof(in)), out, sizeof(out));
    ck_assert_uint_lt(len, sizeof(out));
    ck_assert_str_eq(out + len - 3, "...");
}
END_TEST

START_TEST(a_log_limit_counts_what_it_holds_back)
{
    struct cg_log_limit limit = {.period_ns = 1000, .burst = 2};
    uint64_t suppressed = 99;
    ck_assert(cg_log_limit_pass(&limit, 5000, &suppressed));
    ck_assert_uint_eq(suppressed, 0);
    ck_assert(cg_log_limit_pass(&limit, 5001, &suppressed));
    ck_assert(!cg_log_limit_pass(&limit, 5002, &suppressed));
    ck_assert(!cg_log_limit_pass(&limit, 5999, &suppressed));
    ck_assert(cg_log_limit_pass(&limit, 6000, &suppressed));
    ck_assert_uint_eq(suppressed, 2);
}
END_TEST

START_TEST(a_place_that_is_returned_is_free_and_its_line_counts_as_held_back)
{
    struct cg_log_limit limit = {.period_ns = 1000, .burst = 1};
    uint64_t suppressed = 99;
    ck_assert(cg_log_limit_pass(&limit, 5000, &suppressed));
    ck_assert(!cg_log_limit_pass(&limit, 5001, &suppressed));
    ck_assert(cg_log_limit_pass(&limit, 6000, &suppressed));
    ck_assert_uint_eq(suppressed, 1);
    cg_log_limit_return(&limit, suppressed);
    ck_assert(cg_log_limit_pass(&limit, 6001, &suppressed));
    ck_assert_uint_eq(suppressed, 2);
    ck_assert(!cg_log_limit_pass(&limit, 6002, &suppressed));
}
END_TEST

START_TEST(every_metric_has_a_name_and_help)
{
    for (size_t i = 0; i < CG_FAMILY_COUNT; i++) {
        ck_assert_int_eq(strncmp(cg_metric_families[i].name, "cellgate_", 9), 0);
        ck_assert_uint_gt(strlen(cg_metric_families[i].help), 10);
        ck_assert_ptr_nonnull(cg_metric_families[i].advice);
    }
    cg_metric_add(CG_SERIES_frames_received, 3);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_frames_received), 3);
}
END_TEST

START_TEST(a_histogram_puts_a_bound_into_its_own_bucket)
{
    struct cg_histogram histogram = {0};
    cg_histogram_observe(&histogram, 500 * CG_NS_PER_US);
    cg_histogram_observe(&histogram, 501 * CG_NS_PER_US);
    cg_histogram_observe(&histogram, 11 * CG_NS_PER_S);
    ck_assert_uint_eq(histogram.buckets[0], 1);
    ck_assert_uint_eq(histogram.buckets[1], 1);
    ck_assert_uint_eq(histogram.buckets[CG_HISTOGRAM_BUCKETS], 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    tcase_add_test(tests, an_error_gathers_its_context_in_front);
    tcase_add_test(tests, an_error_too_long_is_cut_and_terminated);
    tcase_add_test(tests, a_buffer_refuses_to_pass_its_maximum_and_stays_refused);
    tcase_add_test(tests, a_buffer_prints_numbers_in_full);
    tcase_add_test(tests, times_agree_with_the_c_library);
    tcase_add_test(tests, untrusted_text_is_escaped_for_people);
    tcase_add_test(tests, a_long_text_is_cut_with_dots);
    tcase_add_test(tests, a_log_limit_counts_what_it_holds_back);
    tcase_add_test(tests, a_place_that_is_returned_is_free_and_its_line_counts_as_held_back);
    tcase_add_test(tests, every_metric_has_a_name_and_help);
    tcase_add_test(tests, a_histogram_puts_a_bound_into_its_own_bucket);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
