/* What the exporter says before it connects: subjects, answers, configuration. The wire is shown
 * against a real server (tests/flow/test_nats_jetstream.py). */
#include "exporters/nats_jetstream_ack.h"
#include "exporters/nats_jetstream_config.h"
#include "exporters/nats_jetstream_link.h"
#include "exporters/nats_jetstream_subject.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *subject_of(const char *template, const char *cell, const char *run,
                              const char *type)
{
    static struct cg_buf out;
    static char bytes[4096];
    size_t cell_len = strlen(cell);
    size_t run_len = strlen(run);
    struct cg_event event = {0};
    ck_assert_uint_lt(cell_len + run_len + strlen(type), sizeof(bytes));
    (void)snprintf(bytes, sizeof(bytes), "%s%s%s", cell, run, type);
    event.bytes = cg_bytes(bytes, strlen(bytes));
    event.meta.text[CG_TEXT_CELL] = (struct cg_event_span){0, (uint16_t)cell_len};
    event.meta.text[CG_TEXT_RUN] = (struct cg_event_span){(uint16_t)cell_len, (uint16_t)run_len};
    event.meta.text[CG_TEXT_TYPE] =
        (struct cg_event_span){(uint16_t)(cell_len + run_len), (uint16_t)strlen(type)};
    cg_buf_fini(&out);
    cg_buf_init(&out, CG_NATS_SUBJECT_BYTES_MAX);
    cg_nats_subject_append(template, &event, &out);
    return cg_buf_str(&out);
}

/* --- subjects --- */

static const struct {
    const char *template, *cell, *run, *type, *subject;
} subjects[] = {
    {"c.{cell_id}.{type}", "a", "r", "x.y", "c.a.x.y"},
    {"{run_id}-{cell_id}", "a", "r", "x", "r-a"},
    {"fixed", "a", "r", "x", "fixed"},
    /* A cell or run is one token, whatever it is called. */
    {"c.{cell_id}.{run_id}", "a.b", "..", "x", "c.a_b.__"},
    {"c.{cell_id}", "*", "r", "x", "c._"},
    {"c.{cell_id}", "a>b c\td", "r", "x", "c.a_b_c_d"},
    {"c.{cell_id}", "vm:17", "r", "x", "c.vm:17"},
    {"c.{cell_id}", "", "r", "x", "c._"},
    {"c.{cell_id}", "\xc3\xa4", "r", "x", "c.__"},
    /* The dots of a type part tokens, none of which may be empty. */
    {"c.{type}", "a", "r", ".x..y.", "c._x._y_"},
    {"c.{type}", "a", "r", "", "c._"},
    {"c.{type}", "a", "r", "a.*.>", "c.a._._"},
};

START_TEST(test_no_event_can_choose_a_subject_outside_the_template)
{
    const char *template = subjects[_i].template;
    struct cg_error err = {0};
    ck_assert_msg(cg_nats_template_check(template, &err), "%s", err.text);
    ck_assert_str_eq(subject_of(template, subjects[_i].cell, subjects[_i].run, subjects[_i].type),
                     subjects[_i].subject);
}
END_TEST

START_TEST(test_a_long_text_is_cut_and_the_longest_subject_fits)
{
    static char longest[CG_NATS_TEMPLATE_BYTES_MAX + 1];
    char text[1000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i + 6 < sizeof(longest); i += 6) {
        memcpy(longest + i, "{type}", 7);
    }
    size_t count = strlen(longest) / 6;
    ck_assert_uint_eq(strlen(subject_of(longest, "a", "r", text)),
                      count * CG_NATS_SUBJECT_PART_BYTES_MAX);
}
END_TEST

START_TEST(test_a_template_that_is_no_subject_is_refused)
{
    static const char *const wrong[] = {
        ".a", "a.", "a..b", "a.*", "a.>", "a b", "{cell}", "{cell_id", "a.{}", "\xc3\xa4", "a\"b",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cg_error err = {0};
        ck_assert_msg(!cg_nats_template_check(wrong[i], &err), "%s", wrong[i]);
        ck_assert_str_ne(err.text, "");
    }
}
END_TEST

START_TEST(test_the_fixed_part_of_a_template_ends_before_the_first_placeholders_token)
{
    ck_assert_uint_eq(cg_nats_template_fixed("a.b.{cell_id}"), 3);
    ck_assert_uint_eq(cg_nats_template_fixed("a.b.x-{cell_id}"), 3);
    ck_assert_uint_eq(cg_nats_template_fixed("x-{cell_id}.b"), 0);
    ck_assert_uint_eq(cg_nats_template_fixed("{type}"), 0);
    ck_assert_uint_eq(cg_nats_template_fixed("a.b"), 3);
}
END_TEST

