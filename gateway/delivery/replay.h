/*
 * replay.h - dead letters that are sent again, on their exporter's worker between its batches.
 *
 * docs/contract.md section 7. Somebody marked letters (dead_letters.h); the worker takes them in
 * the order of the file and sends their exact bytes, with their ids, through the same exporter. A
 * letter that the destination acknowledges is marked as sent, on disk, and its line goes when there
 * is nothing more to send. One that it refuses once more, alone, is a dead letter as before. A kill
 * at any instant leaves each letter in the file, or acknowledged: at least once, never lost.
 *
 * Letters are suspects by nature, so they never hold up the events of the spool: a try that fails
 * puts off the next one, on a schedule of its own, and changes nothing in the plan. While the
 * destination is in trouble nothing is replayed.
 *
 * The worker's alone.
 */
#ifndef CELLGATE_REPLAY_H
#define CELLGATE_REPLAY_H

#include "delivery/backoff.h"
#include "delivery/dead_letters.h"

enum { CG_REPLAY_EVENTS_MAX = 64, CG_REPLAY_BYTES_MAX = 1 << 20 };

struct cg_delivery;

struct cg_replay {
    bool wanted;            /* there may be letters to send */
    uint64_t not_before_ns; /* monotonic */
    struct cg_json json;

    struct cg_letters_taken taken;
    struct cg_letter_place places[CG_REPLAY_EVENTS_MAX];
    struct cg_event events[CG_REPLAY_EVENTS_MAX];
    size_t at;   /* those before it are settled */
    bool single; /* one of those taken was refused: one at a time */

    uint64_t failures; /* in a row, of what is at `at` */
    struct cg_backoff backoff, hold;
    uint64_t sent, refused; /* since it began, for the log */
};

void cg_replay_init(struct cg_delivery *delivery);
void cg_replay_fini(struct cg_delivery *delivery);
/* Letters may have been marked: look for them from the beginning. */
void cg_replay_want(struct cg_delivery *delivery);
/* Is there something to do now? */
bool cg_replay_is_due(struct cg_delivery *delivery);
/* Sends one slice, or finds that there is nothing more. */
void cg_replay_step(struct cg_delivery *delivery);

#endif
