/*
 * registry.h - the cells: who they are, and what is counted of each.
 *
 * A struct cg_cell is one registered run of one cell. What identifies it never changes; its
 * counters are atomics that its ingress thread writes and anybody reads. The registry holds one
 * reference, the cell's channel in ingress another; the memory goes with the last.
 */
#ifndef CELLGATE_REGISTRY_H
#define CELLGATE_REGISTRY_H

#include "cellgate/error.h"
#include "cellgate/option.h"
#include "cells/probe_spec.h"
#include "event/stamp.h"
#include "spool/spool.h"

#include <stdatomic.h>
#include <sys/types.h>

/* What a registration says, as the configuration or a request spells it. Borrowed. */
struct cg_cell_spec {
    const char *cell_id;
    const char *run_id;
    const char *spec_signature_hash;
    const char *vsock_uds_base;
    const char *traceparent; /* NULL: none */
    struct cg_pairs labels;
    uint64_t keepalive_window_ns;       /* 0: the gateway's default */
    uint64_t socket_mode;               /* 0: 0600 */
    struct cg_range owner;              /* first: uid, last: gid; absent: the gateway's own */
    const struct cg_probe_spec *probes; /* NULL: nothing, as in most of thousands */
};

enum cg_cell_state {
    CG_CELL_WAITING, /* no frame yet, and not yet late */
    CG_CELL_LIVE,    /* a frame within the window */
    CG_CELL_IDLE,    /* no frame within the window, with a connection open */
    CG_CELL_SILENT,  /* no frame within the window and no connection */
    CG_CELL_PAUSED,  /* the gateway itself does not read it */
    CG_CELL_STATE_COUNT
};
const char *cg_cell_state_name(enum cg_cell_state state);

struct cg_cell {
    /* Constant. */
    struct cg_run_identity identity;
    struct cg_spool_run *run;
    const char *vsock_uds_base;
    const struct cg_probe_spec *probes; /* as the registration says; NULL: nothing */
    mode_t socket_mode;
    uid_t socket_uid; /* (uid_t)-1: leave */
    gid_t socket_gid;
    unsigned ingress_thread;
    uint64_t vmm_pid;           /* 0: none */
    uint64_t registered_ns;     /* monotonic */
    uint16_t silence_recovered; /* cg_spool_run_silence, as it was registered */
    bool configured;            /* by the configuration file, and so not removed by request */
    bool default_window;        /* it follows the gateway's default: */
    _Atomic uint64_t keepalive_window_ns;

    /* Written by the cell's ingress thread, read by anybody. */
    _Atomic bool paused;
    _Atomic uint64_t frames;
    _Atomic uint64_t frame_bytes;
    _Atomic uint64_t frames_rejected;
    _Atomic uint64_t sequence;      /* last assigned */
    _Atomic uint64_t last_frame_ns; /* monotonic; 0: none yet */
    /* No silence counts from earlier (monotonic): see silence.h. 0: not yet in a reader's hands. */
    _Atomic uint64_t awaited_from_ns;
    /* Written by the acceptor and the ingress thread. */
    _Atomic uint32_t connections;
    _Atomic uint32_t connections_opened; /* the ordinal of the newest */
    _Atomic uint64_t connections_refused;

    /* What others hang on it. */
    struct cg_channel *channel;         /* ingress's, under its lock; NULL: it does not listen */
    struct cg_vmm_watch *vmm_watch;     /* the enrolment's: the process whose end ends the run */
    struct cg_probe_watch *probe_watch; /* the probes', under their lock; NULL: it has none */

    /* The registry's, under its lock. */
    struct cg_cell *next; /* in the order of registration */
    struct cg_cell *previous;
    struct cg_cell *by_id_next;   /* in the same bucket */
    struct cg_cell *by_path_next; /* likewise */
    _Atomic uint32_t references;

    /* With the last reference the run is ended in the spool if this is set, and else closed: events
     * of it may be staged for as long as its ingress thread knows the cell. Set by that thread when
     * the run's last event is committed. */
    bool run_over;
    struct cg_spool *spool; /* that `run` is of; NULL: not yet */
};

struct cg_registry;

/* Any thread may use a registry; it has one lock, held for short work only. */
enum { CG_REGISTRY_CELLS_MAX = 1 << 20 };

/* The spool is borrowed until the registry is freed and every cell is gone. */
CG_MUST_USE bool cg_registry_new(struct cg_spool *spool, unsigned ingress_threads,
                                 uint64_t default_window_ns, struct cg_registry **ret_registry,
                                 struct cg_error *err);
/* All other references are gone. */
void cg_registry_free(struct cg_registry *registry);

/* Whether the values of a specification are allowed (docs/contract.md section 6); the error begins
 * with the member's name. Pure. */
CG_MUST_USE bool cg_cell_spec_check(const struct cg_cell_spec *spec, struct cg_error *err);

/*
 * Adds a cell: checks the specification, takes up the run's sequence and connection ordinal from
 * the spool, and chooses its ingress thread. Fails for bad values, an id that is there already, or
 * a socket path that another cell has. The cell counts as one of the configuration, which is never
 * removed; the result is borrowed from the registry.
 */
CG_MUST_USE bool cg_registry_add(struct cg_registry *registry, const struct cg_cell_spec *spec,
                                 uint64_t monotonic_ns, struct cg_cell **ret_cell,
                                 struct cg_error *err);

enum cg_registry_outcome {
    CG_REGISTRY_ADDED,
    CG_REGISTRY_EXISTS,   /* the very same registration */
    CG_REGISTRY_CONFLICT, /* with another cell, or another registration of this one */
    CG_REGISTRY_INVALID,  /* cg_cell_spec_check */
    CG_REGISTRY_FAILED,   /* no memory, or too many cells */
};

/*
 * As cg_registry_add, for a cell that may be removed again; `vmm_pid` is 0 for none. *ret_cell is
 * set for ADDED and EXISTS, and is a reference. The error of CONFLICT and INVALID begins with the
 * name of the member it is about, and a colon.
 */
CG_MUST_USE enum cg_registry_outcome
cg_registry_enrol(struct cg_registry *registry, const struct cg_cell_spec *spec, uint64_t vmm_pid,
                  uint64_t monotonic_ns, struct cg_cell **ret_cell, struct cg_error *err);

/* Another default from now on, also for the cells that follow it. Their readers are to be told. */
void cg_registry_set_window(struct cg_registry *registry, uint64_t default_window_ns);

/* A reference to the cell of that id; NULL if there is none. */
struct cg_cell *cg_registry_find(struct cg_registry *registry, struct cg_bytes cell_id);

/* Takes the cell out, once. Its memory stays while there are references. */
void cg_registry_remove(struct cg_registry *registry, struct cg_cell *cell);

struct cg_cell *cg_cell_ref(struct cg_cell *cell);
/* The last one may wait for the disk: no lock is held. */
void cg_cell_unref(struct cg_cell *cell);

/* Calls `visit` for each cell in the order of registration, with the registry locked: short work.
 */
void cg_registry_visit(struct cg_registry *registry,
                       void (*visit)(void *context, const struct cg_cell *cell), void *context);

/* How many cells are in each state at a moment; fills CG_CELL_STATE_COUNT counts. */
void cg_registry_count_states(struct cg_registry *registry, uint64_t monotonic_ns,
                              uint64_t ret_counts[CG_CELL_STATE_COUNT]);

/* The keep-alive state at a moment. Pure. */
enum cg_cell_state cg_cell_state(const struct cg_cell *cell, uint64_t monotonic_ns);

#endif
