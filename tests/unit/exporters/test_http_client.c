#include "exporters/http_client.h"

#include "cellgate/clock.h"
#include "support/scripted_http.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define SCRIPT(...)                                                                                \
    (const struct scripted_answer[]){__VA_ARGS__},                                                 \
        sizeof((const struct scripted_answer[]){__VA_ARGS__}) / sizeof(struct scripted_answer)

static struct scripted_http server;
static char url[128];
static struct cg_http_client_config config;
static struct cg_http_client *client;
static struct cg_http_answer answer;
static struct cg_verdict verdict;
#define DIRECTORY_TEMPLATE "/tmp/cellgate-http-client-XXXXXX"
static char directory[sizeof(DIRECTORY_TEMPLATE)];

static void serve(const struct scripted_answer *answers, size_t count)
{
    scripted_http_start(&server, answers, count);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/in?x=1", server.port);
    config = (struct cg_http_client_config){
        .url = url,
        .timeout_ns = 20 * CG_NS_PER_S,
        .connect_timeout_ns = 20 * CG_NS_PER_S,
    };
}

static void open_client(void)
{
    struct cg_error err = {0};
    struct cg_http_client_params params = {
        .config = &config, .user_agent = "test/1", .answer_kept_bytes_max = 4096};
    ck_assert_msg(cg_http_client_validate(&config, &err), "%s", err.text);
    ck_assert_msg(cg_http_client_new(&params, &client, &err), "%s", err.text);
}

static bool post_pieces(const struct cg_bytes *pieces, size_t count)
{
    struct cg_http_request request = {
        .content_type = "text/test", .pieces = pieces, .piece_count = count};
    answer = (struct cg_http_answer){0};
    verdict = (struct cg_verdict){0};
    return cg_http_client_post(client, &request, &answer, &verdict);
}

static bool post(void)
{
    struct cg_bytes piece = CG_BYTES("hello");
    return post_pieces(&piece, 1);
}

static void finish(void)
{
    cg_http_client_free(client);
    client = NULL;
    scripted_http_stop(&server);
    scripted_http_free(&server);
}

static void make_directory(void)
{
    memcpy(directory, DIRECTORY_TEMPLATE, sizeof(directory));
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    ck_assert_int_eq(close(fd), 0);
}

START_TEST(a_body_of_pieces_arrives_whole_and_in_order)
{
    serve(SCRIPT({.bytes = OK_ANSWER}));
    open_client();
    const struct cg_bytes pieces[] = {CG_BYTES("["), CG_BYTES("one"), CG_BYTES(""),
                                      CG_BYTES(","), CG_BYTES("two"), CG_BYTES("]")};
    ck_assert(post_pieces(pieces, 6));
    ck_assert_int_eq(answer.status, 200);
    ck_assert_int_eq((int)answer.body.len, 2);
    ck_assert(answer.body_whole);
    cg_http_client_free(client);
    client = NULL;
    scripted_http_stop(&server);
    ck_assert_str_eq(server.requests[0].body, "[one,two]");
    ck_assert(strncmp(server.requests[0].data, "POST /in?x=1 HTTP/1.1\r\n", 23) == 0);
    ck_assert_ptr_nonnull(strstr(server.requests[0].data, "\r\nContent-Type: text/test\r\n"));
    ck_assert_ptr_nonnull(strstr(server.requests[0].data, "\r\nContent-Length: 9\r\n"));
    ck_assert_ptr_nonnull(strstr(server.requests[0].data, "\r\nUser-Agent: test/1\r\n"));
    ck_assert_ptr_null(strcasestr(server.requests[0].data, "expect:"));
    ck_assert_ptr_null(strcasestr(server.requests[0].data, "transfer-encoding:"));
    scripted_http_free(&server);
}
END_TEST

