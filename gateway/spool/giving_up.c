/*
 * giving_up.c - what is given up undelivered: by all for want of room, or by one reader that holds
 * more than its quota.
 *
 * First the events are named, in memory and in the newest segment, and only then do readers move
 * and files go: whenever the gateway is killed, what it gave up is still there or has a name. What
 * readers acknowledge in between is named for nothing.
 */
#include "spool/internal.h"

#include <stdio.h>

static bool has_readers(const struct cg_spool *spool)
{
    return spool->reader_count + spool->parked_count > 0;
}

/* Where a reader stands that has passed the segment. */
static struct cg_position behind(const struct cg_segment *segment)
{
    return (struct cg_position){.index = segment->end_index,
                                .segment = segment->first_index,
                                .offset = segment->end,
                                .base = segment->base};
}

/* Returns how many events the reader gives up. lock held. */
static uint64_t move_reader(struct cg_spool_reader *reader, const struct cg_segment *segment)
{
    if (reader->position.index >= segment->end_index) {
        return 0;
    }
    uint64_t dropped = segment->end_index - cg_later(reader->position.index, segment->first_index);
    reader->dropped_events += dropped;
    reader->position = behind(segment);
    return dropped;
}

/* lock held */
static void move_all(struct cg_spool *spool, const struct cg_segment *segment)
{
    if (has_readers(spool)) {
        uint64_t first = cg_later(cg_spool_wanted_index(spool), segment->first_index);
        cg_metric_add(CG_SERIES_events_dropped_overflow,
                      first < segment->end_index ? segment->end_index - first : 0);
    }
    for (size_t i = 0; i < spool->reader_count; i++) {
        (void)move_reader(spool->readers[i], segment);
    }
    for (size_t i = 0; i < spool->parked_count; i++) {
        if (spool->parked[i].position.index < segment->end_index) {
            spool->parked[i].position = behind(segment);
        }
    }
    cg_tail_trim(&spool->tail, segment->end_index);
}

void cg_spool_drop_oldest(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    const struct cg_segment *oldest = spool->segments[0];
    uint64_t first = cg_later(cg_spool_wanted_index(spool), oldest->first_index);
    bool undelivered = has_readers(spool) && first < oldest->end_index;
    pthread_mutex_unlock(&spool->lock);
    if (undelivered) {
        cg_spool_name_events(spool, oldest, first, CG_SPOOL_LOSS_OVERFLOW);
    }
    pthread_mutex_lock(&spool->lock);
    move_all(spool, oldest);
    struct cg_segment *segment = cg_spool_unlist_first(spool);
    pthread_mutex_unlock(&spool->lock);
    cg_spool_set_aside(spool, segment);
}

/* --- quotas --- */

/* The segment that a reader has to leave for its quota's sake; NULL: none. lock held. */
static const struct cg_segment *too_much(const struct cg_spool *spool,
                                         const struct cg_spool_reader *reader)
{
    if (reader->quota_bytes == 0 || spool->segment_count == 0 ||
        reader->position.index >= spool->next_index) {
        return NULL;
    }
    const struct cg_segment *segment = cg_spool_segment_of(spool, reader->position.index);
    uint64_t quota =
        reader->quota_bytes > 2 * spool->place.size ? reader->quota_bytes : 2 * spool->place.size;
    uint64_t held = segment == NULL ? 0 : spool->end_bytes - segment->base;
    return held + spool->place.size > quota && segment != spool->current ? segment : NULL;
}

/* lock held */
static void leave_segment(struct cg_spool *spool, struct cg_spool_reader *reader,
                          const struct cg_segment *segment)
{
    uint64_t dropped = move_reader(reader, segment);
    struct cg_spool_notice notice = {.kind = CG_SPOOL_READER_DROPPED,
                                     .first = segment->end_index - dropped,
                                     .last = segment->end_index - 1,
                                     .count = dropped};
    (void)snprintf(notice.name, sizeof(notice.name), "%s", reader->name);
    cg_spool_notify(spool, &notice);
    cg_spool_trim_tail(spool);
}

/* The segment that the reader at that place has to leave, from *ret_first on; NULL: none.
 * lock held. */
static const struct cg_segment *over_quota(const struct cg_spool *spool, size_t at,
                                           uint64_t *ret_first)
{
    const struct cg_spool_reader *reader = at < spool->reader_count ? spool->readers[at] : NULL;
    const struct cg_segment *segment = reader == NULL ? NULL : too_much(spool, reader);
    *ret_first = segment == NULL ? 0 : cg_later(reader->position.index, segment->first_index);
    return segment;
}

/* False: the reader at that place is within its quota. */
static bool enforce_quota(struct cg_spool *spool, size_t at)
{
    uint64_t first;
    uint64_t named;
    pthread_mutex_lock(&spool->lock);
    const struct cg_segment *segment = over_quota(spool, at, &named);
    pthread_mutex_unlock(&spool->lock);
    if (segment == NULL) {
        return false;
    }
    cg_spool_name_events(spool, segment, named, CG_SPOOL_LOSS_QUOTA);
    pthread_mutex_lock(&spool->lock);
    /* Readers come, go and acknowledge while a segment is read. */
    if (over_quota(spool, at, &first) == segment && first >= named) {
        leave_segment(spool, spool->readers[at], segment);
    }
    pthread_mutex_unlock(&spool->lock);
    return true;
}

void cg_spool_enforce_quotas(struct cg_spool *spool)
{
    for (size_t i = 0; i < CG_READERS_MAX; i++) {
        while (enforce_quota(spool, i)) {
        }
    }
}
