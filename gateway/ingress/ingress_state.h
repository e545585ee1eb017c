/*
 * ingress_state.h - the ingress from the inside: for the files that make it up, and nobody else.
 *
 * ingress.c starts, listens and ends; handing.c leaves the sockets to another process, and goes on
 * with those that were left; changing.c takes up what a reload has changed.
 */
#ifndef CELLGATE_INGRESS_STATE_H
#define CELLGATE_INGRESS_STATE_H

#include "ingress/acceptor.h"
#include "ingress/handover.h"
#include "ingress/reader.h"

#include <pthread.h>

struct cg_ingress_worker {
    struct cg_reader *reader;
    pthread_t thread;
    bool running;
};

struct cg_ingress {
    struct cg_ingress_config config;
    struct cg_ingress_shared shared;
    struct cg_acceptor *acceptor;
    struct cg_resumed resumed; /* at the start */

    pthread_rwlock_t watcher_lock; /* held for reading while the watcher is called */
    const struct cg_ingress_watcher *watcher;

    pthread_mutex_t lock; /* covers the two below, and each cell's `channel` */
    bool ending;
    struct cg_channel *channels; /* the newest first */

    struct cg_ingress_worker workers[]; /* config.threads */
};

struct cg_listening_request cg_ingress_listening_request(const struct cg_ingress *ingress,
                                                         const struct cg_cell *cell);
/* The name first, so that nobody connects any more. */
void cg_ingress_remove_socket(struct cg_ingress *ingress, const struct cg_cell *cell,
                              const struct cg_listening *listening);
/* The channels are the caller's from here on. */
void cg_ingress_begin_end(struct cg_ingress *ingress);
/* Gives an order that ends the threads, and waits for it. */
void cg_ingress_end_workers(struct cg_ingress *ingress, enum cg_reader_order order,
                            uint64_t deadline_ns);

/* --- handing.c --- */

/* What was left for this cell; NULL: nothing. */
const struct cg_handover_cell *cg_ingress_find_left(const struct cg_ingress *ingress,
                                                    const struct cg_cell *cell);
/* Goes on with the socket that was left for this cell. False: there is none, or it is of no use,
 * and then it is gone. */
CG_MUST_USE bool cg_ingress_resume_listening(struct cg_ingress *ingress, const struct cg_cell *cell,
                                             const struct cg_listening_request *request,
                                             struct cg_listening *ret_listening);
/* The cell's counters go on; before anybody can connect. */
void cg_ingress_resume_counters(const struct cg_ingress *ingress, struct cg_cell *cell,
                                const struct cg_handover_cell *left);
/* Its connections go on. */
void cg_ingress_resume_connections(struct cg_ingress *ingress, struct cg_channel *channel,
                                   const struct cg_handover_cell *left);

#endif
