/* segments.c - which segments there are: begun, filled, passed, used again. */
#include "spool/internal.h"

#include <inttypes.h>
#include <stdlib.h>

uint64_t cg_spool_wanted_index(const struct cg_spool *spool)
{
    uint64_t least = spool->next_index;
    for (size_t i = 0; i < spool->reader_count; i++) {
        if (spool->readers[i]->position.index < least) {
            least = spool->readers[i]->position.index;
        }
    }
    for (size_t i = 0; i < spool->parked_count; i++) {
        least = spool->parked[i].index < least ? spool->parked[i].index : least;
    }
    return least;
}

static bool has_readers(const struct cg_spool *spool)
{
    return spool->reader_count + spool->parked_count > 0;
}

bool cg_spool_add_segment(struct cg_spool *spool, struct cg_segment *segment, struct cg_error *err)
{
    pthread_mutex_lock(&spool->lock);
    if (spool->segment_count == spool->segment_capacity) {
        size_t capacity = spool->segment_capacity == 0 ? 32 : 2 * spool->segment_capacity;
        struct cg_segment **bigger =
            realloc(spool->segments, capacity * sizeof(struct cg_segment *));
        if (bigger == NULL) {
            pthread_mutex_unlock(&spool->lock);
            return cg_error_set(err, "no memory for the list of segments");
        }
        spool->segments = bigger;
        spool->segment_capacity = capacity;
    }
    segment->base = spool->end_bytes;
    spool->segments[spool->segment_count++] = segment;
    spool->end_bytes = segment->base + segment->end;
    pthread_mutex_unlock(&spool->lock);
    return true;
}

/* Takes the first segment out of the list. lock held. */
static struct cg_segment *unlist_first(struct cg_spool *spool)
{
    struct cg_segment *segment = spool->segments[0];
    spool->segment_count--;
    memmove(spool->segments, spool->segments + 1,
            spool->segment_count * sizeof(struct cg_segment *));
    if (segment == spool->current) {
        spool->current = NULL;
    }
    return segment;
}

/* Keeps the file for a later segment, or deletes it. The oldest spares go first, so that what is
 * in the directory has no holes. */
static void set_aside(struct cg_spool *spool, struct cg_segment *segment)
{
    if (segment->size != spool->place.size) {
        while (spool->spare_count > 0) {
            cg_segment_remove(&spool->place, spool->spares[--spool->spare_count]);
        }
        cg_segment_remove(&spool->place, segment);
        return;
    }
    if (spool->spare_count == CG_SPARES_MAX) {
        cg_segment_remove(&spool->place, spool->spares[0]);
        spool->spare_count--;
        memmove(spool->spares, spool->spares + 1, spool->spare_count * sizeof(struct cg_segment *));
    }
    spool->spares[spool->spare_count++] = segment;
}

void cg_spool_retire_passed(struct cg_spool *spool)
{
    for (;;) {
        struct cg_segment *segment = NULL;
        pthread_mutex_lock(&spool->lock);
        if (spool->appending && has_readers(spool) && spool->segment_count > 0 &&
            spool->segments[0] != spool->current &&
            spool->segments[0]->end_index <= cg_spool_wanted_index(spool)) {
            segment = unlist_first(spool);
        }
        pthread_mutex_unlock(&spool->lock);
        if (segment == NULL) {
            return;
        }
        set_aside(spool, segment);
    }
}

/* Gives up the oldest segment; readers that stand in it skip forward. */
static void drop_oldest(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    struct cg_segment *segment = unlist_first(spool);
    uint64_t wanted = cg_spool_wanted_index(spool);
    uint64_t first = wanted > segment->first_index ? wanted : segment->first_index;
    if (has_readers(spool) && first < segment->end_index) {
        cg_metric_add(CG_SERIES_events_dropped_overflow, segment->end_index - first);
    }
    for (size_t i = 0; i < spool->reader_count; i++) {
        struct cg_position *position = &spool->readers[i]->position;
        if (position->index < segment->end_index) {
            *position = (struct cg_position){.index = segment->end_index,
                                             .segment = segment->first_index,
                                             .offset = segment->end,
                                             .base = segment->base};
        }
    }
    for (size_t i = 0; i < spool->parked_count; i++) {
        if (spool->parked[i].index < segment->end_index) {
            spool->parked[i].index = segment->end_index;
        }
    }
    cg_tail_trim(&spool->tail, segment->end_index);
    pthread_mutex_unlock(&spool->lock);
    set_aside(spool, segment);
}

static uint64_t bytes_on_disk(const struct cg_spool *spool)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < spool->segment_count; i++) {
        bytes += spool->segments[i]->size;
    }
    for (size_t i = 0; i < spool->spare_count; i++) {
        bytes += spool->spares[i]->size;
    }
    return bytes;
}

/* A file for the next segment: a spare one, or a new one if the limit allows. */
static enum cg_append obtain(struct cg_spool *spool, struct cg_segment **ret_segment,
                             struct cg_error *err)
{
    bool may_drop = spool->config.when_full == CG_SPOOL_FULL_DROP_OLDEST;
    pthread_mutex_lock(&spool->lock);
    may_drop = may_drop || !has_readers(spool);
    pthread_mutex_unlock(&spool->lock);

