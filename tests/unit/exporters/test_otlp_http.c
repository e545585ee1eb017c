#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/registry.h"
#include "support/exporter_config.h"
#include "support/scripted_http.h"

#include <otlp.pb-c.h>
#include <stdio.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static struct scripted_http server;
static const struct cg_exporter_ops *ops;
static char url[64];
static void *config;
static void *exporter;
static struct cg_verdict verdict;

static void open_with(const struct scripted_answer *answers, size_t count, const char *encoding)
{
    scripted_http_start(&server, answers, count);
    ops = cg_exporter_find("otlp-http");
    ck_assert_ptr_nonnull(ops);
    config = calloc(1, ops->config_size);
    ck_assert_ptr_nonnull(config);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", server.port);
    *(const char **)exporter_member(ops, config, "url") = url;
    *(uint64_t *)exporter_member(ops, config, "timeout") = 20 * CG_NS_PER_S;
    *(uint64_t *)exporter_member(ops, config, "connect_timeout") = 20 * CG_NS_PER_S;
    *(int *)exporter_member(ops, config, "encoding") = exporter_name(ops, "encoding", encoding);
    struct cg_error err = {0};
    struct cg_exporter_env env = {.name = "n", .node = "node", .version = "9.9"};
    ck_assert_msg(ops->validate(config, &err), "%s", err.text);
    ck_assert_msg(ops->open(config, &env, &exporter, &err), "%s", err.text);
}

static void deliver(size_t count)
{
    struct cg_event events[4] = {{.bytes = CG_BYTES("{\"a\":1}")},
                                 {.bytes = CG_BYTES("{\"b\":2}")},
                                 {.bytes = CG_BYTES("{\"c\":3}")},
                                 {.bytes = CG_BYTES("{\"d\":4}")}};
    struct cg_batch batch = {.events = events, .count = count, .bytes = count * 7};
    verdict = (struct cg_verdict){0};
    ops->deliver(exporter, &batch, &verdict);
}

static void finish(void)
{
    ops->close(exporter);
    free(config);
    scripted_http_stop(&server);
}

START_TEST(a_request_is_one_message_of_the_batch)
{
    const struct scripted_answer answers[] = {{.bytes = OK_ANSWER}, {.bytes = OK_ANSWER}};
    open_with(answers, 2, "protobuf");
    deliver(3);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    finish();
    const struct scripted_request *request = &server.requests[1];
    ck_assert_int_eq(strncmp(request->data, "POST /v1/logs HTTP/1.1\r\n", 24), 0);
    ck_assert_ptr_nonnull(strstr(request->data, "\r\nContent-Type: application/x-protobuf\r\n"));
    Cg__Otlp__ExportLogsServiceRequest *decoded = cg__otlp__export_logs_service_request__unpack(
        NULL, request->body_len, (const uint8_t *)request->body);
    ck_assert_ptr_nonnull(decoded);
    const Cg__Otlp__ScopeLogs *logs = decoded->resource_logs[0]->scope_logs[0];
    ck_assert_uint_eq(logs->n_log_records, 4);
    ck_assert_str_eq(logs->log_records[3]->body->string_value, "{\"d\":4}");
    cg__otlp__export_logs_service_request__free_unpacked(decoded, NULL);
    ck_assert_uint_eq(server.connection_count, 1);
    scripted_http_free(&server);
}
END_TEST

START_TEST(partial_success_in_json_comes_with_the_delivery)
{
    const struct scripted_answer answers[] = {
        {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n"
                  "{\"partialSuccess\":{\"rejectedLogRecords\":\"2\"}} "}};
    open_with(answers, 1, "json");
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    ck_assert_uint_eq(verdict.rejected, 2);
    ck_assert_str_eq(verdict.detail, "partial success");
    finish();
    ck_assert_ptr_nonnull(
        strstr(server.requests[0].data, "\r\nContent-Type: application/json\r\n"));
    scripted_http_free(&server);
}
END_TEST

START_TEST(a_refusal_is_told_in_the_collectors_words)
{
    /* google.rpc.Status {code: 3, message: "too old"} */
    const struct scripted_answer answers[] = {
        {.bytes = "HTTP/1.1 400 No\r\nContent-Length: 11\r\n\r\n\x08\x03\x12\x07too old"},
        {.bytes = "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n<html>"},
        {.bytes = "HTTP/1.1 503 No\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"}};
    open_with(answers, 3, "protobuf");
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_SUSPECT);
    ck_assert_str_eq(verdict.detail, "HTTP 400: too old");
    ck_assert_uint_eq(verdict.answer_len, 11);
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_CONFIG);
    ck_assert_str_eq(verdict.detail, "HTTP 500");
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_uint_eq(verdict.retry_after_ns, 5 * CG_NS_PER_S);
    finish();
    scripted_http_free(&server);
}
END_TEST

static void *cancel_soon(void *unused)
{
    (void)unused;
    ops->cancel(exporter);
    return NULL;
}

START_TEST(a_cancel_ends_the_wait_for_an_answer)
{
    const struct scripted_answer answers[] = {{.bytes = NULL}};
    open_with(answers, 1, "protobuf");
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_soon, NULL), 0);
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    deliver(4);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_str_eq(verdict.detail, "cancelled");
    finish();
    scripted_http_free(&server);
}
END_TEST

int main(void)
{
    (void)setenv("no_proxy", "*", 1);
    TCase *tcase = tcase_create("otlp_http");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_request_is_one_message_of_the_batch);
    tcase_add_test(tcase, partial_success_in_json_comes_with_the_delivery);
    tcase_add_test(tcase, a_refusal_is_told_in_the_collectors_words);
    tcase_add_test(tcase, a_cancel_ends_the_wait_for_an_answer);
    Suite *suite = suite_create("exporters/otlp_http");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
