/*
 * gaps.h - per run, the sequence numbers that are missing, and those that came more than once.
 *
 * docs/contract.md section 3: a run's events are numbered from 1 without a hole, and what the
 * gateway dropped is named by a telemetry.dropped; so a hole without a name is a loss. Memory grows
 * with the number of runs and of holes, not of events, and is bounded. One thread.
 */
#ifndef CELLGATE_GAPS_H
#define CELLGATE_GAPS_H

#include "cellgate/error.h"
#include "event/json.h"

#include <stdint.h>
#include <stdio.h>

struct cg_gaps;

struct cg_gaps_totals {
    uint64_t runs;
    uint64_t missing;  /* sequence numbers */
    uint64_t repeated; /* sequence numbers that came more than once */
};

CG_MUST_USE bool cg_gaps_new(struct cg_gaps **ret_gaps, struct cg_error *err);
void cg_gaps_free(struct cg_gaps *gaps);

/* Takes note of the event at `event`; one without cell, run and sequence is none of our business.
 * Fails if there are more runs or holes than are kept account of, or no memory. */
CG_MUST_USE bool cg_gaps_add(struct cg_gaps *gaps, const struct cg_json *json, uint32_t event,
                             struct cg_error *err);

/* Prints `missing|repeated TAB cell/run TAB first-last` per interval to `out`, runs in order. */
CG_MUST_USE bool cg_gaps_report(struct cg_gaps *gaps, FILE *out, struct cg_gaps_totals *ret_totals,
                                struct cg_error *err);

#endif
