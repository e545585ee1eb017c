/*
 * probes.h - the host's own witness: one thread that reads what the host knows of each cell.
 *
 * docs/contract.md sections 4 and 6, docs/probes.md. Cells come and go by ingress, which the probes
 * watch; what they read goes to the cell's ingress thread (cg_ingress_observe), which alone gives
 * events their order. The thread never waits for anybody but for its own descriptors and timers, so
 * a cgroup that is gone or a VMM that hangs costs a counter and a line in the log.
 */
#ifndef CELLGATE_PROBES_H
#define CELLGATE_PROBES_H

#include "cellgate/clock.h"
#include "ingress/ingress.h"
#include "probes/probe.h"

struct cg_probes;

/* Borrowed until stop. */
struct cg_probes_config {
    struct cg_probe_policy policy;
    struct cg_registry *registry; /* whose cells are watched from the start */
    struct cg_ingress *ingress;   /* NULL in tests: readings go to `observe` */
    void (*observe)(void *context, struct cg_cell *cell, struct cg_reading *reading);
    void *context;
    const struct cg_clock *clock;
};

CG_MUST_USE bool cg_probes_start(const struct cg_probes_config *config,
                                 struct cg_probes **ret_probes, struct cg_error *err);
/* Ends the readings; before ingress drains. Cells are described as having no probes from here on.
 * NULL, and a second time, is fine. */
void cg_probes_stop(struct cg_probes *probes);
/* When nobody describes cells any more. Stops it if that was not done. NULL is fine. */
void cg_probes_free(struct cg_probes *probes);

/* Any thread: the cell is there, and listens. Nothing happens for one without probes. */
void cg_probes_join(struct cg_probes *probes, struct cg_cell *cell);
/* Any thread: reads everything of the cell once more and lets it go. Returns when the readings are
 * handed over, or the deadline for them has passed. */
void cg_probes_leave(struct cg_probes *probes, struct cg_cell *cell);

/* Any thread: appends the cell's probes as a JSON array: interval, counts, last reading, last
 * error. */
void cg_probes_describe(struct cg_probes *probes, const struct cg_cell *cell, struct cg_buf *out);

#endif
