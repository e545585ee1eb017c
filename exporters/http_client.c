#include "exporters/http_client.h"

#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "exporters/http_body.h"
#include "exporters/http_headers.h"
#include "exporters/http_url.h"
#include "exporters/resolve.h"
#include "exporters/token_file.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

enum {
    /* A batch of 512 events goes out in one send. Measured end to end against 128 KiB, in five
     * interleaved pairs on a busy machine: less CPU time per event in four, by 10 % in the median.
     */
    UPLOAD_BUFFER_BYTES = 512 * 1024,
    POLL_MS = 1000, /* only an upper bound: descriptors and libcurl's own timers wake earlier */
    RESOLVE_AGAIN_MS = 2000,
    KEEPALIVE_IDLE_S = 60,
};

struct cg_http_client {
    const struct cg_http_client_config *config;
    char *url; /* the configured one, its path filled in */
    char *user_agent;
    bool is_tls;
    struct cg_token_file *token; /* NULL: none */

    CURL *easy;
    CURLM *multi;
    int cancel_fd; /* eventfd; readable for good once cancelled */
    atomic_bool cancelled;
    atomic_bool reopen;
    _Atomic uint64_t certificate_expiry_s;

    /* Of the request in progress, or of the last one. */
    bool sent; /* it got as far as the network */
    bool worn; /* the connection may be dead; over HTTP/2 libcurl keeps it behind a timeout */
    struct cg_http_body body;
    struct cg_http_intake intake; /* of its answer */
    char error_text[CURL_ERROR_SIZE];
};

/* --- the URL --- */

static void free_url(CURLU **url)
{
    curl_url_cleanup(*url);
}

static void free_curl_text(char **text)
{
    curl_free(*text);
}

#define auto_url       __attribute__((cleanup(free_url)))
#define auto_curl_text __attribute__((cleanup(free_curl_text)))

static CURLU *parse_url(const char *text)
{
    auto_url CURLU *url = curl_url();
    if (url == NULL || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK) {
        return NULL;
    }
    return cg_steal_ptr(url);
}

static bool url_has(CURLU *url, CURLUPart part)
{
    auto_curl_text char *text = NULL;
    return curl_url_get(url, part, &text, 0) == CURLUE_OK;
}

/* Tells http from https; false for every other scheme. The parser makes schemes lower case. */
static bool url_scheme(CURLU *url, bool *ret_is_tls)
{
    auto_curl_text char *scheme = NULL;
    if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK) {
        return false;
    }
    *ret_is_tls = strcmp(scheme, "https") == 0;
    return *ret_is_tls || strcmp(scheme, "http") == 0;
}

void cg_http_url_show(const char *text, char *out, size_t max)
{
    auto_url CURLU *url = parse_url(text);
    auto_curl_text char *shown = NULL;
    if (url == NULL || curl_url_set(url, CURLUPART_USER, NULL, 0) != CURLUE_OK ||
        curl_url_set(url, CURLUPART_PASSWORD, NULL, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_URL, &shown, 0) != CURLUE_OK) {
        (void)snprintf(out, max, "(not a URL)");
        return;
    }
    (void)snprintf(out, max, "%s", shown);
}

bool cg_http_client_validate(const struct cg_http_client_config *config, struct cg_error *err)
{
    auto_url CURLU *url = parse_url(config->url);
    bool is_tls = false;
    if (url == NULL || !url_scheme(url, &is_tls)) {
        return cg_error_set(err, "url: not an http:// or https:// URL");
    }
    if (url_has(url, CURLUPART_FRAGMENT)) {
        return cg_error_set(err, "url: a fragment (#...) is never sent");
    }
    const struct cg_tls_files *tls = &config->tls;
    if ((tls->cert_file == NULL) != (tls->key_file == NULL)) {
        return cg_error_set(err, "tls: cert_file and key_file go together");
    }
    if (!is_tls && (tls->ca_file != NULL || tls->cert_file != NULL)) {
        return cg_error_set(err, "tls: certificate files are given, but the URL is http://");
    }
    if (!cg_http_headers_validate(&config->headers, err)) {
        return false;
    }
    int credentials = (config->bearer_token_file != NULL) + url_has(url, CURLUPART_USER) +
                      cg_http_headers_has(&config->headers, "authorization");
    if (credentials > 1) {
        return cg_error_set(err, "more than one of bearer_token_file, an authorization header and "
                                 "user information in the URL");
    }
    return true;
}

