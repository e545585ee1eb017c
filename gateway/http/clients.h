/*
 * clients.h - who is connected to a listener, and who has to go. Pure: time is an argument, and it
 * only names the one to close.
 *
 * The newest wins: over a limit the connection that has made no progress for the longest time goes,
 * so that slow clients cannot keep a scrape out. docs/contract.md section 6.
 */
#ifndef CELLGATE_HTTP_CLIENTS_H
#define CELLGATE_HTTP_CLIENTS_H

#include "cellgate/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct cg_http_clients;

struct cg_http_peer {
    int fd;
    uint8_t address[16];  /* of the peer; all Unix peers are one */
    uint64_t progress_ns; /* when it connected or last completed a request */
    uint64_t deadline_ns; /* when it is closed if nothing happens before */
    bool closing;         /* was named once; not named again */
    bool working;         /* its request is whole and being worked on: it has all time */
    bool used;
};

struct cg_http_clients_limits {
    uint32_t max;
    uint32_t per_address_max;
    uint64_t request_ns; /* from connecting, or from a request's first line, to its end */
    uint64_t idle_ns;    /* between requests */
};

/* Limits are copied. Room for `max` and a few that are closing. */
CG_MUST_USE bool cg_http_clients_new(const struct cg_http_clients_limits *limits,
                                     struct cg_http_clients **ret_clients, struct cg_error *err);
void cg_http_clients_free(struct cg_http_clients *clients);

/*
 * A connection has been accepted. Returns its entry (NULL if the table is full, or if everybody is
 * being worked for: refuse it), and the descriptor of one that must be closed to make room in
 * *ret_evict, or -1.
 */
struct cg_http_peer *cg_http_clients_add(struct cg_http_clients *clients, int fd,
                                         const struct sockaddr *address, uint64_t now_ns,
                                         int *ret_evict);
void cg_http_clients_request_begun(struct cg_http_clients *clients, struct cg_http_peer *peer,
                                   uint64_t now_ns);
/* The request is whole, and its answer takes time that is not the peer's fault. */
void cg_http_clients_request_working(struct cg_http_peer *peer);
/* The answer is there: the peer has request_ns to take it. */
void cg_http_clients_request_worked(struct cg_http_clients *clients, struct cg_http_peer *peer,
                                    uint64_t now_ns);
void cg_http_clients_request_done(struct cg_http_clients *clients, struct cg_http_peer *peer,
                                  uint64_t now_ns);
void cg_http_clients_remove(struct cg_http_clients *clients, struct cg_http_peer *peer);

/* The descriptor of one whose deadline has passed, or -1. Ask until it says -1. */
int cg_http_clients_overdue(struct cg_http_clients *clients, uint64_t now_ns);
/* When to ask next; UINT64_MAX when nobody is connected. */
uint64_t cg_http_clients_next_deadline(const struct cg_http_clients *clients);

#endif
