#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/compress.h"
#include "exporters/http_client.h"
#include "exporters/registry.h"
#include "support/scripted_http.h"

#include <stdio.h>
#include <zlib.h>
#include <zstd.h>

#define OK_ANSWER "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

static struct scripted_http server;
static const struct cg_exporter_ops *ops;
static char url[64];
static void *exporter;
static struct cg_verdict verdict;

/* Finds a row of the exporter's options; what a configuration file fills, a test fills by hand. */
static void *member(void *config, const char *key)
{
    for (const struct cg_option *option = ops->options; option->key != NULL; option++) {
        if (strcmp(option->key, key) == 0) {
            return (char *)config + option->offset;
        }
    }
    ck_abort_msg("no option %s", key);
    return NULL;
}

static int named(const char *key, const char *name)
{
    for (const struct cg_option *option = ops->options; option->key != NULL; option++) {
        for (const struct cg_option_name *at = option->names;
             strcmp(option->key, key) == 0 && at->name != NULL; at++) {
            if (strcmp(at->name, name) == 0) {
                return at->value;
            }
        }
    }
    ck_abort_msg("no %s for %s", name, key);
    return -1;
}

static void *open_with(const char *mode, const char *compression)
{
    ops = cg_exporter_find("cloudevents-http");
    ck_assert_ptr_nonnull(ops);
    void *config = calloc(1, ops->config_size);
    ck_assert_ptr_nonnull(config);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", server.port);
    *(const char **)member(config, "url") = url;
    *(uint64_t *)member(config, "timeout") = 20 * CG_NS_PER_S;
    *(uint64_t *)member(config, "connect_timeout") = 20 * CG_NS_PER_S;
    *(int *)member(config, "mode") = named("mode", mode);
    *(int *)member(config, "compression") = named("compression", compression);
    struct cg_error err = {0};
    struct cg_exporter_env env = {.name = "n", .node = "node", .version = "9.9"};
    ck_assert_msg(ops->validate(config, &err), "%s", err.text);
    ck_assert_msg(ops->open(config, &env, &exporter, &err), "%s", err.text);
    return config;
}

static void deliver(const char *const *texts, size_t count)
{
    struct cg_event events[8] = {0};
    struct cg_batch batch = {.events = events, .count = count};
    for (size_t i = 0; i < count; i++) {
        events[i].bytes = cg_bytes_str(texts[i]);
        batch.bytes += events[i].bytes.len;
    }
    verdict = (struct cg_verdict){0};
    ops->deliver(exporter, &batch, &verdict);
}

static void finish(void *config)
{
    ops->close(exporter);
    free(config);
    scripted_http_stop(&server);
}

static const struct scripted_answer accepts[] = {{.bytes = OK_ANSWER}, {.bytes = OK_ANSWER}};
static const char *const three[] = {"{\"a\":1}", "{\"b\":2}", "{\"c\":3}"};

START_TEST(a_batch_is_an_array_of_the_events_as_they_are)
{
    scripted_http_start(&server, accepts, 2);
    void *config = open_with("batch", "none");
    ck_assert_uint_eq(ops->batch_events_max(config), 0);
    deliver(three, 3);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    ck_assert_int_eq(verdict.status, 202);
    deliver(three, 1);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    finish(config);
    ck_assert_str_eq(server.requests[0].body, "[{\"a\":1},{\"b\":2},{\"c\":3}]");
    ck_assert_str_eq(server.requests[1].body, "[{\"a\":1}]");
    ck_assert_ptr_nonnull(strstr(server.requests[0].data,
                                 "\r\nContent-Type: application/cloudevents-batch+json\r\n"));
    ck_assert_ptr_nonnull(strstr(server.requests[0].data, "\r\nUser-Agent: cellgate/9.9\r\n"));
    ck_assert_uint_eq(server.connection_count, 1);
    scripted_http_free(&server);
}
END_TEST

