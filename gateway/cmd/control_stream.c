#include "cmd/control_stream.h"

#include "cmd/control_client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEAD_BYTES_MAX = 8192,
    READ_BYTES = 64 << 10,
    LINE_BYTES_MAX = 1 << 20, /* an event has 64 KiB at most; a page of a problem is shorter */
    CHUNK_DIGITS_MAX = 8,
};

/* --- the head --- */

static const char *find(struct cg_bytes in, const char *what, size_t len)
{
    return in.len == 0 ? NULL : memmem(in.data, in.len, what, len);
}

static void drop(struct cg_buf *buf, size_t count)
{
    memmove(buf->data, buf->data + count, buf->len - count);
    buf->len -= count;
}

/* Reads some; *ret_end if that was all. */
static bool receive(struct cg_control_stream *stream, int flags, bool *ret_end,
                    struct cg_error *err)
{
    if (!cg_buf_reserve(&stream->raw, READ_BYTES)) {
        return cg_error_set(err, "no memory for the answer");
    }
    ssize_t got = recv(stream->fd, stream->raw.data + stream->raw.len, READ_BYTES, flags);
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
        return cg_error_errno(err, errno, "read the answer");
    }
    *ret_end = got == 0;
    stream->raw.len += got > 0 ? (size_t)got : 0;
    return true;
}

/* Says what the problem document says that the rest of the answer is. */
static bool refuse(struct cg_control_stream *stream, unsigned status, struct cg_error *err)
{
    bool over = false;
    while (!over) {
        if (!receive(stream, 0, &over, err)) {
            return false;
        }
    }
    char member[CG_CONTROL_SHOWN_MAX];
    char detail[CG_CONTROL_SHOWN_MAX];
    struct cg_json json;
    cg_json_init(&json, (struct cg_json_limits){
                            .bytes_max = LINE_BYTES_MAX, .nodes_max = 256, .levels_max = 8});
    if (!cg_json_parse(&json, cg_buf_bytes(&stream->raw), NULL)) {
        cg_json_fini(&json);
        return cg_error_set(err, "the answer is %u", status);
    }
    (void)cg_control_show(&json, 0, "member", member);
    (void)cg_control_show(&json, 0, "detail", detail);
    bool about = strcmp(member, "-") != 0;
    (void)cg_error_set(err, "%u %s%s%s", status, about ? member : "", about ? ": " : "", detail);
    cg_json_fini(&json);
    return false;
}

static bool read_head(struct cg_control_stream *stream, struct cg_error *err)
{
    static const char blank_line[] = "\r\n\r\n";
    const char *end = NULL;
    bool over = false;
    while (end == NULL && !over && stream->raw.len < HEAD_BYTES_MAX) {
        if (!receive(stream, 0, &over, err)) {
            return false;
        }
        end = find(cg_buf_bytes(&stream->raw), blank_line, sizeof(blank_line) - 1);
    }
    struct cg_bytes raw = cg_buf_bytes(&stream->raw);
    if (end == NULL || !cg_bytes_starts(raw, CG_BYTES("HTTP/1.1 ")) || raw.len < 12) {
        return cg_error_set(err, "the answer is not HTTP");
    }
    struct cg_bytes head = cg_bytes(raw.data, (size_t)(end - raw.data) + 2);
    unsigned status = (unsigned)strtoul(raw.data + sizeof("HTTP/1.1 ") - 1, NULL, 10);
    static const char chunked[] = "\r\nTransfer-Encoding: chunked\r\n";
    bool in_chunks = find(head, chunked, sizeof(chunked) - 1) != NULL;
    drop(&stream->raw, head.len + 2);
    if (status != 200) {
        return refuse(stream, status, err);
    }
    return in_chunks || cg_error_set(err, "the answer does not come in chunks");
}

void cg_control_stream_close(struct cg_control_stream *stream)
{
    if (stream->fd >= 0) {
        (void)close(stream->fd);
    }
    cg_buf_fini(&stream->raw);
    cg_buf_fini(&stream->body);
}

/* --- chunks --- */

