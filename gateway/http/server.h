/*
 * server.h - one listener: libmicrohttpd driven by one thread of our own.
 *
 * The thread runs libmicrohttpd's epoll set, so that the connection limits and deadlines of
 * clients.h are kept by the same thread, without locks. A handler computes an answer; it must not
 * block.
 *
 * Requests that take time, or bring a body, are deferred where the listener allows it: their
 * connection is suspended, and they are answered by `work` on a thread of jobs.h. What then remains
 * to be waited for (exporters) is asked of `finished` on the server's thread again and again, so
 * that many may wait and no thread does. An answer may also be a stream (stream.h).
 */
#ifndef CELLGATE_HTTP_SERVER_H
#define CELLGATE_HTTP_SERVER_H

#include "cellgate/buf.h"
#include "cellgate/clock.h"
#include "cellgate/option.h"
#include "http/clients.h"
#include "http/jobs.h"
#include "http/listen.h"
#include "http/stream.h"

struct cg_http_request {
    const char *method;   /* as sent: "GET" */
    const char *path;     /* percent-decoded, without the query */
    struct cg_bytes body; /* of a deferred request */
    void *native;         /* for cg_http_query and cg_http_header */
};

/* The value of a query argument: NULL if absent, "" if it has none. */
const char *cg_http_query(const struct cg_http_request *request, const char *key);

/* The value of a header of the request; NULL if absent. */
const char *cg_http_header(const struct cg_http_request *request, const char *name);

/* What a deferred answer still waits for. */
struct cg_http_wait {
    uint64_t until_index; /* of the spool; 0: nothing, the answer is there */
    uint64_t deadline_ns; /* monotonic */
};

struct cg_http_answer {
    unsigned status;
    const char *content_type;
    const char *allow;        /* for 405; NULL otherwise */
    struct cg_http_wait wait; /* set by `work` */
    struct cg_buf body;       /* made by the server, filled by the handler */
    /* Set by a handler that did not fill the body; not by `work`. The server takes it over. */
    struct cg_http_stream stream;
};

typedef void (*cg_http_handler)(void *context, const struct cg_http_request *request,
                                struct cg_http_answer *answer);

/* Makes `answer` an RFC 9457 problem: title from the status, `detail` for people. */
void cg_http_problem(struct cg_http_answer *answer, unsigned status, const char *detail);
/* The same about one member of the request. `member` and `detail` may hold what a peer sent. */
void cg_http_problem_about(struct cg_http_answer *answer, unsigned status, const char *member,
                           const char *detail);

struct cg_http_server;

struct cg_http_server_config {
    const char *address;     /* see listen.h */
    int *inherited_fd;       /* a socket that listens already, instead; taken if the start succeeds;
                                NULL: none */
    struct cg_strings hosts; /* see guard.h */
    struct cg_http_clients_limits limits;
    bool any_host;                       /* no web page reaches a Unix socket */
    const struct cg_http_socket *socket; /* see listen.h; NULL: the default; for start only */
    cg_http_handler handler;             /* called on the server's thread */
    void *context;
    const struct cg_clock *clock;

    /* Deferred requests; `jobs` NULL: none, and no body is read of any. */
    struct cg_http_jobs *jobs;
    size_t body_bytes_max;
    bool (*defers)(void *context, const struct cg_http_request *request);
    cg_http_handler work; /* on a thread of `jobs`; may block */
    /* Whether what the answer waits for has happened; completes it then, or if it is overdue. */
    bool (*finished)(void *context, const struct cg_http_request *request,
                     struct cg_http_answer *answer);
};

/* Listens and starts the thread. The configuration's pointers are borrowed until stop. */
CG_MUST_USE bool cg_http_server_start(const struct cg_http_server_config *config,
                                      struct cg_http_server **ret_server, struct cg_error *err);
/* The address bound. */
const char *cg_http_server_address(const struct cg_http_server *server);
/* Other names allowed in Host from now on; borrowed instead of those of the configuration, which
 * are not looked at any more when it returns. */
void cg_http_server_set_hosts(struct cg_http_server *server, struct cg_strings hosts);
/* Waits for work under way, and gives no more time to what waits for exporters. Whoever owns
 * `jobs` stops them afterwards. */
void cg_http_server_stop(struct cg_http_server *server);

#endif
