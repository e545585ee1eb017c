/*
 * hosts.h - the names that requests may carry in Host (guard.h), which a reload may change.
 *
 * docs/contract.md section 6. Any thread.
 */
#ifndef CELLGATE_HTTP_HOSTS_H
#define CELLGATE_HTTP_HOSTS_H

#include "http/server.h"

#include <pthread.h>

struct cg_http_hosts {
    pthread_mutex_t lock; /* covers the names */
    struct cg_strings names;
};

/* The names are borrowed until others take their place. */
void cg_http_hosts_init(struct cg_http_hosts *hosts, struct cg_strings names);
void cg_http_hosts_fini(struct cg_http_hosts *hosts);
/* What was allowed before is not looked at any more when it returns. */
void cg_http_hosts_set(struct cg_http_hosts *hosts, struct cg_strings names);
/* Fills in the refusal and returns false if the request may not be answered at all. */
bool cg_http_hosts_admit(struct cg_http_hosts *hosts, const struct cg_http_request *request,
                         const char *version, struct cg_http_answer *answer);

#endif