/* --- making a client --- */

static void init_library(void)
{
    CG_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static bool make_handles(struct cg_http_client *client)
{
    client->easy = curl_easy_init();
    client->multi = curl_multi_init();
    return client->easy != NULL && client->multi != NULL;
}

/* The order matters: connections live in the multi handle and call back into nothing of ours. */
static void drop_handles(struct cg_http_client *client)
{
    curl_easy_cleanup(client->easy);
    client->easy = NULL;
    (void)curl_multi_cleanup(client->multi);
    client->multi = NULL;
}

static bool init_files(struct cg_http_client *client, struct cg_error *err)
{
    uint64_t expiry_s = 0;
    if (!cg_tls_files_check(&client->config->tls, &expiry_s, err)) {
        return false;
    }
    atomic_store(&client->certificate_expiry_s, expiry_s);
    if (client->config->bearer_token_file == NULL) {
        return true;
    }
    client->token = malloc(sizeof(*client->token));
    if (client->token == NULL) {
        return cg_error_set(err, "no memory for the bearer token");
    }
    cg_token_file_init(client->token, client->config->bearer_token_file);
    if (!cg_token_file_refresh(client->token, err)) {
        return cg_error_context(err, "bearer_token_file");
    }
    return true;
}

static bool init_client(struct cg_http_client *client, const struct cg_http_client_params *params,
                        struct cg_error *err)
{
    client->config = params->config;
    client->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->cancel_fd < 0) {
        return cg_error_errno(err, errno, "eventfd");
    }
    cg_http_intake_init(&client->intake, params->answer_kept_bytes_max);
    client->user_agent = strdup(params->user_agent);
    auto_url CURLU *url = parse_url(params->config->url);
    client->url = cg_http_url_complete(params->config->url, params->default_path);
    if (client->user_agent == NULL || client->url == NULL || url == NULL ||
        !url_scheme(url, &client->is_tls) || !make_handles(client)) {
        return cg_error_set(err, "no memory for an HTTP client");
    }
    return init_files(client, err);
}

bool cg_http_client_new(const struct cg_http_client_params *params,
                        struct cg_http_client **ret_client, struct cg_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, init_library);
    CG_ASSERT(params->answer_kept_bytes_max <= CG_HTTP_ANSWER_BYTES_MAX);

    struct cg_http_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return cg_error_set(err, "no memory for an HTTP client");
    }
    client->cancel_fd = -1;
    if (!init_client(client, params, err)) {
        cg_http_client_free(client);
        return false;
    }
    *ret_client = client;
    return true;
}

void cg_http_client_free(struct cg_http_client *client)
{
    if (client == NULL) {
        return;
    }
    drop_handles(client);
    if (client->token != NULL) {
        cg_token_file_fini(client->token);
        free(client->token);
    }
    cg_http_intake_fini(&client->intake);
    free(client->url);
    free(client->user_agent);
    cg_cleanup_close(&client->cancel_fd);
    free(client);
}

void cg_http_client_cancel(struct cg_http_client *client)
{
    atomic_store(&client->cancelled, true);
    (void)eventfd_write(client->cancel_fd, 1);
}

void cg_http_client_reopen(struct cg_http_client *client)
{
    atomic_store(&client->reopen, true);
}

uint64_t cg_http_client_certificate_expiry_s(const struct cg_http_client *client)
{
    return atomic_load(&client->certificate_expiry_s);
}

/* --- the headers of a request --- */

static void free_list(struct curl_slist **list)
{
    for (struct curl_slist *node = *list; node != NULL; node = node->next) {
        explicit_bzero(node->data, strlen(node->data)); /* a token may be in it */
    }
    curl_slist_free_all(*list);
}

