/*
 * spool.h - the only hand-over between those who make events and those who export them.
 *
 * An append-only log of records in segment files (or memfds where no directory is configured), one
 * order for all, one position for each reader. docs/contract.md section 7: at least once, in order,
 * the same bytes on each try.
 *
 * Writers. Each appending thread has a writer. It renders events into the writer's block, where
 * they also stay for readers that keep up: an event is copied once, into the kernel.
 * cg_spool_writer_commit writes all staged events to the segment with one write, gives them their
 * indices, and publishes them. A killed process loses nothing that was committed; a power cut loses
 * at most what the sync mode allows.
 *
 * Readers. A reader belongs to one thread. peek borrows the next events without moving; ack moves.
 * Positions are saved by the group commit and at close, so a crash repeats events, never skips
 * them.
 *
 * Runs. The spool remembers for each open run the last sequence and connection that were committed,
 * also over a restart: they stand at the head of each segment and in the records behind it. And it
 * remembers which sequences of the run it has lost, until an event that tells of them is passed.
 *
 * Trouble is told through `notice`: the spool itself writes no log.
 */
#ifndef CELLGATE_SPOOL_H
#define CELLGATE_SPOOL_H

#include "cellgate/clock.h"
#include "cellgate/error.h"
#include "cellgate/event.h"
#include "cellgate/exporter.h"
#include "cellgate/metrics.h"

struct cg_spool;
struct cg_spool_run;
struct cg_spool_writer;
struct cg_spool_reader;

enum cg_spool_sync { CG_SPOOL_SYNC_ALWAYS, CG_SPOOL_SYNC_INTERVAL, CG_SPOOL_SYNC_NEVER };
enum cg_spool_when_full { CG_SPOOL_FULL_PAUSE, CG_SPOOL_FULL_DROP_OLDEST };

/* Why sequences of a run were lost; the reasons of telemetry.dropped. */
enum cg_spool_loss_reason {
    CG_SPOOL_LOSS_POWER,    /* skipped after a power cut: they may have been used */
    CG_SPOOL_LOSS_DAMAGE,   /* skipped since the newest records could not be read */
    CG_SPOOL_LOSS_OVERFLOW, /* given up for room, undelivered */
    CG_SPOOL_LOSS_QUOTA,    /* given up by a reader that held its share; others may have them */
    CG_SPOOL_LOSS_COUNT
};

struct cg_spool_loss {
    enum cg_spool_loss_reason reason;
    uint64_t first, last; /* sequences */
};
enum { CG_SPOOL_LOSSES_MAX = 16 }; /* ranges of one run that are not delivered yet */

/* What somebody should know of, once; the order of the members says which are set. */
enum cg_spool_notice_kind {
    CG_SPOOL_SEGMENT_DAMAGED,  /* a segment was set aside: `name` is its file's; first, last */
    CG_SPOOL_POSITION_DAMAGED, /* the reader `name` starts again at the oldest record */
    CG_SPOOL_UNREADABLE,      /* a place was given up after tries: `text`; first: the index there */
    CG_SPOOL_EVENTS_DAMAGED,  /* the events first to last are gone; count */
    CG_SPOOL_NUMBERS_SKIPPED, /* `name` is the reason; count: of how many runs */
    CG_SPOOL_READER_DROPPED,  /* the reader `name` gave up the events first to last; count */
    CG_SPOOL_RUN_DROPPED,     /* of an ended run, cell `name`, run `text`: sequences, count */
    CG_SPOOL_DEGRADED,        /* the disk refuses: `text` */
    CG_SPOOL_RECOVERED,       /* it does not any more */
    CG_SPOOL_FILLING,         /* count: seconds until it is full */
    CG_SPOOL_NOTICE_COUNT
};

struct cg_spool_notice {
    enum cg_spool_notice_kind kind;
    uint64_t first, last, count;
    uint64_t suppressed; /* notices before it that nobody was told */
    char name[256];
    char text[CG_ERROR_TEXT_MAX];
};

#define CG_SPOOL_RESERVE_DEFAULT UINT64_MAX /* a fiftieth of the file system, at most 256 MiB */

struct cg_spool_config {
    const char *dir;        /* NULL: in memory. Borrowed for the call; its parent must exist */
    uint64_t bytes_max;     /* of segment files; at least two segments are allowed */
    uint64_t segment_bytes; /* 0: a sixteenth of bytes_max, 1 to 64 MiB */
    enum cg_spool_sync sync;
    uint64_t sync_interval_ns;
    enum cg_spool_when_full when_full;
    uint64_t cell_share_bytes;    /* undelivered, of one run; 0: no limit */
    uint64_t reserve_bytes;       /* free space of the file system that is left to others */
    const struct cg_clock *clock; /* of deadlines; NULL: the kernel's */
    const uint8_t *boot_id;       /* 16 bytes, borrowed for the call; NULL: the kernel's word */
    /* Called without a lock by the committer's thread, and at open and close. NULL: nobody. */
    void (*notice)(void *context, const struct cg_spool_notice *notice);
    void *notice_context;
};

