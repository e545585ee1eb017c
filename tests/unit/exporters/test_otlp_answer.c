#include "exporters/otlp_answer.h"

#include "cellgate/clock.h"

#include <check.h>
#include <otlp.pb-c.h>
#include <rpc.pb-c.h>
#include <stdlib.h>

static struct cg_otlp_reader *reader;
static struct cg_verdict verdict;
static char packed[4096];

static void open_reader(void)
{
    struct cg_error err = {0};
    ck_assert_msg(cg_otlp_reader_new(&reader, &err), "%s", err.text);
}

static void close_reader(void)
{
    cg_otlp_reader_free(reader);
}

static bool read_response(enum cg_otlp_encoding encoding, struct cg_bytes body)
{
    verdict = (struct cg_verdict){.detail = "HTTP 200"};
    return cg_otlp_read_response(reader, encoding, body, &verdict);
}

static struct cg_bytes pack_partial(int64_t rejected, const char *message)
{
    Cg__Otlp__ExportLogsPartialSuccess partial;
    cg__otlp__export_logs_partial_success__init(&partial);
    Cg__Otlp__ExportLogsServiceResponse response;
    cg__otlp__export_logs_service_response__init(&response);
    partial.rejected_log_records = rejected;
    partial.error_message = (char *)(uintptr_t)message;
    response.partial_success = &partial;
    return cg_bytes(packed,
                    cg__otlp__export_logs_service_response__pack(&response, (uint8_t *)packed));
}

START_TEST(partial_success_is_counted_and_told)
{
    ck_assert(read_response(CG_OTLP_PROTOBUF, pack_partial(3, "too old")));
    ck_assert_uint_eq(verdict.rejected, 3);
    ck_assert_str_eq(verdict.detail, "partial success: too old");
    ck_assert(read_response(CG_OTLP_PROTOBUF, pack_partial(3, "")));
    ck_assert_str_eq(verdict.detail, "partial success");
    /* A warning without a rejection. */
    ck_assert(read_response(CG_OTLP_PROTOBUF, pack_partial(0, "slow down")));
    ck_assert_uint_eq(verdict.rejected, 0);
    ck_assert_str_eq(verdict.detail, "partial success: slow down");
    /* Nothing is said; less than nothing cannot be. */
    ck_assert(read_response(CG_OTLP_PROTOBUF, pack_partial(0, "")));
    ck_assert_str_eq(verdict.detail, "HTTP 200");
    ck_assert(read_response(CG_OTLP_PROTOBUF, CG_BYTES("")));
    ck_assert_str_eq(verdict.detail, "HTTP 200");
    ck_assert(read_response(CG_OTLP_PROTOBUF, pack_partial(-5, "odd")));
    ck_assert_uint_eq(verdict.rejected, 0);
}
END_TEST

static const struct {
    const char *body;
    bool readable;
    uint64_t rejected;
} json_table[] = {
    {"{}", true, 0},
    {"{\"partialSuccess\":{}}", true, 0},
    {"{\"partialSuccess\":null}", true, 0},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":\"4\",\"errorMessage\":\"old\"}}", true, 4},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":4}}", true, 4},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":\"-4\"}}", true, 0},
    {"{\"other\":[1,2,{}],\"partialSuccess\":{\"rejectedLogRecords\":\"4\"}}", true, 4},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":\"x\"}}", false, 0},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":\"\"}}", false, 0},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":4.5}}", false, 0},
    {"{\"partialSuccess\":{\"rejectedLogRecords\":true}}", false, 0},
    {"[]", false, 0},
    {"{", false, 0},
    {"<html>", false, 0},
};

START_TEST(partial_success_in_json_is_read_strictly)
{
    ck_assert_int_eq(read_response(CG_OTLP_JSON, cg_bytes_str(json_table[_i].body)),
                     json_table[_i].readable);
    ck_assert_uint_eq(verdict.rejected, json_table[_i].rejected);
}
END_TEST

START_TEST(what_cannot_be_read_changes_nothing)
{
    static const struct cg_bytes bad[] = {CG_BYTES("\x0a"), CG_BYTES("\x0a\x05\x08"),
                                          CG_BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                                          CG_BYTES("\x0a\x02\x12\x7f")};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert(!read_response(CG_OTLP_PROTOBUF, bad[i]));
        ck_assert_str_eq(verdict.detail, "HTTP 200");
        ck_assert_uint_eq(verdict.rejected, 0);
    }
}
END_TEST

