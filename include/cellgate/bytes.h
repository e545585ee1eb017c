/*
 * bytes.h - borrowed bytes: a pointer and a length, owning nothing.
 *
 * A struct cg_bytes is valid as long as what it points into; whoever hands one out says how long.
 * It may hold any byte, NUL included, and is not terminated. Owned bytes are struct cg_buf (buf.h).
 */
#ifndef CELLGATE_BYTES_H
#define CELLGATE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct cg_bytes {
    const char *data;
    size_t len;
};

/* For string literals, also in initialisers. */
#define CG_BYTES(literal) ((struct cg_bytes){.data = "" literal, .len = sizeof(literal) - 1})

/* For printf's "%.*s"; the caller knows that len fits an int. */
#define CG_BYTES_ARG(bytes) (int)(bytes).len, (bytes).data

static inline struct cg_bytes cg_bytes(const void *data, size_t len)
{
    return (struct cg_bytes){.data = data, .len = len};
}

/* The bytes of a terminated string; NULL gives no bytes. */
static inline struct cg_bytes cg_bytes_str(const char *str)
{
    return (struct cg_bytes){.data = str, .len = str == NULL ? 0 : strlen(str)};
}

static inline bool cg_bytes_equal(struct cg_bytes a, struct cg_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool cg_bytes_starts(struct cg_bytes bytes, struct cg_bytes prefix)
{
    return bytes.len >= prefix.len && memcmp(bytes.data, prefix.data, prefix.len) == 0;
}

#endif