START_TEST(a_body_larger_than_every_buffer_arrives_whole)
{
    serve(SCRIPT({.bytes = OK_ANSWER}));
    open_client();
    enum { PIECES = 3000, PIECE = 1000 };
    static char text[PIECE];
    static struct cg_bytes pieces[PIECES];
    memset(text, 'y', PIECE);
    for (size_t i = 0; i < PIECES; i++) {
        pieces[i] = cg_bytes(text, PIECE);
    }
    ck_assert(post_pieces(pieces, PIECES));
    cg_http_client_free(client);
    scripted_http_stop(&server);
    ck_assert_uint_eq(server.requests[0].body_len, (size_t)PIECES * PIECE);
    ck_assert_uint_eq(strspn(server.requests[0].body, "y"), (size_t)PIECES * PIECE);
    scripted_http_free(&server);
}
END_TEST

START_TEST(the_connection_is_kept_from_request_to_request)
{
    serve(SCRIPT({.bytes = OK_ANSWER}, {.bytes = OK_ANSWER}, {.bytes = OK_ANSWER}));
    open_client();
    ck_assert(post() && post() && post());
    finish();
    ck_assert_uint_eq(server.connection_count, 1);
    ck_assert_uint_eq(server.request_count, 3);
}
END_TEST

START_TEST(a_kept_connection_that_was_closed_meanwhile_is_replaced)
{
    serve(SCRIPT({.bytes = OK_ANSWER, .close_after = true}, {.bytes = OK_ANSWER}));
    open_client();
    ck_assert(post());
    ck_assert(post());
    finish();
    ck_assert_uint_eq(server.connection_count, 2);
    ck_assert_uint_eq(server.request_count, 2);
}
END_TEST

START_TEST(after_a_reopen_the_next_request_has_a_new_connection)
{
    /* The first connection's end lets the script go on to the second. */
    serve(SCRIPT({.bytes = OK_ANSWER}, {.bytes = OK_ANSWER}));
    open_client();
    ck_assert(post());
    cg_http_client_reopen(client);
    ck_assert(post());
    finish();
    ck_assert_uint_eq(server.connection_count, 2);
}
END_TEST

