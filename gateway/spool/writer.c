/* writer.c - staging without a lock, committing under the append lock. */
#include "spool/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

bool cg_spool_writer_open(struct cg_spool *spool, struct cg_spool_writer **ret_writer,
                          struct cg_error *err)
{
    /* Most of it is the array of touches, whose pages cost nothing until they are used. */
    struct cg_spool_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return cg_error_set(err, "no memory for a spool writer");
    }
    writer->spool = spool;
    pthread_mutex_lock(&spool->lock);
    spool->writer_count++;
    pthread_mutex_unlock(&spool->lock);
    *ret_writer = writer;
    return true;
}

void cg_spool_writer_close(struct cg_spool_writer *writer)
{
    struct cg_spool *spool = writer->spool;
    pthread_mutex_lock(&spool->lock);
    if (writer->block != NULL) {
        cg_tail_block_put(&spool->tail, writer->block);
    }
    spool->writer_count--;
    pthread_mutex_unlock(&spool->lock);
    free(writer);
}

static bool change_block(struct cg_spool_writer *writer)
{
    struct cg_spool *spool = writer->spool;
    pthread_mutex_lock(&spool->lock);
    struct cg_block *block = cg_tail_block_get(&spool->tail);
    if (block != NULL && writer->block != NULL) {
        cg_tail_block_put(&spool->tail, writer->block);
    }
    pthread_mutex_unlock(&spool->lock);
    if (block == NULL) {
        return false;
    }
    writer->block = block;
    writer->staged = writer->fill = 0;
    return true;
}

static struct cg_record_header *record_at(const struct cg_spool_writer *writer, uint32_t offset)
{
    return (void *)(writer->block->data + offset);
}

char *cg_spool_writer_begin(struct cg_spool_writer *writer)
{
    if (writer->block == NULL || writer->fill > CG_BLOCK_BYTES - CG_RECORD_BYTES_MAX) {
        if (writer->events > 0 || !change_block(writer)) {
            return NULL;
        }
    }
    return (char *)(record_at(writer, writer->fill) + 1);
}

void cg_spool_writer_end(struct cg_spool_writer *writer, size_t len,
                         const struct cg_event_meta *meta, struct cg_spool_run *run)
{
    CG_ASSERT(len <= CG_EVENT_BYTES_MAX && writer->fill <= CG_BLOCK_BYTES - CG_RECORD_BYTES_MAX);
    uint32_t at = writer->fill;
    cg_record_stage(record_at(writer, at), len, meta);
    struct cg_touch *last = writer->touch_count > writer->touch_first
                                ? &writer->touches[writer->touch_count - 1]
                                : NULL;
    /* The last of them speaks for all, so the newest connection must be in it (events of the
     * gateway's own may have none), and what is said of a silence. */
    if (last != NULL && last->run == run &&
        record_at(writer, last->last_record)->connection <= meta->connection &&
        record_at(writer, last->last_record)->flags == 0) {
        last->last_record = at;
    } else {
        writer->touches[writer->touch_count++] =
            (struct cg_touch){.run = run, .first_record = at, .last_record = at};
    }
    writer->fill += (uint32_t)cg_record_bytes(len);
    writer->events++;
}

size_t cg_spool_writer_staged(const struct cg_spool_writer *writer)
{
    return writer->events;
}

/* The staged records that fit into the current segment, given their places. */
struct sealed {
    uint32_t bytes;
    uint32_t last_record;
    size_t events;
    uint64_t kinds[CG_EVENT_PROBE + 1];
};

