/*
 * recovery.c - what an earlier process left in the directory.
 *
 * All headers are read, but the records of only as many segments as are needed to know the runs:
 * from the newest one with a whole table of runs at its head, which is nearly always the last. So
 * the time to start does not grow with the backlog. Appending goes on in a new segment, never
 * behind what was found.
 */
#include "spool/internal.h"

#include "cellgate/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

struct found {
    uint64_t *indices; /* of all segments' names, ascending */
    size_t count, capacity;
};

static void found_fini(struct found *found)
{
    free(found->indices);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool found_add(struct found *found, uint64_t index)
{
    if (found->count == found->capacity) {
        size_t capacity = found->capacity == 0 ? 64 : 2 * found->capacity;
        uint64_t *bigger = realloc(found->indices, capacity * sizeof(*bigger));
        if (bigger == NULL) {
            return false;
        }
        found->indices = bigger;
        found->capacity = capacity;
    }
    found->indices[found->count++] = index;
    return true;
}

static bool list_segments(int dir_fd, struct found *ret_found, struct cg_error *err)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int failure = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return cg_error_errno(err, failure, "list the spool's segments");
    }
    bool ok = true;
    for (const struct dirent *entry = readdir(dir); ok && entry != NULL; entry = readdir(dir)) {
        uint64_t index;
        if (cg_segment_parse_name(entry->d_name, &index)) {
            ok = found_add(ret_found, index);
        }
    }
    (void)closedir(dir);
    if (!ok) {
        return cg_error_set(err, "no memory to list the spool's segments");
    }
    if (ret_found->count > 1) {
        qsort(ret_found->indices, ret_found->count, sizeof(uint64_t), by_value);
    }
    return true;
}

/* Out of the way, and kept: <name>.damaged. Its indices are not given out again. */
static void put_aside(struct cg_spool *spool, uint64_t first_index, bool last)
{
    char name[CG_SEGMENT_NAME_BYTES];
    char aside[CG_SEGMENT_NAME_BYTES + 16];
    cg_segment_name(first_index, name);
    (void)snprintf(aside, sizeof(aside), "%s.damaged", name);
    (void)renameat(spool->place.dir_fd, name, spool->place.dir_fd, aside);
    if (last) {
        uint64_t most = spool->bytes_max / CG_RECORD_HEADER_BYTES + 1;
        spool->next_index = first_index + most;
    }
}

/* Reads the headers and makes the list. */
static bool take_up(struct cg_spool *spool, const struct found *found,
                    struct cg_spool_recovery *recovery, struct cg_error *err)
{
    for (size_t i = 0; i < found->count; i++) {
        uint64_t first_index = found->indices[i];
        struct cg_segment *segment = cg_spool_last_segment(spool);
        if (segment != NULL && segment->end_index == segment->first_index) {
            segment->end_index = first_index; /* the one before ends where this one begins */
        }
        char name[CG_SEGMENT_NAME_BYTES];
        cg_segment_name(first_index, name);
        struct cg_segment_header header;
        switch (cg_segment_open(&spool->place, first_index, &segment, &header, err)) {
        case CG_SEGMENT_GOOD:
            memcpy(spool->place.instance, header.instance, CG_UUID_BYTES);
            if (spool->segment_count > 0) {
                (void)close(cg_steal_fd(&cg_spool_last_segment(spool)->fd)); /* only the newest */
            }
            if (!cg_spool_add_segment(spool, segment, err)) {
                cg_segment_free(segment);
                return false;
            }
            break;
        case CG_SEGMENT_UNBORN:
            (void)unlinkat(spool->place.dir_fd, name, 0);
            break;
        case CG_SEGMENT_DAMAGED:
            put_aside(spool, first_index, i + 1 == found->count);
            recovery->damaged_segments++;
            break;
        case CG_SEGMENT_NEWER:
            return cg_error_set(err, "segment %s was written by a later version", name);
        case CG_SEGMENT_FAILED:
            return false;
        }
    }
    return true;
}

static bool apply_entries(struct cg_spool *spool, const struct cg_record_header *record,
                          struct cg_error *err)
{
    struct cg_bytes payload = cg_record_payload(record);
    struct cg_run_entry entry;
    struct cg_bytes cell;
    struct cg_bytes run_id;
    while (cg_run_entry_next(&payload, &entry, &cell, &run_id)) {
        struct cg_spool_run *run = cg_runs_get(&spool->runs, cell, run_id);
        if (run == NULL) {
            return cg_error_set(err, "no memory for the spool's runs");
        }
        if (record->kind == CG_RECORD_RUN_END) {
            cg_runs_remove(&spool->runs, run);
        } else {
            /* Which record was the last is not known, but it lies before this one. */
            cg_run_advance(run, entry.sequence, entry.connection, entry.silence,
                           record->index > 0 ? record->index - 1 : 0, UINT64_MAX);
        }
    }
    return true;
}

static bool apply(struct cg_spool *spool, const struct cg_record_header *record,
                  struct cg_error *err)
{
    if (record->kind == CG_RECORD_RUNS || record->kind == CG_RECORD_RUN_END) {
        return apply_entries(spool, record, err);
    }
    if (!cg_record_is_event(record)) {
        return true;
    }
    struct cg_event event;
    cg_record_event(record, &event);
    struct cg_bytes cell = cg_event_get(&event, CG_TEXT_CELL);
    struct cg_bytes run_id = cg_event_get(&event, CG_TEXT_RUN);
    if (cell.len == 0 || cell.len > CG_RUN_ID_BYTES_MAX || run_id.len > CG_RUN_ID_BYTES_MAX) {
        return true;
    }
    struct cg_spool_run *run = cg_runs_get(&spool->runs, cell, run_id);
    if (run == NULL) {
        return cg_error_set(err, "no memory for the spool's runs");
    }
    cg_run_advance(run, event.meta.sequence, event.meta.connection, event.meta.silence,
                   record->index, UINT64_MAX);
    return true;
}

