#include "exporters/http_status.h"

#include "cellgate/clock.h"

#include <check.h>
#include <stdlib.h>

/* 1994-11-06T08:49:37Z, RFC 9110's example */
#define EXAMPLE_S  UINT64_C(784111777)
#define EXAMPLE_NS (EXAMPLE_S * CG_NS_PER_S)

static struct cg_verdict judge(enum cg_http_rules rules, int status, const char *retry_after)
{
    struct cg_verdict verdict = {0};
    cg_http_status_verdict(rules, status, cg_bytes_str(retry_after), EXAMPLE_NS, &verdict);
    return verdict;
}

static const struct {
    int status;
    enum cg_verdict_kind plain, otlp;
} statuses[] = {
    {100, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {101, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {199, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {200, CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED},
    {202, CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED},
    {204, CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED},
    {299, CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED},
    {300, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {302, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {304, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {307, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {400, CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT},
    {401, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {403, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {404, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {405, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {407, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {408, CG_VERDICT_BACKOFF, CG_VERDICT_CONFIG},
    {409, CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT},
    {411, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {413, CG_VERDICT_TOO_LARGE, CG_VERDICT_TOO_LARGE},
    {415, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {422, CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT},
    {425, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {429, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF},
    {431, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {500, CG_VERDICT_BACKOFF, CG_VERDICT_CONFIG},
    {501, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {502, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF},
    {503, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF},
    {504, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF},
    {505, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {599, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {0, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
    {999, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG},
};

START_TEST(a_status_has_the_action_of_the_contract)
{
    ck_assert_int_eq(judge(CG_HTTP_RULES_PLAIN, statuses[_i].status, "").kind, statuses[_i].plain);
    ck_assert_int_eq(judge(CG_HTTP_RULES_OTLP, statuses[_i].status, "").kind, statuses[_i].otlp);
}
END_TEST

START_TEST(only_a_500_that_is_tried_again_is_suspicious)
{
    for (int status = 0; status < 600; status++) {
        ck_assert_int_eq(judge(CG_HTTP_RULES_PLAIN, status, "").suspicious_when_repeated,
                         status == 500);
        ck_assert(!judge(CG_HTTP_RULES_OTLP, status, "").suspicious_when_repeated);
    }
}
END_TEST

START_TEST(the_detail_names_the_status)
{
    struct cg_verdict verdict = judge(CG_HTTP_RULES_PLAIN, 503, "");
    ck_assert_str_eq(verdict.detail, "HTTP 503");
    ck_assert_int_eq(verdict.status, 503);
}
END_TEST

START_TEST(retry_after_counts_only_where_the_batch_comes_again)
{
    ck_assert_uint_eq(judge(CG_HTTP_RULES_PLAIN, 429, "3").retry_after_ns, 3 * CG_NS_PER_S);
    ck_assert_uint_eq(judge(CG_HTTP_RULES_PLAIN, 503, "3").retry_after_ns, 3 * CG_NS_PER_S);
    ck_assert_uint_eq(judge(CG_HTTP_RULES_PLAIN, 200, "3").retry_after_ns, 0);
    ck_assert_uint_eq(judge(CG_HTTP_RULES_PLAIN, 404, "3").retry_after_ns, 0);
    ck_assert_uint_eq(judge(CG_HTTP_RULES_OTLP, 500, "3").retry_after_ns, 0);
}
END_TEST

static const struct {
    const char *value;
    uint64_t delay_s; /* from ten seconds before the example's instant */
} delays[] = {
    {"0", 0},
    {"1", 1},
    {"120", 120},
    {"0007", 7},
    {"18446744073", 18446744073},
    {"99999999999999999999999999999999", UINT64_MAX / CG_NS_PER_S},
    {"Sun, 06 Nov 1994 08:49:37 GMT", 10},
    {"Sunday, 06-Nov-94 08:49:37 GMT", 10},
    {"Sun Nov  6 08:49:37 1994", 10},
    {"Sun, 06 Nov 1994 09:49:37 GMT", 3610},
    {"Sun, 06 Nov 1994 08:49:20 GMT", 0}, /* past */
    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    {"Fri, 31 Dec 9999 23:59:59 GMT", 0}, /* beyond what nanoseconds hold */
    {"", 0},
    {"-1", 0},
    {"+1", 0},
    {"1.5", 0},
    {"1s", 0},
    {" ", 0},
    {"0x10", 0},
    {"soon", 0},
    {"Sun, 06 Nov 1994 08:49:37", 0},
    {"Sun, 06 Nov 1994 08:49:37 CET", 0},
    {"Sun, 06 Nov 1994 08:49:37 GMT and more", 0},
    {"Sun, 99 Nov 1994 08:49:37 GMT", 0},
    {"1111111111111111111111111111111111111111111111111111111111111111", 0}, /* 64 bytes */
};

START_TEST(retry_after_is_seconds_or_a_date)
{
    uint64_t now_ns = EXAMPLE_NS - 10 * CG_NS_PER_S;
    uint64_t delay_ns = cg_http_retry_after_ns(cg_bytes_str(delays[_i].value), now_ns);
    ck_assert_msg(delay_ns / CG_NS_PER_S == delays[_i].delay_s, "%s gave %lu s", delays[_i].value,
                  (unsigned long)(delay_ns / CG_NS_PER_S));
}
END_TEST

START_TEST(retry_after_with_a_nul_is_unreadable)
{
    ck_assert_uint_eq(cg_http_retry_after_ns(cg_bytes("5\0006", 3), EXAMPLE_NS), 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("http_status");
    tcase_add_loop_test(tcase, a_status_has_the_action_of_the_contract, 0,
                        sizeof(statuses) / sizeof(statuses[0]));
    tcase_add_test(tcase, only_a_500_that_is_tried_again_is_suspicious);
    tcase_add_test(tcase, the_detail_names_the_status);
    tcase_add_test(tcase, retry_after_counts_only_where_the_batch_comes_again);
    tcase_add_loop_test(tcase, retry_after_is_seconds_or_a_date, 0,
                        sizeof(delays) / sizeof(delays[0]));
    tcase_add_test(tcase, retry_after_with_a_nul_is_unreadable);
    Suite *suite = suite_create("exporters/http_status");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
