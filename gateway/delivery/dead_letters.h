/*
 * dead_letters.h - where events go that a destination refuses one by one.
 *
 * docs/contract.md section 7. One JSON-lines file for each exporter: an object a line with the
 * time, the exporter, the event's id, index, cell, run and sequence, the destination's status,
 * detail and the first bytes of its answer, and the event itself, byte for byte as it would have
 * been sent.
 *
 * A letter is on disk (fdatasync) when cg_dead_letters_keep returns; if it fails nothing of it
 * stays, and the event must not be acknowledged. One thread at a time. Without a path nothing is
 * kept: keep succeeds, and the caller's count and log line are all that remains.
 */
#ifndef CELLGATE_DEAD_LETTERS_H
#define CELLGATE_DEAD_LETTERS_H

#include "cellgate/buf.h"
#include "cellgate/exporter.h"

struct cg_dead_letters {
    const char *path;     /* NULL: nothing is kept */
    const char *exporter; /* the configured name */
    int fd;
    struct cg_buf line;
};

/* Opens or makes the file (0600, never through a symbolic link) and cuts off a last line that a
 * crash left unfinished: its event was never acknowledged. Both strings are borrowed. */
CG_MUST_USE bool cg_dead_letters_open(struct cg_dead_letters *letters, const char *path,
                                      const char *exporter, struct cg_error *err);
void cg_dead_letters_close(struct cg_dead_letters *letters);

/* The file may have been moved away: the next letter opens it anew. */
void cg_dead_letters_reopen(struct cg_dead_letters *letters);

CG_MUST_USE bool cg_dead_letters_keep(struct cg_dead_letters *letters, const struct cg_event *event,
                                      const struct cg_verdict *verdict, uint64_t realtime_ns,
                                      struct cg_error *err);

#endif
