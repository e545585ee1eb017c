/*
 * naming.c - which sequences of which runs were in what is gone.
 *
 * What is given up can still be read. A hole in the indices cannot: but a run's sequences grow by
 * one an event, so what is missing between the last one before the hole and the first one behind it
 * was in the hole. Before it that is told by the nearest table of runs and the records that follow
 * it, behind it by records and the next table, and behind the last record by the runs as they are.
 */
#include "spool/internal.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <stdio.h>

enum { UNREADABLE_PLACES_MAX = 64 }; /* that are passed in one segment */

/* Consecutive sequences of one run. */
struct range {
    uint64_t first, last; /* 0: none */
    uint8_t cell_len, run_len;
    char text[2 * CG_RUN_ID_BYTES_MAX]; /* cell, then run */
};

static struct cg_bytes cell_of(const struct range *range)
{
    return cg_bytes(range->text, range->cell_len);
}

static struct cg_bytes run_of(const struct range *range)
{
    return cg_bytes(range->text + range->cell_len, range->run_len);
}

/* lock held */
static void tell_ended_run(struct cg_spool *spool, const struct range *range)
{
    struct cg_spool_notice notice = {.kind = CG_SPOOL_RUN_DROPPED,
                                     .first = range->first,
                                     .last = range->last,
                                     .count = range->last - range->first + 1};
    (void)snprintf(notice.name, sizeof(notice.name), "%.*s", CG_BYTES_ARG(cell_of(range)));
    (void)snprintf(notice.text, sizeof(notice.text), "%.*s", CG_BYTES_ARG(run_of(range)));
    cg_spool_notify(spool, &notice);
}

static void name_range(struct cg_spool *spool, const struct range *range,
                       enum cg_spool_loss_reason reason)
{
    if (range->first == 0) {
        return;
    }
    pthread_mutex_lock(&spool->lock);
    struct cg_spool_run *run = cg_runs_find(&spool->runs, cell_of(range), run_of(range));
    if (run == NULL || !cg_losses_add(&run->losses, reason, range->first, range->last)) {
        tell_ended_run(spool, range);
    }
    pthread_mutex_unlock(&spool->lock);
}

/* Adds [first, last] of a run; what cannot be joined with it is named. */
static void add_range(struct cg_spool *spool, struct cg_bytes cell, struct cg_bytes run,
                      uint64_t first, uint64_t last, enum cg_spool_loss_reason reason,
                      struct range *range)
{
    if (range->first != 0 && range->last + 1 == first && cg_bytes_equal(cell_of(range), cell) &&
        cg_bytes_equal(run_of(range), run)) {
        range->last = last;
        return;
    }
    name_range(spool, range, reason);
    range->first = 0;
    if (cell.len <= CG_RUN_ID_BYTES_MAX && run.len <= CG_RUN_ID_BYTES_MAX) {
        *range = (struct range){.first = first,
                                .last = last,
                                .cell_len = (uint8_t)cell.len,
                                .run_len = (uint8_t)run.len};
        memcpy(range->text, cell.data, cell.len);
        memcpy(range->text + cell.len, run.data, run.len);
    }
}

/* --- going through a segment --- */

struct passage {
    const struct cg_segment *segment;
    struct cg_scan scan;
    int fd;
    unsigned unreadable_places;
};

static void passage_fini(struct passage *passage)
{
    cg_scan_fini(&passage->scan);
    cg_cleanup_close(&passage->fd);
}
#define auto_passage __attribute__((cleanup(passage_fini)))

/* False: the segment cannot be opened. */
static bool passage_begin(const struct cg_spool *spool, const struct cg_segment *segment,
                          struct passage *passage)
{
    passage->segment = segment;
    passage->fd = -1;
    passage->unreadable_places = 0;
    cg_scan_init(&passage->scan);
    if (!cg_segment_reopen(&spool->place, segment, &passage->fd, NULL)) {
        return false;
    }
    cg_scan_aim(&passage->scan, passage->fd, segment->salt, CG_SEGMENT_HEADER_BYTES, segment->end,
                segment->first_index, segment->end_index);
    return true;
}

/* The next record, with how many events are missing before it; NULL at the end, with how many are
 * missing there. The record before it may be gone. */
