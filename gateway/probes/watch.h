/*
 * watch.h - one cell and its probes, on the probes' thread: for probes.c, watch.c and describe.c.
 */
#ifndef CELLGATE_PROBE_WATCH_H
#define CELLGATE_PROBE_WATCH_H

#include "base/list.h"
#include "cellgate/log.h"
#include "probes/probes.h"

#include <pthread.h>

enum {
    CG_PROBE_OUTPUT_KEPT_BYTES_MAX = 4096, /* of the last reading, for the pages */
    CG_PROBE_HURRY_GAP_MS = 1000,
    CG_PROBE_DETAIL_BYTES_MAX = 200,
};

/* What waits for a moment: an instance, or a watch for its corroboration. */
struct cg_probe_due {
    struct cg_timer timer;
    struct cg_probe_instance *instance; /* NULL: the watch's */
    struct cg_probe_watch *watch;
};

/* What pages show; under the probes' lock. */
struct cg_probe_status {
    uint64_t readings, errors;
    uint64_t read_ns, failed_ns;   /* real time; 0: never */
    enum cg_probe_outcome failing; /* CG_PROBE_READ: it does not */
    enum cg_probe_outcome failed;  /* the last one that did */
    char detail[CG_PROBE_DETAIL_BYTES_MAX];
    struct cg_bytes output; /* malloced; nothing if there was none, or it was too large */
};

struct cg_probe_instance {
    const struct cg_probe_ops *ops;
    struct cg_probe_watch *watch;
    void *state;
    struct cg_probe_due due;
    uint64_t interval_ns;
    uint64_t tick_ns; /* the next one */
    uint64_t last_ns; /* when a reading was last begun */
    enum cg_probe_why why;
    bool waiting; /* for an answer, until due */
    bool hurried; /* while it waits, or has only just been read */
    struct cg_probe_status status;
};

struct cg_probe_watch {
    struct cg_probes *probes;
    struct cg_cell *cell;    /* a reference */
    struct cg_list in_inbox; /* under the lock */
    struct cg_list in_list;  /* of all, or of the dead: the thread's */
    struct cg_probe_due due;
    unsigned last_pending; /* instances of which the last reading has not come yet */
    bool leaving;          /* under the lock: somebody asked for it */
    bool gone;             /* under the lock: nothing more comes of it */
    struct cg_probe_spec spec;
    struct cg_buf texts;                                /* of the spec */
    struct cg_probe_instance instances[CG_PROBE_COUNT]; /* without ops: the cell has none of it */
};

struct cg_probes {
    struct cg_probe_host host;
    struct cg_probes_config config;
    struct cg_ingress_watcher watcher;
    void *shared[CG_PROBE_COUNT]; /* NULL: that probe could not start, or is off */
    pthread_t thread;
    bool running;

    pthread_mutex_t lock; /* covers the inbox, cells' probe_watch, statuses, `leaving` and `done` */
    pthread_cond_t left;
    struct cg_list inbox; /* watches that join or leave */
    bool ending;
    uint64_t watches_made;

    /* The thread's. */
    struct cg_list watches;
    struct cg_list dead; /* freed at the end of the turn */
    struct cg_timers timers;
    uint64_t now_ns;
    uint64_t not_before_ns; /* the next look at what is due */
    struct cg_log_limit log_limit;
    struct cg_probe_instance *reading; /* the one that the sink is of */
    struct cg_buf inputs, output;      /* rendered */
    struct cg_probe_sink sink;
};

/* --- watch.c --- */

/* The cell has a witness from here on: on the thread that enrols it, before its guest is heard (of
 * cells that were there before the probes: when these start). */
void cg_probe_watch_announce(struct cg_probe_watch *watch);

/* --- watch.c, on the thread --- */

/* Attaches the instances, reads their counters, and begins their intervals. */
void cg_probe_watch_begin(struct cg_probe_watch *watch);
/* Reads all instances for the last time; the watch is dead when the last answer is there. */
void cg_probe_watch_end(struct cg_probe_watch *watch);
/* Something is due. */
void cg_probe_watch_due(struct cg_probe_due *due);
/* Detaches what is attached, and frees. */
void cg_probe_watch_free(struct cg_probe_watch *watch);
/* The sink's: makes a reading of what is in it. */
void cg_probe_watch_emit(struct cg_probe_sink *sink);

#endif
