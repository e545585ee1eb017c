/*
 * flush.h - asking a Firecracker for a document: PUT /actions {"action_type":"FlushMetrics"} on its
 * API socket. On the probes' thread, without ever waiting for it.
 *
 * The document is written before the request is answered. An API socket may be a VMM's that is
 * compromised: it gets one request, and at most CG_FLUSH_ANSWER_BYTES_MAX of its answer are read.
 */
#ifndef CELLGATE_FLUSH_H
#define CELLGATE_FLUSH_H

#include "probes/probe.h"

enum { CG_FLUSH_ANSWER_BYTES_MAX = 2048 };

struct cg_flush {
    struct cg_probe_host *host;
    struct cg_probe_instance *instance;
    struct cg_probe_source source;
    int fd;                        /* -1: none is under way */
    enum cg_probe_outcome outcome; /* of the last one: CG_PROBE_READ if it was answered well */
    size_t len;
    char answer[CG_FLUSH_ANSWER_BYTES_MAX];
    struct cg_error err;
};

void cg_flush_init(struct cg_flush *flush, struct cg_probe_host *host,
                   struct cg_probe_instance *instance);
void cg_flush_fini(struct cg_flush *flush);

/* True: the instance will be told (cg_probe_answered). False: it could not be asked, or the outcome
 * says so already. */
bool cg_flush_begin(struct cg_flush *flush, const char *api_socket);
/* Gives up; the outcome is CG_PROBE_TIMEOUT if one was under way. */
void cg_flush_cancel(struct cg_flush *flush);

#endif
