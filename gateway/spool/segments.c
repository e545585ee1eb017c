/* segments.c - which segments there are: begun, filled, passed, used again. */
#include "spool/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/statvfs.h>

enum {
    RESERVE_DEFAULT_PART = 50, /* of the file system */
    RUNS_BYTES_MAX = CG_RUNS_MAX * 1024,
    RUNS_ENDS_BYTES_MAX = 1024 * 1024,
};
#define RESERVE_DEFAULT_MAX (UINT64_C(256) << 20)

uint64_t cg_spool_wanted_index(const struct cg_spool *spool)
{
    uint64_t least = spool->next_index;
    for (size_t i = 0; i < spool->reader_count; i++) {
        if (spool->readers[i]->position.index < least) {
            least = spool->readers[i]->position.index;
        }
    }
    for (size_t i = 0; i < spool->parked_count; i++) {
        uint64_t index = spool->parked[i].position.index;
        least = index < least ? index : least;
    }
    return least;
}

struct cg_segment *cg_spool_segment_of(const struct cg_spool *spool, uint64_t index)
{
    size_t low = 0;
    size_t high = spool->segment_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (spool->segments[middle]->end_index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == spool->segment_count ? NULL : spool->segments[low];
}

uint64_t cg_spool_disk_room(const struct cg_spool *spool)
{
    struct statvfs fs;
    uint64_t reserve = spool->config.reserve_bytes;
    if (spool->place.dir_fd < 0 || fstatvfs(spool->place.dir_fd, &fs) != 0) {
        return UINT64_MAX;
    }
    if (reserve == CG_SPOOL_RESERVE_DEFAULT) {
        uint64_t part = (uint64_t)fs.f_blocks * fs.f_frsize / RESERVE_DEFAULT_PART;
        reserve = part < RESERVE_DEFAULT_MAX ? part : RESERVE_DEFAULT_MAX;
    }
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return free_bytes > reserve ? free_bytes - reserve : 0;
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

struct cg_segment *cg_spool_unlist_first(struct cg_spool *spool)
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

/* The oldest spares go first, so that what is in the directory has no holes. */
void cg_spool_set_aside(struct cg_spool *spool, struct cg_segment *segment)
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
            segment = cg_spool_unlist_first(spool);
        }
        pthread_mutex_unlock(&spool->lock);
        if (segment == NULL) {
            return;
        }
        cg_spool_set_aside(spool, segment);
    }
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

/* Whether the limits allow one more file. */
static bool may_grow(const struct cg_spool *spool, struct cg_error *err)
{
    if (bytes_on_disk(spool) + spool->place.size > spool->bytes_max) {
        return cg_error_set(err, "the spool is full (%" PRIu64 " bytes)", spool->bytes_max);
    }
    if (cg_spool_disk_room(spool) < spool->place.size) {
        return cg_error_set(err, "the file system has no more room than is kept free in it");
    }
    return true;
}

static bool take_spare(struct cg_spool *spool, struct cg_segment **ret_segment,
                       struct cg_error *err)
{
    if (!cg_segment_recycle(&spool->place, spool->spares[0], spool->next_index, err)) {
        return false;
    }
    *ret_segment = spool->spares[0];
    spool->spare_count--;
    memmove(spool->spares, spool->spares + 1, spool->spare_count * sizeof(struct cg_segment *));
    return true;
}

/* A file for the next segment: a spare one, or a new one if the limits allow, or the oldest if it
 * may be given up. */
static enum cg_append obtain(struct cg_spool *spool, struct cg_segment **ret_segment,
                             struct cg_error *err)
{
    bool may_drop = spool->config.when_full == CG_SPOOL_FULL_DROP_OLDEST;
    pthread_mutex_lock(&spool->lock);
    may_drop = may_drop || !has_readers(spool);
    pthread_mutex_unlock(&spool->lock);

    cg_spool_enforce_quotas(spool);
    cg_spool_retire_passed(spool);
    for (;;) {
        if (spool->spare_count > 0) {
            return take_spare(spool, ret_segment, err) ? CG_APPEND_DONE : CG_APPEND_FAILED;
        }
        bool full = !may_grow(spool, err);
        if (!full) {
            if (cg_segment_create(&spool->place, spool->next_index, ret_segment, err)) {
                return CG_APPEND_DONE;
            }
            if (errno != ENOSPC && errno != EDQUOT) {
                return CG_APPEND_FAILED;
            }
        }
        if (!may_drop || spool->segment_count == 0) {
            return full ? CG_APPEND_FULL : CG_APPEND_FAILED;
        }
        cg_spool_drop_oldest(spool);
    }
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
    if (segment == cg_spool_last_segment(spool)) {
        spool->end_bytes += bytes;
    }
    pthread_mutex_unlock(&spool->lock);
    return true;
}