static struct sealed seal_fitting(const struct cg_spool_writer *writer)
{
    const struct cg_spool *spool = writer->spool;
    const struct cg_segment *segment = spool->current;
    uint64_t room = segment->size > segment->end ? segment->size - segment->end : 0;
    struct sealed sealed = {0};
    for (uint32_t at = writer->staged; at < writer->fill;) {
        struct cg_record_header *record = record_at(writer, at);
        uint32_t bytes = (uint32_t)cg_record_bytes(record->len);
        bool first_of_all = segment->end_index == segment->first_index && sealed.events == 0;
        if (sealed.bytes + bytes > room && !first_of_all) {
            break;
        }
        cg_record_seal(record, spool->next_index + sealed.events, segment->salt);
        if (record->kind <= CG_EVENT_PROBE) {
            sealed.kinds[record->kind]++;
        }
        sealed.last_record = at;
        sealed.bytes += bytes;
        sealed.events++;
        at += bytes;
    }
    return sealed;
}

/* Writes them where the segment ends. */
static bool write_sealed(struct cg_spool_writer *writer, const struct sealed *sealed,
                         struct cg_error *err)
{
    struct cg_spool *spool = writer->spool;
    struct cg_segment *segment = spool->current;
    if (segment->scrub_end > segment->end && !cg_segment_scrub(segment, err)) {
        return false;
    }
    size_t written = sealed->bytes;
    bool ok = cg_segment_write(segment, writer->block->data + writer->staged, sealed->bytes,
                               segment->end, &written, err);
    if (ok && spool->config.sync == CG_SPOOL_SYNC_ALWAYS && spool->place.dir_fd >= 0) {
        uint64_t start = cg_clock_monotonic(&cg_clock_system);
        ok = (!spool->dir_dirty || fsync(spool->place.dir_fd) == 0) && fdatasync(segment->fd) == 0;
        if (!ok) {
            cg_error_errno(err, errno, "sync the spool");
        }
        cg_histogram_observe(&spool->sync_durations, cg_clock_monotonic(&cg_clock_system) - start);
    }
    if (!ok) {
        /* The next attempt may be another writer's, with other lengths: none of what stands there
         * now may look like a record behind it. */
        segment->scrub_end = segment->end + written;
    }
    return ok;
}

/* What the last record of a touch says, and how many bytes came with it. */
static void advance_run(struct cg_spool *spool, struct cg_spool_run *run,
                        const struct cg_record_header *record, uint64_t bytes,
                        uint64_t wanted_index)
{
    cg_run_hold(run, bytes, record->index, wanted_index,
                spool->config.cell_share_bytes / CG_HELD_MARKS_A_SHARE + 1);
    if (run->losses != NULL) {
        cg_losses_pass(run->losses, wanted_index);
        if ((record->flags & CG_RECORD_TELLS_LOSSES) != 0) {
            cg_losses_told(run->losses, record->index);
            cg_spool_more_losses(spool); /* some may have waited for that */
        }
    }
    cg_run_advance(run, record->sequence, record->connection,
                   record->flags & (uint16_t)~CG_RECORD_TELLS_LOSSES, record->index, wanted_index);
}

static void advance_runs(struct cg_spool_writer *writer, const struct sealed *sealed)
{
    uint64_t wanted_index = cg_spool_wanted_index(writer->spool);
    uint32_t end = writer->staged + sealed->bytes;
    while (writer->touch_first < writer->touch_count) {
        const struct cg_touch *touch = &writer->touches[writer->touch_first];
        if (touch->first_record >= end) {
            break;
        }
        bool all = touch->last_record < end;
        uint32_t last = all ? touch->last_record : sealed->last_record;
        uint32_t first =
            touch->first_record > writer->staged ? touch->first_record : writer->staged;
        const struct cg_record_header *record = record_at(writer, last);
        advance_run(writer->spool, touch->run, record, last - first + cg_record_bytes(record->len),
                    wanted_index);
        if (!all) {
            break;
        }
        writer->touch_first++;
    }
}

static bool satisfied(const struct cg_spool *spool, const struct cg_spool_reader *reader)
{
    uint64_t events = spool->next_index - reader->position.index;
    return events > 0 &&
           (events >= reader->wanted_events ||
            spool->end_bytes - cg_position_bytes(&reader->position) >= reader->wanted_bytes);
}

