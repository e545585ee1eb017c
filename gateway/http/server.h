/*
 * server.h - one listener: libmicrohttpd driven by one thread of our own.
 *
 * The thread runs libmicrohttpd's epoll set, so that the connection limits and deadlines of
 * clients.h are kept by the same thread, without locks. A handler computes an answer; it must not
 * block.
 */
#ifndef CELLGATE_HTTP_SERVER_H
#define CELLGATE_HTTP_SERVER_H

#include "cellgate/buf.h"
#include "cellgate/clock.h"
#include "cellgate/option.h"
#include "http/clients.h"

struct cg_http_request {
    const char *method; /* as sent: "GET" */
    const char *path;   /* percent-decoded, without the query */
    void *native;       /* for cg_http_query */
};

/* The value of a query argument: NULL if absent, "" if it has none. */
const char *cg_http_query(const struct cg_http_request *request, const char *key);

struct cg_http_answer {
    unsigned status;
    const char *content_type;
    const char *allow;  /* for 405; NULL otherwise */
    struct cg_buf body; /* made by the server, filled by the handler */
};

typedef void (*cg_http_handler)(void *context, const struct cg_http_request *request,
                                struct cg_http_answer *answer);

/* Makes `answer` an RFC 9457 problem: title from the status, `detail` for people. */
void cg_http_problem(struct cg_http_answer *answer, unsigned status, const char *detail);

struct cg_http_server;

struct cg_http_server_config {
    const char *address;     /* see listen.h */
    struct cg_strings hosts; /* see guard.h */
    struct cg_http_clients_limits limits;
    cg_http_handler handler; /* called on the server's thread */
    void *context;
    const struct cg_clock *clock;
};

/* Listens and starts the thread. The configuration's pointers are borrowed until stop. */
CG_MUST_USE bool cg_http_server_start(const struct cg_http_server_config *config,
                                      struct cg_http_server **ret_server, struct cg_error *err);
/* The address bound. */
const char *cg_http_server_address(const struct cg_http_server *server);
void cg_http_server_stop(struct cg_http_server *server);

#endif