/* --- answers --- */

static struct cg_nats_ack parse(const char *text, bool api)
{
    return cg_nats_ack_parse(cg_bytes_str(text), api);
}

static struct cg_verdict judge(const char *text)
{
    struct cg_nats_ack ack = parse(text, false);
    struct cg_verdict verdict = {0};
    ck_assert(!ack.good);
    cg_nats_ack_verdict(&ack, &verdict);
    return verdict;
}

START_TEST(test_only_a_sequence_number_acknowledges)
{
    ck_assert(parse("{\"stream\":\"S\",\"seq\":1}", false).good);
    ck_assert(parse("{\"stream\":\"S\", \"seq\": 99,\"duplicate\": true}", false).good);
    static const char *const others[] = {
        "",
        "+OK",
        "{}",
        "{\"stream\":\"S\"}",
        "{\"seq\":0}",
        "{\"seq\":\"1\"}",
        "{\"seq\":",
        "[{\"seq\":1}]",
        "{\"config\":{}}",
        "{\"x\":\"\\\"seq\\\":1\"}",
        "{\"seq\":1,\"error\":{\"code\":503}}",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        ck_assert_msg(!parse(others[i], false).good, "%s", others[i]);
        ck_assert_int_ne(judge(others[i]).kind, CG_VERDICT_DELIVERED);
    }
}
END_TEST

START_TEST(test_only_a_configuration_answers_a_request_for_a_stream)
{
    ck_assert(parse("{\"type\":\"x\",\"config\":{\"name\":\"S\"}}", true).good);
    ck_assert(!parse("{\"stream\":\"S\",\"seq\":1}", true).good);
    struct cg_nats_ack ack = parse(
        "{\"error\":{\"code\":400,\"err_code\":10058,\"description\":\"stream name in use\"}}",
        true);
    ck_assert(!ack.good);
    ck_assert_uint_eq(ack.error_code, CG_NATS_STREAM_NAME_IN_USE);
}
END_TEST

static const struct {
    const char *answer;
    enum cg_verdict_kind kind;
    int status;
} verdicts[] = {
    {"{\"error\":{\"code\":404,\"err_code\":10059,\"description\":\"stream not found\"}}",
     CG_VERDICT_CONFIG, 10059},
    {"{\"error\":{\"code\":400,\"err_code\":10060}}", CG_VERDICT_CONFIG, 10060},
    {"{\"error\":{\"code\":503,\"err_code\":10039}}", CG_VERDICT_CONFIG, 10039},
    {"{\"error\":{\"code\":503,\"err_code\":10076}}", CG_VERDICT_CONFIG, 10076},
    {"{\"error\":{\"code\":503,\"err_code\":10077,\"description\":\"maximum bytes exceeded\"}}",
     CG_VERDICT_BACKOFF, 10077},
    {"{\"error\":{\"code\":503,\"err_code\":10008}}", CG_VERDICT_BACKOFF, 10008},
    {"{\"error\":{\"code\":500,\"err_code\":10047}}", CG_VERDICT_BACKOFF, 10047},
    {"{\"error\":{\"code\":400,\"err_code\":10054}}", CG_VERDICT_SUSPECT, 10054},
    {"{\"error\":{\"code\":400,\"err_code\":10097}}", CG_VERDICT_SUSPECT, 10097},
    {"{\"error\":{}}", CG_VERDICT_BACKOFF, 0},
    {"{\"error\":{\"code\":99999999999,\"err_code\":99999999999}}", CG_VERDICT_BACKOFF, 0},
    {"{\"error\":{\"code\":", CG_VERDICT_BACKOFF, 0},
    {"garbage", CG_VERDICT_BACKOFF, 0},
};

START_TEST(test_each_error_of_the_server_has_its_verdict)
{
    struct cg_verdict verdict = judge(verdicts[_i].answer);
    ck_assert_msg(verdict.kind == verdicts[_i].kind, "%s: %d", verdicts[_i].answer, verdict.kind);
    ck_assert_int_eq(verdict.status, verdicts[_i].status);
}
END_TEST

START_TEST(test_nobody_listening_is_for_somebody_to_mend)
{
    const struct cg_nats_ack ack = {.no_responders = true};
    struct cg_verdict verdict = {0};
    cg_nats_ack_verdict(&ack, &verdict);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_CONFIG);
}
END_TEST

START_TEST(test_a_description_without_end_is_cut)
{
    char text[2048] = "{\"error\":{\"code\":503,\"description\":\"";
    size_t len = strlen(text);
    memset(text + len, 'x', 1500);
    memcpy(text + len + 1500, "\"}}", 4);
    struct cg_verdict verdict = judge(text);
    ck_assert_uint_lt(strlen(verdict.detail), CG_VERDICT_DETAIL_MAX);
    ck_assert_ptr_nonnull(strstr(verdict.detail, "xxx"));
}
END_TEST