    cg_spool_retire_passed(spool);
    while (spool->spare_count == 0 && spool->segment_count > 0 && may_drop &&
           bytes_on_disk(spool) + spool->place.size > spool->bytes_max) {
        drop_oldest(spool);
    }
    if (spool->spare_count > 0) {
        if (!cg_segment_recycle(&spool->place, spool->spares[0], spool->next_index, err)) {
            return CG_APPEND_FAILED;
        }
        *ret_segment = spool->spares[0];
        spool->spare_count--;
        memmove(spool->spares, spool->spares + 1, spool->spare_count * sizeof(struct cg_segment *));
        return CG_APPEND_DONE;
    }
    if (bytes_on_disk(spool) + spool->place.size > spool->bytes_max) {
        cg_error_set(err, "the spool is full (%" PRIu64 " bytes)", spool->bytes_max);
        return CG_APPEND_FULL;
    }
    return cg_segment_create(&spool->place, spool->next_index, ret_segment, err) ? CG_APPEND_DONE
                                                                                 : CG_APPEND_FAILED;
}

/* Writes one internal record behind the others of `segment`, which only we can see or append to. */
static bool write_internal(struct cg_spool *spool, struct cg_segment *segment,
                           enum cg_record_kind kind, uint16_t flags, struct cg_bytes payload,
                           struct cg_error *err)
{
    struct cg_record_header *header = (void *)spool->internal_record;
    if (payload.len > 0) {
        memcpy(header + 1, payload.data, payload.len);
    }
    cg_record_stage_internal(header, payload.len, kind, flags);
    cg_record_seal(header, spool->next_index, segment->salt);
    size_t bytes = cg_record_bytes(payload.len);
    size_t written;
    if (!cg_segment_write(segment, header, bytes, segment->end, &written, err)) {
        if (segment->scrub_end < segment->end + written) {
            segment->scrub_end = segment->end + written;
        }
        return false;
    }
    pthread_mutex_lock(&spool->lock);
    segment->end += bytes;
    if (segment == spool->current) {
        spool->end_bytes += bytes;
    }
    pthread_mutex_unlock(&spool->lock);
    return true;
}

/* The table of live runs, at the head of a new segment. */
static bool write_runs(struct cg_spool *spool, struct cg_segment *segment, struct cg_error *err)
{
    cg_auto_buf struct cg_buf table;
    cg_auto_buf struct cg_buf ends;
    cg_buf_init(&table, (size_t)CG_RUNS_MAX * 1024);
    cg_buf_init(&ends, (size_t)1024 * 1024);
    pthread_mutex_lock(&spool->lock);
    bool ok = cg_runs_write(&spool->runs, CG_RECORD_PAYLOAD_MAX, &table, &ends);
    pthread_mutex_unlock(&spool->lock);
    if (!ok) {
        return cg_error_set(err, "no memory for the table of runs");
    }
    size_t start = 0;
    size_t parts = ends.len / sizeof(size_t);
    for (size_t i = 0; i < parts; i++) {
        size_t end;
        memcpy(&end, ends.data + i * sizeof(end), sizeof(end));
        struct cg_bytes part = {.data = table.data == NULL ? "" : table.data + start,
                                .len = end - start};
        if (!write_internal(spool, segment, CG_RECORD_RUNS, i + 1 == parts, part, err)) {
            return false;
        }
        start = end;
    }
    return true;
}

static bool fits(const struct cg_spool *spool, size_t bytes)
{
    const struct cg_segment *current = spool->current;
    /* A segment whose head alone fills it (very many runs) takes one commit all the same. */
    return current != NULL && !spool->rotate_wanted &&
           (current->end + bytes <= current->size || current->end_index == current->first_index);
}

enum cg_append cg_spool_make_room(struct cg_spool *spool, size_t bytes, struct cg_error *err)
{
    pthread_mutex_lock(&spool->lock);
    spool->appending = true;
    bool enough = fits(spool, bytes);
    if (!enough) {
        spool->current = NULL; /* closed for appending; readers and retirement see it as whole */
    }
    pthread_mutex_unlock(&spool->lock);
    if (enough) {
        return CG_APPEND_DONE;
    }
    struct cg_segment *segment = NULL;
    enum cg_append obtained = obtain(spool, &segment, err);
    if (obtained != CG_APPEND_DONE) {
        return obtained;
    }
    if (!write_runs(spool, segment, err) || !cg_spool_add_segment(spool, segment, err)) {
        cg_segment_remove(&spool->place, segment);
        return CG_APPEND_FAILED;
    }
    pthread_mutex_lock(&spool->lock);
    spool->current = segment;
    spool->rotate_wanted = false;
    spool->dir_dirty = true;
    pthread_mutex_unlock(&spool->lock);
    return CG_APPEND_DONE;
}

void cg_spool_append_run_end(struct cg_spool *spool, const struct cg_spool_run *run)
{
    cg_auto_buf struct cg_buf entry;
    cg_buf_init(&entry, CG_RECORD_PAYLOAD_MAX);
    if (!cg_run_write(run, &entry) ||
        cg_spool_make_room(spool, cg_record_bytes(entry.len), NULL) != CG_APPEND_DONE) {
        return;
    }
    if (spool->current->scrub_end > spool->current->end &&
        !cg_segment_scrub(spool->current, NULL)) {
        return;
    }
    (void)write_internal(spool, spool->current, CG_RECORD_RUN_END, 0, cg_buf_bytes(&entry), NULL);
}