#define auto_list __attribute__((cleanup(free_list)))

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    char line[CG_TOKEN_BYTES_MAX + 64]; /* the longest value is "Bearer " and a token */
    int len = snprintf(line, sizeof(line), "%s: %s", name, value);
    struct curl_slist *longer =
        len > 0 && (size_t)len < sizeof(line) ? curl_slist_append(*list, line) : NULL;
    explicit_bzero(line, len > 0 && (size_t)len < sizeof(line) ? (size_t)len : sizeof(line));
    if (longer == NULL) {
        return false;
    }
    *list = longer;
    return true;
}

static bool add_authorization(const struct cg_token_file *token, struct curl_slist **list)
{
    char value[CG_TOKEN_BYTES_MAX + 16];
    int len = snprintf(value, sizeof(value), "Bearer %s", token->token);
    bool added = add_header(list, "Authorization", value);
    explicit_bzero(value, (size_t)len);
    return added;
}

static bool make_headers(const struct cg_http_client *client, const struct cg_http_request *request,
                         struct curl_slist **list)
{
    /* "Expect:" without a value takes the header away: waiting for 100-continue costs a round trip
     * or, where it is not understood, a second. */
    struct curl_slist *first = curl_slist_append(NULL, "Expect:");
    if (first == NULL) {
        return false;
    }
    *list = first;
    bool good = add_header(list, "Content-Type", request->content_type);
    if (request->content_encoding != NULL) {
        good = good && add_header(list, "Content-Encoding", request->content_encoding);
    }
    for (size_t i = 0; i < request->header_count; i++) {
        good = good && add_header(list, request->headers[i].name, request->headers[i].value);
    }
    const struct cg_pairs *configured = &client->config->headers;
    for (size_t i = 0; i < configured->count; i++) {
        good = good && add_header(list, configured->items[i].key, configured->items[i].value);
    }
    return good && (client->token == NULL || add_authorization(client->token, list));
}

/* --- what libcurl calls back --- */

static size_t read_body(char *to, size_t size, size_t count, void *body)
{
    return cg_http_body_read(body, to, size * count);
}

/* libcurl rewinds to send the body again, when a kept connection turns out to be closed. */
static int seek_body(void *body, curl_off_t offset, int origin)
{
    if (origin != SEEK_SET || offset != 0) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    cg_http_body_rewind(body);
    return CURL_SEEKFUNC_OK;
}

static size_t take_head_line(char *line, size_t size, size_t count, void *intake)
{
    cg_http_intake_line(intake, cg_bytes(line, size * count));
    return size * count;
}

static size_t take_answer(char *from, size_t size, size_t count, void *intake)
{
    return cg_http_intake_body(intake, cg_bytes(from, size * count)) ? size * count : 0;
}

/* --- the options of a request --- */

/* An option this libcurl does not know is a bug; no memory is what the transfer will find too. */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        CURLcode set_ = curl_easy_setopt(client->easy, (option), (value));                         \
        CG_ASSERT(set_ == CURLE_OK || set_ == CURLE_OUT_OF_MEMORY);                                \
        good = good && set_ == CURLE_OK;                                                           \
    } while (0)

static long to_ms(uint64_t ns)
{
    return (long)((ns + CG_NS_PER_MS - 1) / CG_NS_PER_MS);
}

