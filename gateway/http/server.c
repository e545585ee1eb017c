#include "http/server.h"

#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"
#include "http/hosts.h"
#include "http/listen.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

enum {
    CONNECTION_MEMORY_BYTES = 16 << 10,
    CONNECTIONS_CLOSING_MAX = 128, /* above the limit, on their way out */
    ANSWER_BYTES_MAX = 64 << 20,   /* 1,000 cells with all their labels make a few MiB */
    WAIT_ROUND_MS = 10,            /* how often answers that wait, and streams, are looked at */
    STREAMS_STOP_MS = 1000,        /* for the clients of streams to take the end of them */
};

/* A request that is deferred: from its head until its answer is on its way. */
struct exchange {
    struct cg_http_job job; /* first: the job is the exchange */
    struct cg_http_server *server;
    struct MHD_Connection *connection;
    enum { EXCHANGE_READING, EXCHANGE_WORKING, EXCHANGE_ANSWERED } state;
    struct cg_http_request request;
    struct cg_http_answer answer;
    struct cg_buf body;
    struct exchange *next; /* in one of the server's lists */
};

struct cg_http_server {
    struct cg_http_server_config config;
    struct cg_http_hosts hosts;
    char address[CG_ADDRESS_TEXT_MAX];
    struct cg_http_clients *clients;
    struct MHD_Daemon *daemon;
    int epoll_fd; /* the daemon's */
    int wake_fd;
    bool inherited; /* the listening socket: its file is somebody else's */
    _Atomic bool stopping;
    pthread_t thread;

    pthread_mutex_t lock;
    struct exchange *worked; /* under the lock; the rest is the thread's own */
    struct exchange *waiting;
    size_t deferred; /* exchanges whose connection is suspended */
    struct cg_http_streams streams;
    uint64_t streams_end_ns; /* once stopping: when those that are left are cut; 0: not stopping */
};

/* --- one request --- */

static void count_answer(unsigned status)
{
    cg_metric_add(status < 400   ? CG_SERIES_http_requests_2xx
                  : status < 500 ? CG_SERIES_http_requests_4xx
                                 : CG_SERIES_http_requests_5xx,
                  1);
}

static struct cg_http_peer *peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static struct MHD_Response *respond_with_body(struct cg_http_answer *answer)
{
    char *body = cg_steal_ptr(answer->body.data);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->body.len, body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(body);
    }
    return response;
}

/* A stream has all time, and its connection ends with it. */
static struct MHD_Response *respond_with_stream(struct cg_http_server *server,
                                                struct MHD_Connection *connection,
                                                const struct cg_http_stream *stream)
{
    struct MHD_Response *response = cg_http_stream_respond(&server->streams, connection, stream);
    struct cg_http_peer *peer = peer_of(connection);
    if (response != NULL) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
        if (peer != NULL) {
            cg_http_clients_request_working(peer);
        }
    }
    return response;
}

