/*
 * reading.h - what a probe read of a cell at one moment, on its way to the cell's ingress thread.
 *
 * The probe's thread makes it, complete: the event's `inputs` and `output` as canonical JSON, the
 * moment, and the figures for the witness. The ingress thread, which alone assigns the run's
 * sequence, stamps, renders and appends it. One block of memory, with one owner at a time.
 */
#ifndef CELLGATE_READING_H
#define CELLGATE_READING_H

#include "base/list.h"
#include "cells/probe_spec.h"
#include "cells/witness.h"

enum cg_reading_kind {
    CG_READING_EVENT, /* becomes an event of its own, and goes to the witness */
    CG_READING_BASE,  /* counters at the run's beginning: to the witness only */
    CG_READING_TURN,  /* no reading, but a moment at which the witness is heard: a corroboration */
};

struct cg_reading {
    struct cg_list in_channel;
    enum cg_reading_kind kind;
    enum cg_probe probe;
    enum cg_facts_kind facts_kind;
    struct cg_facts facts;
    uint64_t read_ns;               /* real time */
    struct cg_bytes inputs, output; /* canonical JSON objects, in `text` */
    char text[];
};

/* A reading that is in no list. NULL: no memory. */
struct cg_reading *cg_reading_new(enum cg_reading_kind kind, struct cg_bytes inputs,
                                  struct cg_bytes output);
void cg_reading_free(struct cg_reading *reading);

#endif
