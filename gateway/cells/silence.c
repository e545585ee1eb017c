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
