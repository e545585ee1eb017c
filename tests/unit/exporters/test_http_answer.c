#include "exporters/http_answer.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_BYTES = 8 };

static struct cg_http_intake intake;

static void setup(void)
{
    cg_http_intake_init(&intake, KEPT_BYTES);
    cg_http_intake_reset(&intake);
}

static void teardown(void)
{
    cg_http_intake_fini(&intake);
}

static void line(const char *text)
{
    cg_http_intake_line(&intake, cg_bytes_str(text));
}

static void assert_text(struct cg_bytes got, const char *wanted)
{
    ck_assert_uint_eq(got.len, strlen(wanted));
    if (got.len > 0) {
        ck_assert_mem_eq(got.data, wanted, got.len);
    }
}

START_TEST(a_short_body_is_kept_whole)
{
    ck_assert(cg_http_intake_body(&intake, CG_BYTES("1234")));
    ck_assert(cg_http_intake_body(&intake, CG_BYTES("5678")));
    struct cg_http_answer answer = cg_http_intake_take(&intake, 200);
    ck_assert_int_eq(answer.status, 200);
    assert_text(answer.body, "12345678");
    ck_assert(answer.body_whole);
}
END_TEST

START_TEST(of_a_long_body_the_beginning_is_kept)
{
    ck_assert(cg_http_intake_body(&intake, CG_BYTES("12345")));
    ck_assert(cg_http_intake_body(&intake, CG_BYTES("6789")));
    ck_assert(cg_http_intake_body(&intake, CG_BYTES("0")));
    struct cg_http_answer answer = cg_http_intake_take(&intake, 400);
    assert_text(answer.body, "12345678");
    ck_assert(!answer.body_whole);
}
END_TEST

START_TEST(a_body_is_read_to_the_limit_and_no_further)
{
    static char most[CG_HTTP_ANSWER_BYTES_MAX];
    ck_assert(cg_http_intake_body(&intake, cg_bytes(most, sizeof(most))));
    ck_assert(!intake.body_too_long);
    ck_assert(!cg_http_intake_body(&intake, CG_BYTES("x")));
    ck_assert(intake.body_too_long);
}
END_TEST

START_TEST(retry_after_is_taken_from_its_line_only)
{
    static const struct {
        const char *line, *value;
    } cases[] = {
        {"Retry-After: 120\r\n", "120"},
        {"retry-after:120\n", "120"},
        {"RETRY-AFTER: \t Fri, 31 Dec 2027 23:59:59 GMT \r\n", "Fri, 31 Dec 2027 23:59:59 GMT"},
        {"Retry-After:\r\n", ""},
        {"Retry-After:", ""},
        {"Retry-After", ""},
        {"Retry-After : 120\r\n", ""},
        {"X-Retry-After: 120\r\n", ""},
        {"\r\n", ""},
        {"", ""},
        /* 64 bytes, one more than are kept */
        {"Retry-After: 1234567890123456789012345678901234567890123456789012345678901234\r\n", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cg_http_intake_reset(&intake);
        line(cases[i].line);
        assert_text(cg_http_intake_take(&intake, 503).retry_after, cases[i].value);
    }
}
END_TEST

START_TEST(an_interim_head_is_forgotten_when_the_next_begins)
{
    line("HTTP/1.1 103 Early Hints\r\n");
    line("Retry-After: 5\r\n");
    line("\r\n");
    ck_assert(intake.head_whole);
    line("HTTP/1.1 200 OK\r\n");
    ck_assert(!intake.head_whole);
    assert_text(cg_http_intake_take(&intake, 200).retry_after, "");
}
END_TEST

START_TEST(a_reset_forgets_the_answer_before)
{
    static char most[CG_HTTP_ANSWER_BYTES_MAX + 1];
    line("Retry-After: 5\r\n");
    line("\r\n");
    ck_assert(!cg_http_intake_body(&intake, cg_bytes(most, sizeof(most))));
    cg_http_intake_reset(&intake);
    ck_assert(!intake.head_whole);
    ck_assert(!intake.body_too_long);
    struct cg_http_answer answer = cg_http_intake_take(&intake, 200);
    assert_text(answer.retry_after, "");
    assert_text(answer.body, "");
    ck_assert(answer.body_whole);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exporters/http_answer");
    TCase *tests = tcase_create("http_answer");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_short_body_is_kept_whole);
    tcase_add_test(tests, of_a_long_body_the_beginning_is_kept);
    tcase_add_test(tests, a_body_is_read_to_the_limit_and_no_further);
    tcase_add_test(tests, retry_after_is_taken_from_its_line_only);
    tcase_add_test(tests, an_interim_head_is_forgotten_when_the_next_begins);
    tcase_add_test(tests, a_reset_forgets_the_answer_before);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
