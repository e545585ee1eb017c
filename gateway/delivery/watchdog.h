/*
 * watchdog.h - is an exporter getting anywhere? Pure: time comes as an argument.
 *
 * docs/contract.md section 7. Progress is an answer of the destination, whatever it says, or an
 * event that is done with. An exporter that has a backlog and makes none for `limit_ns` is stalled:
 * it hangs beyond its own timeout, or nothing ever answers. Then its connection is to be rebuilt,
 * and again each time that another limit passes.
 *
 * Waiting that somebody asked for (Retry-After, the delay behind a refusal, lingering, a full
 * dead-letter store) does not count; the worker says until when it waits so.
 *
 * One thread at a time.
 */
#ifndef CELLGATE_WATCHDOG_H
#define CELLGATE_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct cg_watchdog {
    uint64_t limit_ns; /* 0: never stalled */
    uint64_t from_ns;  /* since when there is nothing to show */
    uint64_t since_ns; /* stalled: the last progress there was; 0: not stalled */
};

/* What is known of the worker now; all times are monotonic. */
struct cg_watchdog_view {
    uint64_t now_ns;
    uint64_t progress_ns;      /* when it last made any */
    uint64_t excused_until_ns; /* it waits on purpose; 0: it does not */
    bool backlog;
};

enum cg_watchdog_turn {
    CG_WATCHDOG_NOTHING,
    CG_WATCHDOG_STALLS,    /* it has begun to; rebuild */
    CG_WATCHDOG_REBUILD,   /* it still does; rebuild once more */
    CG_WATCHDOG_RECOVERED, /* it does not any more */
};

void cg_watchdog_init(struct cg_watchdog *watchdog, uint64_t limit_ns, uint64_t now_ns);
enum cg_watchdog_turn cg_watchdog_look(struct cg_watchdog *watchdog,
                                       const struct cg_watchdog_view *view);
/* How long to wait before the next look: often enough to be no later than an eighth of the limit.
 */
uint64_t cg_watchdog_interval_ns(const struct cg_watchdog *watchdog);

#endif
