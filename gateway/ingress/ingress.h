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

#include "cellgate/buf.h"
#include "cells/corroboration.h"
#include "cells/reading.h"
#include "cells/registrations.h"
#include "cells/registry.h"
#include "event/envelope.h"
#include "event/keys.h"
#include "ingress/listening.h"
#include "spool/spool.h"

struct cg_ingress;

/* What a reload may change: a part of the configuration below. */
struct cg_ingress_settings {
    uint64_t frames_per_second, frames_burst;
    uint64_t frame_deadline_ns;
    uint64_t boot_grace_ns;
    bool keepalive_once;
    bool spool_gives_up;
};

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
    bool keepalive_once;     /* one silence a run is reported, not one per connection state */
    struct cg_strings roots; /* directories a socket may lie beneath; none: anywhere */
    bool spool_gives_up;     /* events undelivered, in want of room: somebody must tell of it */
    struct cg_socket_files files; /* who makes and removes the sockets' files */
    struct cg_range peer_uids; /* who may connect (SO_PEERCRED): ingress.peer_uids; absent: all */
    /* Remembers the sockets made, so that a start after a crash removes them. */
    struct cg_registrations *registrations;
    /* What a gateway before this one has left; NULL: nothing. Asked until cg_ingress_end_resuming.
     */
    struct cg_handover *handover;
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

/*
 * Enrolling in two steps: what can fail for the operator's reasons, and the rest. What was bound
 * and is not adopted is unbound, and then there never was a socket.
 */
CG_MUST_USE enum cg_listening_outcome
cg_ingress_bind(struct cg_ingress *ingress, const struct cg_cell *cell,
                const struct cg_kept_registration *registration, struct cg_listening *ret_listening,
                struct cg_error *err);
/* Listens with it. On failure (no memory) it is unbound. */
CG_MUST_USE bool cg_ingress_adopt(struct cg_ingress *ingress, struct cg_cell *cell,
                                  struct cg_listening *listening, struct cg_error *err);
void cg_ingress_unbind(struct cg_ingress *ingress, const struct cg_cell *cell,
                       struct cg_listening *listening);

/*
 * Changing what the ingress threads work by, in two steps. Making a change may fail, and nothing
 * has happened then; applying it cannot, and returns when every thread works by it, or after a
 * second with a thread that a disk holds up, which then takes it up as soon as it goes on. `key`
 * NULL: they go on signing with theirs. One change at a time.
 */
struct cg_ingress_change;
CG_MUST_USE bool cg_ingress_change_new(const struct cg_ingress *ingress,
                                       const struct cg_ingress_settings *settings,
                                       const struct cg_signing_key *key,
                                       struct cg_ingress_change **ret_change, struct cg_error *err);
/* Takes the change. */
void cg_ingress_change_apply(struct cg_ingress *ingress, struct cg_ingress_change *change);
/* One that is not applied. NULL is fine. */
void cg_ingress_change_free(struct cg_ingress_change *change);

/* How often each thread has turned: of the ingress threads, and behind them the acceptor's; returns
 * how many these are. A poke makes each turn once more. Any thread. */
enum { CG_INGRESS_THREADS_MAX = 64, CG_INGRESS_TURNS_MAX = CG_INGRESS_THREADS_MAX + 1 };
unsigned cg_ingress_turns(const struct cg_ingress *ingress, uint64_t *ret_turns);
void cg_ingress_poke(struct cg_ingress *ingress);
/* Returns when every ingress thread has ended the turn in which it is, so that what was counted of
 * a cell by now is appended; after a second all the same. Any thread but theirs. */
void cg_ingress_settle(struct cg_ingress *ingress);

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
/* --- handing over; docs/contract.md section 1 --- */

/* The cells that were to be listened for are there: what else was handed over is removed. */
struct cg_resumed {
    uint64_t cells, connections; /* that go on */
    uint64_t cells_unused;       /* their sockets are removed */
    uint64_t sockets_unused;     /* closed */
};
void cg_ingress_end_resuming(struct cg_ingress *ingress, struct cg_resumed *ret_resumed);

/*
 * Stops accepting and reading, appends what has been read, and leaves sockets and connections as
 * they are, for another process. False if the spool has not taken it all before the deadline
 * (monotonic). Afterwards the sockets are given away (cg_ingress_give), and cg_ingress_abandon
 * leaves them to whoever has them; or cg_ingress_drain ends them as ever.
 */
CG_MUST_USE bool cg_ingress_quiesce(struct cg_ingress *ingress, uint64_t deadline_ns);
/* Writes the table of all, and adds their descriptors, which stay ours, to *ret_fds (to be freed).
 */
CG_MUST_USE bool cg_ingress_give(struct cg_ingress *ingress, uint64_t witness_cookie,
                                 struct cg_buf *ret_table, int **ret_fds, size_t *ret_count,
                                 struct cg_error *err);
void cg_ingress_abandon(struct cg_ingress *ingress);

/* Stops accepting, removes the sockets it made, reads what connected guests have sent until there
 * is nothing more (drain_timeout_ns at most, since a guest may send without end), appends it, which
 * waits for a full spool until `deadline_ns` (monotonic), and closes the connections. */
void cg_ingress_drain(struct cg_ingress *ingress, uint64_t deadline_ns);

/* Ends the threads and frees; after cg_ingress_drain, or without it when nothing may be waited for.
 */
void cg_ingress_stop(struct cg_ingress *ingress);

#endif