static void tell_readers(struct cg_spool *spool, uint64_t first_index, uint64_t first_received_ns)
{
    for (size_t i = 0; i < spool->reader_count; i++) {
        struct cg_spool_reader *reader = spool->readers[i];
        if (reader->position.index == first_index) {
            reader->oldest_received_ns = first_received_ns;
        }
        if (reader->waiting && satisfied(spool, reader)) {
            reader->waiting = false;
            pthread_cond_signal(&reader->wake);
        }
    }
}

static void publish(struct cg_spool_writer *writer, const struct sealed *sealed)
{
    struct cg_spool *spool = writer->spool;
    struct cg_segment *segment = spool->current;
    pthread_mutex_lock(&spool->lock);
    uint64_t first_index = spool->next_index;
    struct cg_extent extent = {
        .block = writer->block,
        .offset = writer->staged,
        .len = sealed->bytes,
        .first_index = first_index,
        .end_index = first_index + sealed->events,
        .segment = segment->first_index,
        .file_offset = segment->end,
        .base = segment->base,
    };
    spool->next_index = extent.end_index;
    segment->end_index = extent.end_index;
    segment->end += sealed->bytes;
    spool->end_bytes += sealed->bytes;
    cg_spool_note_success(spool);
    if (spool->config.sync == CG_SPOOL_SYNC_ALWAYS) {
        segment->synced_end = segment->end;
        spool->dir_dirty = false;
    }
    if (spool->reader_count > 0) {
        cg_tail_publish(&spool->tail, &extent);
    }
    advance_runs(writer, sealed);
    tell_readers(spool, first_index, record_at(writer, writer->staged)->received_ns);
    cg_committer_notice(spool);
    pthread_mutex_unlock(&spool->lock);

    writer->staged += sealed->bytes;
    writer->events -= sealed->events;
    for (unsigned kind = CG_EVENT_GUEST; kind <= CG_EVENT_PROBE; kind++) {
        if (sealed->kinds[kind] > 0) {
            cg_metric_add(CG_SERIES_events_appended_guest + (kind - CG_EVENT_GUEST),
                          sealed->kinds[kind]);
        }
    }
}

_Static_assert(CG_SERIES_events_appended_gateway == CG_SERIES_events_appended_guest + 1 &&
                   CG_SERIES_events_appended_probe == CG_SERIES_events_appended_guest + 2,
               "the series stand in the order of enum cg_event_kind");

static enum cg_append commit_some(struct cg_spool_writer *writer, struct cg_error *err)
{
    struct cg_spool *spool = writer->spool;
    size_t first_bytes = cg_record_bytes(record_at(writer, writer->staged)->len);
    enum cg_append room = cg_spool_make_room(spool, first_bytes, err);
    if (room != CG_APPEND_DONE) {
        return room;
    }
    struct sealed sealed = seal_fitting(writer);
    if (!write_sealed(writer, &sealed, err)) {
        return CG_APPEND_FAILED;
    }
    publish(writer, &sealed);
    return CG_APPEND_DONE;
}

enum cg_append cg_spool_writer_commit(struct cg_spool_writer *writer, struct cg_error *err)
{
    struct cg_spool *spool = writer->spool;
    struct cg_error why = {0};
    enum cg_append result = CG_APPEND_DONE;
    pthread_mutex_lock(&spool->append_lock);
    while (writer->events > 0 && result == CG_APPEND_DONE) {
        result = commit_some(writer, &why);
    }
    pthread_mutex_unlock(&spool->append_lock);
    if (result == CG_APPEND_DONE) {
        writer->touch_first = writer->touch_count = 0;
        return result;
    }
    cg_metric_add(result == CG_APPEND_FULL ? CG_SERIES_spool_append_failures_full
                                           : CG_SERIES_spool_append_failures_io,
                  1);
    pthread_mutex_lock(&spool->lock);
    cg_spool_note_failure(spool, why.text, result == CG_APPEND_FAILED);
    pthread_mutex_unlock(&spool->lock);
    cg_error_set(err, "%s", why.text);
    return result;
}
