/* damage.c - what is missing: remembered, counted once, and told. */
#include "spool/internal.h"

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

void cg_spool_count_damage(struct cg_spool *spool, uint64_t first, uint64_t end)
{
    if (first < spool->damage_counted_index) {
        first = spool->damage_counted_index;
    }
    if (first >= end) {
        return;
    }
    spool->damage_counted_index = end;
    uint64_t count = end - first - uncertain_part(spool, first, end);
    if (count == 0) {
        return;
    }
    cg_metric_add(CG_SERIES_events_dropped_damage, count);
    add(spool->unwritten_gaps, &spool->unwritten_gap_count, (struct cg_gap){first, end, false});
    cg_spool_notify(spool, &(struct cg_spool_notice){.kind = CG_SPOOL_EVENTS_DAMAGED,
                                                     .first = first,
                                                     .last = end - 1,
                                                     .count = count});
}