static bool set_connection_options(struct cg_http_client *client)
{
    const struct cg_http_client_config *config = client->config;
    bool is_clear_2 = config->version == CG_HTTP_VERSION_2 && !client->is_tls;
    bool good = true;
    SET(CURLOPT_URL, client->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a cancelled request does not wait for the resolver's thread */
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
    SET(CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_IDLE_S);
    SET(CURLOPT_TIMEOUT_MS, to_ms(config->timeout_ns));
    SET(CURLOPT_CONNECTTIMEOUT_MS, to_ms(config->connect_timeout_ns));
    SET(CURLOPT_HTTP_VERSION, config->version == CG_HTTP_VERSION_1_1 ? CURL_HTTP_VERSION_1_1
                              : is_clear_2 ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
                                           : CURL_HTTP_VERSION_2TLS);
    /* In libcurl 7.88 a second request on one clear-text HTTP/2 connection fails. */
    SET(CURLOPT_FORBID_REUSE, is_clear_2 ? 1L : 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (config->tls.ca_file != NULL) {
        SET(CURLOPT_CAINFO, config->tls.ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
    if (config->tls.cert_file != NULL) {
        SET(CURLOPT_SSLCERT, config->tls.cert_file);
        SET(CURLOPT_SSLKEY, config->tls.key_file);
    }
    return good;
}

static bool set_request_options(struct cg_http_client *client, struct curl_slist *headers)
{
    bool good = true;
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)client->body.bytes);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER_BYTES);
    /* CURLOPT_BUFFERSIZE stays the default's 16 KiB: behind a request that found no address libcurl
     * still holds its buffer, and refuses the option. */
    SET(CURLOPT_READFUNCTION, read_body);
    SET(CURLOPT_READDATA, &client->body);
    SET(CURLOPT_SEEKFUNCTION, seek_body);
    SET(CURLOPT_SEEKDATA, &client->body);
    SET(CURLOPT_WRITEFUNCTION, take_answer);
    SET(CURLOPT_WRITEDATA, &client->intake);
    SET(CURLOPT_HEADERFUNCTION, take_head_line);
    SET(CURLOPT_HEADERDATA, &client->intake);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_USERAGENT, client->user_agent);
    SET(CURLOPT_ERRORBUFFER, client->error_text);
    return good;
}

/* --- the transfer --- */

/* True once the one transfer is over. */
static bool take_result(CURLM *multi, CURLcode *ret_result)
{
    int left;
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (message == NULL || message->msg != CURLMSG_DONE) {
        return false;
    }
    *ret_result = message->data.result;
    return true;
}

/* Drives the transfer to its end; libcurl's own timeouts bound the wait. */
static CURLcode transfer(struct cg_http_client *client)
{
    CURLcode result = CURLE_OUT_OF_MEMORY;
    if (curl_multi_add_handle(client->multi, client->easy) != CURLM_OK) {
        return result;
    }
    for (;;) {
        int running;
        if (curl_multi_perform(client->multi, &running) != CURLM_OK ||
            take_result(client->multi, &result)) {
            break;
        }
        if (atomic_load(&client->cancelled)) {
            result = CURLE_ABORTED_BY_CALLBACK;
            break;
        }
        struct curl_waitfd cancel = {.fd = client->cancel_fd, .events = CURL_WAIT_POLLIN};
        if (curl_multi_poll(client->multi, &cancel, 1, POLL_MS, NULL) != CURLM_OK) {
            break;
        }
    }
    (void)curl_multi_remove_handle(client->multi, client->easy);
    return result;
}

/* --- what a failure means --- */

static bool verdict_set(struct cg_verdict *verdict, enum cg_verdict_kind kind, const char *detail)
{
    verdict->kind = kind;
    (void)snprintf(verdict->detail, sizeof(verdict->detail), "%.*s", CG_VERDICT_DETAIL_MAX - 1,
                   detail);
    return false;
}

static bool is_unknown_host(struct cg_http_client *client)
{
    auto_url CURLU *url = parse_url(client->config->url);
    auto_curl_text char *host = NULL;
    return url != NULL && curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
           cg_resolve_is_unknown(host, client->cancel_fd, RESOLVE_AGAIN_MS);
}

/* A proxy that refuses the tunnel is trouble of the configuration, unless it says it is its own. */
static bool is_proxy_refusal(struct cg_http_client *client)
{
    long code = 0;
    (void)curl_easy_getinfo(client->easy, CURLINFO_HTTP_CONNECTCODE, &code);
    return code >= 300 && code <= 499;
}

/*
 * Certificates that do not fit and a name that does not exist need somebody to act. Everything else
 * may pass by itself: nobody listens, the connection breaks, no answer in time, half an answer, and
 * also an answer that is not HTTP (something else has the port for a while, as when a destination
 * is being replaced). None of them drops anything; the difference is how soon to come back, and
 * how loudly to complain.
 */
