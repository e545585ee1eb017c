/*
 * silence.h - whether a cell speaks, is idle, or has fallen silent. Pure; time is an argument.
 *
 * docs/contract.md section 4: an idle guest is silent with its connection open, a killed agent is
 * not. The one place that judges: states (/v1/cells, metrics) and events (life.h) both ask here.
 * All times are monotonic nanoseconds.
 */
#ifndef CELLGATE_SILENCE_H
#define CELLGATE_SILENCE_H

#include "cells/registry.h"

/* What is known of a cell at one moment. */
struct cg_silence_facts {
    uint64_t window_ns;     /* no frame for this long is a silence */
    uint64_t last_frame_ns; /* 0: none yet */
    /* No earlier than here does a silence begin: registration and boot grace, or when the gateway
     * went on reading after a pause of its own. */
    uint64_t awaited_from_ns;
    uint32_t connections;        /* open now */
    uint32_t connections_opened; /* in this run, ever */
    bool paused;                 /* the gateway itself does not read */
};

/* connectionState of a silence. */
enum cg_silence_connection {
    CG_SILENCE_NEVER,  /* none was ever opened */
    CG_SILENCE_CLOSED, /* none is open */
    CG_SILENCE_OPEN,
    CG_SILENCE_CONNECTION_COUNT
};

struct cg_silence_facts cg_silence_facts_of(const struct cg_cell *cell);

enum cg_cell_state cg_silence_state(const struct cg_silence_facts *facts, uint64_t monotonic_ns);
/* From when a silence counts; it is one after the window. */
uint64_t cg_silence_since(const struct cg_silence_facts *facts);
enum cg_silence_connection cg_silence_connection(const struct cg_silence_facts *facts);
/* "never", "closed" or "open". */
const char *cg_silence_connection_name(enum cg_silence_connection connection);

#endif
