#include "cmd/lines.h"

#include <errno.h>
#include <unistd.h>

enum { READ_BYTES = 262144 };

void cg_lines_init(struct cg_lines *lines, int fd, size_t bytes_max)
{
    *lines = (struct cg_lines){.fd = fd, .bytes_max = bytes_max};
    cg_buf_init(&lines->held, bytes_max + 2 * (size_t)READ_BYTES);
}

void cg_lines_fini(struct cg_lines *lines)
{
    cg_buf_fini(&lines->held);
}

/* Moves what is still needed to the front, and reads more behind it. */
static bool read_more(struct cg_lines *lines)
{
    struct cg_buf *held = &lines->held;
    if (lines->start > 0) {
        memmove(held->data, held->data + lines->start, held->len - lines->start);
        held->len -= lines->start;
        lines->next -= lines->start;
        lines->start = 0;
    }
    if (!cg_buf_reserve(held, READ_BYTES)) {
        errno = ENOMEM;
        return false;
    }
    ssize_t got;
    do {
        got = read(lines->fd, held->data + held->len, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return false;
    }
    held->len += (size_t)got;
    lines->bytes_read += (uint64_t)got;
    lines->ended = got == 0;
    return true;
}

/* Drops what is held of a line that is too long, up to and with its newline. */
static enum cg_lines_outcome skip_long_line(struct cg_lines *lines)
{
    for (;;) {
        struct cg_buf *held = &lines->held;
        const char *newline = memchr(held->data, '\n', held->len);
        if (newline != NULL || lines->ended) {
            lines->next = newline != NULL ? (size_t)(newline + 1 - held->data) : held->len;
            lines->start = lines->next;
            return CG_LINES_TOO_LONG;
        }
        held->len = 0;
        lines->next = 0;
        lines->start = 0;
        if (!read_more(lines)) {
            return CG_LINES_FAILED;
        }
    }
}

enum cg_lines_outcome cg_lines_next(struct cg_lines *lines, struct cg_bytes *ret_line)
{
    const struct cg_buf *held = &lines->held;
    lines->start = lines->next;
    lines->number++;
    for (size_t searched = 0;;) {
        size_t len = held->len - lines->start;
        const char *line = held->data + lines->start;
        const char *newline =
            len == searched ? NULL : memchr(line + searched, '\n', len - searched);
        if (newline != NULL && (size_t)(newline - line) <= lines->bytes_max) {
            lines->next = lines->start + (size_t)(newline - line) + 1;
            *ret_line = cg_bytes(line, (size_t)(newline - line));
            return CG_LINES_LINE;
        }
        if (newline != NULL || len > lines->bytes_max) {
            return skip_long_line(lines);
        }
        if (lines->ended) {
            lines->next = held->len;
            *ret_line = cg_bytes(line, len);
            return len == 0 ? CG_LINES_END : CG_LINES_LINE;
        }
        searched = len;
        if (!read_more(lines)) {
            return CG_LINES_FAILED;
        }
    }
}

enum cg_lines_outcome cg_lines_peek_rest(struct cg_lines *lines, struct cg_bytes *ret_rest)
{
    const struct cg_buf *held = &lines->held;
    while (!lines->ended && held->len - lines->start <= lines->bytes_max) {
        if (!read_more(lines)) {
            return CG_LINES_FAILED;
        }
    }
    if (held->len - lines->start > lines->bytes_max) {
        return CG_LINES_TOO_LONG;
    }
    *ret_rest = cg_bytes(held->data + lines->start, held->len - lines->start);
    return CG_LINES_LINE;
}

void cg_lines_take_rest(struct cg_lines *lines)
{
    lines->next = lines->held.len;
}

void cg_lines_give_back(struct cg_lines *lines)
{
    lines->next = lines->start;
    lines->number--;
}

bool cg_line_is_blank(struct cg_bytes line)
{
    size_t at = 0;
    while (at < line.len &&
           (line.data[at] == ' ' || line.data[at] == '\t' || line.data[at] == '\r')) {
        at++;
    }
    return at == line.len;
}
