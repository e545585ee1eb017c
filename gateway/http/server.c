#include "http/server.h"

#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"
#include "event/json_write.h"
#include "http/guard.h"
#include "http/listen.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

enum {
    CONNECTION_MEMORY_BYTES = 16 << 10,
    CONNECTIONS_CLOSING_MAX = 128, /* above the limit, on their way out */
    ANSWER_BYTES_MAX = 64 << 20,   /* 10,000 cells make a few MiB */
};

struct cg_http_server {
    struct cg_http_server_config config;
    char address[CG_ADDRESS_TEXT_MAX];
    struct cg_http_clients *clients;
    struct MHD_Daemon *daemon;
    int epoll_fd; /* the daemon's */
    int stop_fd;
    pthread_t thread;
};

const char *cg_http_query(const struct cg_http_request *request, const char *key)
{
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(request->native, MHD_GET_ARGUMENT_KIND, key, strlen(key),
                                      &value, &len) != MHD_YES) {
        return NULL;
    }
    return value == NULL ? "" : value;
}

void cg_http_problem(struct cg_http_answer *answer, unsigned status, const char *detail)
{
    answer->status = status;
    answer->content_type = "application/problem+json";
    cg_buf_clear(&answer->body);
    cg_buf_append_str(&answer->body, "{\"type\":\"about:blank\",\"title\":");
    cg_json_append_string(&answer->body, cg_bytes_str(MHD_get_reason_phrase_for(status)));
    cg_buf_printf(&answer->body, ",\"status\":%u,\"detail\":", status);
    cg_json_append_string(&answer->body, cg_bytes_str(detail));
    cg_buf_append_str(&answer->body, "}\n");
}

/* --- one request --- */

struct host_headers {
    const char *value;
    unsigned count;
};

static enum MHD_Result count_host(void *context, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    (void)kind;
    struct host_headers *found = context;
    if (strcasecmp(key, MHD_HTTP_HEADER_HOST) == 0) {
        found->value = value;
        found->count++;
    }
    return MHD_YES;
}

/* Fills in the refusal and returns false if the request may not be answered at all. */
static bool admit(const struct cg_http_server *server, const struct cg_http_request *request,
                  const char *version, struct cg_http_answer *answer)
{
    struct host_headers host = {0};
    (void)MHD_get_connection_values(request->native, MHD_HEADER_KIND, count_host, &host);
    if (host.count == 0 && strcmp(version, MHD_HTTP_VERSION_1_0) == 0) {
        return true; /* no browser speaks HTTP/1.0 */
    }
    if (host.count != 1 || host.value == NULL) {
        cg_http_problem(answer, MHD_HTTP_BAD_REQUEST, "a request carries exactly one Host");
        return false;
    }
    if (!cg_host_allowed(host.value, server->config.hosts)) {
        cg_http_problem(answer, MHD_HTTP_FORBIDDEN,
                        "Host is not an address, localhost or one of http.hosts");
        return false;
    }
    return true;
}

static void count_answer(unsigned status)
{
    cg_metric_add(status < 400   ? CG_SERIES_http_requests_2xx
                  : status < 500 ? CG_SERIES_http_requests_4xx
                                 : CG_SERIES_http_requests_5xx,
                  1);
}

static enum MHD_Result queue_answer(struct MHD_Connection *connection,
                                    struct cg_http_answer *answer)
{
    if (answer->body.failed) {
        cg_http_problem(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, "the answer does not fit memory");
    }
    count_answer(answer->status);
    char *body = cg_steal_ptr(answer->body.data);
    size_t len = answer->body.len;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(body);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (answer->allow != NULL) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer->allow);
    }
    enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_data_size, void **request_context)
{
    (void)upload_data;
    (void)request_context;
    struct cg_http_server *server = context;
    if (*upload_data_size != 0) {
        return MHD_NO; /* the answer was queued before the body: nothing is read of it */
    }
    const struct cg_http_request request = {.method = method, .path = url, .native = connection};
    struct cg_http_answer answer = {.status = MHD_HTTP_OK, .content_type = "text/plain"};
    cg_buf_init(&answer.body, ANSWER_BYTES_MAX);
    if (admit(server, &request, version, &answer)) {
        server->config.handler(server->config.context, &request, &answer);
    }
    enum MHD_Result queued = queue_answer(connection, &answer);
    cg_buf_fini(&answer.body);
    return queued;
}

/* --- connections --- */

static uint64_t now(const struct cg_http_server *server)
{
    return cg_clock_monotonic(server->config.clock);
}