/* Reads "1f4\r\n" at the front of `raw`. False: it is no size. *ret_len 0: not all there yet. */
static bool read_size(struct cg_bytes raw, uint64_t *ret_size, size_t *ret_len)
{
    uint64_t size = 0;
    size_t digits = 0;
    for (; digits < raw.len; digits++) {
        static const char hex[] = "0123456789abcdef";
        char c = raw.data[digits];
        const char *digit = c == '\0' ? NULL : strchr(hex, c >= 'A' && c <= 'F' ? c | 0x20 : c);
        if (digit == NULL) {
            break;
        }
        size = size * 16 + (uint64_t)(digit - hex);
        if (digits >= CHUNK_DIGITS_MAX) {
            return false;
        }
    }
    *ret_len = 0;
    if (raw.len < digits + 2) {
        return digits < raw.len ? raw.data[digits] == '\r' : true;
    }
    if (digits == 0 || memcmp(raw.data + digits, "\r\n", 2) != 0) {
        return false;
    }
    *ret_size = size;
    *ret_len = digits + 2;
    return true;
}

/* Moves the chunk's bytes that are there, and the end of its line, to the body. False: cut short or
 * wrong. *ret_more: there is more to decode. */
static bool take_chunk(struct cg_control_stream *stream, bool *ret_more, struct cg_error *err)
{
    struct cg_bytes raw = cg_buf_bytes(&stream->raw);
    uint64_t part = stream->chunk_left < raw.len ? stream->chunk_left : raw.len;
    if (!cg_buf_append(&stream->body, cg_bytes(raw.data, part))) {
        return cg_error_set(err, "a line of the answer is too long");
    }
    stream->chunk_left -= part;
    drop(&stream->raw, part);
    if (stream->chunk_left > 0 || stream->raw.len < 2) {
        *ret_more = false;
        return true;
    }
    if (memcmp(stream->raw.data, "\r\n", 2) != 0) {
        return cg_error_set(err, "the answer's chunks are wrong");
    }
    drop(&stream->raw, 2);
    stream->in_chunk = false;
    return true;
}

static bool decode(struct cg_control_stream *stream, struct cg_error *err)
{
    bool more = true;
    while (more && !stream->ended) {
        if (stream->in_chunk) {
            if (!take_chunk(stream, &more, err)) {
                return false;
            }
            continue;
        }
        size_t len = 0;
        if (!read_size(cg_buf_bytes(&stream->raw), &stream->chunk_left, &len)) {
            return cg_error_set(err, "the answer's chunks are wrong");
        }
        more = len > 0;
        if (more) {
            drop(&stream->raw, len);
            stream->in_chunk = true;
            stream->ended = stream->chunk_left == 0;
        }
    }
    return true;
}

bool cg_control_stream_open(struct cg_control_stream *stream, const char *socket,
                            const char *target, struct cg_error *err)
{
    *stream = (struct cg_control_stream){.fd = -1};
    cg_buf_init(&stream->raw, HEAD_BYTES_MAX + 4 * (size_t)READ_BYTES);
    cg_buf_init(&stream->body, LINE_BYTES_MAX + 4 * (size_t)READ_BYTES);
    return cg_control_connect(socket, &stream->fd, err) &&
           cg_control_send(stream->fd, "GET", target, cg_bytes(NULL, 0), err) &&
           read_head(stream, err) && decode(stream, err);
}

bool cg_control_stream_read(struct cg_control_stream *stream, struct cg_error *err)
{
    bool over = false;
    if (stream->taken > 0) {
        drop(&stream->body, stream->taken);
        stream->taken = 0;
    }
    if (!receive(stream, MSG_DONTWAIT, &over, err) || !decode(stream, err)) {
        return false;
    }
    return !over || stream->ended || cg_error_set(err, "the gateway has gone away");
}

bool cg_control_stream_line(struct cg_control_stream *stream, struct cg_bytes *ret_line)
{
    struct cg_bytes left =
        cg_bytes(stream->body.data + stream->taken, stream->body.len - stream->taken);
    const char *end = left.len == 0 ? NULL : memchr(left.data, '\n', left.len);
    if (end == NULL && (!stream->ended || left.len == 0)) {
        return false;
    }
    size_t len = end == NULL ? left.len : (size_t)(end - left.data);
    *ret_line = cg_bytes(left.data, len);
    stream->taken += end == NULL ? len : len + 1;
    return true;
}
