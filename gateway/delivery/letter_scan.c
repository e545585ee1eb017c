#include "delivery/letter_scan.h"

#include <errno.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024 };

void cg_letter_scan_init(struct cg_letter_scan *scan, int fd, off_t start, off_t end)
{
    *scan = (struct cg_letter_scan){.fd = fd, .end = end, .read_to = start, .at = start};
    cg_buf_init(&scan->held, CG_LETTER_BYTES_MAX + 2 * (size_t)READ_BYTES);
}

void cg_letter_scan_fini(struct cg_letter_scan *scan)
{
    cg_buf_fini(&scan->held);
}

/* Reads a piece behind what is held, from which everything before the line is gone. */
static bool read_more(struct cg_letter_scan *scan, struct cg_error *err)
{
    struct cg_buf *held = &scan->held;
    off_t left = scan->end - scan->read_to;
    size_t wanted = left < READ_BYTES ? (size_t)left : READ_BYTES;
    if (scan->held_at > 0) {
        memmove(held->data, held->data + scan->held_at, held->len - scan->held_at);
        held->len -= scan->held_at;
        scan->held_at = 0;
    }
    if (!cg_buf_reserve(held, wanted)) {
        return cg_error_set(err, "no memory for a line");
    }
    ssize_t got;
    do {
        got = pread(scan->fd, held->data + held->len, wanted, scan->read_to);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return cg_error_errno(err, got < 0 ? errno : EIO, "read");
    }
    held->len += (size_t)got;
    scan->read_to += got;
    return true;
}

/* The newline of the line at held_at, or NULL. */
static const char *find_newline(const struct cg_letter_scan *scan, size_t searched)
{
    const struct cg_buf *held = &scan->held;
    size_t from = scan->held_at + searched;
    return from >= held->len ? NULL : memchr(held->data + from, '\n', held->len - from);
}

static enum cg_letter_line take_line(struct cg_letter_scan *scan, const char *newline,
                                     off_t passed_over)
{
    const char *start = scan->held.data + scan->held_at;
    size_t len = (size_t)(newline - start) + 1;
    scan->offset = scan->at;
    scan->len = passed_over + (off_t)len;
    scan->line = cg_bytes(start, len);
    scan->at += scan->len;
    scan->held_at += len;
    bool ours = passed_over == 0 && len <= CG_LETTER_BYTES_MAX &&
                cg_letter_peek(scan->line, &scan->state, &scan->id);
    return ours ? CG_LETTER_LINE : CG_LETTER_LINE_FOREIGN;
}

enum cg_letter_line cg_letter_scan_next(struct cg_letter_scan *scan, struct cg_error *err)
{
    off_t passed_over = 0; /* of a line that is too long to be a letter */
    size_t searched = 0;
    for (;;) {
        const char *newline = find_newline(scan, searched);
        if (newline != NULL) {
            return take_line(scan, newline, passed_over);
        }
        searched = scan->held.len - scan->held_at;
        if (searched > CG_LETTER_BYTES_MAX) {
            passed_over += (off_t)searched;
            scan->held_at = scan->held.len;
            searched = 0;
        }
        if (scan->read_to >= scan->end) {
            return CG_LETTER_LINE_END;
        }
        if (!read_more(scan, err)) {
            return CG_LETTER_LINE_FAILED;
        }
    }
}
