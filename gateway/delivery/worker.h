/*
 * worker.h - what delivery.c (the life of a worker, its face to other threads) and worker.c (the
 * thread) share. Nobody else includes it.
 */
#ifndef CELLGATE_WORKER_H
#define CELLGATE_WORKER_H

#include "cellgate/log.h"
#include "delivery/dead_letters.h"
#include "delivery/delivery.h"
#include "delivery/plan.h"
#include "delivery/selection.h"

#include <pthread.h>

struct cg_delivery {
    struct cg_delivery_config config;
    struct cg_spool *spool;
    struct cg_spool_reader *reader;
    pthread_t thread;

    /* The worker's alone, once it runs. */
    struct cg_plan plan;
    struct cg_dead_letters letters;
    struct cg_selection selection;
    struct cg_batch window; /* peeked, let through by the filter, not yet acknowledged */
    struct cg_verdict verdict;
    bool lonely; /* it waited for an event to come behind this one: */
    uint64_t lonely_index;
    bool hurry;                     /* flushing: no linger until the backlog is gone */
    enum cg_delivery_state trouble; /* as last logged; SENDING: none */
    uint64_t trouble_since_ns;
    struct cg_log_limit log_limit; /* what the destination can trigger */

    /* Wishes of other threads; each is followed by cg_spool_reader_interrupt. */
    _Atomic bool stopping, flush, reopen;

    _Atomic int state; /* enum cg_delivery_state */
    struct cg_histogram durations;

    pthread_mutex_t mutex;  /* guards all below */
    pthread_cond_t changed; /* opened, or the position has moved */
    void *exporter;         /* NULL before open and after close */
    bool opened;            /* or failed to, with open_error */
    bool open_failed;
    struct cg_error open_error;
    struct cg_delivery_status status; /* but for state and backlog */
};

/* The thread of a struct cg_delivery: opens the exporter, delivers until stopping, closes it. */
void *cg_worker_main(void *argument);

#endif
