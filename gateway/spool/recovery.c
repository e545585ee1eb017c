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
#include <stdio.h>
#include <stdlib.h>

enum {
    ASIDE_NAMES_MAX = 100,
    UNREADABLE_PLACES_MAX = 64, /* that are passed in the newest segment */
};

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

/* Out of the way, and kept: <name>.damaged, or with a number behind it if that is there already. */
static void rename_aside(const struct cg_spool *spool, const char *name, char *ret_aside,
                         size_t aside_size)
{
    for (unsigned i = 0; i < ASIDE_NAMES_MAX; i++) {
        if (i == 0) {
            (void)snprintf(ret_aside, aside_size, "%s.damaged", name);
        } else {
            (void)snprintf(ret_aside, aside_size, "%s.damaged.%u", name, i);
        }
        if (renameat2(spool->place.dir_fd, name, spool->place.dir_fd, ret_aside,
                      RENAME_NOREPLACE) == 0 ||
            errno != EEXIST) {
            return;
        }
    }
}

/* The indices of a damaged segment, up to `end_index`, are not given out again. The last one's are
 * not known (0): as many as it could have held. */
static void put_aside(struct cg_spool *spool, uint64_t first_index, uint64_t end_index)
{
    char name[CG_SEGMENT_NAME_BYTES];
    struct cg_spool_notice notice = {.kind = CG_SPOOL_SEGMENT_DAMAGED, .first = first_index};
    cg_segment_name(first_index, name);
    if (!spool->place.read_only) {
        rename_aside(spool, name, notice.name, sizeof(notice.name));
    }
    if (end_index == 0) {
        end_index = first_index + spool->bytes_max / CG_RECORD_HEADER_BYTES + 1;
        spool->next_index = end_index;
        cg_spool_add_gap(spool, first_index, end_index, true);
    } else {
        cg_spool_add_gap(spool, first_index, end_index, false);
    }
    notice.last = end_index - 1;
    cg_spool_notify(spool, &notice);
    cg_metric_add(CG_SERIES_spool_damage_segment, 1);
}

/* Records of the newest segment are gone, and with them perhaps the last numbers of runs. */
static void suspect(struct cg_spool *spool, bool really)
{
    if (really) {
        spool->unsure = true;
        spool->unsure_reason = CG_SPOOL_LOSS_DAMAGE;
    }
}

/* Reads the headers and makes the list. */
static bool take_up(struct cg_spool *spool, const struct found *found,
                    struct cg_spool_recovery *recovery, struct cg_error *err)
{
    static const uint8_t unknown[CG_UUID_BYTES];

