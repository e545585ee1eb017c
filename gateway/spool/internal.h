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

struct cg_spool_reader {
    struct cg_spool *spool;
    char name[CG_EXPORTER_NAME_BYTES_MAX + 1];

    /* Under the lock. */
    struct cg_position position; /* acknowledged up to here */
    struct cg_position saved;
    uint64_t oldest_received_ns; /* of the event at the position; 0: none there */
    pthread_cond_t wake;
    bool waiting;
    bool interrupted;
    uint64_t wanted_events, wanted_bytes;

    /* The reader's thread's own. */
    struct cg_event *events;
    size_t events_capacity;
    struct cg_batch batch;
    size_t acked; /* of the batch */
    struct cg_piece *pieces;
    size_t piece_count;
    struct cg_position cursor; /* behind the batch */
    struct cg_scan scan;
    uint64_t scan_segment; /* whose file scan.fd is */
    uint64_t scan_salt;
};

/* A reader that was closed in this process: it may be opened again, and still holds its segments.
 */
struct cg_parked {
    char name[CG_EXPORTER_NAME_BYTES_MAX + 1];
    uint64_t index;
};

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
    uint64_t damage_counted_index; /* losses below it are in the metrics already */
    bool appendable;
    char last_error[CG_ERROR_TEXT_MAX];
    double growth; /* bytes per second, smoothed */

    /* The committer (committer.c). Under the lock. */
    pthread_t committer;
    pthread_cond_t committer_wake;
    bool committer_idle;
    bool dirty;
    bool stopping;
    bool dir_dirty;     /* a segment was made or renamed since the directory was synced */
    bool rotate_wanted; /* a sync failed: do not append behind what may be gone */
    struct cg_histogram sync_durations;
    pthread_mutex_t save_lock; /* one saver of positions at a time; taken before `lock` */
};

/* --- segments.c: append_lock held, lock not --- */

/* Makes sure there is a current segment with room for a record of `bytes`. */
CG_MUST_USE enum cg_append cg_spool_make_room(struct cg_spool *spool, size_t bytes,
                                              struct cg_error *err);
/* Takes segments that every reader has passed out of the list. */
void cg_spool_retire_passed(struct cg_spool *spool);
/* Adds a segment behind the others; also sets its base. */
CG_MUST_USE bool cg_spool_add_segment(struct cg_spool *spool, struct cg_segment *segment,
                                      struct cg_error *err);
/* Writes an internal record, if there is room. Best effort. */
void cg_spool_append_run_end(struct cg_spool *spool, const struct cg_spool_run *run);

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

static inline uint64_t cg_position_bytes(const struct cg_position *position)
{
    return position->base + position->offset;
}

static inline struct cg_segment *cg_spool_last_segment(const struct cg_spool *spool)
{
    return spool->segment_count == 0 ? NULL : spool->segments[spool->segment_count - 1];
}

/* The least index that some reader, open or parked, still wants; next_index without readers. */
uint64_t cg_spool_wanted_index(const struct cg_spool *spool);
/* Gives up of the tail what neither readers nor taps want, and what taps may not hold (tap.c). */
void cg_spool_trim_tail(struct cg_spool *spool);
void cg_spool_note_failure(struct cg_spool *spool, const char *text);

#endif