static enum MHD_Result queue_answer(struct cg_http_server *server,
                                    struct MHD_Connection *connection,
                                    struct cg_http_answer *answer)
{
    if (answer->body.failed) {
        cg_http_problem(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, "the answer does not fit memory");
    }
    count_answer(answer->status);
    struct MHD_Response *response = answer->stream.read != NULL
                                        ? respond_with_stream(server, connection, &answer->stream)
                                        : respond_with_body(answer);
    if (response == NULL) {
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

/* What on_request_line puts in a request's context; such a path or argument would be read as a
 * shorter one. */
static char has_nul;

static void init_answer(struct cg_http_answer *answer)
{
    *answer = (struct cg_http_answer){.status = MHD_HTTP_OK, .content_type = "text/plain"};
    cg_buf_init(&answer->body, ANSWER_BYTES_MAX);
}

static enum MHD_Result answer_at_once(struct cg_http_server *server,
                                      const struct cg_http_request *request,
                                      cg_http_handler handler)
{
    struct cg_http_answer answer;
    init_answer(&answer);
    handler(server, request, &answer);
    enum MHD_Result queued = queue_answer(server, request->native, &answer);
    cg_buf_fini(&answer.body);
    return queued;
}

static void refuse_nul(void *server, const struct cg_http_request *request,
                       struct cg_http_answer *answer)
{
    (void)server;
    (void)request;
    cg_http_problem(answer, MHD_HTTP_BAD_REQUEST, "there is a NUL (%00) in the path or query");
}

static void refuse_large(void *server, const struct cg_http_request *request,
                         struct cg_http_answer *answer)
{
    (void)request;
    char detail[64];
    (void)snprintf(detail, sizeof(detail), "a request body has at most %zu bytes",
                   ((struct cg_http_server *)server)->config.body_bytes_max);
    cg_http_problem(answer, MHD_HTTP_CONTENT_TOO_LARGE, detail);
}

static void refuse_busy(void *server, const struct cg_http_request *request,
                        struct cg_http_answer *answer)
{
    (void)server;
    (void)request;
    cg_http_problem(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "too many requests wait already");
}

static void handle(void *context, const struct cg_http_request *request,
                   struct cg_http_answer *answer)
{
    struct cg_http_server *server = context;
    server->config.handler(server->config.context, request, answer);
}

/* --- deferred requests --- */

static bool says_too_much(const struct cg_http_server *server,
                          const struct cg_http_request *request)
{
    const char *length = cg_http_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    /* The library has refused what is no number. */
    return length != NULL && strtoull(length, NULL, 10) > server->config.body_bytes_max;
}

/* On a thread of the jobs. */
static void work(struct cg_http_job *job)
{
    struct exchange *exchange = (struct exchange *)job;
    struct cg_http_server *server = exchange->server;
    if (atomic_load(&server->stopping)) {
        cg_http_problem(&exchange->answer, MHD_HTTP_SERVICE_UNAVAILABLE, "the gateway is stopping");
    } else {
        server->config.work(server->config.context, &exchange->request, &exchange->answer);
    }
    (void)pthread_mutex_lock(&server->lock);
    exchange->next = server->worked;
    server->worked = exchange;
    (void)eventfd_write(server->wake_fd, 1); /* the server may be gone once the lock is not held */
    (void)pthread_mutex_unlock(&server->lock);
}

static enum MHD_Result defer(struct cg_http_server *server, const struct cg_http_request *request,
                             void **request_context)
{
    if (says_too_much(server, request)) {
        return answer_at_once(server, request, refuse_large);
    }
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL) {
        return MHD_NO;
    }
    *exchange = (struct exchange){.job.run = work,
                                  .server = server,
                                  .connection = request->native,
                                  .state = EXCHANGE_READING,
                                  .request = *request};
    init_answer(&exchange->answer);
    cg_buf_init(&exchange->body, server->config.body_bytes_max);
    *request_context = exchange;
    return MHD_YES;
}

/* The request is whole: its connection sleeps until a thread has worked on it. */
static enum MHD_Result begin_work(struct exchange *exchange)
{
    struct cg_http_server *server = exchange->server;
    if (exchange->body.failed) {
        return answer_at_once(server, &exchange->request, refuse_large);
    }
    exchange->request.body = cg_buf_bytes(&exchange->body);
    exchange->state = EXCHANGE_WORKING;
    if (!cg_http_jobs_add(server->config.jobs, &exchange->job)) {
        return answer_at_once(server, &exchange->request, refuse_busy);
    }
    server->deferred++;
    struct cg_http_peer *peer = peer_of(exchange->connection);
    if (peer != NULL) {
        cg_http_clients_request_working(peer);
    }
    MHD_suspend_connection(exchange->connection); /* it is only ever resumed on this thread */
    return MHD_YES;
}

static enum MHD_Result go_on(struct exchange *exchange, const char *upload_data,
                             size_t *upload_data_size)
{
    if (exchange->state == EXCHANGE_ANSWERED) {
        return queue_answer(exchange->server, exchange->connection, &exchange->answer);
    }
    if (*upload_data_size == 0) {
        return begin_work(exchange);
    }
    cg_buf_append(&exchange->body, cg_bytes(upload_data, *upload_data_size));
    *upload_data_size = 0;
    return MHD_YES;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_data_size, void **request_context)
{
    struct cg_http_server *server = context;
    const struct cg_http_request request = {.method = method, .path = url, .native = connection};
    if (*request_context == &has_nul) {
        return answer_at_once(server, &request, refuse_nul);
    }
    if (*request_context != NULL) {
        return go_on(*request_context, upload_data, upload_data_size);
    }
    if (*upload_data_size != 0) {
        return MHD_NO; /* the answer was queued before the body: nothing is read of it */
    }
    struct cg_http_answer refusal;
    init_answer(&refusal);
    bool admitted =
        server->config.any_host || cg_http_hosts_admit(&server->hosts, &request, version, &refusal);
    enum MHD_Result queued = admitted ? MHD_YES : queue_answer(server, connection, &refusal);
    cg_buf_fini(&refusal.body);
    if (!admitted) {
        return queued;
    }
    if (server->config.jobs != NULL && server->config.defers(server->config.context, &request)) {
        return defer(server, &request, request_context);
    }
    return answer_at_once(server, &request, handle);
}

static void resume(struct exchange *exchange)
{
    struct cg_http_server *server = exchange->server;
    exchange->state = EXCHANGE_ANSWERED;
    server->deferred--;
    struct cg_http_peer *peer = peer_of(exchange->connection);
    if (peer != NULL) {
        cg_http_clients_request_worked(server->clients, peer,
                                       cg_clock_monotonic(server->config.clock));
    }
    MHD_resume_connection(exchange->connection);
}

/* Takes up what the threads have worked on. */
static void collect(struct cg_http_server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    struct exchange *exchange = cg_steal_ptr(server->worked);
    (void)pthread_mutex_unlock(&server->lock);
    while (exchange != NULL) {
        struct exchange *next = exchange->next;
        if (exchange->answer.wait.until_index == 0) {
            resume(exchange);
        } else {
            exchange->next = server->waiting;
            server->waiting = exchange;
        }
        exchange = next;
    }
}

static void look_at_waiting(struct cg_http_server *server)
{
    for (struct exchange **at = &server->waiting; *at != NULL;) {
        struct exchange *exchange = *at;
        if (atomic_load(&server->stopping)) {
            exchange->answer.wait.deadline_ns = 0;
        }
        if (server->config.finished(server->config.context, &exchange->request,
                                    &exchange->answer)) {
            *at = exchange->next;
            resume(exchange);
        } else {
            at = &exchange->next;
        }
    }
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

static void *on_request_line(void *context, const char *uri, struct MHD_Connection *connection)
{
    struct cg_http_server *server = context;
    struct cg_http_peer *peer = peer_of(connection);
    if (peer != NULL) {
        cg_http_clients_request_begun(server->clients, peer, now(server));
    }
    return strstr(uri, "%00") == NULL ? NULL : &has_nul;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request_context,
                         enum MHD_RequestTerminationCode code)
{
    struct cg_http_server *server = context;
    struct cg_http_peer *peer = peer_of(connection);
    if (*request_context != NULL && *request_context != &has_nul) {
        struct exchange *exchange = *request_context;
        cg_buf_fini(&exchange->answer.body);
        cg_buf_fini(&exchange->body);
        free(exchange);
        *request_context = NULL;
    }
    if (peer != NULL && code == MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        cg_http_clients_request_done(server->clients, peer, now(server));
    }
}

/* --- the thread --- */

static int poll_timeout_ms(const struct cg_http_server *server)
{
    MHD_UNSIGNED_LONG_LONG wanted_ms = 0;
    bool rounds = server->waiting != NULL || server->streams_end_ns != 0 ||
                  cg_http_streams_sleep(&server->streams);
    uint64_t wait_ms = rounds ? WAIT_ROUND_MS : INT32_MAX;
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

/* Whether the thread has to go on. A suspended connection cannot be ended: each is answered before.
 * Streams are ended, and cut if their client does not take that. */
static bool has_work(struct cg_http_server *server)
{
    if (!atomic_load(&server->stopping)) {
        return true;
    }
    if (server->streams_end_ns == 0) {
        server->streams.stopping = true;
        server->streams_end_ns = now(server) + STREAMS_STOP_MS * CG_NS_PER_MS;
    }
    return server->deferred > 0 ||
           (!cg_http_streams_empty(&server->streams) && now(server) < server->streams_end_ns);
}

static void *serve(void *context)
{
    struct cg_http_server *server = context;
    struct pollfd fds[] = {
        {.fd = server->epoll_fd, .events = POLLIN},
        {.fd = server->wake_fd, .events = POLLIN},
    };
    while (has_work(server)) {
        (void)poll(fds, 2, poll_timeout_ms(server));
        eventfd_t wakes;
        (void)eventfd_read(server->wake_fd, &wakes);
        collect(server);
        look_at_waiting(server);
        cg_http_streams_round(&server->streams);
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
        MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
        server, MHD_OPTION_EXTERNAL_LOGGER, log_daemon, NULL, /* first: it is used while starting */
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
        if (!server->inherited) {
            cg_http_unlisten(server->address);
        }
    }
    cg_http_clients_free(server->clients);
    cg_cleanup_close(&server->wake_fd);
    (void)pthread_mutex_destroy(&server->lock);
    cg_http_hosts_fini(&server->hosts);
    free(server);
}

static bool find_listener(struct cg_http_server *server, int *ret_fd, struct cg_error *err)
{
    const struct cg_http_server_config *config = &server->config;
    if (config->inherited_fd == NULL) {
        return cg_http_listen(config->address, config->socket, ret_fd, server->address, err);
    }
    if (!cg_http_listen_inherited(*config->inherited_fd, server->address, err)) {
        return false;
    }
    *ret_fd = cg_steal_fd(config->inherited_fd);
    server->inherited = true;
    return true;
}

bool cg_http_server_start(const struct cg_http_server_config *config,
                          struct cg_http_server **ret_server, struct cg_error *err)
{
    struct cg_http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return cg_error_set(err, "out of memory");
    }
    server->config = *config;
    cg_http_hosts_init(&server->hosts, config->hosts);
    (void)pthread_mutex_init(&server->lock, NULL);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cg_auto_close int listen_fd = -1;
    if (server->wake_fd < 0 || !cg_http_clients_new(&config->limits, &server->clients, err) ||
        !find_listener(server, &listen_fd, err) || !start_daemon(server, listen_fd, err)) {
        dismantle(server);
        return false;
    }
    (void)cg_steal_fd(&listen_fd);
    int status = cg_thread_start(&server->thread, "http", serve, server);
    if (status != 0) {
        (void)cg_error_errno(err, status, "start the HTTP thread");
        dismantle(server);
        return false;
    }
    *ret_server = server;
    return true;
}

const char *cg_http_server_address(const struct cg_http_server *server)
{
    return server->address;
}

void cg_http_server_set_hosts(struct cg_http_server *server, struct cg_strings hosts)
{
    cg_http_hosts_set(&server->hosts, hosts);
}

void cg_http_server_stop(struct cg_http_server *server)
{
    atomic_store(&server->stopping, true);
    (void)eventfd_write(server->wake_fd, 1);
    (void)pthread_join(server->thread, NULL);
    dismantle(server);
}
