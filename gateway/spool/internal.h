/*
 * internal.h - what the files of the spool share.
 *
 * Two locks, taken in this order:
 *   append_lock  held over a commit's write to the file, and by whoever begins or drops segments
 *   lock         held for moments only: readers, status, run table, tail
 * The list of segments, and `current`, change under both, so either suffices to read them. So do
 * the ends of `current`. A disk that stalls stalls writers, not readers that keep up, nor /metrics.
 */
#ifndef CELLGATE_SPOOL_INTERNAL_H
#define CELLGATE_SPOOL_INTERNAL_H

#include "cellgate/limits.h"
#include "spool/positions.h"
#include "spool/record.h"
#include "spool/runs.h"
#include "spool/scan.h"
#include "spool/segment.h"
#include "spool/spool.h"
#include "spool/tail.h"
#include "spool/tap.h"

#include <pthread.h>

enum {
    CG_SPARES_MAX = 2,
    CG_READERS_MAX = CG_EXPORTERS_MAX,
    CG_PIECES_MAX = 512, /* stretches of contiguous records that one peek may join */
};

/* Consecutive staged events of one run: the run is brought up to date once for them. */
struct cg_touch {
    struct cg_spool_run *run;
    uint32_t first_record; /* where in the block its first and last records start */
    uint32_t last_record;
};

enum { CG_STAGED_EVENTS_MAX = CG_BLOCK_BYTES / CG_RECORD_HEADER_BYTES };

struct cg_spool_writer {
    struct cg_spool *spool;
    struct cg_block *block; /* NULL before the first event */
    uint32_t staged;        /* where in the block the first staged record starts */
    uint32_t fill;          /* and where they end */
    size_t events;
    size_t touch_first, touch_count; /* touches[touch_first .. touch_count) are not committed */
    struct cg_touch touches[CG_STAGED_EVENTS_MAX];
};

/* Records that the last peek handed out and that lie behind each other in the file. */
struct cg_piece {
    struct cg_block *block; /* on loan; NULL: the reader's own buffer */
    const char *data;
    struct cg_position position; /* of data[0] */
    size_t end_event;            /* in the batch: behind the last event of this piece */
};

/* Where a reader could not read, and how often it has tried there. */
struct cg_unreadable {
    uint64_t segment, offset;
    unsigned tries;
};

struct cg_spool_reader {
    struct cg_spool *spool;
    char name[CG_EXPORTER_NAME_BYTES_MAX + 1];

    /* Under the lock. */
    struct cg_position position; /* acknowledged up to here */
    struct cg_position saved;
    uint64_t oldest_received_ns; /* of the event at the position; 0: none there */
    uint64_t quota_bytes;        /* 0: none */
    uint64_t dropped_events;
    pthread_cond_t wake;
    bool waiting;
    bool interrupted;
    uint64_t wanted_events, wanted_bytes;

    /* The reader's thread's own. */
    struct cg_event *events;
    size_t events_capacity;
    struct cg_batch batch;
    size_t acked;          /* of the batch */
    uint64_t damage_index; /* damage below it was counted; under the lock */
    struct cg_piece *pieces;
    size_t piece_count;
    struct cg_position cursor; /* behind the batch */
    struct cg_scan scan;
    uint64_t scan_segment; /* whose file scan.fd is */
    uint64_t scan_salt;
    struct cg_unreadable unreadable;
};

/* A reader that was closed in this process: it may be opened again, and still holds its segments.
 */
struct cg_parked {
    char name[CG_EXPORTER_NAME_BYTES_MAX + 1];
    struct cg_position position; /* where it goes on, also where nothing is saved */
};

/* Indices without records. */
struct cg_gap {
    uint64_t first, end;
    bool uncertain; /* skipped to be sure: whether and how many events there were is not known */
};
enum { CG_GAPS_MAX = 32 };

enum { CG_NOTICES_MAX = 32, CG_SKIP = 1 << 20 }; /* docs/contract.md section 3 */

struct cg_spool {
    struct cg_spool_config config;
    uint64_t bytes_max;
    struct cg_segment_place place;
    int dir_fd, lock_fd, positions_fd; /* -1 in memory */

    pthread_mutex_t append_lock;
    struct cg_segment *spares[CG_SPARES_MAX]; /* passed by all; oldest first. append_lock */
    size_t spare_count;
    _Alignas(8) char internal_record[CG_RECORD_BYTES_MAX]; /* append_lock */