START_TEST(single_mode_sends_one_event_as_it_is)
{
    scripted_http_start(&server, accepts, 1);
    void *config = open_with("single", "none");
    ck_assert_uint_eq(ops->batch_events_max(config), 1);
    deliver(three, 1);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    finish(config);
    ck_assert_str_eq(server.requests[0].body, "{\"a\":1}");
    ck_assert_ptr_nonnull(
        strstr(server.requests[0].data, "\r\nContent-Type: application/cloudevents+json\r\n"));
    scripted_http_free(&server);
}
END_TEST

START_TEST(a_gzip_body_says_so_and_unpacks_to_the_batch)
{
    scripted_http_start(&server, accepts, 2);
    void *config = open_with("batch", "gzip");
    deliver(three, 2);
    deliver(three, 3); /* the compressor starts afresh */
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    finish(config);
    ck_assert_ptr_nonnull(strstr(server.requests[1].data, "\r\nContent-Encoding: gzip\r\n"));
    char out[256] = {0};
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)server.requests[1].body,
                       .avail_in = (unsigned)server.requests[1].body_len,
                       .next_out = (unsigned char *)out,
                       .avail_out = sizeof(out) - 1};
    ck_assert_int_eq(inflateInit2(&stream, 15 + 16), Z_OK);
    ck_assert_int_eq(inflate(&stream, Z_FINISH), Z_STREAM_END);
    ck_assert_int_eq(inflateEnd(&stream), Z_OK);
    ck_assert_str_eq(out, "[{\"a\":1},{\"b\":2},{\"c\":3}]");
    scripted_http_free(&server);
}
END_TEST

START_TEST(a_zstd_body_says_so_and_unpacks_to_the_batch)
{
    scripted_http_start(&server, accepts, 2);
    void *config = open_with("batch", "zstd");
    deliver(three, 2);
    deliver(three, 3);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    finish(config);
    ck_assert_ptr_nonnull(strstr(server.requests[1].data, "\r\nContent-Encoding: zstd\r\n"));
    char out[256] = {0};
    size_t len =
        ZSTD_decompress(out, sizeof(out) - 1, server.requests[1].body, server.requests[1].body_len);
    ck_assert(!ZSTD_isError(len));
    ck_assert_str_eq(out, "[{\"a\":1},{\"b\":2},{\"c\":3}]");
    scripted_http_free(&server);
}
END_TEST

START_TEST(a_refusal_carries_status_and_the_first_of_the_answer)
{
    static char body[10001];
    static char text[10200];
    memset(body, 'b', sizeof(body) - 1);
    (void)snprintf(text, sizeof(text), "HTTP/1.1 422 No\r\nContent-Length: 10000\r\n\r\n%s", body);
    const struct scripted_answer refuses[] = {
        {.bytes = text},
        {.bytes = "HTTP/1.1 503 No\r\nRetry-After: 5\r\nContent-Length: 3\r\n\r\nbad"}};
    scripted_http_start(&server, refuses, 2);
    void *config = open_with("batch", "none");
    deliver(three, 3);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_SUSPECT);
    ck_assert_int_eq(verdict.status, 422);
    ck_assert_uint_eq(verdict.answer_len, CG_VERDICT_ANSWER_MAX);
    deliver(three, 3);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_uint_eq(verdict.retry_after_ns, 5 * CG_NS_PER_S);
    ck_assert_uint_eq(verdict.answer_len, 3);
    ck_assert_int_eq(memcmp(verdict.answer, "bad", 3), 0);
    finish(config);
    scripted_http_free(&server);
}
END_TEST

START_TEST(after_a_cancel_deliver_returns_back_off)
{
    scripted_http_start(&server, accepts, 2);
    void *config = open_with("batch", "none");
    ops->cancel(exporter);
    deliver(three, 3);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    finish(config);
    ck_assert_uint_eq(server.request_count, 0);
    scripted_http_free(&server);
}
END_TEST

