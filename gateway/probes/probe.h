/*
 * probe.h - how a host probe is made, and what it works with.
 *
 * docs/contract.md section 4 (host.v1.…), docs/probes.md. A probe is one file, probe_<name>.c, that
 * ends in a struct cg_probe_ops; probes.c has the table. All runs on the probes' one thread, which
 * must not wait for anybody: what does not come at once is CG_PROBE_LATER, and has a deadline.
 *
 * A *watch* is one cell, an *instance* one probe of it. The thread asks an instance for a reading
 * when its interval has passed, when the probe says that something happened (cg_probe_hurry), at
 * the beginning of the run, for the counters to start from, and at its end.
 */
#ifndef CELLGATE_PROBE_H
#define CELLGATE_PROBE_H

#include "base/loop.h"
#include "base/timers.h"
#include "cellgate/metrics.h"
#include "cells/registry.h"
#include "cells/witness.h"
#include "probes/output.h"

/* What became of a reading. From the first error on, each is a reason in metrics and pages. */
enum cg_probe_outcome {
    CG_PROBE_READ,
    CG_PROBE_NO_NEWS, /* nothing is wrong, and there is nothing to tell */
    CG_PROBE_LATER,   /* cg_probe_answered will be called, or the deadline passes */
    CG_PROBE_MISSING,
    CG_PROBE_DENIED,
    CG_PROBE_UNREADABLE,
    CG_PROBE_MALFORMED,
    CG_PROBE_TIMEOUT,
    CG_PROBE_UNSUPPORTED,
    CG_PROBE_OUTCOME_COUNT
};
/* "missing" …; for errors. */
const char *cg_probe_reason(enum cg_probe_outcome outcome);

struct cg_probe_instance; /* probes.c; what a probe is told of, and names when it calls back */

/* Why a reading is asked for. */
enum cg_probe_why {
    CG_PROBE_BASE, /* the run begins: counters only */
    CG_PROBE_TICK,
    CG_PROBE_HURRIED, /* the probe said so: NO_NEWS if it was nothing after all */
    CG_PROBE_LAST,    /* the run ends */
};
const char *cg_probe_why_name(enum cg_probe_why why);

struct cg_probe_turn {
    enum cg_probe_why why;
    enum {
        CG_PROBE_FIRST,    /* may answer LATER */
        CG_PROBE_ANSWERED, /* what it waited for is there; may answer LATER again */
        CG_PROBE_LATE,     /* the deadline has passed: it makes do with what it has */
    } stage;
    uint64_t now_ns;      /* monotonic */
    uint64_t realtime_ns; /* of this reading */
    uint64_t interval_ns;
};

/* What a reading fills; cg_probe_emit makes it one, and empties it for another. */
struct cg_probe_sink {
    struct cg_output inputs, output;
    struct cg_facts facts;
    enum cg_facts_kind facts_kind;
    uint64_t read_ns; /* real time; the turn's, unless the probe sets it */
    void (*emit)(struct cg_probe_sink *sink);
};

static inline void cg_probe_emit(struct cg_probe_sink *sink)
{
    sink->emit(sink);
}

/* What probes share with the thread that runs them. */
struct cg_probe_host {
    struct cg_loop loop;
    const struct cg_probe_policy *policy;
    const struct cg_clock *clock;
};

/* A descriptor that the thread watches for a probe. */
struct cg_probe_source {
    void (*serve)(void *context);
    void *context;
};
/* The source stays where it is until it is removed. */
CG_MUST_USE bool cg_probe_host_add(struct cg_probe_host *host, int fd,
                                   struct cg_probe_source *source, struct cg_error *err);
void cg_probe_host_remove(struct cg_probe_host *host, int fd);

/* Something happened to what the instance looks at: it is read soon, at most once a second. */
void cg_probe_hurry(struct cg_probe_instance *instance);
/* What an instance waits for is there. Nothing happens if it does not wait (any more). */
void cg_probe_answered(struct cg_probe_instance *instance);

struct cg_probe_ops {
    enum cg_probe probe;
    enum cg_metric_series readings;
    enum cg_metric_series errors; /* of CG_PROBE_MISSING; the others follow in their order */
    /* What all instances share. */
    CG_MUST_USE bool (*start)(struct cg_probe_host *host, void **ret_shared, struct cg_error *err);
    void (*stop)(void *shared);
    /* `spec` is valid until detach. NULL: no memory. */
    void *(*attach)(void *shared, struct cg_probe_instance *instance,
                    const struct cg_probe_spec *spec);
    void (*detach)(void *state);
    /* Emits what it reads, and answers CG_PROBE_READ if it did; a BASE reading fills only
     * sink->facts, and emits nothing. */
    enum cg_probe_outcome (*read)(void *state, const struct cg_probe_turn *turn,
                                  struct cg_probe_sink *sink, struct cg_error *err);
};

extern const struct cg_probe_ops cg_probe_cgroup;
extern const struct cg_probe_ops cg_probe_fc_metrics;
extern const struct cg_probe_ops cg_probe_nftables;
extern const struct cg_probe_ops cg_probe_tap_link;

#endif
