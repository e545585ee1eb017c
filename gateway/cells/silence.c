#include "cells/silence.h"

enum cg_cell_state cg_silence_state(const struct cg_silence_facts *facts, uint64_t monotonic_ns)
{
    if (facts->paused) {
        return CG_CELL_PAUSED; /* nobody can tell whether the guest speaks */
    }
    if (facts->last_frame_ns == 0) {
        return CG_CELL_WAITING;
    }
    /* A frame may have been read after the caller looked at its clock. */
    uint64_t elapsed_ns =
        monotonic_ns > facts->last_frame_ns ? monotonic_ns - facts->last_frame_ns : 0;
    if (elapsed_ns < facts->window_ns) {
        return CG_CELL_LIVE;
    }
    return facts->connections > 0 ? CG_CELL_IDLE : CG_CELL_SILENT;
}

const char *cg_cell_state_name(enum cg_cell_state state)
{
    static const char *const names[CG_CELL_STATE_COUNT] = {
        [CG_CELL_WAITING] = "waiting", [CG_CELL_LIVE] = "live",     [CG_CELL_IDLE] = "idle",
        [CG_CELL_SILENT] = "silent",   [CG_CELL_PAUSED] = "paused",
    };
    CG_ASSERT(state < CG_CELL_STATE_COUNT);
    return names[state];
}

enum cg_cell_state cg_cell_state(const struct cg_cell *cell, uint64_t monotonic_ns)
{
    const struct cg_silence_facts facts = {
        .window_ns = cell->keepalive_window_ns,
        .last_frame_ns = atomic_load_explicit(&cell->last_frame_ns, memory_order_relaxed),
        .connections = atomic_load_explicit(&cell->connections, memory_order_relaxed),
        .paused = atomic_load_explicit(&cell->paused, memory_order_relaxed),
    };
    return cg_silence_state(&facts, monotonic_ns);
}