/* Writes a payload in parts, each an internal record; flags of the last is 1. */
static bool write_parts(struct cg_spool *spool, struct cg_segment *segment,
                        enum cg_record_kind kind, const struct cg_buf *payload,
                        const struct cg_buf *ends, struct cg_error *err)
{
    size_t start = 0;
    size_t parts = ends->len / sizeof(size_t);
    for (size_t i = 0; i < parts; i++) {
        size_t end;
        memcpy(&end, ends->data + i * sizeof(end), sizeof(end));
        struct cg_bytes part = {.data = payload->data == NULL ? "" : payload->data + start,
                                .len = end - start};
        if (!write_internal(spool, segment, kind, i + 1 == parts, part, err)) {
            return false;
        }
        start = end;
    }
    return true;
}

/* Opens the file of a listed segment again for writing, if it was closed. */
static bool make_writable(struct cg_spool *spool, struct cg_segment *segment)
{
    int fd;
    if (segment->fd >= 0) {
        return true;
    }
    if (!cg_segment_open_again(&spool->place, segment, &fd, NULL)) {
        return false;
    }
    pthread_mutex_lock(&spool->lock);
    segment->fd = fd;
    pthread_mutex_unlock(&spool->lock);
    return true;
}

void cg_spool_keep_losses(struct cg_spool *spool)
{
    struct cg_segment *newest = cg_spool_last_segment(spool);
    cg_auto_buf struct cg_buf losses;
    cg_auto_buf struct cg_buf ends;
    cg_buf_init(&losses, RUNS_BYTES_MAX);
    cg_buf_init(&ends, RUNS_ENDS_BYTES_MAX);
    pthread_mutex_lock(&spool->lock);
    bool known = cg_runs_write_unfinished(&spool->runs, CG_RECORD_PAYLOAD_MAX, &losses, &ends);
    pthread_mutex_unlock(&spool->lock);
    (void)!(spool->place.dir_fd >= 0 && newest != NULL && known && losses.len > 0 &&
            make_writable(spool, newest) &&
            (newest->scrub_end <= newest->end || cg_segment_scrub(newest, NULL)) &&
            write_parts(spool, newest, CG_RECORD_LOSSES, &losses, &ends, NULL));
}

/* What is known of the runs, at the head of a new segment: first what they have lost, then the
 * table, whose last part says that all of it is there. */
static bool write_head(struct cg_spool *spool, struct cg_segment *segment, struct cg_error *err)
{
    cg_auto_buf struct cg_buf table;
    cg_auto_buf struct cg_buf table_ends;
    cg_auto_buf struct cg_buf losses;
    cg_auto_buf struct cg_buf losses_ends;
    cg_buf_init(&table, RUNS_BYTES_MAX);
    cg_buf_init(&table_ends, RUNS_ENDS_BYTES_MAX);
    cg_buf_init(&losses, RUNS_BYTES_MAX);
    cg_buf_init(&losses_ends, RUNS_ENDS_BYTES_MAX);
    pthread_mutex_lock(&spool->lock);
    bool ok = cg_runs_write_losses(&spool->runs, cg_spool_wanted_index(spool),
                                   CG_RECORD_PAYLOAD_MAX, &losses, &losses_ends) &&
              cg_runs_write(&spool->runs, CG_RECORD_PAYLOAD_MAX, &table, &table_ends);
    pthread_mutex_unlock(&spool->lock);
    if (!ok) {
        return cg_error_set(err, "no memory for the table of runs");
    }
    return write_parts(spool, segment, CG_RECORD_LOSSES, &losses, &losses_ends, err) &&
           write_parts(spool, segment, CG_RECORD_RUNS, &table, &table_ends, err);
}

static bool fits(const struct cg_spool *spool, size_t bytes)
{
    const struct cg_segment *current = spool->current;
    /* A segment whose head alone fills it (very many runs) takes one commit all the same. */
    return current != NULL && !spool->rotate_wanted &&
           (current->end + bytes <= current->size || current->end_index == current->first_index);
}