    pthread_mutex_t lock;
    struct cg_segment **segments; /* by first index */
    size_t segment_count, segment_capacity;
    struct cg_segment *current; /* the last of them while it takes records; else NULL */
    uint64_t next_index;
    uint64_t end_bytes; /* base + end of the last segment */
    struct cg_runs runs;
    struct cg_tail tail;
    struct cg_spool_reader *readers[CG_READERS_MAX];
    size_t reader_count;
    struct cg_parked parked[CG_READERS_MAX];
    size_t parked_count;
    struct cg_spool_tap *taps[CG_SPOOL_TAPS_MAX];
    size_t tap_count;
    size_t writer_count;
    bool appending; /* there was a commit: all readers are open, and what they passed may go */
    struct cg_gap counted[CG_GAPS_MAX]; /* damage that is in the metrics already: a ring */
    size_t counted_count;
    bool appendable;
    char last_error[CG_ERROR_TEXT_MAX];
    double growth;     /* bytes per second, smoothed */
    uint64_t fs_room;  /* bytes that may still be added before the reserve, as last looked */
    bool filling_told; /* that it will be full soon */
    bool degraded;     /* told: the disk refuses */

    /* Sequences of runs may have been used that are not known any more (recovery.c). */
    bool unsure;
    enum cg_spool_loss_reason unsure_reason;
    bool head_due; /* what recovery has found out stands at the head of no segment yet */
    _Atomic uint64_t losses_generation;

    struct cg_gap gaps[CG_GAPS_MAX]; /* holes between segments, by index; made by recovery */
    size_t gap_count;
    struct cg_gap unwritten_gaps[CG_GAPS_MAX]; /* that no gap record names yet */
    size_t unwritten_gap_count;
    struct cg_gap holes[CG_GAPS_MAX]; /* found by readers, and not named yet (naming.c) */
    size_t hole_count;
    struct cg_spool_notice notices[CG_NOTICES_MAX]; /* a ring, for the committer to tell */
    size_t notice_first, notice_count;
    uint64_t notices_suppressed;

    /* The committer (committer.c). Under the lock. */
    pthread_t committer;
    pthread_cond_t committer_wake;
    bool committer_idle;
    _Atomic uint64_t committer_turns;
    bool dirty;
    bool stopping;
    bool dir_dirty;     /* a segment was made or renamed since the directory was synced */
    bool rotate_wanted; /* a sync failed: do not append behind what may be gone */
    bool sync_failed;   /* since it was last mended */
    bool unsynced;      /* a sync failed once: what was written is not all known to be on disk */
    struct cg_histogram sync_durations;
    pthread_mutex_t save_lock; /* one saver of positions at a time; taken before `lock` */
};

/* --- spool.c --- */

/* Nothing is opened yet; NULL without memory. */
struct cg_spool *cg_spool_new(const struct cg_spool_config *config);
/* Frees what there is; the committer does not run. */
void cg_spool_free(struct cg_spool *spool);

/* --- segments.c: append_lock held, lock not --- */

/* Makes sure there is a current segment with room for a record of `bytes`. */
CG_MUST_USE enum cg_append cg_spool_make_room(struct cg_spool *spool, size_t bytes,
                                              struct cg_error *err);
/* Takes the first segment out of the list. lock held too. */
struct cg_segment *cg_spool_unlist_first(struct cg_spool *spool);
/* Keeps the file for a later segment, or deletes it. */
void cg_spool_set_aside(struct cg_spool *spool, struct cg_segment *segment);
/* Takes segments that every reader has passed out of the list. */
void cg_spool_retire_passed(struct cg_spool *spool);
/* Begins a segment for the sake of its head, right after recovery, if there is room for it. Nothing
 * is given up for it. */
void cg_spool_begin_head(struct cg_spool *spool);
/* Adds a segment behind the others; also sets its base. */
CG_MUST_USE bool cg_spool_add_segment(struct cg_spool *spool, struct cg_segment *segment,
                                      struct cg_error *err);
/* Writes an internal record, if there is room. Best effort. */
void cg_spool_append_run_end(struct cg_spool *spool, const struct cg_spool_run *run);

/* Writes what is to be told of lost events behind the newest record. Best effort, and in memory for
 * nothing: the head of the next segment has it too. */
void cg_spool_keep_losses(struct cg_spool *spool);
/* Writes the gap records that are due, if there is room. */
void cg_spool_write_gaps(struct cg_spool *spool);

/* --- giving_up.c: append_lock held, lock not --- */

/* Gives up the oldest segment; readers that stand in it skip forward, and what was undelivered is
 * named in the runs' losses. */
void cg_spool_drop_oldest(struct cg_spool *spool);
/* Moves readers that hold more than their quota, as if one more segment were there already. */
void cg_spool_enforce_quotas(struct cg_spool *spool);