static enum cg_verdict_kind verdict_of_failure(struct cg_http_client *client, CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_URL_MALFORMAT:
    case CURLE_NOT_BUILT_IN:
        return CG_VERDICT_CONFIG;
    case CURLE_COULDNT_RESOLVE_HOST:
        return is_unknown_host(client) ? CG_VERDICT_CONFIG : CG_VERDICT_BACKOFF;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return cg_tls_is_certificate_alert(client->error_text) || is_proxy_refusal(client)
                   ? CG_VERDICT_CONFIG
                   : CG_VERDICT_BACKOFF;
    default:
        return CG_VERDICT_BACKOFF;
    }
}

static bool fail(struct cg_http_client *client, CURLcode code, struct cg_verdict *ret_verdict)
{
    if (atomic_load(&client->cancelled)) {
        return verdict_set(ret_verdict, CG_VERDICT_BACKOFF, "cancelled");
    }
    enum cg_verdict_kind kind = verdict_of_failure(client, code);
    const char *text = client->error_text;
    return verdict_set(ret_verdict, kind, text[0] != '\0' ? text : curl_easy_strerror(code));
}

/* --- one request --- */

/* Files and connections may have been replaced. */
static bool take_up_changes(struct cg_http_client *client, struct cg_verdict *ret_verdict)
{
    struct cg_error err = {0};
    if (atomic_exchange(&client->reopen, false)) {
        uint64_t expiry_s = 0;
        if (!cg_tls_files_check(&client->config->tls, &expiry_s, &err)) {
            atomic_store(&client->reopen, true);
            return verdict_set(ret_verdict, CG_VERDICT_CONFIG, err.text);
        }
        atomic_store(&client->certificate_expiry_s, expiry_s);
        client->worn = true;
    }
    if (client->worn || client->easy == NULL || client->multi == NULL) {
        client->worn = false;
        drop_handles(client);
        if (!make_handles(client)) {
            return verdict_set(ret_verdict, CG_VERDICT_BACKOFF, "no memory for an HTTP client");
        }
    }
    if (client->token != NULL && !cg_token_file_refresh(client->token, &err)) {
        (void)cg_error_context(&err, "bearer_token_file");
        return verdict_set(ret_verdict, CG_VERDICT_CONFIG, err.text);
    }
    return true;
}

static void begin_request(struct cg_http_client *client, const struct cg_http_request *request)
{
    cg_http_body_init(&client->body, request->pieces, request->piece_count);
    cg_http_intake_reset(&client->intake);
    client->error_text[0] = '\0';
}

bool cg_http_client_post(struct cg_http_client *client, const struct cg_http_request *request,
                         struct cg_http_answer *ret_answer, struct cg_verdict *ret_verdict)
{
    client->sent = false;
    if (atomic_load(&client->cancelled)) {
        return verdict_set(ret_verdict, CG_VERDICT_BACKOFF, "cancelled");
    }
    if (!take_up_changes(client, ret_verdict)) {
        return false;
    }
    begin_request(client, request);
    auto_list struct curl_slist *headers = NULL;
    curl_easy_reset(client->easy); /* nothing is left over from the request before */
    if (!make_headers(client, request, &headers) || !set_connection_options(client) ||
        !set_request_options(client, headers)) {
        return verdict_set(ret_verdict, CG_VERDICT_BACKOFF, "no memory for a request");
    }
    CURLcode code = transfer(client);
    client->sent = true;
    if (code == CURLE_WRITE_ERROR && client->intake.body_too_long) {
        code = CURLE_OK; /* our own limit: the status was there before the body */
    }
    if (code == CURLE_OK && !client->intake.head_whole) {
        code = CURLE_PARTIAL_FILE; /* libcurl takes a head that was cut for a whole one */
    }
    long status = 0;
    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
    client->worn = code != CURLE_OK;
    if (client->worn) {
        return fail(client, code, ret_verdict);
    }
    *ret_answer = cg_http_intake_take(&client->intake, (int)status);
    return true;
}

const char *cg_http_client_header(struct cg_http_client *client, const char *name)
{
    struct curl_header *header = NULL;
    if (!client->sent) { /* what is there belongs to a request before */
        return NULL;
    }
    if (curl_easy_header(client->easy, name, 0, CURLH_TRAILER, -1, &header) == CURLHE_OK ||
        curl_easy_header(client->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK) {
        return header->value;
    }
    return NULL;
}
