/*
 * control.h - the control listener: cells in and out, on a Unix socket. docs/contract.md section 6.
 *
 * It serves what the public listener serves, and beside that PUT and DELETE of /v1/cells/{id},
 * POST /v1/flush and POST /v1/reload. These run on a few threads of their own (server.h,
 * "deferred"), so that /livez never waits for a disk or a guest; who waits for exporters waits on
 * no thread at all. GET /v1/tap is a stream (tap_page.h). Who may connect is a matter of the
 * socket's mode and group.
 */
#ifndef CELLGATE_HTTP_CONTROL_H
#define CELLGATE_HTTP_CONTROL_H

#include "http/enrolment.h"
#include "http/public.h"

struct cg_control;

/* For start only. */
struct cg_control_config {
    const char *socket; /* path */
    int *inherited_fd;  /* a socket that listens already, instead; taken; NULL: none */
    mode_t mode;
    const char *group; /* name or number; NULL: the gateway's own */
    uint64_t request_timeout_ns;
    uint32_t connections_max;
    cg_reload *reload; /* called on a thread that may block; NULL: not possible */
    void *reload_context;
};

/* The view and the enrolment are borrowed until stop. */
CG_MUST_USE bool cg_control_start(const struct cg_control_config *config,
                                  const struct cg_gateway_view *view,
                                  struct cg_enrolment *enrolment, struct cg_control **ret_control,
                                  struct cg_error *err);
/* The address, for logs; borrowed. */
const char *cg_control_address(const struct cg_control *control);
/* Answers what is under way, and removes the socket, if it is our own. NULL is fine. */
void cg_control_stop(struct cg_control *control);

#endif
