/* damage.c - what is missing: remembered, counted once, and told. */
#include "spool/internal.h"

#include <errno.h>
#include <stdio.h>

void cg_spool_notify(struct cg_spool *spool, const struct cg_spool_notice *notice)
{
    if (spool->config.notice == NULL) {
        return;
    }
    if (spool->notice_count == CG_NOTICES_MAX) {
        spool->notices_suppressed++;
        return;
    }
    size_t at = (spool->notice_first + spool->notice_count) % CG_NOTICES_MAX;
    spool->notices[at] = *notice;
    spool->notices[at].suppressed = spool->notices_suppressed;
    spool->notices_suppressed = 0;
    spool->notice_count++;
    cg_committer_notice(spool);
}

void cg_spool_tell_notices(struct cg_spool *spool)
{
    for (;;) {
        struct cg_spool_notice notice;
        pthread_mutex_lock(&spool->lock);
        bool any = spool->notice_count > 0;
        if (any) {
            notice = spool->notices[spool->notice_first];
            spool->notice_first = (spool->notice_first + 1) % CG_NOTICES_MAX;
            spool->notice_count--;
        }
        pthread_mutex_unlock(&spool->lock);
        if (!any) {
            return;
        }
        spool->config.notice(spool->config.notice_context, &notice);
    }
}

static void add(struct cg_gap *gaps, size_t *count, struct cg_gap gap)
{
    if (*count > 0 && gaps[*count - 1].end == gap.first &&
        gaps[*count - 1].uncertain == gap.uncertain) {
        gaps[*count - 1].end = gap.end;
    } else if (*count < CG_GAPS_MAX) {
        gaps[(*count)++] = gap;
    }
}

void cg_spool_add_gap(struct cg_spool *spool, uint64_t first, uint64_t end, bool uncertain)
{
    const struct cg_gap gap = {first, end, uncertain};
    add(spool->gaps, &spool->gap_count, gap);
    add(spool->unwritten_gaps, &spool->unwritten_gap_count, gap);
}

void cg_spool_note_hole(struct cg_spool *spool, uint64_t first, uint64_t end)
{
    if (spool->place.read_only) {
        return;
    }
    if (spool->hole_count == CG_GAPS_MAX) { /* named with what lies between them */
        struct cg_gap *last = &spool->holes[CG_GAPS_MAX - 1];
        last->first = first < last->first ? first : last->first;
        last->end = end > last->end ? end : last->end;
        return;
    }
    add(spool->holes, &spool->hole_count, (struct cg_gap){first, end, false});
}

/* How much of [first, end) is a hole of which it is not known whether there ever was an event. */
static uint64_t uncertain_part(const struct cg_spool *spool, uint64_t first, uint64_t end)
{
    uint64_t part = 0;
    for (size_t i = 0; i < spool->gap_count; i++) {
        const struct cg_gap *gap = &spool->gaps[i];
        uint64_t from = gap->first > first ? gap->first : first;
        uint64_t to = gap->end < end ? gap->end : end;
        part += gap->uncertain && from < to ? to - from : 0;
    }
    return part;
}

/* Whether another reader has found that hole already; remembers it. */
static bool is_counted(struct cg_spool *spool, uint64_t first, uint64_t end)
{
    for (size_t i = 0; i < CG_GAPS_MAX; i++) {
        if (first >= spool->counted[i].first && end <= spool->counted[i].end) {
            return true;
        }
    }
    spool->counted[spool->counted_count++ % CG_GAPS_MAX] = (struct cg_gap){first, end, false};
    return false;
}

void cg_spool_count_damage(struct cg_spool_reader *reader, uint64_t first, uint64_t end)
{
    struct cg_spool *spool = reader->spool;
    if (first < reader->damage_index) {
        first = reader->damage_index; /* it comes by again after a retry */
    }
    if (first >= end) {
        return;
    }
    reader->damage_index = end;
    cg_runs_untell(&spool->runs, first, end);
    cg_spool_more_losses(spool);
    uint64_t count = end - first - uncertain_part(spool, first, end);
    if (count == 0 || is_counted(spool, first, end)) {
        return;
    }
    cg_metric_add(CG_SERIES_events_dropped_damage, count);
    cg_spool_note_hole(spool, first, end);
    add(spool->unwritten_gaps, &spool->unwritten_gap_count, (struct cg_gap){first, end, false});
    cg_spool_notify(spool, &(struct cg_spool_notice){.kind = CG_SPOOL_EVENTS_DAMAGED,
                                                     .first = first,
                                                     .last = end - 1,
                                                     .count = count});
}

void cg_spool_count_lost(struct cg_spool_reader *reader, uint64_t first_index, uint64_t count)
{
    struct cg_spool *spool = reader->spool;
    if (count == 0) {
        return;
    }
    pthread_mutex_lock(&spool->lock);
    /* Where the position has moved on, the segment was given up meanwhile, and was counted there.
     */
    if (reader->position.index <= first_index + count) {
        cg_spool_count_damage(reader, first_index, first_index + count);
    }
    pthread_mutex_unlock(&spool->lock);
}

/* --- places that cannot be read --- */

bool cg_spool_give_up(struct cg_spool_reader *reader, uint64_t segment, uint64_t offset,
                      const struct cg_error *why)
{
    struct cg_unreadable *place = &reader->unreadable;
    if (place->segment != segment || place->offset != offset) {
        *place = (struct cg_unreadable){.segment = segment, .offset = offset};
    }
    if (++place->tries < CG_SPOOL_READ_TRIES_MAX) {
        return false;
    }
    if (place->tries == CG_SPOOL_READ_TRIES_MAX) {
        struct cg_spool_notice notice = {.kind = CG_SPOOL_UNREADABLE,
                                         .first = reader->cursor.index};
        (void)snprintf(notice.name, sizeof(notice.name), "%s", reader->name);
        (void)snprintf(notice.text, sizeof(notice.text), "%s", why->text);
        pthread_mutex_lock(&reader->spool->lock);
        cg_spool_notify(reader->spool, &notice);
        pthread_mutex_unlock(&reader->spool->lock);
        cg_metric_add(CG_SERIES_spool_damage_unreadable, 1);
    }
    return true;
}

bool cg_spool_pass_unreadable(struct cg_spool_reader *reader, const struct cg_error *why)
{
    struct cg_scan *scan = &reader->scan;
    if (scan->failure != EIO ||
        !cg_spool_give_up(reader, reader->scan_segment, cg_scan_place(scan), why)) {
        return false;
    }
    reader->cursor.offset = reader->unreadable.offset = cg_scan_skip(scan);
    pthread_mutex_lock(&reader->spool->lock);
    if (reader->position.index <= reader->cursor.index) {
        reader->position = reader->cursor; /* so that the next peek does not begin there again */
    }
    pthread_mutex_unlock(&reader->spool->lock);
    return true;
}
