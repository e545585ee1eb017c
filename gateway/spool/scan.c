#include "spool/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void cg_scan_init(struct cg_scan *scan)
{
    *scan = (struct cg_scan){.fd = -1};
}

void cg_scan_fini(struct cg_scan *scan)
{
    free(scan->buffer);
    scan->buffer = NULL;
}

void cg_scan_aim(struct cg_scan *scan, int fd, uint64_t salt, uint64_t offset, uint64_t limit,
                 uint64_t expected, uint64_t end_index)
{
    /* Where that byte would be in the buffer: before `start` if records were handed back. */
    uint64_t at = scan->start + (offset - scan->offset);
    if (salt == scan->salt && at >= scan->low && at <= scan->end) {
        scan->start = (size_t)at;
    } else {
        scan->low = scan->end = scan->start;
    }
    scan->offset = offset;
    scan->fd = fd;
    scan->salt = salt;
    scan->limit = limit;
    scan->expected = expected;
    scan->end_index = end_index;
}

void cg_scan_compact(struct cg_scan *scan)
{
    if (scan->start > 0) {
        scan->low = 0;
        memmove(scan->buffer, scan->buffer + scan->start, scan->end - scan->start);
        scan->end -= scan->start;
        scan->start = 0;
    }
}

uint64_t cg_scan_place(const struct cg_scan *scan)
{
    return scan->offset + (scan->end - scan->start);
}

uint64_t cg_scan_skip(struct cg_scan *scan)
{
    uint64_t place = cg_scan_place(scan);
    uint64_t behind = place - place % CG_SCAN_PAGE_BYTES + CG_SCAN_PAGE_BYTES;
    scan->offset = behind < scan->limit ? behind : scan->limit;
    /* A read that broke off may have left the end between two records' places. */
    scan->low = scan->start = scan->end = (scan->end + 7) & ~(size_t)7;
    return scan->offset;
}

/* Reads on. CG_SCAN_RECORD: there is more now. A file that ends early moves the limit. */
static enum cg_scan_result fill(struct cg_scan *scan, struct cg_error *err)
{
    if (scan->buffer == NULL) {
        scan->buffer = malloc(CG_SCAN_BUFFER_BYTES);
        if (scan->buffer == NULL) {
            scan->failure = ENOMEM;
            cg_error_set(err, "no memory to read the spool");
            return CG_SCAN_FAILED;
        }
    }
    uint64_t from = cg_scan_place(scan);
    size_t want = CG_SCAN_BUFFER_BYTES - scan->end;
    if (want == 0) {
        return CG_SCAN_NO_ROOM;
    }
    if (want > CG_SCAN_READ_BYTES) {
        want = CG_SCAN_READ_BYTES;
    }
    if (want > scan->limit - from) {
        want = (size_t)(scan->limit - from);
    }
    ssize_t got;
    do {
        got = pread(scan->fd, scan->buffer + scan->end, want, (off_t)from);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        scan->failure = errno;
        cg_error_errno(err, errno, "read the spool");
        return CG_SCAN_FAILED;
    }
    if (got == 0) {
        scan->limit = from;
    }
    scan->end += (size_t)got;
    return CG_SCAN_RECORD;
}

static bool plausible(const struct cg_scan *scan, const struct cg_record_header *record)
{
    /* Indices grow by one a record, so that most of what is not a record is refused here. */
    uint64_t ahead = (scan->limit - scan->offset) / CG_RECORD_HEADER_BYTES;
    if (record->index < scan->expected || record->index - scan->expected > ahead ||
        record->index > scan->end_index ||
        (record->index == scan->end_index && cg_record_is_event(record))) {
        return false;
    }
    return cg_record_sealed(record, scan->salt);
}

static void pass(struct cg_scan *scan, size_t bytes)
{
    scan->start += bytes;
    scan->offset += bytes;
}

enum cg_scan_result cg_scan_next(struct cg_scan *scan, const struct cg_record_header **ret_record,
                                 uint64_t *ret_lost, struct cg_error *err)
{
    for (;;) {
        if (scan->limit < scan->offset + CG_RECORD_HEADER_BYTES) {
            *ret_lost = scan->end_index - scan->expected;
            return CG_SCAN_END;
        }
        size_t unread = scan->end - scan->start;
        const void *at = scan->buffer + scan->start;
        const struct cg_record_header *record = at;
        size_t needed = CG_RECORD_HEADER_BYTES;
        if (unread >= needed) {
            if (!plausible(scan, record) ||
                cg_record_bytes(record->len) > scan->limit - scan->offset) {
                pass(scan, 8);
                continue;
            }
            needed = cg_record_bytes(record->len);
        }
        if (unread < needed) {
            enum cg_scan_result filled = fill(scan, err);
            if (filled != CG_SCAN_RECORD) {
                return filled;
            }
            continue;
        }
        if (!cg_record_whole(record)) {
            pass(scan, 8);
            continue;
        }
        *ret_lost = record->index - scan->expected;
        scan->expected = record->index + (cg_record_is_event(record) ? 1 : 0);
        pass(scan, needed);
        *ret_record = record;
        return CG_SCAN_RECORD;
    }
}
