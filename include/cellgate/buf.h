/*
 * buf.h - owned bytes that grow, up to a maximum named when they are made.
 *
 * Failure is sticky: an append that would pass the maximum, or finds no memory, appends nothing and
 * sets `failed`; later appends do nothing. So a writer appends all its pieces and asks once at the
 * end. One thread at a time.
 */
#ifndef CELLGATE_BUF_H
#define CELLGATE_BUF_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdint.h>

struct cg_buf {
    char *data; /* NULL until the first append; not terminated */
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

/* Makes an empty buffer of at most `max` bytes; allocates nothing. */
void cg_buf_init(struct cg_buf *buf, size_t max);
/* Frees the memory; the buffer is as after cg_buf_init, with the same maximum. */
void cg_buf_fini(struct cg_buf *buf);
/* Forgets the contents and the failure, keeps the memory. */
void cg_buf_clear(struct cg_buf *buf);

/* Room for `extra` more bytes at data + len; the caller writes there and adds to len. */
bool cg_buf_reserve(struct cg_buf *buf, size_t extra);
/* These return !failed. */
bool cg_buf_append(struct cg_buf *buf, struct cg_bytes bytes);
bool cg_buf_append_str(struct cg_buf *buf, const char *str);
bool cg_buf_append_char(struct cg_buf *buf, char c);
bool cg_buf_append_u64(struct cg_buf *buf, uint64_t value);
bool cg_buf_printf(struct cg_buf *buf, const char *format, ...) CG_PRINTF(2, 3);

/* Terminates the contents with a NUL that is not counted in len, and returns them; NULL if failed.
 */
const char *cg_buf_str(struct cg_buf *buf);

static inline struct cg_bytes cg_buf_bytes(const struct cg_buf *buf)
{
    return (struct cg_bytes){.data = buf->data, .len = buf->len};
}

/* Cleanup bound to scope: `cg_auto_buf struct cg_buf buf; cg_buf_init(&buf, …);` */
#define cg_auto_buf __attribute__((cleanup(cg_buf_fini)))

#endif
