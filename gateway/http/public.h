/*
 * public.h - the public listener: health, keep-alive state, metrics. docs/contract.md section 6.
 *
 * libmicrohttpd, driven by one thread of our own per listener (external epoll), which also enforces
 * the limits: 256 connections, 16 an address, 5 s a request; over a limit the oldest connection
 * goes, so that slow clients cannot keep a scrape out.
 */
#ifndef CELLGATE_PUBLIC_H
#define CELLGATE_PUBLIC_H

#include "base/sandbox_status.h"
#include "cells/registrations.h"
#include "cells/registry.h"
#include "delivery/delivery.h"
#include "http/reloads.h"
#include "http/server.h"
#include "ingress/ingress.h"
#include "probes/probes.h"
#include "spool/spool.h"

#include <pthread.h>
#include <stdatomic.h>

enum cg_phase { CG_PHASE_STARTING, CG_PHASE_READY, CG_PHASE_DRAINING };

/* What the pages are about; borrowed until stop. */
struct cg_gateway_view {
    const char *node;
    const char *version;
    _Atomic int phase; /* enum cg_phase */
    uint64_t started_realtime_ns;
    struct cg_ingress *_Atomic ingress; /* NULL until it is started */
    struct cg_probes *_Atomic probes;   /* likewise */
    struct cg_registry *registry;
    struct cg_registrations *registrations; /* NULL: none */
    struct cg_spool *spool;
    /* A reload changes the two below. Whoever reads them holds the lock for reading: the pages do
     * (cg_public_answer), for as long as they are made. NULL: they never change. */
    pthread_rwlock_t *deliveries_lock;
    struct cg_delivery *const *deliveries;
    size_t deliveries_count;
    struct cg_reloads *reloads; /* NULL: none is possible */
    const struct cg_clock *clock;
    const struct cg_sandbox_status *sandbox; /* NULL: unknown */
};

/* For reading the view's deliveries. */
void cg_view_lock(const struct cg_gateway_view *view);
void cg_view_unlock(const struct cg_gateway_view *view);

/* Answers what both listeners serve; 404 and 405 included. Does not block. */
void cg_public_answer(const struct cg_gateway_view *view, const struct cg_http_request *request,
                      struct cg_http_answer *answer);
/* The cell's id in "/v1/cells/{id}" (whatever stands there, slashes included); NULL for another
 * path. Borrowed from it. */
const char *cg_public_cell_id(const char *path);

struct cg_public;

struct cg_public_config {
    struct cg_strings listen; /* "127.0.0.1:9464", "[::1]:9464", "unix:/path"; port 0 picks one */
    /* Sockets that listen already, instead of those; they are taken. */
    int *inherited_fds;
    size_t inherited_count;
    struct cg_strings hosts; /* names allowed in Host beside addresses and localhost */
    uint64_t request_timeout_ns;
    uint32_t connections_max;
    uint32_t connections_per_address_max;
};

CG_MUST_USE bool cg_public_start(const struct cg_public_config *config,
                                 const struct cg_gateway_view *view, struct cg_public **ret_public,
                                 struct cg_error *err);
size_t cg_public_listeners(const struct cg_public *server);
/* The address bound for listener `which` ("127.0.0.1:43210"), for logs; borrowed. */
const char *cg_public_address(const struct cg_public *server, size_t which);
/* As cg_http_server_set_hosts, of all listeners. */
void cg_public_set_hosts(struct cg_public *server, struct cg_strings hosts);
void cg_public_stop(struct cg_public *server);

#endif