START_TEST(a_redirect_is_an_answer_and_is_not_followed)
{
    serve(SCRIPT({.bytes = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"},
                 {.bytes = OK_ANSWER}));
    open_client();
    ck_assert(post());
    ck_assert_int_eq(answer.status, 302);
    finish();
    ck_assert_uint_eq(server.request_count, 1);
}
END_TEST

START_TEST(retry_after_is_taken_from_the_final_answer)
{
    serve(SCRIPT({.bytes = "HTTP/1.1 103 Early Hints\r\nRetry-After: 99\r\n\r\n"
                           "HTTP/1.1 503 No\r\nretry-AFTER:   7 \r\nContent-Length: 0\r\n\r\n"},
                 {.bytes = "HTTP/1.1 103 Early Hints\r\nRetry-After: 99\r\n\r\n" OK_ANSWER}));
    open_client();
    ck_assert(post());
    ck_assert_int_eq(answer.status, 503);
    ck_assert(cg_bytes_equal(answer.retry_after, CG_BYTES("7")));
    ck_assert(post());
    ck_assert_uint_eq(answer.retry_after.len, 0);
    finish();
}
END_TEST

START_TEST(an_answer_without_end_is_read_to_the_limit_and_its_status_counts)
{
    static char block[65537];
    memset(block, 'z', sizeof(block) - 1);
    serve(SCRIPT(
        {.bytes = "HTTP/1.1 500 No\r\nContent-Length: 104857600\r\n\r\n", .close_after = false},
        {.bytes = block, .repeat = 1600, .before_request = true, .close_after = true}));
    open_client();
    ck_assert(post());
    ck_assert_int_eq(answer.status, 500);
    ck_assert_uint_eq(answer.body.len, 4096);
    ck_assert(!answer.body_whole);
    finish();
}
END_TEST

START_TEST(a_header_and_a_trailer_can_be_asked_for)
{
    serve(SCRIPT(
        {.bytes = "HTTP/1.1 200 OK\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Two\r\n"
                  "\r\n2\r\nok\r\n0\r\nX-Two: 2\r\n\r\n"}));
    open_client();
    ck_assert(post());
    ck_assert_str_eq(cg_http_client_header(client, "x-one"), "1");
    ck_assert_str_eq(cg_http_client_header(client, "x-two"), "2");
    ck_assert_ptr_null(cg_http_client_header(client, "x-three"));
    finish();
}
END_TEST

/* Everything that is no answer, and passes by itself. */
static const struct scripted_answer breakages[] = {
    {.bytes = "", .close_after = true},
    {.bytes = "", .close_after = true, .reset = true},
    {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", .close_after = true},
    {.bytes = "HTTP/1.1 200 OK\r\nContent-Le", .close_after = true},
    {.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", .close_after = true},
    {.bytes = "220 mail.example ESMTP\r\n", .close_after = true},
    {.bytes = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", .close_after = true},
    {.bytes = "HTTP/1.1 abc\r\n\r\n", .close_after = true},
};

START_TEST(no_whole_answer_means_back_off)
{
    /* libcurl tries once more by itself where a kept connection broke; here each is fresh. */
    serve(&breakages[_i], 1);
    open_client();
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_str_ne(verdict.detail, "");
    finish();
}
END_TEST

START_TEST(nobody_listening_means_back_off)
{
    serve(SCRIPT({.bytes = OK_ANSWER}));
    open_client();
    scripted_http_stop(&server);
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    cg_http_client_free(client);
    scripted_http_free(&server);
}
END_TEST

START_TEST(no_answer_in_time_means_back_off)
{
    serve(SCRIPT({.bytes = NULL}));
    config.timeout_ns = 50 * CG_NS_PER_MS;
    open_client();
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    finish();
}
END_TEST

static void *cancel_it(void *context)
{
    (void)context;
    cg_http_client_cancel(client);
    return NULL;
}

START_TEST(a_cancel_ends_the_wait_and_every_later_one)
{
    serve(SCRIPT({.bytes = NULL}));
    config.timeout_ns = 3600 * CG_NS_PER_S;
    open_client();
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, cancel_it, NULL), 0);
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    ck_assert_str_eq(verdict.detail, "cancelled");
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);
    finish();
}
END_TEST

START_TEST(the_token_follows_its_file)
{
    make_directory();
    char path[sizeof(directory) + 16];
    (void)snprintf(path, sizeof(path), "%s/token", directory);
    write_file(path, "  first-token\n", 0600);
    serve(SCRIPT({.bytes = OK_ANSWER}, {.bytes = OK_ANSWER}));
    config.bearer_token_file = path;
    open_client();
    ck_assert(post());
    write_file(path, "second", 0600);
    ck_assert(post());
    write_file(path, "third", 0644);
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_CONFIG);
    ck_assert_ptr_null(strstr(verdict.detail, "third"));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!post());
    ck_assert_int_eq(verdict.kind, CG_VERDICT_CONFIG);
    ck_assert_int_eq(rmdir(directory), 0);
    cg_http_client_free(client);
    scripted_http_stop(&server);
    ck_assert_ptr_nonnull(
        strstr(server.requests[0].data, "\r\nAuthorization: Bearer first-token\r\n"));
    ck_assert_ptr_nonnull(strstr(server.requests[1].data, "\r\nAuthorization: Bearer second\r\n"));
    scripted_http_free(&server);
}
END_TEST

static const struct {
    const char *text;
    mode_t mode;
} bad_tokens[] = {
    {"", 0600},      {" \n", 0600},       {"two words", 0600}, {"line\r\nX: y", 0600},
    {"t\x7f", 0600}, {"t\xc3\xa9", 0600}, {"good", 0640},      {"good", 0604},
};

