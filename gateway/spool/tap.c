#include "spool/tap.h"

#include "spool/internal.h"

#include <stdlib.h>

struct cg_spool_tap {
    struct cg_spool *spool;
    uint64_t index; /* of the next event. Under the lock, like what follows */
    /* Where its record starts: it may stand in the middle of an extent. */
    uint64_t segment, file_offset;
    struct cg_block *block; /* on loan between look and pass */
    /* The tap's thread's own. */
    struct cg_event events[CG_SPOOL_TAP_EVENTS_MAX];
    size_t count;
};

/* --- lock held --- */

static uint64_t end_of(const struct cg_extent *extent)
{
    return extent->base + extent->file_offset + extent->len;
}

/* The least index that a tap still wants. */
static uint64_t tapped_index(const struct cg_spool *spool)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < spool->tap_count; i++) {
        least = spool->taps[i]->index < least ? spool->taps[i]->index : least;
    }
    return least;
}

void cg_spool_trim_tail(struct cg_spool *spool)
{
    struct cg_tail *tail = &spool->tail;
    uint64_t wanted = cg_spool_wanted_index(spool);
    uint64_t tapped = tapped_index(spool);
    while (tapped < wanted && tail->count > 0 &&
           spool->end_bytes - end_of(&tail->extents[tail->first]) > CG_SPOOL_TAP_LAG_BYTES_MAX) {
        uint64_t end_index = tail->extents[tail->first].end_index;
        if (end_index > wanted) {
            break; /* a reader wants it */
        }
        cg_tail_trim(tail, end_index);
    }
    cg_tail_trim(tail, tapped < wanted ? tapped : wanted);
}

/* The extent of the next event, past what is gone. NULL: there is none now. */
static const struct cg_extent *find_next(struct cg_spool_tap *tap, uint64_t *ret_skipped)
{
    struct cg_spool *spool = tap->spool;
    const struct cg_extent *extent = cg_tail_find(&spool->tail, tap->index);
    uint64_t index = tap->index;
    if (extent == NULL && index < spool->next_index) {
        extent = cg_tail_find_behind(&spool->tail, index);
        index = extent == NULL ? spool->next_index : extent->first_index;
    }
    *ret_skipped = index - tap->index;
    tap->index = index;
    return extent;
}

static void give_back(struct cg_spool_tap *tap)
{
    if (tap->block != NULL) {
        cg_tail_block_put(&tap->spool->tail, tap->block);
        tap->block = NULL;
    }
}

/* --- any --- */

bool cg_spool_tap_open(struct cg_spool *spool, struct cg_spool_tap **ret_tap, bool *ret_too_many,
                       struct cg_error *err)
{
    struct cg_spool_tap *tap = calloc(1, sizeof(*tap));
    if (tap == NULL) {
        *ret_too_many = false;
        return cg_error_set(err, "no memory for a tap");
    }
    tap->spool = spool;
    pthread_mutex_lock(&spool->lock);
    bool room = spool->tap_count < CG_SPOOL_TAPS_MAX;
    if (room) {
        tap->index = spool->next_index;
        if (spool->current != NULL) {
            tap->segment = spool->current->first_index;
            tap->file_offset = spool->current->end;
        }
        spool->taps[spool->tap_count++] = tap;
    }
    pthread_mutex_unlock(&spool->lock);
    if (!room) {
        free(tap);
        *ret_too_many = true;
        return cg_error_set(err, "there are %d taps already", CG_SPOOL_TAPS_MAX);
    }
    *ret_tap = tap;
    return true;
}

void cg_spool_tap_close(struct cg_spool_tap *tap)
{
    struct cg_spool *spool = tap->spool;
    pthread_mutex_lock(&spool->lock);
    give_back(tap);
    size_t at = 0;
    while (spool->taps[at] != tap) {
        at++;
        CG_ASSERT(at < spool->tap_count);
    }
    spool->taps[at] = spool->taps[--spool->tap_count];
    cg_spool_trim_tail(spool);
    pthread_mutex_unlock(&spool->lock);
    free(tap);
}

size_t cg_spool_tap_look(struct cg_spool_tap *tap, const struct cg_event **ret_events,
                         uint64_t *ret_skipped)
{
    struct cg_spool *spool = tap->spool;
    struct cg_extent extent = {0};
    CG_ASSERT(tap->block == NULL);
    pthread_mutex_lock(&spool->lock);
    const struct cg_extent *found = find_next(tap, ret_skipped);
    if (found != NULL) {
        extent = *found;
        tap->block = extent.block;
        extent.block->references++;
    }
    pthread_mutex_unlock(&spool->lock);
    tap->count = 0;
    if (found == NULL) {
        return 0;
    }
    /* What is published does not change, so it is read without the lock. */
    uint64_t at = 0;
    if (tap->index > extent.first_index) {
        CG_ASSERT(tap->segment == extent.segment && tap->file_offset >= extent.file_offset);
        at = tap->file_offset - extent.file_offset;
    }
    tap->segment = extent.segment;
    tap->file_offset = extent.file_offset + at;
    while (at < extent.len && tap->count < CG_SPOOL_TAP_EVENTS_MAX) {
        const struct cg_record_header *record =
            (const void *)(extent.block->data + extent.offset + at);
        CG_ASSERT(record->index == tap->index + tap->count);
        cg_record_event(record, &tap->events[tap->count++]);
        at += cg_record_bytes(record->len);
    }
    *ret_events = tap->events;
    return tap->count;
}

void cg_spool_tap_pass(struct cg_spool_tap *tap, size_t count)
{
    struct cg_spool *spool = tap->spool;
    CG_ASSERT(count <= tap->count);
    pthread_mutex_lock(&spool->lock);
    for (size_t i = 0; i < count; i++) {
        tap->file_offset += cg_record_bytes(tap->events[i].bytes.len);
    }
    tap->index += count;
    give_back(tap);
    cg_spool_trim_tail(spool);
    pthread_mutex_unlock(&spool->lock);
    tap->count = 0;
}