/* --- servers --- */

START_TEST(test_servers_are_hosts_with_or_without_scheme_and_port)
{
    static const struct {
        const char *text, *host;
        bool is_tls;
    } good[] = {
        {"nats://h:4222", "h", false},
        {"tls://h", "h", true},
        {"h", "h", false},
        {"h:1", "h", false},
        {"tls://[::1]:4222", "::1", true},
        {"nats://[fe80::1]", "fe80::1", false},
    };
    char host[CG_NATS_HOST_BYTES_MAX];
    bool is_tls;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ck_assert_msg(cg_nats_server_parse(good[i].text, &is_tls, host), "%s", good[i].text);
        ck_assert_str_eq(host, good[i].host);
        ck_assert(is_tls == good[i].is_tls);
    }
    static const char *const wrong[] = {
        "", "nats://", "http://h:1", "h:", "h:x", "h:123456", "h/p", "u:p@h", "[::1", "[]:1", "h h",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(!cg_nats_server_parse(wrong[i], &is_tls, host), "%s", wrong[i]);
    }
}
END_TEST

START_TEST(test_what_contradicts_itself_is_refused)
{
    const char *const one[] = {"nats://h"};
    const char *const with_user[] = {"nats://user:secret@h"};
    const struct cg_strings servers = {one, 1};
    const struct {
        struct cg_nats_link_config config;
        const char *text;
    } cases[] = {
        {{.servers = {with_user, 1}}, "password_file"},
        {{.servers = servers, .user = "u"}, "go together"},
        {{.servers = servers, .password_file = "/p"}, "go together"},
        {{.servers = servers, .tls = {.cert_file = "/c"}}, "go together"},
        {{.servers = servers, .token_file = "/t", .credentials_file = "/c"}, "more than one"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cg_error err = {0};
        ck_assert(!cg_nats_link_validate(&cases[i].config, &err));
        ck_assert_msg(strstr(err.text, cases[i].text) != NULL, "%s", err.text);
        ck_assert_ptr_null(strstr(err.text, "secret"));
    }
}
END_TEST

START_TEST(test_files_are_judged_before_anybody_connects)
{
    const char *const one[] = {"nats://h"};
    char path[] = "/tmp/cellgate-nats-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "sesame\n", 7), 7);
    (void)close(fd);
    const struct {
        struct cg_nats_link_config config;
        const char *key;
    } cases[] = {
        {{.servers = {one, 1}, .credentials_file = path}, "credentials_file: "},
        {{.servers = {one, 1}, .token_file = path}, "token_file: "},
        {{.servers = {one, 1}, .user = "u", .password_file = path}, "password_file: "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cg_nats_link *link;
        struct cg_error err = {0};
        ck_assert_int_eq(chmod(path, 0600), 0);
        ck_assert_msg(cg_nats_link_new(&cases[i].config, "n", &link, &err), "%s", err.text);
        cg_nats_link_free(link);
        ck_assert_int_eq(chmod(path, 0644), 0);
        ck_assert(!cg_nats_link_new(&cases[i].config, "n", &link, &err));
        ck_assert_msg(strncmp(err.text, cases[i].key, strlen(cases[i].key)) == 0, "%s", err.text);
        ck_assert_ptr_null(strstr(err.text, "sesame"));
    }
    (void)unlink(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nats_jetstream");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, test_no_event_can_choose_a_subject_outside_the_template, 0,
                        sizeof(subjects) / sizeof(subjects[0]));
    tcase_add_test(tcase, test_a_long_text_is_cut_and_the_longest_subject_fits);
    tcase_add_test(tcase, test_a_template_that_is_no_subject_is_refused);
    tcase_add_test(tcase,
                   test_the_fixed_part_of_a_template_ends_before_the_first_placeholders_token);
    tcase_add_test(tcase, test_only_a_sequence_number_acknowledges);
    tcase_add_test(tcase, test_only_a_configuration_answers_a_request_for_a_stream);
    tcase_add_loop_test(tcase, test_each_error_of_the_server_has_its_verdict, 0,
                        sizeof(verdicts) / sizeof(verdicts[0]));
    tcase_add_test(tcase, test_nobody_listening_is_for_somebody_to_mend);
    tcase_add_test(tcase, test_a_description_without_end_is_cut);
    tcase_add_test(tcase, test_servers_are_hosts_with_or_without_scheme_and_port);
    tcase_add_test(tcase, test_what_contradicts_itself_is_refused);
    tcase_add_test(tcase, test_files_are_judged_before_anybody_connects);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