START_TEST(an_answer_that_wants_more_memory_than_there_is_cannot_be_read)
{
    /* Fields that nobody knows, of two bytes each: protobuf-c keeps them all. */
    static char body[CG_OTLP_ANSWER_BYTES_MAX];
    for (size_t i = 0; i < sizeof(body); i += 2) {
        body[i] = 9 << 3;
        body[i + 1] = 1;
    }
    ck_assert(!read_response(CG_OTLP_PROTOBUF, cg_bytes(body, sizeof(body))));
    ck_assert(read_response(CG_OTLP_PROTOBUF, pack_partial(3, "the next one is read")));
    ck_assert_uint_eq(verdict.rejected, 3);
    /* One text of nearly all that is read of an answer. */
    memset(body, 'x', sizeof(body));
    memcpy(body, "\x0a\xfa\xff\x3f\x12\xf6\xff\x3f", 8);
    ck_assert(read_response(CG_OTLP_PROTOBUF, cg_bytes(body, 4 + 0xffffa)));
    ck_assert_str_eq(verdict.detail + strlen(verdict.detail) - 1, "x");
}
END_TEST

static struct cg_bytes pack_status(const char *type_url, int64_t seconds, int32_t nanos)
{
    static uint8_t info_bytes[64];
    Cg__Rpc__Duration delay;
    cg__rpc__duration__init(&delay);
    delay.seconds = seconds;
    delay.nanos = nanos;
    Cg__Rpc__RetryInfo info;
    cg__rpc__retry_info__init(&info);
    info.retry_delay = &delay;
    Cg__Rpc__Any other;
    cg__rpc__any__init(&other);
    other.type_url = (char *)(uintptr_t) "type.googleapis.com/google.rpc.ErrorInfo";
    Cg__Rpc__Any detail;
    cg__rpc__any__init(&detail);
    detail.type_url = (char *)(uintptr_t)type_url;
    detail.value.data = info_bytes;
    detail.value.len = cg__rpc__retry_info__pack(&info, info_bytes);
    Cg__Rpc__Any *details[] = {&other, &detail};
    Cg__Rpc__Status status;
    cg__rpc__status__init(&status);
    status.code = 14;
    status.message = (char *)(uintptr_t) "later";
    status.n_details = 2;
    status.details = details;
    return cg_bytes(packed, cg__rpc__status__pack(&status, (uint8_t *)packed));
}

START_TEST(the_delay_of_a_status_is_found_among_its_details)
{
    static const char name[] = "type.googleapis.com/google.rpc.RetryInfo";
    static const struct {
        const char *type_url;
        int64_t seconds;
        int32_t nanos;
        bool has;
        uint64_t delay_ns;
    } table[] = {
        {name, 2, 5, true, 2 * CG_NS_PER_S + 5},
        {"google.rpc.RetryInfo", 2, 0, true, 2 * CG_NS_PER_S},
        {name, 0, 0, true, 0},
        {name, -1, 0, true, 0},
        {name, 1, -1, true, 0},
        {name, 1, 1000000000, true, 0},
        {name, INT64_MAX, 999999999, true, UINT64_MAX},
        {"type.googleapis.com/other.google.rpc.RetryInfo", 2, 0, false, 0},
        {"google.rpc.RetryInfo/", 2, 0, false, 0},
        {"", 2, 0, false, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cg_otlp_status status;
        ck_assert(cg_otlp_read_status(
            reader, pack_status(table[i].type_url, table[i].seconds, table[i].nanos), &status));
        ck_assert_str_eq(status.message, "later");
        ck_assert_msg(status.has_retry_info == table[i].has, "row %zu", i);
        ck_assert_uint_eq(status.retry_delay_ns, table[i].delay_ns);
    }
}
END_TEST

START_TEST(a_status_that_cannot_be_read_is_none)
{
    struct cg_otlp_status status;
    ck_assert(!cg_otlp_read_status(reader, CG_BYTES("<html>Bad Gateway</html>"), &status));
    ck_assert(cg_otlp_read_status(reader, CG_BYTES(""), &status));
    ck_assert(!status.has_retry_info && status.message[0] == '\0');
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("otlp_answer");
    tcase_add_checked_fixture(tcase, open_reader, close_reader);
    tcase_add_test(tcase, partial_success_is_counted_and_told);
    tcase_add_loop_test(tcase, partial_success_in_json_is_read_strictly, 0,
                        sizeof(json_table) / sizeof(json_table[0]));
    tcase_add_test(tcase, what_cannot_be_read_changes_nothing);
    tcase_add_test(tcase, an_answer_that_wants_more_memory_than_there_is_cannot_be_read);
    tcase_add_test(tcase, the_delay_of_a_status_is_found_among_its_details);
    tcase_add_test(tcase, a_status_that_cannot_be_read_is_none);
    Suite *suite = suite_create("exporters/otlp_answer");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