/* --- naming.c --- */

/* The runs' losses name the events of a segment from `from_index` on; what they told is untold.
 * append_lock held, lock not. */
void cg_spool_name_events(struct cg_spool *spool, const struct cg_segment *segment,
                          uint64_t from_index, enum cg_spool_loss_reason reason);
/* The runs' losses name what was in the holes that have been found. No lock held. */
void cg_spool_name_damage(struct cg_spool *spool);

/* --- damage.c: lock held --- */

/* Queues it for the committer to tell. */
void cg_spool_notify(struct cg_spool *spool, const struct cg_spool_notice *notice);
/* Tells all that is queued. lock not held. */
void cg_spool_tell_notices(struct cg_spool *spool);
/* Remembers a hole; it gets a gap record. */
void cg_spool_add_gap(struct cg_spool *spool, uint64_t first, uint64_t end, bool uncertain);
/* The events [first, end) are missing, and are to be named. */
void cg_spool_note_hole(struct cg_spool *spool, uint64_t first, uint64_t end);
/* The reader has found the events [first, end) missing: counts and tells, once. */
void cg_spool_count_damage(struct cg_spool_reader *reader, uint64_t first, uint64_t end);

/* The same, on the reader's thread; lock not held. */
void cg_spool_count_lost(struct cg_spool_reader *reader, uint64_t first_index, uint64_t count);
/* Whether the place has been tried often enough to be given up. What follows on one that was given
 * up needs no more tries: a bad stretch of a disk is passed in one go. lock not held. */
bool cg_spool_give_up(struct cg_spool_reader *reader, uint64_t segment, uint64_t offset,
                      const struct cg_error *why);
/* After a read of the file has failed. True: go on, behind the place. lock not held. */
bool cg_spool_pass_unreadable(struct cg_spool_reader *reader, const struct cg_error *why);

/* --- clean.c --- */

/* Whether the last process that had the spool ended with everything on disk, up to `next_index`;
 * takes the mark away, since this process has not ended so yet. */
bool cg_clean_mark_take(int dir_fd, uint64_t next_index);
void cg_clean_mark_leave(int dir_fd, uint64_t next_index);

/* --- recovery.c: before any thread --- */
CG_MUST_USE bool cg_spool_recover(struct cg_spool *spool, struct cg_spool_recovery *ret_recovery,
                                  struct cg_error *err);

/* --- committer.c --- */
CG_MUST_USE bool cg_committer_start(struct cg_spool *spool, struct cg_error *err);
/* Ends it after a last round. */
void cg_committer_stop(struct cg_spool *spool);
/* Something is to be synced or saved. lock held. */
void cg_committer_notice(struct cg_spool *spool);
void cg_spool_save_reader(struct cg_spool *spool, struct cg_spool_reader *reader);

/* --- small ones, lock held --- */

/* Of two indices; no lock needed. */
static inline uint64_t cg_later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t cg_position_bytes(const struct cg_position *position)
{
    return position->base + position->offset;
}

static inline struct cg_segment *cg_spool_last_segment(const struct cg_spool *spool)
{
    return spool->segment_count == 0 ? NULL : spool->segments[spool->segment_count - 1];
}

/* The first segment that ends behind `index`; NULL if none does. */
struct cg_segment *cg_spool_segment_of(const struct cg_spool *spool, uint64_t index);
/* The least index that some reader, open or parked, still wants; next_index without readers. */
uint64_t cg_spool_wanted_index(const struct cg_spool *spool);
/* The disk, if `io`, or else the limit, refuses. */
void cg_spool_note_failure(struct cg_spool *spool, const char *text, bool io);
/* Something was appended, or could be. */
void cg_spool_note_success(struct cg_spool *spool);
/* What the slowest reader leaves behind, in bytes. */
uint64_t cg_spool_held_bytes(const struct cg_spool *spool);
/* How many bytes may be added to the `bytes` there are. */
uint64_t cg_spool_room(const struct cg_spool *spool, uint64_t bytes);
/* recovery.c: sequences that may have been used are not used again, and named. */
void cg_spool_skip_numbers(struct cg_spool *spool, struct cg_spool_run *run);
/* There may be losses to take. No lock needed. */
void cg_spool_more_losses(struct cg_spool *spool);
/* Bytes that the file system has left for us; UINT64_MAX in memory. No lock needed. */
uint64_t cg_spool_disk_room(const struct cg_spool *spool);
/* Gives up of the tail what neither readers nor taps want, and what taps may not hold (tap.c). */
void cg_spool_trim_tail(struct cg_spool *spool);

#endif