    for (size_t i = 0; i < found->count; i++) {
        uint64_t first_index = found->indices[i];
        bool last;
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
            recovery->power_cut =
                memcmp(header.boot_id, spool->place.boot_id, CG_UUID_BYTES) != 0 &&
                memcmp(header.boot_id, unknown, CG_UUID_BYTES) != 0 &&
                memcmp(spool->place.boot_id, unknown, CG_UUID_BYTES) != 0;
            if (spool->segment_count > 0) {
                (void)close(cg_steal_fd(&cg_spool_last_segment(spool)->fd)); /* only the newest */
            }
            if (!cg_spool_add_segment(spool, segment, err)) {
                cg_segment_free(segment);
                return false;
            }
            break;
        case CG_SEGMENT_UNBORN:
            if (!spool->place.read_only) {
                (void)unlinkat(spool->place.dir_fd, name, 0);
            }
            break;
        case CG_SEGMENT_DAMAGED:
            last = i + 1 == found->count;
            put_aside(spool, first_index, last ? 0 : found->indices[i + 1]);
            suspect(spool, last);
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
        } else if (record->kind == CG_RECORD_LOSSES) {
            if (!cg_run_apply_loss(run, &entry)) {
                return cg_error_set(err, "no memory for the spool's runs");
            }
        } else {
            cg_run_hold_recovered(run, entry.held_bytes, record->index > 0 ? record->index - 1 : 0);
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
    if (record->kind == CG_RECORD_RUNS || record->kind == CG_RECORD_RUN_END ||
        record->kind == CG_RECORD_LOSSES) {
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
    cg_run_hold(run, cg_record_bytes(record->len), record->index, 0,
                spool->config.cell_share_bytes / CG_HELD_MARKS_A_SHARE + 1);
    if (event.meta.tells_losses) {
        cg_losses_recover_told(run->losses, record->index);
    }
    cg_run_advance(run, event.meta.sequence, event.meta.connection, event.meta.silence,
                   record->index, UINT64_MAX);
    return true;
}

enum depth { HEAD_ONLY, ALL_RECORDS };

/* What going through a segment has found. */
struct passage {
    bool table;          /* the whole table of runs is there */
    bool whole;          /* everything could be read, and no event was missing in between */
    bool unreadable;     /* the disk refused some of it */
    uint64_t end;        /* behind the last record */
    uint64_t next_index; /* behind the last event */
};

/* Passes a place that cannot be read. False: there were too many of them. */
static bool pass_unreadable(struct cg_scan *scan, unsigned *places, struct passage *passage)
{
    passage->whole = false;
    passage->unreadable = true;
    if (scan->failure != EIO || ++*places > UNREADABLE_PLACES_MAX) {
        return false;
    }
    (void)cg_scan_skip(scan);
    return true;
}

/* Goes through a segment's records. ALL_RECORDS applies them; HEAD_ONLY stops at the first event.
 */
static bool read_records(struct cg_spool *spool, struct cg_segment *segment, enum depth depth,
                         bool newest, struct passage *ret_passage, struct cg_error *err)
{
    struct passage passage = {
        .whole = true, .end = CG_SEGMENT_HEADER_BYTES, .next_index = segment->first_index};
    unsigned places = 0;
    cg_auto_scan struct cg_scan scan;
    cg_scan_init(&scan);
    cg_auto_close int fd = -1;
    if (!cg_segment_reopen(&spool->place, segment, &fd, err)) {
        return false;
    }
    cg_scan_aim(&scan, fd, segment->salt, CG_SEGMENT_HEADER_BYTES, segment->size,
                segment->first_index, newest ? UINT64_MAX : segment->end_index);
    for (;;) {
        const struct cg_record_header *record = NULL;
        uint64_t lost = 0;
        enum cg_scan_result result = cg_scan_next(&scan, &record, &lost, NULL);
        if (result == CG_SCAN_NO_ROOM) {
            cg_scan_compact(&scan);
            continue;
        }
        if (result == CG_SCAN_FAILED && pass_unreadable(&scan, &places, &passage)) {
            continue;
        }
        if (result != CG_SCAN_RECORD || (depth == HEAD_ONLY && cg_record_is_event(record))) {
            break;
        }
        passage.whole = passage.whole && lost == 0;
        passage.end = scan.offset;
        passage.next_index = scan.expected;
        passage.table = passage.table || (record->kind == CG_RECORD_RUNS && record->flags == 1);
        if (depth == ALL_RECORDS && !apply(spool, record, err)) {
            return false;
        }
    }
    *ret_passage = passage;
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

/* Cuts the newest segment at the end of its last record, or drops it if it has no event. Where the
 * disk could not be read nothing is cut: it may be better tomorrow. */
static void finish_newest(struct cg_spool *spool, const struct passage *passage,
                          struct cg_spool_recovery *recovery)
{
    struct cg_segment *newest = spool->segments[spool->segment_count - 1];
    newest->end_index = passage->next_index;
    if (passage->unreadable) {
        uint64_t more = (newest->size - passage->end) / CG_RECORD_HEADER_BYTES + 1;
        newest->end = newest->synced_end = newest->size;
        newest->end_index += more;
        cg_spool_add_gap(spool, passage->next_index, newest->end_index, true);
    } else {
        struct cg_segment_header header;
        bool known = pread(newest->fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header);
        newest->end = newest->synced_end = passage->end;
        recovery->torn_bytes = torn_bytes(newest, known ? header.size : newest->size);
        if (!spool->place.read_only && ftruncate(newest->fd, (off_t)newest->end) == 0) {
            newest->size = newest->end;
        }
    }
    spool->end_bytes = newest->base + newest->end;
    if (newest->end_index > spool->next_index) {
        spool->next_index = newest->end_index;
    }
    if (newest->end_index == newest->first_index) {
        spool->segment_count--;
        spool->end_bytes = newest->base;
        spool->head_due = true;
        if (spool->place.read_only) {
            cg_segment_free(newest);
        } else {
            cg_spool_keep_losses(spool); /* which stood in its head alone */
            cg_segment_remove(&spool->place, newest);
        }
    } else {
        (void)close(cg_steal_fd(&newest->fd));
    }
}

/* Those who were about to tell of losses ended with their process. */
static void untake(void *context, struct cg_spool_run *run)
{
    (void)context;
    cg_losses_untake(run->losses);
}

static bool read_newest(struct cg_spool *spool, struct cg_spool_recovery *recovery,
                        struct cg_error *err)
{
    size_t last = spool->segment_count - 1;
    size_t from = last;
    struct passage passage;
    for (;; from--) {
        if (!read_records(spool, spool->segments[from], HEAD_ONLY, from == last, &passage, err)) {
            return false;
        }
        if (passage.table || from == 0) {
            break;
        }
    }
    /* The head of `from` names all that was lost before it, and what follows adds to that. */
    for (size_t i = from; i <= last; i++) {
        if (!read_records(spool, spool->segments[i], ALL_RECORDS, i == last, &passage, err)) {
            return false;
        }
        suspect(spool, !passage.whole);
    }
    cg_runs_visit(&spool->runs, untake, NULL);
    finish_newest(spool, &passage, recovery);
    return true;
}

/* --- numbers that may have been used --- */

void cg_spool_skip_numbers(struct cg_spool *spool, struct cg_spool_run *run)
{
    uint64_t sequence = cg_spool_run_sequence(run);
    /* Without memory for the name the numbers are skipped all the same. */
    (void)!cg_losses_add(&run->losses, spool->unsure_reason, sequence + 1, sequence + CG_SKIP);
    atomic_store_explicit(&run->sequence, sequence + CG_SKIP, memory_order_relaxed);
}

static void skip_numbers_of(void *context, struct cg_spool_run *run)
{
    cg_spool_skip_numbers(context, run);
}

/* After a power cut, or when the newest records are damaged, the last numbers of the runs are not
 * known: docs/contract.md section 3. */
static void skip_numbers(struct cg_spool *spool, struct cg_spool_recovery *recovery)
{
    static const char *const reasons[] = {
        [CG_SPOOL_LOSS_POWER] = "power_loss", [CG_SPOOL_LOSS_DAMAGE] = "damage"};
    bool clean = cg_clean_mark_take(spool->dir_fd, spool->next_index);
    recovery->power_cut = recovery->power_cut && !clean;
    if (recovery->power_cut) {
        spool->unsure = true;
        spool->unsure_reason = CG_SPOOL_LOSS_POWER;
    }
    if (!spool->unsure) {
        return;
    }
    spool->head_due = true;
    recovery->skipped_runs = spool->runs.count;
    cg_runs_visit(&spool->runs, skip_numbers_of, spool);
    cg_spool_more_losses(spool);
    struct cg_spool_notice notice = {.kind = CG_SPOOL_NUMBERS_SKIPPED,
                                     .count = recovery->skipped_runs};
    (void)snprintf(notice.name, sizeof(notice.name), "%s", reasons[spool->unsure_reason]);
    cg_spool_notify(spool, &notice);
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
            suspect(spool, true); /* what was delivered is not here any more */
            spool->next_index = passed;
        }
        if (!spool->place.read_only) {
            skip_numbers(spool, &recovery);
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