/* Makes libmicrohttpd see the end of the connection; it closes the descriptor itself. */
static void evict(int fd)
{
    (void)shutdown(fd, SHUT_RDWR);
    cg_metric_add(CG_SERIES_http_connections_evicted, 1);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct cg_http_server *server = context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*socket_context != NULL) {
            cg_http_clients_remove(server->clients, *socket_context);
        }
        return;
    }
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    int evicted = -1;
    *socket_context =
        cg_http_clients_add(server->clients, fd->connect_fd,
                            address == NULL ? NULL : address->client_addr, now(server), &evicted);
    if (*socket_context == NULL) {
        evicted = fd->connect_fd;
    }
    if (evicted >= 0) {
        evict(evicted);
    }
}

static struct cg_http_peer *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void *on_request_line(void *context, const char *uri, struct MHD_Connection *connection)
{
    (void)uri;
    struct cg_http_server *server = context;
    struct cg_http_peer *peer = peer_of(connection);
    if (peer != NULL) {
        cg_http_clients_request_begun(server->clients, peer, now(server));
    }
    return NULL;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                         enum MHD_RequestTerminationCode code)
{
    (void)request_context;
    struct cg_http_server *server = context;
    struct cg_http_peer *peer = peer_of(connection);
    if (peer != NULL && code == MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        cg_http_clients_request_done(server->clients, peer, now(server));
    }
}

/* --- the thread --- */

static int poll_timeout_ms(const struct cg_http_server *server)
{
    MHD_UNSIGNED_LONG_LONG wanted_ms = 0;
    uint64_t wait_ms = INT32_MAX;
    if (MHD_get_timeout(server->daemon, &wanted_ms) == MHD_YES && wanted_ms < wait_ms) {
        wait_ms = wanted_ms;
    }
    uint64_t deadline_ns = cg_http_clients_next_deadline(server->clients);
    uint64_t now_ns = now(server);
    uint64_t until_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    if (until_ns / CG_NS_PER_MS < wait_ms) {
        wait_ms = until_ns / CG_NS_PER_MS + 1;
    }
    return (int)wait_ms;
}

static void *serve(void *context)
{
    struct cg_http_server *server = context;
    struct pollfd fds[] = {
        {.fd = server->epoll_fd, .events = POLLIN},
        {.fd = server->stop_fd, .events = POLLIN},
    };
    while ((fds[1].revents & POLLIN) == 0) {
        (void)poll(fds, 2, poll_timeout_ms(server));
        for (int fd; (fd = cg_http_clients_overdue(server->clients, now(server))) >= 0;) {
            evict(fd);
        }
        (void)MHD_run(server->daemon);
    }
    return NULL;
}

CG_PRINTF(2, 0) static void log_daemon(void *context, const char *format, va_list args)
{
    (void)context;
    char text[256];
    int len = vsnprintf(text, sizeof(text), format, args);
    if (len > 0) {
        CG_LOG(CG_LOG_DEBUG, "http_library", CG_F_STR("says", text));
    }
}

static bool start_daemon(struct cg_http_server *server, int listen_fd, struct cg_error *err)
{
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, server,
        MHD_OPTION_EXTERNAL_LOGGER, log_daemon, NULL, /* first: it is used while starting */
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(server->config.limits.max + CONNECTIONS_CLOSING_MAX),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, 0U, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, server, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, server, MHD_OPTION_END);
    if (server->daemon == NULL) {
        return cg_error_set(err, "start the HTTP library on %s", server->address);
    }
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    server->epoll_fd = info->epoll_fd;
    return true;
}

/* Frees what start got to. Stopping the daemon closes its listening socket and calls back for each
 * connection, so the clients go after it. */
static void dismantle(struct cg_http_server *server)
{
    if (server->daemon != NULL) {
        MHD_stop_daemon(server->daemon);
        cg_http_unlisten(server->config.address);
    }
    cg_http_clients_free(server->clients);
    cg_cleanup_close(&server->stop_fd);
    free(server);
}

bool cg_http_server_start(const struct cg_http_server_config *config,
                          struct cg_http_server **ret_server, struct cg_error *err)
{
    struct cg_http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return cg_error_set(err, "out of memory");
    }
    server->config = *config;
    server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cg_auto_close int listen_fd = -1;
    if (server->stop_fd < 0 || !cg_http_clients_new(&config->limits, &server->clients, err) ||
        !cg_http_listen(config->address, &listen_fd, server->address, err) ||
        !start_daemon(server, listen_fd, err)) {
        dismantle(server);
        return false;
    }
    (void)cg_steal_fd(&listen_fd);
    int status = pthread_create(&server->thread, NULL, serve, server);
    if (status != 0) {
        (void)cg_error_errno(err, status, "start the HTTP thread");
        dismantle(server);
        return false;
    }
    (void)pthread_setname_np(server->thread, "http");
    *ret_server = server;
    return true;
}

const char *cg_http_server_address(const struct cg_http_server *server)
{
    return server->address;
}

void cg_http_server_stop(struct cg_http_server *server)
{
    (void)eventfd_write(server->stop_fd, 1);
    (void)pthread_join(server->thread, NULL);
    dismantle(server);
}
