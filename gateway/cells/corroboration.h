/*
 * corroboration.h - what a guest declared and what the host saw, side by side, as an event. Pure.
 *
 * docs/contract.md section 4.1, `corroboration`. Findings are two figures, the rule that put them
 * side by side, and its threshold; there is no verdict beyond the rule:
 *
 *   network_undeclared  no net.connect_attempted, but the host saw packets from the guest
 *   network_unseen      net.connect_attempted, but the host saw no packet from the guest
 *   cpu_undeclared      no process.spawned, but the VMM's cgroup used CPU time
 *   mute_but_busy       nothing declared at all, but the VMM's cgroup used CPU time
 *   oom_killed          processes of the VMM's cgroup were killed for memory
 *   frames_refused      frames of the guest were refused or dropped
 */
#ifndef CELLGATE_CORROBORATION_H
#define CELLGATE_CORROBORATION_H

#include "cells/life.h"
#include "cells/witness.h"

struct cg_corroboration_rules {
    uint64_t packets_min; /* seen, before network_undeclared speaks */
    uint64_t cpu_min_ns;  /* likewise of cpu_undeclared and mute_but_busy */
};

/* What the gateway itself counted of the run. */
struct cg_corroboration_totals {
    uint64_t frames, frame_bytes, frames_rejected;
    uint64_t connections, silences, drops;
};

/* Fills the event; true if there are findings. `over`: it is the last one of the run. */
bool cg_corroborate(const struct cg_witness *witness, const struct cg_corroboration_totals *totals,
                    const struct cg_corroboration_rules *rules, bool over,
                    struct cg_life_event *ret_event);

#endif
