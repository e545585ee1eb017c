/* Lines of a Firecracker's metrics, and answers of its API socket. */
#include "probes/fc_document.h"

#include <check.h>
#include <stdlib.h>

static struct cg_fc_reader reader;
static struct cg_output output;
static struct cg_facts facts;
static struct cg_error err;
static struct cg_buf out;
static uint64_t cut;

static void set_up(void)
{
    cg_fc_reader_init(&reader);
    cg_output_init(&output);
    output.wrapper = "metrics";
    cg_buf_init(&out, 131072);
    facts = (struct cg_facts){0};
    err = (struct cg_error){0};
}

static void tear_down(void)
{
    cg_fc_reader_fini(&reader);
    cg_output_fini(&output);
    cg_buf_fini(&out);
}

static bool read_line(struct cg_bytes line)
{
    return cg_fc_document_read(&reader, line, &output, &facts, &cut, &err);
}

static const struct {
    const char *line;
    const char *json; /* NULL: refused */
    uint64_t cut;
} cases[] = {
    {"{\"utc_timestamp_ms\":1541591155180,\"vcpu\":{\"exit_io_in\":3,\"exit_io_in_agg\":"
     "{\"min_us\":1,\"max_us\":2,\"sum_us\":3}},\"api_server\":{\"process_startup_time_us\":0}}",
     "{\"metrics\":{\"api_server\":{\"process_startup_time_us\":0},\"utc_timestamp_ms\":"
     "1541591155180,\"vcpu\":{\"exit_io_in\":3,\"exit_io_in_agg\":{\"max_us\":2,\"min_us\":1,"
     "\"sum_us\":3}}}}",
     0},
    {"{}", "{\"metrics\":{}}", 0},
    {" { \"b\" : [ 1 , true , null , \"x\\u0041\" ] }\r",
     "{\"metrics\":{\"b\":[1,true,null,\"xA\"]}}", 0},
    /* Numbers that are no integers are cut toward 0. */
    {"{\"a\":1.9,\"b\":-1.9,\"c\":0.5,\"d\":-0.5,\"e\":2e3,\"f\":-0,\"g\":1}",
     "{\"metrics\":{\"a\":1,\"b\":-1,\"c\":0,\"d\":0,\"e\":2000,\"f\":0,\"g\":1}}", 6},
    {"{\"a\":1e30,\"b\":-1e30,\"c\":18446744073709551616,\"d\":18446744073709551615,"
     "\"e\":-9223372036854775809,\"f\":1e-9}",
     "{\"metrics\":{\"a\":18446744073709551615,\"b\":-9223372036854775808,\"c\":"
     "18446744073709551615,\"d\":18446744073709551615,\"e\":-9223372036854775808,\"f\":0}}",
     5},
    {"{\"a\":1,\"a\":2}", "{\"metrics\":{\"a\":2}}", 0},
    /* What an interrupted write has left is passed over. */
    {"{\"utc_timestamp_ms\":1,\"net\":{\"rx_by{\"utc_timestamp_ms\":2,\"net\":{}}",
     "{\"metrics\":{\"net\":{},\"utc_timestamp_ms\":2}}", 0},
    {"garbage{\"utc_timestamp_ms\":2}", "{\"metrics\":{\"utc_timestamp_ms\":2}}", 0},
    {"{\"utc_timestamp_ms\":1{\"utc_timestamp_ms\":2", NULL, 0},
    {"", NULL, 0},
    {"[]", NULL, 0},
    {"7", NULL, 0},
    {"{\"a\":1}x", NULL, 0},
    {"{\"a\":01}", NULL, 0},
    {"{\"a\":\"\xff\"}", NULL, 0},
    {"{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}", NULL, 0},
};

START_TEST(a_line_is_a_document_or_refused)
{
    bool good = read_line(cg_bytes_str(cases[_i].line));
    ck_assert_msg(good == (cases[_i].json != NULL), "%s: %s", cases[_i].line, err.text);
    if (good) {
        ck_assert(cg_output_render(&output, 65536, &out));
        ck_assert_str_eq(cg_buf_str(&out), cases[_i].json);
        ck_assert_uint_eq(cut, cases[_i].cut);
    }
}
END_TEST

START_TEST(figures_are_taken_from_where_they_stand)
{
    ck_assert(read_line(CG_BYTES(
        "{\"net\":{\"tx_packets_count\":7,\"tx_bytes_count\":700,\"rx_packets_count\":1.5},"
        "\"net_eth0\":{\"tx_packets_count\":9},\"vsock\":{\"tx_bytes_count\":128},\"tx\":1}")));
    ck_assert_uint_eq(facts.value[CG_FACT_FC_NET_TX_PACKETS], 7);
    ck_assert_uint_eq(facts.value[CG_FACT_FC_NET_TX_BYTES], 700);
    ck_assert_uint_eq(facts.value[CG_FACT_FC_VSOCK_TX_BYTES], 128);
    ck_assert_uint_eq(facts.known, 1U << CG_FACT_FC_NET_TX_PACKETS | 1U << CG_FACT_FC_NET_TX_BYTES |
                                       1U << CG_FACT_FC_VSOCK_TX_BYTES);
}
END_TEST

START_TEST(a_document_of_many_parts_loses_the_largest)
{
    cg_auto_buf struct cg_buf line;
    cg_buf_init(&line, CG_FC_LINE_BYTES_MAX);
    cg_buf_append_str(&line, "{\"utc_timestamp_ms\":1,\"large\":\"");
    for (unsigned i = 0; i < 40000; i++) {
        cg_buf_append_char(&line, 'x');
    }
    cg_buf_append_str(&line, "\",\"net\":{\"tx_packets_count\":3}}");
    ck_assert(read_line(cg_buf_bytes(&line)));
    ck_assert(cg_output_render(&output, 36000, &out));
    ck_assert_str_eq(cg_buf_str(&out), "{\"metrics\":{\"net\":{\"tx_packets_count\":3},"
                                       "\"utc_timestamp_ms\":1},\"truncated\":{\"large\":40002}}");
}
END_TEST

START_TEST(an_answer_has_a_status_or_not_yet_or_is_none)
{
    static const struct {
        const char *answer;
        uint32_t status;
    } answers[] = {
        {"", 0},
        {"HTTP/1.1 20", 0},
        {"HTTP/1.1 204", 204},
        {"HTTP/1.1 204 \r\nServer: x\r\n\r\n", 204},
        {"HTTP/1.0 400 Bad Request\r\n", 400},
        {"HTTP/1.1 099", UINT32_MAX},
        {"HTTP/1.1-204", UINT32_MAX},
        {"HTTP/1.1 2x4 ", UINT32_MAX},
        {"HTTP/2", UINT32_MAX},
        {"SSH", UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        ck_assert_msg(cg_fc_answer_status(cg_bytes_str(answers[i].answer)) == answers[i].status,
                      "%s", answers[i].answer);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fc_document");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_loop_test(all, a_line_is_a_document_or_refused, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(all, figures_are_taken_from_where_they_stand);
    tcase_add_test(all, a_document_of_many_parts_loses_the_largest);
    tcase_add_test(all, an_answer_has_a_status_or_not_yet_or_is_none);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
