/*
 * timers.h - moments in the order of time, one for each thing that waits for one. Pure.
 *
 * A pairing heap of nodes that lie in what they belong to: no allocation, setting and finding the
 * first in constant time, removal in logarithmic time on average. One thread at a time.
 */
#ifndef CELLGATE_TIMERS_H
#define CELLGATE_TIMERS_H

#include <stdint.h>

#define CG_TIMER_NEVER UINT64_MAX

struct cg_timer {
    uint64_t due_ns; /* CG_TIMER_NEVER: in no heap */
    struct cg_timer *child;
    struct cg_timer *next; /* a child of the same parent */
    struct cg_timer *prev; /* likewise; of a first child, the parent */
};

struct cg_timers {
    struct cg_timer *first; /* the earliest, or NULL */
};

void cg_timer_init(struct cg_timer *timer);
/* Sets a timer that may be set already; CG_TIMER_NEVER takes it out. */
void cg_timers_set(struct cg_timers *timers, struct cg_timer *timer, uint64_t due_ns);

#endif
