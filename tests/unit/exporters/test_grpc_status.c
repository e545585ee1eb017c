#include "exporters/grpc_status.h"

#include "cellgate/clock.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* google.rpc.Status {code: 8, details: RetryInfo {retry_delay: 2 s}} and one without details. */
#define RETRY_IN_2S "CAgaMAoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIECgIIAg"
#define NO_DETAILS  "CAgSBmlubmVyIQ=="

static struct cg_otlp_reader *reader;
static struct cg_verdict verdict;

static void open_reader(void)
{
    struct cg_error err = {0};
    ck_assert_msg(cg_otlp_reader_new(&reader, &err), "%s", err.text);
}

static void close_reader(void)
{
    cg_otlp_reader_free(reader);
}

static void judge(int http_status, const char *status, const char *message, const char *details)
{
    const struct cg_grpc_answer answer = {
        .http_status = http_status,
        .retry_after = http_status == 200 ? CG_BYTES("") : CG_BYTES("7"),
        .status = status,
        .message = message,
        .details = details,
        .body = CG_BYTES("\0\0\0\0\0"),
    };
    verdict = (struct cg_verdict){0};
    cg_grpc_verdict(reader, &answer, 0, &verdict);
}

static const struct {
    const char *status;
    enum cg_verdict_kind kind;
    enum cg_verdict_kind with_retry_info;
    const char *detail;
} codes[] = {
    {"0", CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED, "gRPC 0 OK"},
    {"1", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 1 CANCELLED"},
    {"2", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 2 UNKNOWN"},
    {"3", CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, "gRPC 3 INVALID_ARGUMENT"},
    {"4", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 4 DEADLINE_EXCEEDED"},
    {"5", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 5 NOT_FOUND"},
    {"6", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 6 ALREADY_EXISTS"},
    {"7", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 7 PERMISSION_DENIED"},
    {"8", CG_VERDICT_TOO_LARGE, CG_VERDICT_BACKOFF, "gRPC 8 RESOURCE_EXHAUSTED"},
    {"9", CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, "gRPC 9 FAILED_PRECONDITION"},
    {"10", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 10 ABORTED"},
    {"11", CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, "gRPC 11 OUT_OF_RANGE"},
    {"12", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 12 UNIMPLEMENTED"},
    {"13", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 13 INTERNAL"},
    {"14", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 14 UNAVAILABLE"},
    {"15", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 15 DATA_LOSS"},
    {"16", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 16 UNAUTHENTICATED"},
    {"17", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 17"},
    {"999", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, "gRPC 999"},
    /* What is no number is UNKNOWN. */
    {"", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 2 UNKNOWN"},
    {"0 ", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 2 UNKNOWN"},
    {"-1", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 2 UNKNOWN"},
    {"99999999999999999999", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, "gRPC 2 UNKNOWN"},
};

START_TEST(each_code_has_its_verdict)
{
    judge(200, codes[_i].status, NULL, NULL);
    ck_assert_int_eq(verdict.kind, codes[_i].kind);
    ck_assert_str_eq(verdict.detail, codes[_i].detail);
    ck_assert_uint_eq(verdict.retry_after_ns, 0);
    bool crash = strstr(verdict.detail, "UNKNOWN") || strstr(verdict.detail, "INTERNAL");
    ck_assert_int_eq(verdict.suspicious_when_repeated, crash);

    judge(200, codes[_i].status, NULL, RETRY_IN_2S);
    ck_assert_int_eq(verdict.kind, codes[_i].with_retry_info);
    ck_assert_uint_eq(verdict.retry_after_ns,
                      verdict.kind == CG_VERDICT_BACKOFF ? 2 * CG_NS_PER_S : 0);
}
END_TEST

START_TEST(what_is_no_answer_of_grpc_passes_by_itself)
{
    static const int statuses[] = {200, 301, 400, 401, 404, 413, 429, 500, 502, 503};
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        judge(statuses[i], statuses[i] == 200 ? NULL : "0", NULL, NULL);
        ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
        ck_assert_int_eq(verdict.status, statuses[i]);
        ck_assert_uint_eq(verdict.retry_after_ns, statuses[i] == 200 ? 0 : 7 * CG_NS_PER_S);
    }
}
END_TEST

START_TEST(the_servers_words_are_kept_for_people)
{
    judge(200, "3", "no%20such%0athing", NULL);
    ck_assert_str_eq(verdict.detail, "gRPC 3 INVALID_ARGUMENT: no such\nthing");
    ck_assert_uint_eq(verdict.answer_len, strlen("no such\nthing"));
    ck_assert_int_eq(memcmp(verdict.answer, "no such\nthing", verdict.answer_len), 0);
    ck_assert_int_eq(verdict.status, 3);
    /* Where there is no message, the status among the details may have one; it is not encoded. */
    judge(200, "8", NULL, NO_DETAILS);
    ck_assert_str_eq(verdict.detail, "gRPC 8 RESOURCE_EXHAUSTED: inner!");
    ck_assert_int_eq(verdict.kind, CG_VERDICT_TOO_LARGE);
    /* Details that cannot be read are none. */
    judge(200, "8", "m", "????");
    ck_assert_int_eq(verdict.kind, CG_VERDICT_TOO_LARGE);
    static char long_text[100000];
    memset(long_text, 'x', sizeof(long_text) - 1);
    judge(200, "14", long_text, long_text);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_uint_lt(strlen(verdict.detail), CG_VERDICT_DETAIL_MAX);
}
END_TEST

START_TEST(percent_encoded_text_is_decoded_and_bounded)
{
    static const struct {
        const char *text;
        const char *said;
    } table[] = {
        {"", ""},
        {"plain", "plain"},
        {"a%20b", "a b"},
        {"%E2%82%AC", "\xe2\x82\xac"},
        {"%e2%82%ac", "\xe2\x82\xac"},
        {"100%", "100%"},
        {"100%2", "100%2"},
        {"%zz%2", "%zz%2"},
        {"%00", "?"},
        {"%25", "%"},
        {"%2525", "%25"},
        {"a%20b%20c%20d%20e", "a b c d"}, /* cut at the room for seven */
    };
    char out[8];
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        ck_assert_uint_eq(cg_grpc_text_decode(table[i].text, out, sizeof(out)),
                          strlen(table[i].said));
        ck_assert_str_eq(out, table[i].said);
    }
}
END_TEST

START_TEST(base64_is_read_strictly_with_and_without_padding)
{
    static const struct {
        const char *text;
        const char *said; /* NULL: refused */
    } table[] = {
        {"", ""},
        {"Zg==", "f"},
        {"Zg", "f"},
        {"Zm8=", "fo"},
        {"Zm8", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYmFy", "foobar"},
        {"+/+/", "\xfb\xff\xbf"},
        {"Z", NULL},
        {"Zh", NULL},
        {"Zg=", NULL},
        {"=", NULL},
        {"====", NULL},
        {"Z===", NULL},
        {"Zm9v,Zm9v", NULL},
        {"Zm9v Zm9v", NULL},
        {"-_-_", NULL},
        {"Zm9vYmFyZg==", NULL}, /* larger than the room */
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char out[6];
        size_t len = 99;
        bool read = cg_grpc_binary_decode(table[i].text, out, sizeof(out), &len);
        ck_assert_msg(read == (table[i].said != NULL), "%s", table[i].text);
        ck_assert_uint_eq(len, read ? strlen(table[i].said) : 99);
        ck_assert(!read || memcmp(out, table[i].said, len) == 0);
    }
}
END_TEST

START_TEST(a_message_stands_behind_its_length)
{
    char prefix[CG_GRPC_PREFIX_BYTES];
    cg_grpc_prefix_write(prefix, true, 0x01020304);
    ck_assert_int_eq(memcmp(prefix, "\x01\x01\x02\x03\x04", sizeof(prefix)), 0);
    cg_grpc_prefix_write(prefix, false, 0xffffffff);
    ck_assert_int_eq(memcmp(prefix, "\x00\xff\xff\xff\xff", sizeof(prefix)), 0);

    struct cg_bytes message = CG_BYTES("none");
    ck_assert(cg_grpc_message_read(CG_BYTES("\0\0\0\0\3abc"), &message));
    ck_assert(cg_bytes_equal(message, CG_BYTES("abc")));
    ck_assert(cg_grpc_message_read(CG_BYTES("\0\0\0\0\0"), &message));
    ck_assert_uint_eq(message.len, 0);
    static const struct cg_bytes bad[] = {
        CG_BYTES(""),
        CG_BYTES("\0\0\0\0"),
        CG_BYTES("\0\0\0\0\4abc"),
        CG_BYTES("\0\0\0\0\2abc"),
        CG_BYTES("\0\0\0\0\1a\0\0\0\0\1a"),
        CG_BYTES("\1\0\0\0\3abc"),
        CG_BYTES("\0\xff\xff\xff\xff"),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert(!cg_grpc_message_read(bad[i], &message));
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("grpc_status");
    tcase_add_checked_fixture(tcase, open_reader, close_reader);
    tcase_add_loop_test(tcase, each_code_has_its_verdict, 0, sizeof(codes) / sizeof(codes[0]));
    tcase_add_test(tcase, what_is_no_answer_of_grpc_passes_by_itself);
    tcase_add_test(tcase, the_servers_words_are_kept_for_people);
    tcase_add_test(tcase, percent_encoded_text_is_decoded_and_bounded);
    tcase_add_test(tcase, base64_is_read_strictly_with_and_without_padding);
    tcase_add_test(tcase, a_message_stands_behind_its_length);
    Suite *suite = suite_create("exporters/grpc_status");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