static const struct cg_record_header *passage_next(struct passage *passage, uint64_t *ret_missing)
{
    for (;;) {
        const struct cg_record_header *record = NULL;
        switch (cg_scan_next(&passage->scan, &record, ret_missing, NULL)) {
        case CG_SCAN_RECORD:
            return record;
        case CG_SCAN_END:
            return NULL;
        case CG_SCAN_NO_ROOM:
            cg_scan_compact(&passage->scan);
            break;
        case CG_SCAN_FAILED:
            if (passage->scan.failure != EIO ||
                ++passage->unreadable_places > UNREADABLE_PLACES_MAX) {
                *ret_missing = passage->segment->end_index - passage->scan.expected;
                return NULL;
            }
            (void)cg_scan_skip(&passage->scan);
            break;
        }
    }
}

/* --- holes --- */

struct audit {
    struct cg_spool *spool;
    uint64_t first, end; /* the hole */
    struct cg_runs met;  /* each with the last sequence, and the index behind it, met so far */
    bool based;          /* all runs were known at some place before the hole */
    bool complete;       /* and at one behind it */
    struct range range;
};

/* A record of that index says that the run had used all numbers up to `used` before it. If some of
 * the hole lies between it and the last that was met of the run, so do the events that are missing
 * between the two. */
static void compare(struct audit *audit, const struct cg_spool_run *met, uint64_t index,
                    uint64_t used)
{
    uint64_t known = atomic_load_explicit(&met->sequence, memory_order_relaxed);
    if (index > audit->first && met->last_index < audit->end && used > known) {
        add_range(audit->spool, cg_run_cell(met), cg_run_id(met), known + 1, used,
                  CG_SPOOL_LOSS_DAMAGE, &audit->range);
    }
}

/* Its numbers up to `sequence` are used below `index`. */
static void know(struct cg_spool_run *met, uint64_t index, uint64_t sequence)
{
    met->last_index = index;
    if (sequence > atomic_load_explicit(&met->sequence, memory_order_relaxed)) {
        atomic_store_explicit(&met->sequence, sequence, memory_order_relaxed);
    }
}

static void meet_event(struct audit *audit, const struct cg_record_header *record)
{
    struct cg_event event;
    cg_record_event(record, &event);
    struct cg_spool_run *met = cg_runs_get(&audit->met, cg_event_get(&event, CG_TEXT_CELL),
                                           cg_event_get(&event, CG_TEXT_RUN));
    if (met != NULL && event.meta.sequence > 0) {
        compare(audit, met, event.index, event.meta.sequence - 1);
        know(met, event.index + 1, event.meta.sequence);
    }
}

static void meet_entries(struct audit *audit, const struct cg_record_header *record)
{
    struct cg_bytes payload = cg_record_payload(record);
    struct cg_run_entry entry;
    struct cg_bytes cell;
    struct cg_bytes run;
    while (cg_run_entry_next(&payload, &entry, &cell, &run)) {
        struct cg_spool_run *met = cg_runs_get(&audit->met, cell, run);
        if (met == NULL) {
            continue;
        }
        /* Where nothing is known of what was before the hole, at least those are left out of whom
         * nothing waited for delivery. */
        if (audit->based || entry.held_bytes > 0) {
            compare(audit, met, record->index, entry.sequence);
        }
        know(met, record->index, entry.sequence);
    }
}

static bool ends_table(const struct cg_record_header *record)
{
    return record->kind == CG_RECORD_RUNS && record->flags == 1;
}

static void audit_segment(struct audit *audit, const struct cg_segment *segment)
{
    auto_passage struct passage passage;
    if (!passage_begin(audit->spool, segment, &passage)) {
        return;
    }
    const struct cg_record_header *record;
    uint64_t missing;
    while (!audit->complete && (record = passage_next(&passage, &missing)) != NULL) {
        if (cg_record_is_event(record)) {
            meet_event(audit, record);
        } else if (record->kind == CG_RECORD_RUNS || record->kind == CG_RECORD_RUN_END) {
            meet_entries(audit, record);
        }
        audit->complete = ends_table(record) && record->index >= audit->end;
    }
}

static bool has_table(const struct cg_spool *spool, const struct cg_segment *segment)
{
    auto_passage struct passage passage;
    if (!passage_begin(spool, segment, &passage)) {
        return false;
    }
    const struct cg_record_header *record;
    uint64_t missing;
    bool whole = false;
    while (!whole && (record = passage_next(&passage, &missing)) != NULL &&
           !cg_record_is_event(record)) {
        whole = ends_table(record);
    }
    return whole;
}

