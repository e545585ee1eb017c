#include "cells/silence.h"

uint64_t cg_silence_since(const struct cg_silence_facts *facts)
{
    return facts->last_frame_ns > facts->awaited_from_ns ? facts->last_frame_ns
                                                         : facts->awaited_from_ns;
}

enum cg_silence_connection cg_silence_connection(const struct cg_silence_facts *facts)
{
    if (facts->connections > 0) {
        return CG_SILENCE_OPEN;
    }
    return facts->connections_opened > 0 ? CG_SILENCE_CLOSED : CG_SILENCE_NEVER;
}

const char *cg_silence_connection_name(enum cg_silence_connection connection)
{
    static const char *const names[CG_SILENCE_CONNECTION_COUNT] = {
        [CG_SILENCE_NEVER] = "never",
        [CG_SILENCE_CLOSED] = "closed",
        [CG_SILENCE_OPEN] = "open",
    };
    CG_ASSERT(connection < CG_SILENCE_CONNECTION_COUNT);
    return names[connection];
}

enum cg_cell_state cg_silence_state(const struct cg_silence_facts *facts, uint64_t monotonic_ns)
{
    if (facts->paused) {
        return CG_CELL_PAUSED; /* nobody can tell whether the guest speaks */
    }
    uint64_t since_ns = cg_silence_since(facts);
    if (since_ns == 0) {
        return CG_CELL_WAITING; /* registered this moment */
    }
    /* A frame may have been read after the caller looked at its clock. */
    uint64_t elapsed_ns = monotonic_ns > since_ns ? monotonic_ns - since_ns : 0;
    if (elapsed_ns < facts->window_ns) {
        return facts->last_frame_ns == 0 ? CG_CELL_WAITING : CG_CELL_LIVE;
    }
    return cg_silence_connection(facts) == CG_SILENCE_OPEN ? CG_CELL_IDLE : CG_CELL_SILENT;
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

struct cg_silence_facts cg_silence_facts_of(const struct cg_cell *cell)
{
    return (struct cg_silence_facts){
        .window_ns = atomic_load_explicit(&cell->keepalive_window_ns, memory_order_relaxed),
        .last_frame_ns = atomic_load_explicit(&cell->last_frame_ns, memory_order_relaxed),
        .awaited_from_ns = atomic_load_explicit(&cell->awaited_from_ns, memory_order_relaxed),
        .connections = atomic_load_explicit(&cell->connections, memory_order_relaxed),
        .connections_opened = atomic_load_explicit(&cell->connections_opened, memory_order_relaxed),
        .paused = atomic_load_explicit(&cell->paused, memory_order_relaxed),
    };
}

enum cg_cell_state cg_cell_state(const struct cg_cell *cell, uint64_t monotonic_ns)
{
    const struct cg_silence_facts facts = cg_silence_facts_of(cell);
    return cg_silence_state(&facts, monotonic_ns);
}