/* What recovery found; the caller logs it. */
struct cg_spool_recovery {
    uint64_t records;
    uint64_t torn_bytes;       /* cut off behind the last whole record */
    uint64_t damaged_segments; /* kept aside under another name */
    uint64_t skipped_runs;     /* whose sequences go on 2^20 later, in case numbers were used */
    bool power_cut;            /* the boot is another one, and the last end was not clean */
    uint64_t first_index, next_index;
};

/* Opens or makes the spool and starts the committer thread. Fails for what the operator must mend
 * (no directory, no permission, another process has it), never for damaged data. */
CG_MUST_USE bool cg_spool_open(const struct cg_spool_config *config, struct cg_spool **ret_spool,
                               struct cg_spool_recovery *ret_recovery, struct cg_error *err);
/* Syncs, saves positions, stops the committer. All writers and readers are closed before. */
void cg_spool_close(struct cg_spool *spool);

/* --- runs (any thread) --- */

/* The run's state, as recovered or new (sequence 0). Valid until the caller closes or ends it, or
 * the spool is closed. Fails without memory. */
CG_MUST_USE bool cg_spool_run_open(struct cg_spool *spool, struct cg_bytes cell_id,
                                   struct cg_bytes run_id, struct cg_spool_run **ret_run,
                                   struct cg_error *err);
/* The caller is done with it, and the run goes on: it is remembered, unless nothing of it was ever
 * committed, or another has ended it. No event of the caller's is staged any more. */
void cg_spool_run_close(struct cg_spool *spool, struct cg_spool_run *run);
/* The same, and the run has ended: it is not carried into later segments. May wait for the disk. */
void cg_spool_run_end(struct cg_spool *spool, struct cg_spool_run *run);
/*
 * The caller has opened every run that may have gone on before this process. Until then, after a
 * power cut or damage, a run that the spool does not know is taken for one whose records are gone,
 * and skips numbers; from here on such a run is new.
 */
void cg_spool_runs_settled(struct cg_spool *spool);

/* --- what was lost of a run --- */

/*
 * Hands out the ranges that nobody has told of. Whoever takes them makes an event that names them,
 * with cg_event_meta.tells_losses, and gets no more before that event is committed. Ranges of which
 * the telling event is lost are handed out again.
 */
size_t cg_spool_run_take_losses(struct cg_spool *spool, struct cg_spool_run *run,
                                struct cg_spool_loss ret_losses[CG_SPOOL_LOSSES_MAX]);
/* Grows whenever there may be more to take, of any run. Costs nothing. */
uint64_t cg_spool_losses(const struct cg_spool *spool);

/* --- a run's share (any thread) --- */

/* Whether it holds more undelivered bytes than cell_share_bytes: its cell is then not read. */
bool cg_spool_run_over_share(struct cg_spool *spool, struct cg_spool_run *run);
/* About how many bytes it may still add; UINT64_MAX without limit. Costs nothing. */
uint64_t cg_spool_run_room(const struct cg_spool *spool, const struct cg_spool_run *run);

/* Last committed values; 0 for none. */
uint64_t cg_spool_run_sequence(const struct cg_spool_run *run);
uint32_t cg_spool_run_connection(const struct cg_spool_run *run);
/* cg_event_meta.silence of the last event that had one; 0: none had. */
uint16_t cg_spool_run_silence(struct cg_spool *spool, const struct cg_spool_run *run);

/*
 * The sequence up to which all committed events of a run lie below an index, such as a reader's
 * acked_index: exact if all of them do (*ret_all), otherwise perhaps too low, never too high. False
 * if the spool does not know the run (any more), so a run that ends meanwhile is no danger.
 */
CG_MUST_USE bool cg_spool_run_below(struct cg_spool *spool, struct cg_bytes cell_id,
                                    struct cg_bytes run_id, uint64_t index, uint64_t *ret_sequence,
                                    bool *ret_all);
/* The index of its last committed event; 0: none, or not known. False as above. */
CG_MUST_USE bool cg_spool_run_last_index(struct cg_spool *spool, struct cg_bytes cell_id,
                                         struct cg_bytes run_id, uint64_t *ret_index);

/* --- writers --- */

enum cg_append {
    CG_APPEND_DONE,
    CG_APPEND_FULL,   /* at bytes_max: still staged, commit again when there is room */
    CG_APPEND_FAILED, /* the disk refused (see err): still staged, commit again later */
};

CG_MUST_USE bool cg_spool_writer_open(struct cg_spool *spool, struct cg_spool_writer **ret_writer,
                                      struct cg_error *err);
/* What is staged and not committed is lost; commit before. */
void cg_spool_writer_close(struct cg_spool_writer *writer);

/* Room for one event of up to CG_EVENT_BYTES_MAX bytes. NULL: the block is full; commit first
 * (after a commit that was DONE it is NULL only when there is no memory at all). */