/* No more is appended to the current segment; readers and retirement see it as whole. One that has
 * no event goes: the next would have its name. lock held. */
static struct cg_segment *finish_current(struct cg_spool *spool)
{
    struct cg_segment *current = spool->current;
    spool->current = NULL;
    if (current == NULL || current->end_index != current->first_index) {
        return NULL;
    }
    spool->segment_count--;
    spool->end_bytes = current->base;
    return current;
}

/* The new segment takes records from here on. */
static bool begin(struct cg_spool *spool, struct cg_segment *segment, struct cg_error *err)
{
    if (!write_head(spool, segment, err) || !cg_spool_add_segment(spool, segment, err)) {
        cg_segment_remove(&spool->place, segment);
        return false;
    }
    pthread_mutex_lock(&spool->lock);
    spool->current = segment;
    spool->rotate_wanted = spool->head_due = false;
    spool->dir_dirty = true;
    pthread_mutex_unlock(&spool->lock);
    cg_spool_write_gaps(spool);
    return true;
}

void cg_spool_begin_head(struct cg_spool *spool)
{
    struct cg_segment *segment = NULL;
    /* Without it a second crash before the first event would forget what this start has found. */
    (void)!(may_grow(spool, NULL) &&
            cg_segment_create(&spool->place, spool->next_index, &segment, NULL) &&
            begin(spool, segment, NULL));
}

enum cg_append cg_spool_make_room(struct cg_spool *spool, size_t bytes, struct cg_error *err)
{
    pthread_mutex_lock(&spool->lock);
    spool->appending = true;
    bool enough = fits(spool, bytes);
    struct cg_segment *empty = enough ? NULL : finish_current(spool);
    pthread_mutex_unlock(&spool->lock);
    if (enough) {
        return CG_APPEND_DONE;
    }
    if (empty != NULL) {
        cg_spool_keep_losses(spool); /* which may have stood in its head alone */
        cg_segment_remove(&spool->place, empty);
    }
    struct cg_segment *segment = NULL;
    enum cg_append obtained = obtain(spool, &segment, err);
    if (obtained != CG_APPEND_DONE) {
        return obtained;
    }
    return begin(spool, segment, err) ? CG_APPEND_DONE : CG_APPEND_FAILED;
}

/* Whether an internal record may be written behind the others. */
static bool ready_for(struct cg_spool *spool, size_t payload_bytes)
{
    struct cg_segment *current = spool->current;
    return current != NULL && !spool->rotate_wanted &&
           current->end + cg_record_bytes(payload_bytes) <= current->size &&
           (current->scrub_end <= current->end || cg_segment_scrub(current, NULL));
}

void cg_spool_write_gaps(struct cg_spool *spool)
{
    for (;;) {
        uint64_t range[2] = {0};
        pthread_mutex_lock(&spool->lock);
        bool any = spool->unwritten_gap_count > 0;
        if (any) {
            range[0] = spool->unwritten_gaps[0].first;
            range[1] = spool->unwritten_gaps[0].end - 1;
        }
        pthread_mutex_unlock(&spool->lock);
        if (!any || !ready_for(spool, sizeof(range)) ||
            !write_internal(spool, spool->current, CG_RECORD_GAP, 0, cg_bytes(range, sizeof(range)),
                            NULL)) {
            return;
        }
        pthread_mutex_lock(&spool->lock);
        spool->unwritten_gap_count--;
        memmove(&spool->unwritten_gaps[0], &spool->unwritten_gaps[1],
                spool->unwritten_gap_count * sizeof(spool->unwritten_gaps[0]));
        pthread_mutex_unlock(&spool->lock);
    }
}

void cg_spool_append_run_end(struct cg_spool *spool, const struct cg_spool_run *run)
{
    cg_auto_buf struct cg_buf entry;
    cg_buf_init(&entry, CG_RECORD_PAYLOAD_MAX);
    if (!cg_run_write(run, &entry) ||
        cg_spool_make_room(spool, cg_record_bytes(entry.len), NULL) != CG_APPEND_DONE) {
        return;
    }
    if (ready_for(spool, entry.len)) {
        (void)write_internal(spool, spool->current, CG_RECORD_RUN_END, 0, cg_buf_bytes(&entry),
                             NULL);
    }
}
