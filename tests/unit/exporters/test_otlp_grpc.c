/* What needs no server; tests/e2e/test_otlp_grpc.py has real ones. */
#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/registry.h"
#include "support/exporter_config.h"
#include "support/scripted_http.h"

#include <stdio.h>

static const struct cg_exporter_ops *ops;
static void *config;
static void *exporter;
static struct cg_verdict verdict;

static void make_config(const char *url)
{
    ops = cg_exporter_find("otlp-grpc");
    ck_assert_ptr_nonnull(ops);
    config = calloc(1, ops->config_size);
    ck_assert_ptr_nonnull(config);
    *(const char **)exporter_member(ops, config, "url") = url;
    *(uint64_t *)exporter_member(ops, config, "timeout") = 20 * CG_NS_PER_S;
    *(uint64_t *)exporter_member(ops, config, "connect_timeout") = 20 * CG_NS_PER_S;
    *(uint64_t *)exporter_member(ops, config, "message_bytes") = 256 * 1024;
}

static void open_exporter(void)
{
    struct cg_error err = {0};
    struct cg_exporter_env env = {.name = "n", .node = "node", .version = "9.9"};
    ck_assert_msg(ops->validate(config, &err), "%s", err.text);
    ck_assert_msg(ops->open(config, &env, &exporter, &err), "%s", err.text);
}

static void deliver(const struct cg_event *events, size_t count)
{
    struct cg_batch batch = {.events = events, .count = count};
    verdict = (struct cg_verdict){0};
    ops->deliver(exporter, &batch, &verdict);
}

static const struct cg_event small = {.bytes = {.data = "{\"a\":1}", .len = 7}};

static const struct {
    const char *url;
    bool good;
} urls[] = {
    {"http://host:4317", true},       {"https://host:4317/", true}, {"https://host/v1/logs", false},
    {"https://host:4317?x=1", false}, {"host:4317", false},         {"https://host/#x", false},
};

START_TEST(a_url_is_scheme_host_and_port)
{
    struct cg_error err = {0};
    make_config(urls[_i].url);
    ck_assert_int_eq(ops->validate(config, &err), urls[_i].good);
    ck_assert_int_eq(err.text[0] == '\0', urls[_i].good);
    free(config);
}
END_TEST

START_TEST(a_header_of_grpcs_own_is_refused)
{
    static const struct cg_pair pairs[] = {{.key = "Grpc-Timeout", .value = "1S"}};
    struct cg_error err = {0};
    make_config("http://host");
    *(struct cg_pairs *)exporter_member(ops, config, "headers") =
        (struct cg_pairs){.items = pairs, .count = 1};
    ck_assert(!ops->validate(config, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "Grpc-Timeout"));
    free(config);
}
END_TEST

START_TEST(a_batch_beyond_message_bytes_is_too_large_before_anything_is_sent)
{
    static char text[60000];
    memset(text, 'x', sizeof(text));
    struct cg_event events[8];
    for (size_t i = 0; i < 8; i++) {
        events[i] = (struct cg_event){.bytes = cg_bytes(text, sizeof(text))};
    }
    make_config("http://127.0.0.1:1"); /* where nobody listens */
    open_exporter();
    deliver(events, 8);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_TOO_LARGE);
    deliver(events, 4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ops->close(exporter);
    free(config);
}
END_TEST

START_TEST(a_server_of_another_protocol_means_back_off)
{
    static struct scripted_http server;
    char url[64];
    const struct scripted_answer answers[] = {
        {.bytes = "HTTP/1.1 400 Bad Request\r\n\r\n", .before_request = true, .close_after = true}};
    scripted_http_start(&server, answers, 1);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", server.port);
    make_config(url);
    open_exporter();
    deliver(&small, 1);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_str_ne(verdict.detail, "");
    ops->close(exporter);
    free(config);
    scripted_http_stop(&server);
    scripted_http_free(&server);
}
END_TEST

START_TEST(after_a_cancel_deliver_returns_back_off)
{
    make_config("http://127.0.0.1:1");
    open_exporter();
    ops->cancel(exporter);
    deliver(&small, 1);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_str_eq(verdict.detail, "cancelled");
    ops->close(exporter);
    free(config);
}
END_TEST

int main(void)
{
    (void)setenv("no_proxy", "*", 1);
    TCase *tcase = tcase_create("otlp_grpc");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_url_is_scheme_host_and_port, 0, sizeof(urls) / sizeof(urls[0]));
    tcase_add_test(tcase, a_header_of_grpcs_own_is_refused);
    tcase_add_test(tcase, a_batch_beyond_message_bytes_is_too_large_before_anything_is_sent);
    tcase_add_test(tcase, a_server_of_another_protocol_means_back_off);
    tcase_add_test(tcase, after_a_cancel_deliver_returns_back_off);
    Suite *suite = suite_create("exporters/otlp_grpc");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