char *cg_spool_writer_begin(struct cg_spool_writer *writer);
/* Stages the event that was rendered there. `meta` is copied. Calling begin again without end
 * abandons what was rendered. */
void cg_spool_writer_end(struct cg_spool_writer *writer, size_t len,
                         const struct cg_event_meta *meta, struct cg_spool_run *run);
size_t cg_spool_writer_staged(const struct cg_spool_writer *writer); /* events */

/* Publishes all staged events, in order, and wakes readers whose wait is over. */
CG_MUST_USE enum cg_append cg_spool_writer_commit(struct cg_spool_writer *writer,
                                                  struct cg_error *err);

/* --- readers --- */

/*
 * A reader named `name` (letters, digits, '-', '_', '.', not first a '.') starts at its saved
 * position, or at the oldest record kept. At most CG_EXPORTERS_MAX.
 *
 * Segments are kept until every reader that was opened has passed them. So open all readers before
 * the first commit: until then nothing is deleted. The saved position of a reader that nobody opens
 * (an exporter that was removed) holds nothing, or one removed line of the configuration would fill
 * the disk. While there was no reader at all, everything is kept up to bytes_max, then the newest.
 */
CG_MUST_USE bool cg_spool_reader_open(struct cg_spool *spool, const char *name,
                                      struct cg_spool_reader **ret_reader, struct cg_error *err);
/* Saves the position. The reader goes on holding its segments until the spool is closed, so that
 * neither a shutdown, one exporter after the other, nor a reload takes what it has not read. */
void cg_spool_reader_close(struct cg_spool_reader *reader);
/* A closed reader will not come back: it holds nothing any more. Its saved position stays. */
void cg_spool_reader_forget(struct cg_spool *spool, const char *name);

/*
 * The segments that this reader alone makes the spool keep may take so many bytes (0: any number,
 * at least two segments count). Beyond that, when a new one is begun, it loses its oldest events:
 * counted, told, and named in the runs' losses. Other readers are not touched.
 */
void cg_spool_reader_limit(struct cg_spool_reader *reader, uint64_t quota_bytes);

/*
 * Waits until `events` events or `bytes` bytes lie behind the reader's position, or the monotonic
 * clock passes `deadline_ns` (UINT64_MAX: none), or cg_spool_reader_interrupt. Returns whether at
 * least one event is there.
 */
bool cg_spool_reader_wait(struct cg_spool_reader *reader, uint64_t events, uint64_t bytes,
                          uint64_t deadline_ns);
/* Any thread: makes the wait in progress, or the next one, return. */
void cg_spool_reader_interrupt(struct cg_spool_reader *reader);

/*
 * Borrows the events behind the position: at most events_max (<= CG_SPOOL_PEEK_EVENTS_MAX), and at
 * most bytes_max bytes but always at least one event if there is one. A reader that lags gets at
 * most 4 MiB at once. Valid until the next peek or close. A batch of 0 events: nothing there (or
 * nothing but damage, which is then passed). Damage is skipped and counted. It fails only when the
 * disk does, and may then be called again: a place that cannot be read is tried
 * CG_SPOOL_READ_TRIES_MAX times, and then passed as damage.
 */
enum { CG_SPOOL_READ_TRIES_MAX = 5 };
enum { CG_SPOOL_PEEK_EVENTS_MAX = 65536 };
CG_MUST_USE bool cg_spool_reader_peek(struct cg_spool_reader *reader, uint64_t events_max,
                                      uint64_t bytes_max, struct cg_batch *ret_batch,
                                      struct cg_error *err);
/* Moves the position behind the first `count` events of the last peek that are not yet acked. */
void cg_spool_reader_ack(struct cg_spool_reader *reader, uint64_t count);

struct cg_spool_backlog {
    uint64_t events;
    uint64_t bytes;              /* of records */
    uint64_t oldest_received_ns; /* real time; 0 without backlog */
    uint64_t acked_index;        /* everything below it is acknowledged, or was dropped */
    uint64_t dropped_events;     /* given up for room before this reader had them */
    uint64_t quota_bytes;        /* 0: none */
};
/* Any thread. */
void cg_spool_reader_backlog(struct cg_spool_reader *reader, struct cg_spool_backlog *ret_backlog);

/* --- health (any thread) --- */

/* How often the committer has turned; a poke makes it turn once more, unless the disk holds it. */
uint64_t cg_spool_turns(const struct cg_spool *spool);
void cg_spool_poke(struct cg_spool *spool);

struct cg_spool_status {
    uint64_t bytes, bytes_max;
    uint64_t held_bytes; /* of them: that the slowest reader has not passed */
    uint64_t segments;
    uint64_t next_index;
    double seconds_until_full; /* infinity when it does not grow; the disk counts too */
    bool appendable;           /* false after a failed append, until one succeeds */
    char last_error[CG_ERROR_TEXT_MAX];
};
void cg_spool_status(struct cg_spool *spool, struct cg_spool_status *ret_status);
const struct cg_histogram *cg_spool_sync_durations(const struct cg_spool *spool);

#endif