/* The last segment at whose head, before the hole, all runs stand; the first without one. */
static size_t base_of(struct audit *audit)
{
    const struct cg_spool *spool = audit->spool;
    size_t at = spool->segment_count;
    while (at > 0 && !audit->based) {
        at--;
        audit->based = spool->segments[at]->first_index <= audit->first &&
                       has_table(spool, spool->segments[at]);
    }
    return at;
}

/* A run as it is, behind the last record. lock held. */
static void meet_live(void *context, struct cg_spool_run *run)
{
    struct audit *audit = context;
    const struct cg_spool_run *met = cg_runs_find(&audit->met, cg_run_cell(run), cg_run_id(run));
    uint64_t known = met == NULL ? 0 : atomic_load_explicit(&met->sequence, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&run->sequence, memory_order_relaxed);
    bool whole = !audit->based && atomic_load_explicit(&run->held_bytes, memory_order_relaxed) == 0;
    if ((met == NULL || met->last_index < audit->end) && used > known && !whole) {
        (void)!cg_losses_add(&run->losses, CG_SPOOL_LOSS_DAMAGE, known + 1, used);
    }
}

static void audit_hole(struct cg_spool *spool, uint64_t first, uint64_t end)
{
    struct audit audit = {.spool = spool, .first = first, .end = end};
    cg_runs_init(&audit.met);
    for (size_t i = base_of(&audit); i < spool->segment_count && !audit.complete; i++) {
        audit_segment(&audit, spool->segments[i]);
    }
    name_range(spool, &audit.range, CG_SPOOL_LOSS_DAMAGE);
    if (!audit.complete) {
        pthread_mutex_lock(&spool->lock);
        cg_runs_visit(&spool->runs, meet_live, &audit);
        pthread_mutex_unlock(&spool->lock);
    }
    cg_runs_fini(&audit.met);
}

static bool take_hole(struct cg_spool *spool, struct cg_gap *ret_hole)
{
    pthread_mutex_lock(&spool->lock);
    bool any = spool->hole_count > 0;
    if (any) {
        *ret_hole = spool->holes[--spool->hole_count];
    }
    pthread_mutex_unlock(&spool->lock);
    return any;
}

/* The last step of all naming: what is named by then is kept, and whoever tells it may come. */
static void name_holes(struct cg_spool *spool)
{
    struct cg_gap hole;
    while (take_hole(spool, &hole)) {
        audit_hole(spool, hole.first, hole.end);
    }
    cg_spool_keep_losses(spool);
    cg_spool_more_losses(spool);
}

static void note_missing(struct cg_spool *spool, uint64_t first, uint64_t end)
{
    if (first < end) {
        pthread_mutex_lock(&spool->lock);
        cg_spool_note_hole(spool, first, end);
        pthread_mutex_unlock(&spool->lock);
    }
}

/* --- what is given up --- */

void cg_spool_name_events(struct cg_spool *spool, const struct cg_segment *segment,
                          uint64_t from_index, enum cg_spool_loss_reason reason)
{
    pthread_mutex_lock(&spool->lock);
    cg_runs_untell(&spool->runs, from_index, segment->end_index);
    pthread_mutex_unlock(&spool->lock);
    auto_passage struct passage passage;
    if (!passage_begin(spool, segment, &passage)) {
        note_missing(spool, from_index, segment->end_index);
    }
    struct range range = {0};
    const struct cg_record_header *record;
    uint64_t missing;
    while ((record = passage_next(&passage, &missing)) != NULL) {
        note_missing(spool, cg_later(from_index, record->index - missing), record->index);
        if (cg_record_is_event(record) && record->index >= from_index) {
            struct cg_event event;
            cg_record_event(record, &event);
            add_range(spool, cg_event_get(&event, CG_TEXT_CELL), cg_event_get(&event, CG_TEXT_RUN),
                      event.meta.sequence, event.meta.sequence, reason, &range);
        }
    }
    note_missing(spool, cg_later(from_index, segment->end_index - missing), segment->end_index);
    name_range(spool, &range, reason);
    name_holes(spool);
}

void cg_spool_name_damage(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    bool any = spool->hole_count > 0;
    pthread_mutex_unlock(&spool->lock);
    if (any) {
        pthread_mutex_lock(&spool->append_lock);
        name_holes(spool);
        pthread_mutex_unlock(&spool->append_lock);
    }
}
