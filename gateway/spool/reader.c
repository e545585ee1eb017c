/* reader.c - waiting, borrowing and acknowledging. */
#include "spool/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static bool same_name(const struct cg_spool *spool, const char *name)
{
    for (size_t i = 0; i < spool->reader_count; i++) {
        if (strcmp(spool->readers[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a saved offset is right: the record of that index starts there. */
static bool hint_holds(const struct cg_spool *spool, const struct cg_segment *segment,
                       const struct cg_position *saved)
{
    if (saved->segment != segment->first_index || saved->offset % 8 != 0 ||
        saved->offset < CG_SEGMENT_HEADER_BYTES || saved->offset > segment->size) {
        return false;
    }
    int fd;
    if (!cg_segment_reopen(&spool->place, segment, &fd, NULL)) {
        return false;
    }
    struct cg_record_header record;
    ssize_t n = pread(fd, &record, sizeof(record), (off_t)saved->offset);
    (void)close(fd);
    return n == (ssize_t)sizeof(record) && record.index == saved->index &&
           cg_record_sealed(&record, segment->salt);
}

/* Whether that event was lost to damage; else it is gone since everybody had it. lock held. */
static bool in_gap(const struct cg_spool *spool, uint64_t index)
{
    for (size_t i = 0; i < spool->gap_count; i++) {
        if (index >= spool->gaps[i].first && index < spool->gaps[i].end) {
            return true;
        }
    }
    return false;
}

/* Where a reader of that name starts. lock held. */
static struct cg_position first_position(struct cg_spool *spool, const char *name)
{
    struct cg_position position = {0};
    if (spool->positions_fd >= 0 &&
        cg_position_load(spool->positions_fd, name, &position) == CG_POSITION_DAMAGED) {
        struct cg_spool_notice notice = {.kind = CG_SPOOL_POSITION_DAMAGED};
        (void)snprintf(notice.name, sizeof(notice.name), "%s", name);
        cg_spool_notify(spool, &notice);
        cg_metric_add(CG_SERIES_spool_damage_position, 1);
    }
    if (position.index > spool->next_index) {
        position.index = spool->next_index;
    }
    const struct cg_segment *segment = cg_spool_segment_of(spool, position.index);
    if (segment == NULL) {
        return (struct cg_position){.index = spool->next_index, .base = spool->end_bytes};
    }
    if (!hint_holds(spool, segment, &position)) {
        position.offset = CG_SEGMENT_HEADER_BYTES;
    }
    if (position.index < segment->first_index && !in_gap(spool, position.index)) {
        position.index = segment->first_index;
    }
    position.segment = segment->first_index;
    position.base = segment->base;
    return position;
}

/* Returns whether it was parked. lock held. */
static bool unpark(struct cg_spool *spool, const char *name, struct cg_position *ret_position)
{
    for (size_t i = 0; i < spool->parked_count; i++) {
        if (strcmp(spool->parked[i].name, name) == 0) {
            *ret_position = spool->parked[i].position;
            spool->parked[i] = spool->parked[--spool->parked_count];
            return true;
        }
    }
    return false;
}

void cg_spool_reader_forget(struct cg_spool *spool, const char *name)
{
    struct cg_position position;
    pthread_mutex_lock(&spool->lock);
    (void)unpark(spool, name, &position);
    cg_committer_notice(spool);
    pthread_mutex_unlock(&spool->lock);
}

bool cg_spool_reader_open(struct cg_spool *spool, const char *name,
                          struct cg_spool_reader **ret_reader, struct cg_error *err)
{
    if (!cg_position_name_valid(name)) {
        return cg_error_set(err, "'%s' is no name for a spool reader", name);
    }
    struct cg_spool_reader *reader = calloc(1, sizeof(*reader));
    struct cg_piece *pieces = calloc(CG_PIECES_MAX, sizeof(*pieces));
    pthread_condattr_t attributes;
    if (reader == NULL || pieces == NULL || pthread_condattr_init(&attributes) != 0) {
        free(reader);
        free(pieces);
        return cg_error_set(err, "no memory for a spool reader");
    }
    reader->spool = spool;
    reader->pieces = pieces;
    (void)snprintf(reader->name, sizeof(reader->name), "%s", name);
    cg_scan_init(&reader->scan);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&reader->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);

    pthread_mutex_lock(&spool->lock);
    struct cg_position position;
    bool parked = unpark(spool, name, &position);
    const char *problem = same_name(spool, name) ? "is open already"
                          : spool->reader_count + spool->parked_count >= CG_READERS_MAX
                              ? "is one too many"
                              : NULL;
    if (problem == NULL) {
        position = parked ? position : first_position(spool, name);
        reader->position = reader->saved = reader->cursor = position;
        spool->readers[spool->reader_count++] = reader;
    }
    pthread_mutex_unlock(&spool->lock);
    if (problem != NULL) {
        (void)pthread_cond_destroy(&reader->wake);
        free(reader->pieces);
        free(reader);
        return cg_error_set(err, "spool reader '%s' %s", name, problem);
    }
    *ret_reader = reader;
    return true;
}

void cg_spool_reader_limit(struct cg_spool_reader *reader, uint64_t quota_bytes)
{
    pthread_mutex_lock(&reader->spool->lock);
    reader->quota_bytes = quota_bytes;
    pthread_mutex_unlock(&reader->spool->lock);
}

/* lock held */
static void return_loans(struct cg_spool_reader *reader)
{
    for (size_t i = 0; i < reader->piece_count; i++) {
        if (reader->pieces[i].block != NULL) {
            cg_tail_block_put(&reader->spool->tail, reader->pieces[i].block);
        }
    }
    reader->piece_count = 0;
}

void cg_spool_reader_close(struct cg_spool_reader *reader)
{
    struct cg_spool *spool = reader->spool;
    cg_spool_save_reader(spool, reader);
    pthread_mutex_lock(&spool->lock);
    return_loans(reader);
    size_t at = 0;
    while (spool->readers[at] != reader) {
        at++;
        CG_ASSERT(at < spool->reader_count);
    }
    spool->readers[at] = spool->readers[--spool->reader_count];
    struct cg_parked *parked = &spool->parked[spool->parked_count++];
    memcpy(parked->name, reader->name, sizeof(parked->name));
    parked->position = reader->position;
    pthread_mutex_unlock(&spool->lock);
    if (reader->scan.fd >= 0) {
        (void)close(reader->scan.fd);
    }
    cg_scan_fini(&reader->scan);
    (void)pthread_cond_destroy(&reader->wake);
    free(reader->events);
    free(reader->pieces);
    free(reader);
}

/* --- waiting --- */

/* Sleeps until woken or until the configured clock should have reached the deadline. lock held. */
static void sleep_until(struct cg_spool_reader *reader, uint64_t now_ns, uint64_t deadline_ns)
{
    struct cg_spool *spool = reader->spool;
    if (deadline_ns == UINT64_MAX) {
        (void)pthread_cond_wait(&reader->wake, &spool->lock);
        return;
    }
    uint64_t until = cg_clock_monotonic(&cg_clock_system) + (deadline_ns - now_ns);
    struct timespec at = {.tv_sec = (time_t)(until / CG_NS_PER_S),
                          .tv_nsec = (long)(until % CG_NS_PER_S)};
    (void)pthread_cond_timedwait(&reader->wake, &spool->lock, &at);
}

bool cg_spool_reader_wait(struct cg_spool_reader *reader, uint64_t events, uint64_t bytes,
                          uint64_t deadline_ns)
{
    struct cg_spool *spool = reader->spool;
    pthread_mutex_lock(&spool->lock);
    reader->wanted_events = events;
    reader->wanted_bytes = bytes;
    uint64_t behind;
    for (;;) {
        behind = spool->next_index - reader->position.index;
        uint64_t behind_bytes = spool->end_bytes - cg_position_bytes(&reader->position);
        if ((behind > 0 && (behind >= events || behind_bytes >= bytes)) || reader->interrupted) {
            break;
        }
        uint64_t now_ns = cg_clock_monotonic(spool->config.clock);
        if (now_ns >= deadline_ns) {
            break;
        }
        reader->waiting = true;
        sleep_until(reader, now_ns, deadline_ns);
    }
    reader->waiting = false;
    reader->interrupted = false;
    pthread_mutex_unlock(&spool->lock);
    return behind > 0;
}

void cg_spool_reader_interrupt(struct cg_spool_reader *reader)
{
    struct cg_spool *spool = reader->spool;
    pthread_mutex_lock(&spool->lock);
    reader->interrupted = true;
    pthread_cond_signal(&reader->wake);
    pthread_mutex_unlock(&spool->lock);
}

/* --- borrowing --- */

struct limits {
    uint64_t events_max;
    uint64_t bytes_max;
};

/* Adds an event to the batch. False: the batch is full without it. */
static bool add_event(struct cg_spool_reader *reader, const struct limits *limits,
                      const struct cg_record_header *record)
{
    struct cg_batch *batch = &reader->batch;
    if (batch->count >= limits->events_max ||
        (batch->count > 0 && batch->bytes + record->len > limits->bytes_max)) {
        return false;
    }
    if (batch->count == reader->events_capacity) {
        size_t capacity = reader->events_capacity == 0 ? 512 : 2 * reader->events_capacity;
        struct cg_event *bigger = realloc(reader->events, capacity * sizeof(*bigger));
        if (bigger == NULL) {
            return false;
        }
        reader->events = bigger;
        reader->events_capacity = capacity;
    }
    cg_record_event(record, &reader->events[batch->count++]);
    batch->bytes += record->len;
    reader->pieces[reader->piece_count - 1].end_event = batch->count;
    return true;
}

enum source { SOURCE_NONE, SOURCE_TAIL, SOURCE_FILE, SOURCE_PASSED, SOURCE_FAILED };

/* What trying again does not mend, when a file is opened. */
static bool is_gone(int failure)
{
    return failure == ENOENT || failure == EIO;
}

/* lock held */
static bool aim_at_segment(struct cg_spool_reader *reader, const struct cg_segment *segment,
                           struct cg_error *err)
{
    struct cg_spool *spool = reader->spool;
    struct cg_scan *scan = &reader->scan;
    if (scan->fd < 0 || reader->scan_segment != segment->first_index ||
        reader->scan_salt != segment->salt) {
        int fd;
        if (!cg_segment_reopen(&spool->place, segment, &fd, err)) {
            return false;
        }
        if (scan->fd >= 0) {
            (void)close(scan->fd);
        }
        scan->fd = fd;
        reader->scan_segment = segment->first_index;
        reader->scan_salt = segment->salt;
    }
    cg_scan_aim(scan, scan->fd, segment->salt, reader->cursor.offset, segment->end,
                reader->cursor.index, segment->end_index);
    if (reader->batch.count == 0) {
        cg_scan_compact(scan);
    }
    return true;
}

/* Where the event at the cursor is to be had; begins a piece for it. */
static enum source next_source(struct cg_spool_reader *reader, struct cg_extent *ret_extent,
                               struct cg_error *err)
{
    struct cg_spool *spool = reader->spool;
    struct cg_position *cursor = &reader->cursor;
    enum source source = SOURCE_NONE;
    struct cg_segment gone = {0};
    pthread_mutex_lock(&spool->lock);
    const struct cg_extent *extent = cg_tail_find(&spool->tail, cursor->index);
    const struct cg_segment *segment =
        extent != NULL ? NULL : cg_spool_segment_of(spool, cursor->index);
    if (extent != NULL) {
        extent->block->references++;
        *ret_extent = *extent;
        source = SOURCE_TAIL;
    } else if (segment != NULL) {
        if (cursor->index < segment->first_index) {
            cg_spool_count_damage(reader, cursor->index, segment->first_index);
            cursor->index = segment->first_index;
        }
        if (cursor->segment != segment->first_index) {
            cursor->segment = segment->first_index;
            cursor->offset = CG_SEGMENT_HEADER_BYTES;
        }
        cursor->base = segment->base;
        errno = 0;
        source = aim_at_segment(reader, segment, err) ? SOURCE_FILE : SOURCE_FAILED;
        if (source == SOURCE_FAILED && is_gone(errno)) {
            gone = *segment;
        }
    }
    pthread_mutex_unlock(&spool->lock);
    if (gone.end_index > 0 && reader->batch.count == 0 &&
        cg_spool_give_up(reader, gone.first_index, 0, err)) {
        cg_spool_count_lost(reader, cursor->index, gone.end_index - cursor->index);
        cursor->index = gone.end_index;
        cursor->offset = gone.end;
        return SOURCE_PASSED;
    }
    if (source == SOURCE_TAIL || source == SOURCE_FILE) {
        reader->pieces[reader->piece_count++] = (struct cg_piece){
            .block = source == SOURCE_TAIL ? ret_extent->block : NULL,
            .position = *cursor,
            .end_event = reader->batch.count,
        };
    }
    return source;
}

/* How far into an extent the cursor's record stands. A reader that was opened while events came
 * may know the index alone: then the records before it are counted off. */
static uint64_t offset_in_tail(const struct cg_position *cursor, const struct cg_extent *extent)
{
    if (cursor->segment == extent->segment && cursor->offset >= extent->file_offset) {
        return cursor->index > extent->first_index ? cursor->offset - extent->file_offset : 0;
    }
    const char *data = extent->block->data + extent->offset;
    uint64_t skip = 0;
    for (uint64_t index = extent->first_index; index < cursor->index; index++) {
        const struct cg_record_header *record = (const void *)(data + skip);
        CG_ASSERT(record->index == index);
        skip += cg_record_bytes(record->len);
        CG_ASSERT(skip < extent->len);
    }
    return skip;
}

/* Takes events of an extent. False: the batch is full. */
static bool take_from_tail(struct cg_spool_reader *reader, const struct limits *limits,
                           const struct cg_extent *extent)
{
    struct cg_position *cursor = &reader->cursor;
    struct cg_piece *piece = &reader->pieces[reader->piece_count - 1];
    uint64_t skip = offset_in_tail(cursor, extent);
    *cursor = (struct cg_position){.index = cursor->index,
                                   .segment = extent->segment,
                                   .offset = extent->file_offset + skip,
                                   .base = extent->base};
    const char *data = extent->block->data + extent->offset;
    piece->data = data + skip;
    piece->position = *cursor;
    for (uint64_t at = skip; at < extent->len;) {
        const struct cg_record_header *record = (const void *)(data + at);
        CG_ASSERT(record->index == cursor->index);
        if (!add_event(reader, limits, record)) {
            return false;
        }
        at += cg_record_bytes(record->len);
        cursor->index++;
        cursor->offset = extent->file_offset + at;
    }
    return true;
}

/* Takes events of the segment that the scan is aimed at, up to its end. False: the batch is full,
 * or *ret_failed. */
static bool take_from_file(struct cg_spool_reader *reader, const struct limits *limits,
                           bool *ret_failed, struct cg_error *err)
{
    struct cg_scan *scan = &reader->scan;
    struct cg_position *cursor = &reader->cursor;
    struct cg_piece *piece = &reader->pieces[reader->piece_count - 1];
    for (;;) {
        const struct cg_record_header *record = NULL;
        uint64_t lost = 0;
        uint64_t expected = scan->expected;
        switch (cg_scan_next(scan, &record, &lost, err)) {
        case CG_SCAN_NO_ROOM:
            if (reader->batch.count > 0) {
                return false;
            }
            cg_scan_compact(scan);
            continue;
        case CG_SCAN_FAILED:
            if (reader->batch.count == 0 && cg_spool_pass_unreadable(reader, err)) {
                continue;
            }
            *ret_failed = true;
            return false;
        case CG_SCAN_END:
            cg_spool_count_lost(reader, expected, lost);
            cursor->index = scan->end_index;
            cursor->offset = scan->offset;
            return true;
        case CG_SCAN_RECORD:
            break;
        }
        cg_spool_count_lost(reader, expected, lost);
        if (cg_record_is_event(record)) {
            size_t bytes = cg_record_bytes(record->len);
            if (piece->data == NULL) {
                piece->data = (const char *)record;
                piece->position = *cursor;
                piece->position.index = record->index;
                piece->position.offset = scan->offset - bytes;
            }
            if (!add_event(reader, limits, record)) {
                return false;
            }
        }
        cursor->index = scan->expected;
        cursor->offset = scan->offset;
    }
}

/* What a finished peek tells of the place where the reader stands. */
static void settle_position(struct cg_spool_reader *reader)
{
    struct cg_spool *spool = reader->spool;
    pthread_mutex_lock(&spool->lock);
    if (reader->batch.count > 0) {
        reader->oldest_received_ns = reader->events[0].meta.received_ns;
    } else if (reader->cursor.index > reader->position.index) {
        /* Only damage was there, if anything: it is done with. */
        reader->position = reader->cursor;
    }
    pthread_mutex_unlock(&spool->lock);
}

bool cg_spool_reader_peek(struct cg_spool_reader *reader, uint64_t events_max, uint64_t bytes_max,
                          struct cg_batch *ret_batch, struct cg_error *err)
{
    CG_ASSERT(events_max > 0 && events_max <= CG_SPOOL_PEEK_EVENTS_MAX);
    struct cg_spool *spool = reader->spool;
    const struct limits limits = {.events_max = events_max, .bytes_max = bytes_max};
    struct cg_error why = {0};
    pthread_mutex_lock(&spool->lock);
    return_loans(reader);
    reader->cursor = reader->position;
    pthread_mutex_unlock(&spool->lock);
    reader->batch = (struct cg_batch){0};
    reader->acked = 0;

    bool failed = false;
    bool more = true;
    while (more && !failed && reader->piece_count < CG_PIECES_MAX &&
           reader->batch.count < events_max) {
        struct cg_extent extent = {0};
        switch (next_source(reader, &extent, &why)) {
        case SOURCE_NONE:
            more = false;
            break;
        case SOURCE_TAIL:
            more = take_from_tail(reader, &limits, &extent);
            break;
        case SOURCE_FILE:
            more = take_from_file(reader, &limits, &failed, &why);
            break;
        case SOURCE_PASSED:
            break;
        case SOURCE_FAILED:
            failed = true;
            break;
        }
    }
    cg_spool_name_damage(spool); /* before anybody passes it */
    if (failed && reader->batch.count == 0) {
        return cg_error_set(err, "%s", why.text);
    }
    reader->batch.events = reader->events;
    settle_position(reader);
    *ret_batch = reader->batch;
    return true;
}

/* --- acknowledging --- */

/* Where event number `event` of the batch starts. */
static struct cg_position position_of(const struct cg_spool_reader *reader, size_t event)
{
    const struct cg_piece *piece = reader->pieces;
    while (piece->end_event <= event) {
        piece++;
    }
    struct cg_position position = piece->position;
    const char *record = reader->events[event].bytes.data - CG_RECORD_HEADER_BYTES;
    position.index = reader->events[event].index;
    position.offset += (uint64_t)(record - piece->data);
    return position;
}

/* When the event at the position was received; `before_ns` if that would have to be read. */
static uint64_t received_at(const struct cg_spool *spool, const struct cg_position *position,
                            uint64_t before_ns)
{
    if (position->index >= spool->next_index) {
        return 0;
    }
    const struct cg_extent *extent = cg_tail_find(&spool->tail, position->index);
    if (extent == NULL) {
        return before_ns;
    }
    uint64_t skip =
        position->index > extent->first_index ? position->offset - extent->file_offset : 0;
    const struct cg_record_header *record =
        (const void *)(extent->block->data + extent->offset + skip);
    return record->received_ns;
}

void cg_spool_reader_ack(struct cg_spool_reader *reader, uint64_t count)
{
    struct cg_spool *spool = reader->spool;
    CG_ASSERT(count <= reader->batch.count - reader->acked);
    if (count == 0) {
        return;
    }
    reader->acked += count;
    bool all = reader->acked == reader->batch.count;
    struct cg_position to = all ? reader->cursor : position_of(reader, reader->acked);
    uint64_t last_ns = reader->events[reader->acked - 1].meta.received_ns;
    pthread_mutex_lock(&spool->lock);
    if (to.index > reader->position.index) {
        reader->position = to;
        reader->oldest_received_ns =
            all ? received_at(spool, &to, last_ns) : reader->events[reader->acked].meta.received_ns;
    }
    cg_spool_trim_tail(spool);
    cg_committer_notice(spool);
    pthread_mutex_unlock(&spool->lock);
}

void cg_spool_reader_backlog(struct cg_spool_reader *reader, struct cg_spool_backlog *ret_backlog)
{
    struct cg_spool *spool = reader->spool;
    pthread_mutex_lock(&spool->lock);
    const struct cg_position *position = &reader->position;
    *ret_backlog = (struct cg_spool_backlog){.acked_index = position->index,
                                             .dropped_events = reader->dropped_events,
                                             .quota_bytes = reader->quota_bytes};
    if (position->index < spool->next_index) {
        ret_backlog->events = spool->next_index - position->index;
        ret_backlog->bytes = spool->end_bytes - cg_position_bytes(position);
        ret_backlog->oldest_received_ns = reader->oldest_received_ns;
    }
    pthread_mutex_unlock(&spool->lock);
}
