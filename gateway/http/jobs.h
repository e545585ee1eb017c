/*
 * jobs.h - a few threads for requests that take time, behind a queue of a limited length.
 *
 * A job is run once, on one of the threads. There is no way to take one back: what runs is bounded
 * in time by whoever queues it.
 */
#ifndef CELLGATE_HTTP_JOBS_H
#define CELLGATE_HTTP_JOBS_H

#include "cellgate/error.h"

#include <stddef.h>

struct cg_http_jobs;

/* Borrowed from `add` until it has run. */
struct cg_http_job {
    void (*run)(struct cg_http_job *job);
    struct cg_http_job *next; /* the queue's */
};

/* At most `waiting_max` jobs wait while all threads are busy. */
CG_MUST_USE bool cg_http_jobs_start(unsigned threads, size_t waiting_max,
                                    struct cg_http_jobs **ret_jobs, struct cg_error *err);
/* False if the queue is full. Any thread. */
CG_MUST_USE bool cg_http_jobs_add(struct cg_http_jobs *jobs, struct cg_http_job *job);
/* Runs what is queued, ends the threads and frees. Nobody adds any more. NULL is fine. */
void cg_http_jobs_stop(struct cg_http_jobs *jobs);

#endif
