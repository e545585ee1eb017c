/*
 * overflow.h - a line in the log, now and then, on what a full spool has given up.
 *
 * docs/contract.md section 8: with `when_full: drop_oldest` the spool makes room by itself and only
 * counts (events_dropped, reason overflow); whoever appends says so. Any thread.
 */
#ifndef CELLGATE_OVERFLOW_H
#define CELLGATE_OVERFLOW_H

#include "cellgate/log.h"

struct cg_overflow {
    struct cg_log_limit log_limit;
    _Atomic uint64_t told; /* of what was counted */
};

void cg_overflow_init(struct cg_overflow *overflow);
/* Writes what was given up since the last line, if anything was and a line may go out. */
void cg_overflow_report(struct cg_overflow *overflow, uint64_t now_ns);
/* The same at the end, when no later line would tell of it. */
void cg_overflow_report_rest(struct cg_overflow *overflow);

#endif
