/*
 * public.h - the public listener: health, keep-alive state, metrics. docs/contract.md section 6.
 *
 * libmicrohttpd, driven by one thread of our own per listener (external epoll), which also enforces
 * the limits: 256 connections, 16 an address, 5 s a request; over a limit the oldest connection
 * goes, so that slow clients cannot keep a scrape out.
 */
#ifndef CELLGATE_PUBLIC_H
#define CELLGATE_PUBLIC_H

#include "cells/registrations.h"
#include "cells/registry.h"
#include "delivery/delivery.h"
#include "http/server.h"
#include "ingress/ingress.h"
#include "probes/probes.h"
#include "spool/spool.h"

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
    struct cg_delivery *const *deliveries;
    size_t deliveries_count;
    const struct cg_clock *clock;
};

/* Answers what both listeners serve; 404 and 405 included. Does not block. */
void cg_public_answer(const struct cg_gateway_view *view, const struct cg_http_request *request,
                      struct cg_http_answer *answer);
/* The cell's id in "/v1/cells/{id}" (whatever stands there, slashes included); NULL for another
 * path. Borrowed from it. */
const char *cg_public_cell_id(const char *path);

struct cg_public;

struct cg_public_config {
    struct cg_strings listen; /* "127.0.0.1:9464", "[::1]:9464", "unix:/path"; port 0 picks one */
    struct cg_strings hosts;  /* names allowed in Host beside addresses and localhost */
    uint64_t request_timeout_ns;
    uint32_t connections_max;
    uint32_t connections_per_address_max;
};

CG_MUST_USE bool cg_public_start(const struct cg_public_config *config,
                                 const struct cg_gateway_view *view, struct cg_public **ret_public,
                                 struct cg_error *err);
/* The address bound for listener `which` ("127.0.0.1:43210"), for logs; borrowed. */
const char *cg_public_address(const struct cg_public *server, size_t which);
void cg_public_stop(struct cg_public *server);

#endif
