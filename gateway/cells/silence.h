/*
 * silence.h - whether a cell speaks, is idle, or has fallen silent. Pure; time is an argument.
 *
 * docs/contract.md section 4: an idle guest is silent with its connection open, a killed agent is
 * not. All times are monotonic nanoseconds.
 */
#ifndef CELLGATE_SILENCE_H
#define CELLGATE_SILENCE_H

#include "cells/registry.h"

/* What is known of a cell at one moment. */
struct cg_silence_facts {
    uint64_t window_ns;     /* no frame for this long is a silence */
    uint64_t last_frame_ns; /* 0: none yet */
    uint32_t connections;   /* open now */
    bool paused;            /* the gateway itself does not read */
};

enum cg_cell_state cg_silence_state(const struct cg_silence_facts *facts, uint64_t monotonic_ns);

#endif