START_TEST(a_bad_token_file_is_refused_at_the_start)
{
    make_directory();
    char path[sizeof(directory) + 16];
    (void)snprintf(path, sizeof(path), "%s/token", directory);
    write_file(path, bad_tokens[_i].text, bad_tokens[_i].mode);
    config = (struct cg_http_client_config){
        .url = "http://127.0.0.1/", .bearer_token_file = path, .timeout_ns = 1};
    struct cg_error err = {0};
    struct cg_http_client_params params = {
        .config = &config, .user_agent = "t", .answer_kept_bytes_max = 1};
    ck_assert(!cg_http_client_new(&params, &client, &err));
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_ptr_null(strstr(err.text, "good"));
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}
END_TEST

START_TEST(configured_headers_and_basic_authentication_are_sent)
{
    serve(SCRIPT({.bytes = OK_ANSWER}));
    (void)snprintf(url, sizeof(url), "http://us%%65r:pass@127.0.0.1:%u/", server.port);
    const struct cg_pair headers[] = {{"X-Tenant", "a b"}, {"x-other", "1"}};
    config.headers = (struct cg_pairs){headers, 2};
    open_client();
    ck_assert(post());
    cg_http_client_free(client);
    scripted_http_stop(&server);
    ck_assert_ptr_nonnull(strstr(server.requests[0].data, "\r\nX-Tenant: a b\r\nx-other: 1\r\n"));
    ck_assert_ptr_nonnull(
        strstr(server.requests[0].data, "\r\nAuthorization: Basic dXNlcjpwYXNz\r\n"));
    scripted_http_free(&server);
}
END_TEST

static bool valid(struct cg_http_client_config tried)
{
    struct cg_error err = {0};
    bool good = cg_http_client_validate(&tried, &err);
    ck_assert(good || err.text[0] != '\0');
    ck_assert_ptr_null(strstr(err.text, "s3cret"));
    return good;
}

START_TEST(only_sensible_urls_are_valid)
{
    static const char *const good[] = {"http://a/", "HTTPS://a.example:8443/x?y", "http://[::1]:1",
                                       "http://u:s3cret@a/"};
    static const char *const bad[] = {"",
                                      "a",
                                      "ftp://a/",
                                      "file:///x",
                                      "http://",
                                      "http://u:s3cret@a/#f",
                                      "http://a b",
                                      "http://a:99999999/",
                                      "//a",

                                      "http://a/\r\nX: y"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ck_assert_msg(valid((struct cg_http_client_config){.url = good[i]}), "%s", good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!valid((struct cg_http_client_config){.url = bad[i]}), "%s", bad[i]);
    }
}
END_TEST

