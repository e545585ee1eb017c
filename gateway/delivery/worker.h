/*
 * worker.h - what delivery.c (the life of a worker, its face to other threads), worker.c (the
 * thread), burial.c and replay.c (dead letters: in and out again) share. Nobody else includes it.
 */
#ifndef CELLGATE_WORKER_H
#define CELLGATE_WORKER_H

#include "cellgate/log.h"
#include "delivery/dead_letters.h"
#include "delivery/delivery.h"
#include "delivery/plan.h"
#include "delivery/replay.h"
#include "delivery/selection.h"
#include "delivery/watchdog.h"

#include <pthread.h>

struct cg_delivery {
    struct cg_delivery_config config;
    struct cg_spool *spool;
    struct cg_spool_reader *reader;
    pthread_t thread;

    /* The worker's alone, once it runs. */
    struct cg_plan plan;
    struct cg_dead_letters letters;
    char *letters_path; /* of the store, which borrows it */
    struct cg_selection selection;
    struct cg_batch window; /* peeked, let through by the filter, not yet acknowledged */
    uint64_t head_index;    /* of the spool: where the plan believes the next reading begins */
    struct cg_verdict verdict;
    struct {
        uint64_t count; /* of events at the head that the plan counts as acknowledged already, and
                           that must be kept as dead letters first */
        enum cg_letter_reason reason;
    } burial;
    bool letters_full; /* the last attempt at it found the store full */
    struct cg_replay replay;
    struct cg_verdict replay_verdict;
    bool lonely; /* it waited for an event to come behind this one: */
    uint64_t lonely_index;
    bool hurry;                     /* flushing: no linger until the backlog is gone */
    enum cg_delivery_state trouble; /* as last logged; SENDING: none */
    uint64_t trouble_since_ns;
    /* What the destination can trigger: changes of state, and lines about single events, which must
     * not use up the others' room. */
    struct cg_log_limit log_limit, event_log_limit;

    /* Wishes of other threads; each is followed by cg_spool_reader_interrupt. */
    _Atomic bool stopping, flush, reopen;
    _Atomic bool letters_marked; /* dead letters wait to be sent again, or were dropped */
    _Atomic bool rebuild;        /* close the exporter, which is cancelled, and open it anew */

    /* What the worker tells the watchdog; monotonic. */
    _Atomic uint64_t progress_ns, excused_until_ns;
    _Atomic bool stalled;
    struct cg_watchdog watchdog; /* its thread's alone */
    pthread_t watch_thread;
    bool watch_started;
    pthread_cond_t watch_wake; /* with the mutex: stopping */

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

/* Hands a slice to the exporter and counts the answer. False: it was cancelled, which is no word of
 * the destination's. The worker. */
CG_MUST_USE bool cg_worker_deliver(struct cg_delivery *delivery, const struct cg_batch *slice,
                                   struct cg_verdict *ret_verdict);

/* The events at the head are done with. The worker. */
void cg_worker_acknowledge(struct cg_delivery *delivery, uint64_t count);
/* Shows trouble and waits. `excused`: the watchdog does not count the wait, since an answer or our
 * own side asks for it. The worker. */
void cg_worker_wait_out(struct cg_delivery *delivery, const struct cg_plan_step *step,
                        const char *text, bool excused);

/* Keeps what is to be buried, or some of it, and acknowledges it; waits where it cannot. */
void cg_burial_step(struct cg_delivery *delivery);
/* Gives up the events at the head that are too old, some of them at a time. True if there are any.
 */
bool cg_burial_of_old(struct cg_delivery *delivery);

/* The thread of a struct cg_delivery: opens the exporter, delivers until stopping, closes it. */
void *cg_worker_main(void *argument);

#endif
