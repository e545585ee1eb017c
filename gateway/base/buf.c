#include "cellgate/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_FIRST_BYTES = 256 };

void cg_buf_init(struct cg_buf *buf, size_t max)
{
    *buf = (struct cg_buf){.max = max};
}

void cg_buf_fini(struct cg_buf *buf)
{
    free(buf->data);
    cg_buf_init(buf, buf->max);
}

void cg_buf_clear(struct cg_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

bool cg_buf_reserve(struct cg_buf *buf, size_t extra)
{
    if (buf->failed) {
        return false;
    }
    if (extra <= buf->cap - buf->len) {
        return true;
    }
    if (extra > buf->max - buf->len) {
        buf->failed = true;
        return false;
    }
    size_t cap = buf->cap < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : buf->cap;
    while (cap < buf->len + extra && cap < buf->max) {
        cap *= 2;
    }
    cap = cap < buf->max ? cap : buf->max;
    char *data = realloc(buf->data, cap);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->cap = cap;
    return true;
}

bool cg_buf_append(struct cg_buf *buf, struct cg_bytes bytes)
{
    if (!cg_buf_reserve(buf, bytes.len)) {
        return false;
    }
    if (bytes.len > 0) {
        memcpy(buf->data + buf->len, bytes.data, bytes.len);
        buf->len += bytes.len;
    }
    return true;
}

bool cg_buf_append_str(struct cg_buf *buf, const char *str)
{
    return cg_buf_append(buf, cg_bytes_str(str));
}

bool cg_buf_append_char(struct cg_buf *buf, char c)
{
    return cg_buf_append(buf, cg_bytes(&c, 1));
}

bool cg_buf_append_u64(struct cg_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    return cg_buf_append(buf, cg_bytes(digits + at, sizeof(digits) - at));
}

bool cg_buf_printf(struct cg_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int needed = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CG_ASSERT(needed >= 0);
    /* vsnprintf always terminates, so it takes one byte more than it adds. */
    if (!cg_buf_reserve(buf, (size_t)needed + 1)) {
        return false;
    }
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->len, (size_t)needed + 1, format, args);
    va_end(args);
    buf->len += (size_t)needed;
    return true;
}

const char *cg_buf_str(struct cg_buf *buf)
{
    if (!cg_buf_reserve(buf, 1)) {
        return NULL;
    }
    buf->data[buf->len] = '\0';
    return buf->data;
}
