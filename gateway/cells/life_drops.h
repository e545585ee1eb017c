/*
 * life_drops.h - what was dropped and is to be told: counts by reason, ranges of sequences. For
 * life.c, and nobody else.
 */
#ifndef CELLGATE_LIFE_DROPS_H
#define CELLGATE_LIFE_DROPS_H

#include "cells/life.h"

struct cg_life_range {
    uint64_t first, last;
    enum cg_life_drop reason;
};

struct cg_life_drops {
    uint64_t told_ns;               /* 0: never yet */
    uint64_t counts[CG_DROP_COUNT]; /* to be told */
    /* In their order; those of one reason do not touch each other. */
    struct cg_life_range *ranges;
    size_t ranges_count, ranges_capacity;
    bool losses;        /* some are of the spool's losses … */
    bool short_of_room; /* … but not all of those that were taken */
};

/* True if there is something to tell; NULL has nothing. */
bool cg_life_drops_pending(const struct cg_life_drops *drops);
/* Fills event: all counts, and as many ranges as it holds. */
void cg_life_drops_tell(const struct cg_life_drops *drops, struct cg_life_event *event);
/* Takes off what the event told. */
void cg_life_drops_told(struct cg_life_drops *drops, const struct cg_life_event *event,
                        uint64_t now_ns);

/* --- life_event.c: the members of events --- */

/* Appends a member; keys come sorted. */
void cg_life_event_u64(struct cg_life_event *event, struct cg_bytes key, uint64_t value);
/* A text that needs no escapes. */
void cg_life_event_text(struct cg_life_event *event, struct cg_bytes key, const char *text);
/* What is appended to `text` from `open` until `close` is the member's value. */
void cg_life_event_open(struct cg_life_event *event, struct cg_bytes key);
void cg_life_event_append(struct cg_life_event *event, struct cg_bytes piece);
void cg_life_event_append_u64(struct cg_life_event *event, uint64_t value);
void cg_life_event_close(struct cg_life_event *event);

#endif