START_TEST(compressed_bodies_of_any_size_unpack_to_the_same)
{
    /* Sizes around the output step, and text that does not compress. */
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1000000};
    static char text[1000000];
    static char out[1000001];
    uint32_t seed = 7;
    for (size_t i = 0; i < sizeof(text); i++) {
        seed = seed * 1664525 + 1013904223;
        text[i] = (char)(seed >> 24);
    }
    struct cg_compress_config config = {.compression = CG_COMPRESSION_ZSTD, .level = 1};
    struct cg_compressor *compressor = NULL;
    struct cg_error err = {0};
    ck_assert(cg_compressor_new(&config, &compressor, &err));
    cg_auto_buf struct cg_buf packed;
    cg_buf_init(&packed, 4 * sizeof(text));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct cg_bytes pieces[] = {cg_bytes(text, sizes[i] / 3),
                                    cg_bytes(text + sizes[i] / 3, sizes[i] - sizes[i] / 3)};
        ck_assert(cg_compressor_run(compressor, pieces, 2, &packed));
        ck_assert_uint_eq(ZSTD_decompress(out, sizeof(out), packed.data, packed.len), sizes[i]);
        ck_assert_int_eq(memcmp(out, text, sizes[i]), 0);
    }
    cg_compressor_free(compressor);
}
END_TEST

START_TEST(a_body_beyond_the_limit_is_refused_and_the_next_one_is_not)
{
    for (int kind = CG_COMPRESSION_GZIP; kind <= CG_COMPRESSION_ZSTD; kind++) {
        static char text[1000000];
        uint32_t seed = 7;
        for (size_t i = 0; i < sizeof(text); i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = (char)(seed >> 24);
        }
        struct cg_compress_config config = {.compression = kind};
        struct cg_compressor *compressor = NULL;
        struct cg_error err = {0};
        ck_assert(cg_compressor_new(&config, &compressor, &err));
        cg_auto_buf struct cg_buf packed;
        cg_buf_init(&packed, 256 * 1024);
        struct cg_bytes large = cg_bytes(text, sizeof(text));
        struct cg_bytes small = cg_bytes(text, 100);
        ck_assert(!cg_compressor_run(compressor, &large, 1, &packed));
        ck_assert(cg_compressor_run(compressor, &small, 1, &packed));
        ck_assert_uint_gt(packed.len, 100);
        cg_compressor_free(compressor);
    }
}
END_TEST

START_TEST(a_level_must_fit_its_method)
{
    static const struct {
        struct cg_compress_config config;
        bool good;
    } table[] = {
        {{CG_COMPRESSION_NONE, 0}, true},  {{CG_COMPRESSION_NONE, 1}, false},
        {{CG_COMPRESSION_GZIP, 9}, true},  {{CG_COMPRESSION_GZIP, 10}, false},
        {{CG_COMPRESSION_ZSTD, 19}, true}, {{CG_COMPRESSION_ZSTD, 20}, false},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct cg_error err = {0};
        ck_assert_int_eq(cg_compress_validate(&table[i].config, &err), table[i].good);
    }
}
END_TEST

int main(void)
{
    (void)setenv("no_proxy", "*", 1);
    TCase *tcase = tcase_create("cloudevents_http");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_batch_is_an_array_of_the_events_as_they_are);
    tcase_add_test(tcase, single_mode_sends_one_event_as_it_is);
    tcase_add_test(tcase, a_gzip_body_says_so_and_unpacks_to_the_batch);
    tcase_add_test(tcase, a_zstd_body_says_so_and_unpacks_to_the_batch);
    tcase_add_test(tcase, a_refusal_carries_status_and_the_first_of_the_answer);
    tcase_add_test(tcase, after_a_cancel_deliver_returns_back_off);
    tcase_add_test(tcase, compressed_bodies_of_any_size_unpack_to_the_same);
    tcase_add_test(tcase, a_body_beyond_the_limit_is_refused_and_the_next_one_is_not);
    tcase_add_test(tcase, a_level_must_fit_its_method);
    Suite *suite = suite_create("exporters/cloudevents_http");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
