/*
 * tap.h - looking at events as they are committed, without a claim to them.
 *
 * A tap is no reader: it has no name, no position that is saved, and holds no segment. It begins
 * with the next event, sees what is in the spool's tail in memory, and loses what has left the tail
 * before it looked, which it is told. For taps the tail keeps what the readers have passed already,
 * up to CG_SPOOL_TAP_LAG_BYTES_MAX; commits do nothing for taps, and wake none. So nobody waits for
 * a tap that looks seldom or never, and it costs that memory at most, once for all taps.
 *
 * A tap belongs to one thread, which looks again and again.
 */
#ifndef CELLGATE_TAP_H
#define CELLGATE_TAP_H

#include "spool/spool.h"

enum {
    CG_SPOOL_TAPS_MAX = 8,
    CG_SPOOL_TAP_EVENTS_MAX = 256, /* of one look */
    CG_SPOOL_TAP_LAG_BYTES_MAX = 4 * 1024 * 1024,
};

struct cg_spool_tap;

/* Fails if there are CG_SPOOL_TAPS_MAX already (*ret_too_many), or without memory. */
CG_MUST_USE bool cg_spool_tap_open(struct cg_spool *spool, struct cg_spool_tap **ret_tap,
                                   bool *ret_too_many, struct cg_error *err);
void cg_spool_tap_close(struct cg_spool_tap *tap);

/* Borrows the next events, 0 if there are none now. *ret_skipped says how many before them were
 * lost to this tap. If there are any, cg_spool_tap_pass follows, soon: they are borrowed memory. */
CG_MUST_USE size_t cg_spool_tap_look(struct cg_spool_tap *tap, const struct cg_event **ret_events,
                                     uint64_t *ret_skipped);
/* Gives them back, and goes on behind the first `count` of them. */
void cg_spool_tap_pass(struct cg_spool_tap *tap, size_t count);

#endif
