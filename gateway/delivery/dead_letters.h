/*
 * dead_letters.h - where events go that a destination refuses one by one, or that grew too old.
 *
 * docs/contract.md section 7. One JSON-lines file for each exporter, a letter (letter.h) a line, at
 * most bytes_max bytes of them. A letter is on disk (fdatasync) when keep returns; if it fails
 * nothing of it stays, and the event must not be acknowledged.
 *
 * The file is locked (flock) by whoever may write to it: a running gateway from its first look at
 * it to its end, and `cellgate dead-letter` for a moment while there is none. Whoever does not get
 * the lock fails, and may try again.
 *
 * A letter's state is changed in place, by writing four bytes over four: to be sent again, sent,
 * dropped. So each step of a replay is durable without rewriting the file, and after a kill it goes
 * on where it was. Lines that are done with are taken out by compact, which makes a new file and
 * renames it into place.
 *
 * One thread, the owner, keeps, takes, settles and compacts; any thread may mark and ask for
 * numbers, and whoever only reads needs none of this (letter_scan.h on a descriptor of its own).
 * Without a path nothing is kept: keep succeeds, and the caller's count and log line are all that
 * remains.
 */
#ifndef CELLGATE_DEAD_LETTERS_H
#define CELLGATE_DEAD_LETTERS_H

#include "cellgate/buf.h"
#include "cellgate/exporter.h"
#include "delivery/letter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct cg_dead_letters {
    const char *path;     /* NULL: nothing is kept */
    const char *exporter; /* the configured name */
    uint64_t bytes_max;   /* of the file; 0: no limit */

    pthread_mutex_t mutex;       /* guards all below but the numbers */
    int fd;                      /* locked; -1: to be opened */
    off_t end;                   /* of the last whole line */
    off_t dead_bytes;            /* of lines that may go */
    _Atomic uint64_t generation; /* of places in the file: each compaction makes a new one */
    struct cg_buf line;

    _Atomic uint64_t bytes, letters, replaying;
};

/* Opens or makes the file (0600, never through a symbolic link), cuts off a last line that a crash
 * left unfinished (its event was never acknowledged), and takes out what is done with. That another
 * process has the file is no failure here: it is tried again with the first letter. Both strings
 * are borrowed. */
CG_MUST_USE bool cg_dead_letters_open(struct cg_dead_letters *letters, const char *path,
                                      const char *exporter, uint64_t bytes_max,
                                      struct cg_error *err);
void cg_dead_letters_close(struct cg_dead_letters *letters);

/* The file may have been moved away: the next letter opens it anew. The owner. */
void cg_dead_letters_reopen(struct cg_dead_letters *letters);

enum cg_keep { CG_KEEP_DONE, CG_KEEP_FULL, CG_KEEP_FAILED };

/* Keeps all events of the batch, or none (see err). */
CG_MUST_USE enum cg_keep cg_dead_letters_keep(struct cg_dead_letters *letters,
                                              const struct cg_batch *batch,
                                              enum cg_letter_reason reason,
                                              const struct cg_verdict *verdict,
                                              uint64_t realtime_ns, struct cg_error *err);

/* --- letters that are sent again (the owner) --- */

struct cg_letters_taken {
    off_t from;         /* where to look; set to 0 to begin */
    struct cg_buf text; /* the lines, one behind the other */
    struct cg_letter_place {
        off_t offset; /* in the file */
        size_t len;   /* newline included */
    } * places;
    size_t count, count_max;
    uint64_t generation; /* stale if it is not the letters' any more */
};

/* The next letters that are to be sent again: at most count_max, and bytes_max bytes or else one.
 * They stay where they are until settle. */
CG_MUST_USE bool cg_dead_letters_take(struct cg_dead_letters *letters, size_t bytes_max,
                                      struct cg_letters_taken *taken, struct cg_error *err);
/* What became of letters that were taken: SENT, or KEPT again, unless somebody dropped them
 * meanwhile. Not settled if it fails. */
CG_MUST_USE bool cg_dead_letters_settle(struct cg_dead_letters *letters,
                                        const struct cg_letters_taken *taken, size_t first,
                                        size_t count, enum cg_letter_state state,
                                        struct cg_error *err);
/* Takes the lines out that are done with. What was taken is stale then; keep may do it too. */
CG_MUST_USE bool cg_dead_letters_compact(struct cg_dead_letters *letters, struct cg_error *err);

/* The same, by whoever has the mutex and an open file. */
CG_MUST_USE bool cg_dead_letters_compact_locked(struct cg_dead_letters *letters,
                                                struct cg_error *err);

/* --- any thread --- */

/* Which letters: those with these ids, sorted by cg_letter_ids_sort, or with no ids all. */
struct cg_letter_ids {
    struct cg_bytes *items;
    size_t count;
};
void cg_letter_ids_sort(struct cg_letter_ids *ids);
bool cg_letter_ids_have(const struct cg_letter_ids *ids, struct cg_bytes id);

/* Marks letters as to be sent again (REDO) or dropped (GONE), durably. *ret_marked: how many; those
 * that were marked so before count. The owner does the rest when it is told. */
CG_MUST_USE bool cg_dead_letters_mark(struct cg_dead_letters *letters,
                                      const struct cg_letter_ids *ids, enum cg_letter_state state,
                                      uint64_t *ret_marked, struct cg_error *err);

#endif