enum depth { HEAD_ONLY, ALL_RECORDS };

/* Goes through a segment's records. ALL_RECORDS applies them and finds the end; HEAD_ONLY stops at
 * the first event. *ret_table: the whole table of runs is there. A disk that cannot be read ends
 * the segment there. */
static bool read_records(struct cg_spool *spool, struct cg_segment *segment, enum depth depth,
                         bool newest, bool *ret_table, struct cg_error *err)
{
    cg_auto_scan struct cg_scan scan;
    cg_scan_init(&scan);
    cg_auto_close int fd = -1;
    if (!cg_segment_reopen(&spool->place, segment, &fd, err)) {
        return false;
    }
    cg_scan_aim(&scan, fd, segment->salt, CG_SEGMENT_HEADER_BYTES, segment->size,
                segment->first_index, newest ? UINT64_MAX : segment->end_index);
    uint64_t end = CG_SEGMENT_HEADER_BYTES;
    *ret_table = false;
    for (;;) {
        const struct cg_record_header *record = NULL;
        uint64_t lost;
        enum cg_scan_result result = cg_scan_next(&scan, &record, &lost, NULL);
        if (result == CG_SCAN_NO_ROOM) {
            cg_scan_compact(&scan);
            continue;
        }
        if (result != CG_SCAN_RECORD || (depth == HEAD_ONLY && cg_record_is_event(record))) {
            break;
        }
        end = scan.offset;
        *ret_table = *ret_table || (record->kind == CG_RECORD_RUNS && record->flags == 1);
        if (depth == ALL_RECORDS && !apply(spool, record, err)) {
            return false;
        }
        if (newest && depth == ALL_RECORDS) {
            segment->end_index = scan.expected;
        }
    }
    if (newest && depth == ALL_RECORDS) {
        segment->end = segment->synced_end = end;
    }
    return true;
}

/* How many bytes behind the last whole record belong to a record that was begun. What is left of
 * an earlier life of the file has lower indices. */
static uint64_t torn_bytes(const struct cg_segment *segment, uint64_t nominal_size)
{
    uint64_t left = segment->size - segment->end;
    struct cg_record_header record = {0};
    if (pread(segment->fd, &record, sizeof(record), (off_t)segment->end) <= 0) {
        return 0;
    }
    if (record.index != segment->end_index && segment->size >= nominal_size) {
        return 0;
    }
    uint64_t torn = cg_record_sealed(&record, segment->salt) ? cg_record_bytes(record.len)
                                                             : CG_RECORD_HEADER_BYTES;
    return torn < left ? torn : left;
}

/* Cuts the newest segment at the end of its last record, or drops it if it has no event. */
static void finish_newest(struct cg_spool *spool, struct cg_spool_recovery *recovery)
{
    struct cg_segment *newest = spool->segments[spool->segment_count - 1];
    struct cg_segment_header header;
    bool known = pread(newest->fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header);
    recovery->torn_bytes = torn_bytes(newest, known ? header.size : newest->size);
    if (ftruncate(newest->fd, (off_t)newest->end) == 0) {
        newest->size = newest->end;
    }
    spool->end_bytes = newest->base + newest->end;
    if (newest->end_index > spool->next_index) {
        spool->next_index = newest->end_index;
    }
    if (newest->end_index == newest->first_index) {
        spool->segment_count--;
        spool->end_bytes = newest->base;
        cg_segment_remove(&spool->place, newest);
    } else {
        (void)close(cg_steal_fd(&newest->fd));
    }
}

static bool read_newest(struct cg_spool *spool, struct cg_spool_recovery *recovery,
                        struct cg_error *err)
{
    size_t last = spool->segment_count - 1;
    size_t from = last;
    bool table = false;
    for (;; from--) {
        if (!read_records(spool, spool->segments[from], HEAD_ONLY, from == last, &table, err)) {
            return false;
        }
        if (table || from == 0) {
            break;
        }
    }
    for (size_t i = from; i <= last; i++) {
        if (!read_records(spool, spool->segments[i], ALL_RECORDS, i == last, &table, err)) {
            return false;
        }
    }
    finish_newest(spool, recovery);
    return true;
}

bool cg_spool_recover(struct cg_spool *spool, struct cg_spool_recovery *ret_recovery,
                      struct cg_error *err)
{
    struct cg_spool_recovery recovery = {0};
    spool->next_index = 1;
    if (spool->place.dir_fd >= 0) {
        __attribute__((cleanup(found_fini))) struct found found = {0};
        if (!list_segments(spool->place.dir_fd, &found, err) ||
            !take_up(spool, &found, &recovery, err)) {
            return false;
        }
        if (spool->segment_count > 0 && !read_newest(spool, &recovery, err)) {
            return false;
        }
        uint64_t passed = cg_position_greatest(spool->positions_fd);
        if (passed > spool->next_index) {
            spool->next_index = passed;
        }
    }
    recovery.next_index = spool->next_index;
    recovery.first_index =
        spool->segment_count > 0 ? spool->segments[0]->first_index : spool->next_index;
    for (size_t i = 0; i < spool->segment_count; i++) {
        recovery.records += spool->segments[i]->end_index - spool->segments[i]->first_index;
    }
    *ret_recovery = recovery;
    return true;
}
