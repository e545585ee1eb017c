/*
 * backoff.h - how long to wait before trying again. docs/contract.md section 7.
 *
 * Two schedules share one shape: the bound doubles from `initial_ns` to `max_ns` with each attempt.
 * Trouble that passes by itself waits anything from 0 to the bound (full jitter: gateways that fail
 * together must not come back together). Configuration trouble waits between half the bound and the
 * bound, so that a destination that refuses us is never asked in quick succession.
 *
 * Pure: no clock, and randomness from a seeded generator. One thread at a time.
 */
#ifndef CELLGATE_BACKOFF_H
#define CELLGATE_BACKOFF_H

#include <stdint.h>

/* A small generator (SplitMix64). For jitter, never for secrets; any seed will do. */
struct cg_jitter {
    uint64_t state;
};
void cg_jitter_init(struct cg_jitter *jitter, uint64_t seed);
/* Evenly within 0..max, both included. */
uint64_t cg_jitter_upto(struct cg_jitter *jitter, uint64_t max);

struct cg_backoff {
    uint64_t initial_ns, max_ns;
    uint64_t floor_percent; /* of the bound: the least that is waited */
    unsigned attempts;      /* since the last reset */
};

void cg_backoff_init(struct cg_backoff *backoff, uint64_t initial_ns, uint64_t max_ns,
                     uint64_t floor_percent);
/* All is well again: the next delay is drawn from `initial_ns`. */
void cg_backoff_reset(struct cg_backoff *backoff);
/* The delay before the next try; each call counts as one more failure. */
uint64_t cg_backoff_next(struct cg_backoff *backoff, struct cg_jitter *jitter);

#endif