START_TEST(headers_that_break_a_request_are_refused)
{
    static const struct cg_pair bad[] = {
        {"", "x"},
        {"a b", "x"},
        {"a:", "x"},
        {"Host", "x"},
        {"a", ""},
        {"a", "s3cret\r\nb: c"},
        {"a", "s3cret\x7f"},
        {"CONTENT-type", "x"},
        {"Content-Length", "1"},
        {"transfer-encoding", "x"},
        {"Expect", "x"},
        {"a\r\nb", "x"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(
            !valid((struct cg_http_client_config){.url = "http://a/", .headers = {&bad[i], 1}}),
            "%zu", i);
    }
}
END_TEST

START_TEST(options_that_contradict_each_other_are_refused)
{
    static const struct cg_pair authorization = {"authorization", "s3cret"};
    ck_assert(!valid(
        (struct cg_http_client_config){.url = "http://u:s3cret@a/", .bearer_token_file = "/x"}));
    ck_assert(!valid((struct cg_http_client_config){
        .url = "http://a/", .headers = {&authorization, 1}, .bearer_token_file = "/x"}));
    ck_assert(
        !valid((struct cg_http_client_config){.url = "https://a/", .tls = {.cert_file = "/x"}}));
    ck_assert(!valid((struct cg_http_client_config){.url = "http://a/", .tls = {.ca_file = "/x"}}));
    ck_assert(valid((struct cg_http_client_config){.url = "https://a/", .tls = {.ca_file = "/x"}}));
}
END_TEST

START_TEST(a_url_is_shown_without_user_information)
{
    char shown[64];
    cg_http_url_show("https://user:pa%20ss@host:8443/path?q=1", shown, sizeof(shown));
    ck_assert_str_eq(shown, "https://host:8443/path?q=1");
    cg_http_url_show("not a url with:secret@x", shown, sizeof(shown));
    ck_assert_str_eq(shown, "(not a URL)");
    cg_http_url_show("http://host/0123456789", shown, 12);
    ck_assert_str_eq(shown, "http://host");
}
END_TEST

START_TEST(an_unknown_host_or_a_silent_resolver_never_loses_anything)
{
    /* Whether "no such name" or "no resolver" comes depends on the machine; `invalid` never
     * resolves (RFC 6761). */
    config = (struct cg_http_client_config){.url = "http://host.invalid/",
                                            .timeout_ns = 30 * CG_NS_PER_S,
                                            .connect_timeout_ns = 30 * CG_NS_PER_S};
    open_client();
    for (int attempt = 0; attempt < 3; attempt++) { /* what the one before left must not matter */
        ck_assert(!post());
        ck_assert(verdict.kind == CG_VERDICT_CONFIG || verdict.kind == CG_VERDICT_BACKOFF);
        ck_assert_ptr_nonnull(strstr(verdict.detail, "host.invalid"));
    }
    cg_http_client_free(client);
}
END_TEST

int main(void)
{
    /* A proxy of the developer's own environment is not what is tested. */
    (void)setenv("no_proxy", "*", 1);
    TCase *tcase = tcase_create("http_client");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_body_of_pieces_arrives_whole_and_in_order);
    tcase_add_test(tcase, a_body_larger_than_every_buffer_arrives_whole);
    tcase_add_test(tcase, the_connection_is_kept_from_request_to_request);
    tcase_add_test(tcase, a_kept_connection_that_was_closed_meanwhile_is_replaced);
    tcase_add_test(tcase, after_a_reopen_the_next_request_has_a_new_connection);
    tcase_add_test(tcase, a_redirect_is_an_answer_and_is_not_followed);
    tcase_add_test(tcase, retry_after_is_taken_from_the_final_answer);
    tcase_add_test(tcase, an_answer_without_end_is_read_to_the_limit_and_its_status_counts);
    tcase_add_test(tcase, a_header_and_a_trailer_can_be_asked_for);
    tcase_add_loop_test(tcase, no_whole_answer_means_back_off, 0,
                        sizeof(breakages) / sizeof(breakages[0]));
    tcase_add_test(tcase, nobody_listening_means_back_off);
    tcase_add_test(tcase, no_answer_in_time_means_back_off);
    tcase_add_test(tcase, a_cancel_ends_the_wait_and_every_later_one);
    tcase_add_test(tcase, the_token_follows_its_file);
    tcase_add_loop_test(tcase, a_bad_token_file_is_refused_at_the_start, 0,
                        sizeof(bad_tokens) / sizeof(bad_tokens[0]));
    tcase_add_test(tcase, configured_headers_and_basic_authentication_are_sent);
    tcase_add_test(tcase, only_sensible_urls_are_valid);
    tcase_add_test(tcase, headers_that_break_a_request_are_refused);
    tcase_add_test(tcase, options_that_contradict_each_other_are_refused);
    tcase_add_test(tcase, a_url_is_shown_without_user_information);
    tcase_add_test(tcase, an_unknown_host_or_a_silent_resolver_never_loses_anything);
    Suite *suite = suite_create("exporters/http_client");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
