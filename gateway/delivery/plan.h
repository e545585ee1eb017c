/*
 * plan.h - outcome to action: what to send next, and what a verdict means for the events sent.
 *
 * docs/contract.md section 7. The worker peeks a window of events; the plan says which slice of it
 * to send, takes the verdict, and says how many events are done with, whether the first of them
 * becomes a dead letter, and how long to wait. Offsets count from the oldest event that is not
 * acknowledged, the head.
 *
 *   plain      the whole window, as far as the size that is known to pass allows
 *   bisecting  a slice was refused: halves, until the culprit stands alone
 *   probing    the head was refused alone and nothing has been accepted since the trouble began:
 *              the events behind it are tried one by one, to learn whether the head is at fault or
 *              the destination
 *
 * An event is given up only when the destination takes another one and refuses this one. So a
 * destination that refuses everything costs nothing but time: that is configuration trouble. One
 * acceptance convicts at most CG_PLAN_CONVICTIONS_MAX events, all of the batch it belongs to; then
 * the destination must show itself healthy again. An event accepted ahead of the head is remembered
 * in a 64-bit map and not sent again; more than 63 refused events in a row are configuration
 * trouble too.
 *
 * A repeated suspicious answer (HTTP 500) is weaker evidence than a refusal. It bisects only after
 * `suspect_after` of them in a row, and convicts a single event only if it fails as many times
 * alone, a neighbour is accepted, and it then fails once more: an outage convicts nobody.
 *
 * An outage (CG_PLAN_OUTAGE_FAILURES waits in a row) leaves the way half open: what is tried then
 * is a small batch from the head, and once the destination takes it the batches double until they
 * are as large as before (slow start). A destination that comes back is not met with all at once,
 * and one that is too slow for a full batch gets smaller ones. A slice under suspicion stays as it
 * is.
 *
 * Pure: no I/O, no clock, no log; the jitter is seeded. One thread at a time.
 */
#ifndef CELLGATE_PLAN_H
#define CELLGATE_PLAN_H

#include "cellgate/exporter.h"
#include "delivery/backoff.h"

enum {
    CG_PLAN_WINDOW_EVENTS = 64,  /* as far as probing looks: the bits of the map */
    CG_PLAN_PROBES_A_ROUND = 8,  /* refused neighbours before it holds */
    CG_PLAN_CONVICTIONS_MAX = 8, /* on the strength of one acceptance */
    CG_PLAN_OUTAGE_FAILURES = 2, /* in a row; a single one may be the network's hiccup */
    CG_PLAN_HALF_OPEN_EVENTS = 8,
};

struct cg_plan_limits {
    uint64_t batch_events, batch_bytes;
    uint64_t suspect_after;
    uint64_t backoff_initial_ns, backoff_max_ns;
    uint64_t hold_initial_ns, hold_max_ns;
    uint64_t retry_after_max_ns;
    uint64_t jitter_seed;
};

enum cg_plan_phase { CG_PLAN_PLAIN, CG_PLAN_BISECTING, CG_PLAN_PROBING };

/* Filled by cg_plan_init; its members are for the plan and for tests. */
struct cg_plan {
    struct cg_plan_limits limits;
    struct cg_backoff backoff, hold;
    struct cg_jitter jitter;
    enum cg_plan_phase phase;

    /* The slice that was given out last. */
    uint64_t offset, count, bytes;
    uint64_t repeats; /* suspicious answers to it in a row */

    uint64_t failures; /* waits since the destination last accepted anything */
    uint64_t ramp;     /* half open and slow start: events a slice may have; 0: no limit */

    /* Trouble: it begins with a slice that is refused or too large, and is over when the events of
     * that slice are all done with. */
    uint64_t trouble;      /* those left of them, from the head; 0: none */
    uint64_t suspects;     /* bisecting: so many from the head hold a culprit */
    bool suspicion;        /* it is about more than size */
    uint64_t convictions;  /* left on the strength of what was accepted since that began */
    uint64_t bytes_before; /* bytes_limit when it began */
    uint64_t ahead;        /* bit k: the event at offset k is delivered already */

    /* Probing. */
    bool doubtful;        /* the head's answers were suspicious, not a refusal */
    bool vouched;         /* a neighbour was accepted after the head had failed alone */
    bool alone;           /* the head has no neighbour that could be tried */
    bool head_next;       /* after each wait the head is tried first: order, if it can be had */
    uint64_t probe;       /* offset of the next neighbour to try */
    uint64_t probes_left; /* in this round */

    /* The size of a slice. */
    uint64_t bytes_limit;   /* what is allowed now */
    uint64_t bytes_passed;  /* the largest that passed; 0: unknown */
    uint64_t passes;        /* full slices delivered since the limit moved */
    uint64_t passes_wanted; /* before it grows; more after each disappointment */
};

void cg_plan_init(struct cg_plan *plan, const struct cg_plan_limits *limits);

enum cg_plan_action {
    CG_PLAN_SEND, /* `count` events from `offset` */
    CG_PLAN_SKIP, /* the head was delivered ahead of its turn: acknowledge it, send nothing */
    CG_PLAN_MORE, /* a larger window is wanted: peek again, or else cg_plan_starved */
};

struct cg_plan_next {
    enum cg_plan_action action;
    uint64_t offset, count, bytes;
};

enum cg_plan_wait { CG_PLAN_GO_ON, CG_PLAN_BACKOFF, CG_PLAN_HOLD };

struct cg_plan_step {
    uint64_t ack;     /* events from the head that are done with */
    bool dead_letter; /* ack is 1, and the head must be kept as a dead letter before */
    bool until_more;  /* the wait ends early when another event comes */
    enum cg_plan_wait wait;
    uint64_t delay_ns;
};

/* How much to peek when a new window is needed. */
void cg_plan_window(const struct cg_plan *plan, uint64_t *ret_events, uint64_t *ret_bytes);
/* The window starts at the head and is not empty. It stays the same until it is used up or MORE is
 * asked for, so that after a wait the same slice comes out. With SKIP the plan counts the head as
 * acknowledged. */
struct cg_plan_next cg_plan_next(struct cg_plan *plan, const struct cg_batch *window);
/* What became of the slice given out last. The plan counts `ack` events as acknowledged. */
struct cg_plan_step cg_plan_judge(struct cg_plan *plan, const struct cg_verdict *verdict);
/* MORE was asked for twice: there is no larger window to be had. */
struct cg_plan_step cg_plan_starved(struct cg_plan *plan);
/* How many of `count` events from the head, at most, the destination does not have yet. */
uint64_t cg_plan_undelivered(const struct cg_plan *plan, uint64_t count);
/* `count` undelivered events at the head are given up for a reason that is not the destination's
 * (their age): the plan counts them as acknowledged. */
void cg_plan_give_up(struct cg_plan *plan, uint64_t count);
/* The head is not the event it was: the spool gave up what was there. What was known of the events
 * behind it is forgotten, so that none is taken for delivered that is not. */
void cg_plan_lost_place(struct cg_plan *plan);
/* Something on our side failed (a disk): how long to wait before trying that again. */
struct cg_plan_step cg_plan_pause(struct cg_plan *plan, enum cg_plan_wait wait);

#endif
