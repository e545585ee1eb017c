/*
 * ingress.h - the guests' side: sockets, the acceptor thread, and the threads that read.
 *
 * docs/contract.md section 1. Each cell has one listening socket <vsock_uds_base>_9001, made by
 * listening.h. The acceptor does nothing but accept and hand over, because a VMM connects with a
 * blocking connect on its device thread. A cell is read by one ingress thread, always the same,
 * which does the whole way: read, frame, decode, stamp, envelope, sign, spool.
 */
#ifndef CELLGATE_INGRESS_H
#define CELLGATE_INGRESS_H

#include "cells/corroboration.h"
#include "cells/reading.h"
#include "cells/registrations.h"
#include "cells/registry.h"
#include "event/envelope.h"
#include "event/keys.h"
#include "ingress/listening.h"
#include "spool/spool.h"

struct cg_ingress;

/* Copied at start; what it points at is borrowed until stop. */
struct cg_ingress_config {
    unsigned threads;
    uint32_t connections_max;   /* per cell */
    uint64_t frames_per_second; /* per cell; 0: unlimited */
    uint64_t frames_burst;
    uint64_t frame_deadline_ns; /* for a frame begun */
    uint64_t partial_bytes_max; /* for all partly read frames together; each thread has its share */
    uint64_t drain_timeout_ns;  /* closing a connection from our side: shutdown, read, close */
    uint64_t boot_grace_ns;     /* added to a cell's window until its first frame */
    bool corroborate;           /* cells that have probes */
    struct cg_corroboration_rules corroboration;
    bool keepalive_once;       /* one silence a run is reported, not one per connection state */
    struct cg_strings roots;   /* directories a socket may lie beneath; none: anywhere */
    struct cg_range peer_uids; /* who may connect (SO_PEERCRED): ingress.peer_uids; absent: all */
    /* Remembers the sockets made, so that a start after a crash removes them. */
    struct cg_registrations *registrations;
    const struct cg_clock *clock;
};

/* Starts the acceptor and the ingress threads; no cell yet. Everything is borrowed until stop. */
CG_MUST_USE bool cg_ingress_start(const struct cg_ingress_config *config,
                                  const struct cg_envelope *envelope,
                                  const struct cg_signing_key *key, struct cg_spool *spool,
                                  struct cg_ingress **ret_ingress, struct cg_error *err);

/* Binds and listens for a cell; on return a guest can connect. Any thread. */
CG_MUST_USE bool cg_ingress_listen(struct cg_ingress *ingress, struct cg_cell *cell,
                                   struct cg_error *err);
/* The same; the registration (NULL: none) is durable before the socket gets its name. */
CG_MUST_USE enum cg_listening_outcome
cg_ingress_enrol(struct cg_ingress *ingress, struct cg_cell *cell,
                 const struct cg_kept_registration *registration, struct cg_error *err);

/* Guest connections open now, for the gauge. Any thread. */
uint32_t cg_ingress_connections(const struct cg_ingress *ingress);

/* What a run came to; docs/contract.md section 4, run_ended. */
struct cg_run_totals {
    uint64_t last_sequence;
    uint64_t frames, bytes;
    uint64_t silences;
    uint64_t drops; /* frames and events refused or dropped, all reasons */
};

/*
 * The cell's run is over: stops listening and removes the socket, reads what its connections held
 * at the call (until `deadline_ns`, monotonic), appends it and a run_ended event behind it, and
 * closes the connections (`deregistered`). Blocks until that is appended; any thread but an ingress
 * thread. False: the spool did not take it before the deadline; the cell is gone all the same, and
 * what was staged for it is appended as soon as the spool takes it.
 */
CG_MUST_USE bool cg_ingress_forget(struct cg_ingress *ingress, struct cg_cell *cell,
                                   uint64_t deadline_ns, struct cg_run_totals *ret_totals,
                                   struct cg_error *err);

/* Who is told when cells come and go: the host's probes. Called on the thread that enrols or
 * forgets. */
struct cg_ingress_watcher {
    void *context;
    /* It listens from here on. */
    void (*joined)(void *context, struct cg_cell *cell);
    /* Its run is about to end: what else is to be observed of it comes before this returns. */
    void (*leaving)(void *context, struct cg_cell *cell);
};
/* Borrowed until it is replaced; NULL: nobody, and no call to the last one is under way or comes.
 */
void cg_ingress_watch(struct cg_ingress *ingress, const struct cg_ingress_watcher *watcher);

/* Any thread: a probe has read something of the cell, which becomes an event of its run, or is
 * dropped if the cell does not listen (any more). Takes the reading. */
void cg_ingress_observe(struct cg_ingress *ingress, struct cg_cell *cell,
                        struct cg_reading *reading);

/* Stops accepting, removes the sockets it made, reads what connected guests have sent until there
 * is nothing more (drain_timeout_ns at most, since a guest may send without end), appends it, which
 * waits for a full spool until `deadline_ns` (monotonic), and closes the connections. */
void cg_ingress_drain(struct cg_ingress *ingress, uint64_t deadline_ns);

/* Ends the threads and frees; after cg_ingress_drain, or without it when nothing may be waited for.
 */
void cg_ingress_stop(struct cg_ingress *ingress);

#endif
