/*
 * runs.h - the live runs: which sequence and connection of each was committed last.
 *
 * A hash table by (cell, run). As records it is written at the head of each new segment, so that
 * older segments need not be read to know it. Not locked here: the table is changed under the
 * spool's lock; sequence and connection are atomics that anybody reads.
 *
 * The table as payload: entries one after the other, each a struct cg_run_entry followed by the
 * texts of cell and run and zeros up to a multiple of 8.
 *
 * How much of the spool a run holds is known without looking at its events: each commit adds to its
 * bytes, and marks set now and then say which of them a reader's position has passed. So the figure
 * is exact to an eighth of the share, never too low, and costs the same however much is held.
 */
#ifndef CELLGATE_RUNS_H
#define CELLGATE_RUNS_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "spool/losses.h"

#include <stdatomic.h>
#include <stdint.h>

enum { CG_RUNS_MAX = 131072, CG_RUN_ID_BYTES_MAX = 255 };

/* As it lies in the file, little-endian. */
struct cg_run_entry {
    uint64_t sequence;
    uint32_t connection;
    uint8_t cell_len;
    uint8_t run_len;
    uint16_t silence;    /* cg_event_meta.silence, as of the last event that had one; 0: none had */
    uint64_t held_bytes; /* that some reader had still to pass, or more */
    /* CG_RECORD_LOSSES, where `sequence` is the first lost and there is an entry for each range: */
    uint64_t loss_last;
    uint64_t loss_told_index;
    uint8_t loss_reason; /* enum cg_spool_loss_reason */
    uint8_t loss_state;  /* enum cg_loss_state */
    uint8_t reserved[6];
};

/* A committed event of a run, and so a place up to which a reader may have acknowledged it. */
struct cg_run_mark {
    uint64_t index;
    uint64_t sequence;
};

/*
 * Two marks suffice to say, for each reader, a sequence that it has acknowledged at least, which
 * never goes back: the older one is given up only when every reader has passed the newer one.
 */
enum { CG_RUN_MARKS = 2 };

/* Where a run stood when so many of its bytes had been committed; the first is the oldest. */
enum { CG_HELD_MARKS = 16, CG_HELD_MARKS_A_SHARE = 8 };
struct cg_run_held {
    size_t count;
    struct {
        uint64_t index;
        uint64_t bytes;
    } marks[CG_HELD_MARKS];
};

struct cg_spool_run {
    struct cg_spool_run *next; /* of its bucket */
    uint64_t last_index;       /* of its last committed event; under the spool's lock */
    struct cg_run_mark marks[CG_RUN_MARKS];
    uint64_t bytes;           /* committed, as far as is known */
    uint64_t bytes_passed;    /* of them, by every reader */
    struct cg_run_held *held; /* NULL: it never held much */
    struct cg_losses *losses; /* NULL: there never were any */
    _Atomic uint64_t held_bytes;
    _Atomic uint64_t sequence;
    _Atomic uint32_t connection;
    uint32_t hash;
    uint16_t silence; /* under the spool's lock */
    bool over;        /* to be removed by the last who has it open */
    uint32_t opens;   /* how often it is open in this process; 0: only recovered */
    uint8_t cell_len;
    uint8_t run_len;
    char text[]; /* cell, then run */
};

static inline struct cg_bytes cg_run_cell(const struct cg_spool_run *run)
{
    return cg_bytes(run->text, run->cell_len);
}

static inline struct cg_bytes cg_run_id(const struct cg_spool_run *run)
{
    return cg_bytes(run->text + run->cell_len, run->run_len);
}

struct cg_runs {
    struct cg_spool_run **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
};

void cg_runs_init(struct cg_runs *runs);
void cg_runs_fini(struct cg_runs *runs);

/* The run, made if it is new. When there are CG_RUNS_MAX, one that is not open is forgotten for
 * it. NULL: no memory, or all are open. */
struct cg_spool_run *cg_runs_get(struct cg_runs *runs, struct cg_bytes cell, struct cg_bytes run);
void cg_runs_remove(struct cg_runs *runs, struct cg_spool_run *run);

/* Takes up what a committed record says (`silence` 0: nothing); never goes back. `index` is the
 * record's, and every reader has acknowledged what lies below `wanted_index`. */
void cg_run_advance(struct cg_spool_run *run, uint64_t sequence, uint32_t connection,
                    uint16_t silence, uint64_t index, uint64_t wanted_index);
/* A commit has added so many bytes, the last of them in the record of `index`. Before
 * cg_run_advance. `step_bytes` is what lies between marks. */
void cg_run_hold(struct cg_spool_run *run, uint64_t bytes, uint64_t index, uint64_t wanted_index,
                 uint64_t step_bytes);
/* What was known of it before a restart: so many bytes, the last of them in `index`. */
void cg_run_hold_recovered(struct cg_spool_run *run, uint64_t bytes, uint64_t index);
/* Takes off what every reader has passed; how much is held then. */
uint64_t cg_run_held_bytes(struct cg_spool_run *run, uint64_t wanted_index);

/* A sequence up to which all committed events of the run lie below `index`: the last one if that
 * is so, else one that may be too low. */
uint64_t cg_run_sequence_below(const struct cg_spool_run *run, uint64_t index);

/* The run if it is there. */
struct cg_spool_run *cg_runs_find(const struct cg_runs *runs, struct cg_bytes cell,
                                  struct cg_bytes run);

bool cg_run_write(const struct cg_spool_run *run, struct cg_buf *out);
/* The same for all runs, in parts of at most `part_bytes_max`; the ends of the parts in `out` are
 * appended to `ends` as size_t. */
bool cg_runs_write(const struct cg_runs *runs, size_t part_bytes_max, struct cg_buf *out,
                   struct cg_buf *ends);
/* The payload of CG_RECORD_LOSSES: an entry for each range of each run, in parts as above; none for
 * none. Forgets those that were told and passed. */
bool cg_runs_write_losses(const struct cg_runs *runs, uint64_t wanted_index, size_t part_bytes_max,
                          struct cg_buf *out, struct cg_buf *ends);
/* The same for those only that have not been told. */
bool cg_runs_write_unfinished(const struct cg_runs *runs, size_t part_bytes_max, struct cg_buf *out,
                              struct cg_buf *ends);
/* The events with indices of [first, end) are lost, and what they told is untold. */
void cg_runs_untell(const struct cg_runs *runs, uint64_t first, uint64_t end);
/* Takes up such an entry. False: no memory. */
CG_MUST_USE bool cg_run_apply_loss(struct cg_spool_run *run, const struct cg_run_entry *entry);

/* Calls `visit` for each run. */
void cg_runs_visit(const struct cg_runs *runs,
                   void (*visit)(void *context, struct cg_spool_run *run), void *context);

/* Cuts the next entry off the front of a payload. False at its end, or if it is cut. */
bool cg_run_entry_next(struct cg_bytes *payload, struct cg_run_entry *ret_entry,
                       struct cg_bytes *ret_cell, struct cg_bytes *ret_run);

#endif
