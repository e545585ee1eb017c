/*
 * view.h - a spool's directory as people look at it: read, and never changed but by a rewind.
 *
 * A view is what recovery would find at the moment it is opened. It may be opened while a gateway
 * has the spool: then it shows the spool of that moment, and what the gateway deletes meanwhile
 * counts as missing. One thread. Everything it hands out is borrowed until it is closed.
 */
#ifndef CELLGATE_VIEW_H
#define CELLGATE_VIEW_H

#include "cellgate/error.h"
#include "cellgate/event.h"
#include "cellgate/limits.h"

struct cg_spool_view;

CG_MUST_USE bool cg_spool_view_open(const char *dir, struct cg_spool_view **ret_view,
                                    struct cg_error *err);
void cg_spool_view_close(struct cg_spool_view *view);

/* Events are from first to before next; equal if there are none. */
uint64_t cg_spool_view_first(const struct cg_spool_view *view);
uint64_t cg_spool_view_next(const struct cg_spool_view *view);
/* The process that holds the spool's lock, as far as the kernel tells; 0: none. */
uint64_t cg_spool_view_holder(const struct cg_spool_view *view);

struct cg_view_segment {
    uint64_t first_index, next_index;
    uint64_t file_bytes;
    char file[64];
};
/* The i-th, by index. False: there is none. */
bool cg_spool_view_segment(const struct cg_spool_view *view, size_t i,
                           struct cg_view_segment *ret_segment);

struct cg_view_position {
    char name[CG_EXPORTER_NAME_BYTES_MAX + 1];
    bool damaged;
    uint64_t index; /* everything below it is acknowledged */
};
void cg_spool_view_positions(const struct cg_spool_view *view,
                             void (*visit)(void *context, const struct cg_view_position *position),
                             void *context);

struct cg_view_run {
    struct cg_bytes cell, run;
    uint64_t sequence;
    uint32_t connection;
};
void cg_spool_view_runs(const struct cg_spool_view *view,
                        void (*visit)(void *context, const struct cg_view_run *run), void *context);
/* Names of files that were set aside as damaged. */
void cg_spool_view_damaged(const struct cg_spool_view *view,
                           void (*visit)(void *context, const char *file), void *context);

/* Hands out the events from `from` to before `to`, until `visit` returns false. *ret_missing:
 * events in between that could not be read. */
CG_MUST_USE bool cg_spool_view_read(struct cg_spool_view *view, uint64_t from, uint64_t to,
                                    bool (*visit)(void *context, const struct cg_event *event),
                                    void *context, uint64_t *ret_missing, struct cg_error *err);
/* The first event received at or after a time (real, ns); the next index if none was. */
CG_MUST_USE bool cg_spool_view_at(struct cg_spool_view *view, uint64_t realtime_ns,
                                  uint64_t *ret_index, struct cg_error *err);

/*
 * Sets a reader's saved position back to `index`, durably. Refused while a process holds the spool,
 * for a name without a position, and for an index that is not kept or not behind its position:
 * nothing is ever skipped.
 */
CG_MUST_USE bool cg_spool_view_rewind(struct cg_spool_view *view, const char *name, uint64_t index,
                                      struct cg_error *err);

#endif
