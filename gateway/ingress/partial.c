#include "ingress/partial.h"

#include <stdlib.h>
#include <string.h>

enum { PARTIAL_BYTES_MIN = 64 }; /* the first allocation; doubled from there */

void cg_partials_init(struct cg_partials *partials)
{
    cg_list_init(&partials->by_age);
    partials->bytes = 0;
}

/* Doubling keeps a frame that comes byte by byte cheap; no more than the frame is ever needed. */
static size_t capacity_for(size_t len, size_t needed)
{
    size_t cap = PARTIAL_BYTES_MIN;
    while (cap < len) {
        cap *= 2;
    }
    return cap > needed && needed >= len ? needed : cap;
}

size_t cg_partial_append(struct cg_partials *partials, struct cg_partial **held, void *owner,
                         struct cg_bytes bytes, size_t needed, uint64_t now_ns)
{
    struct cg_partial *partial = *held;
    size_t old_len = partial == NULL ? 0 : partial->len;
    size_t old_cap = partial == NULL ? 0 : partial->cap;
    size_t cap = old_cap;
    if (partial == NULL || old_len + bytes.len > cap) {
        cap = capacity_for(old_len + bytes.len, needed);
        struct cg_partial *grown = realloc(partial, sizeof(*grown) + cap);
        if (grown == NULL) {
            return SIZE_MAX;
        }
        if (partial == NULL) {
            grown->owner = owner;
            grown->begun_ns = now_ns;
            grown->len = 0;
            cg_list_append(&partials->by_age, &grown->by_age);
        } else {
            cg_list_moved(&grown->by_age);
        }
        grown->cap = (uint32_t)cap;
        partial = grown;
    }
    memcpy(partial->bytes + partial->len, bytes.data, bytes.len);
    partial->len += (uint32_t)bytes.len;
    partial->needed = (uint32_t)needed;
    partials->bytes += cap - old_cap;
    *held = partial;
    return cap - old_cap;
}

struct cg_partial *cg_partial_new(struct cg_bytes bytes, size_t needed)
{
    size_t cap = capacity_for(bytes.len, needed);
    struct cg_partial *partial = calloc(1, sizeof(*partial) + cap);
    if (partial != NULL) {
        cg_list_init(&partial->by_age);
        partial->len = (uint32_t)bytes.len;
        partial->cap = (uint32_t)cap;
        partial->needed = (uint32_t)needed;
        memcpy(partial->bytes, bytes.data, bytes.len);
    }
    return partial;
}

size_t cg_partials_adopt(struct cg_partials *partials, struct cg_partial *partial, void *owner,
                         uint64_t now_ns)
{
    partial->owner = owner;
    partial->begun_ns = now_ns;
    cg_list_append(&partials->by_age, &partial->by_age);
    partials->bytes += partial->cap;
    return partial->cap;
}

size_t cg_partial_drop(struct cg_partials *partials, struct cg_partial **held)
{
    struct cg_partial *partial = *held;
    if (partial == NULL) {
        return 0;
    }
    size_t cap = partial->cap;
    partials->bytes -= cap;
    cg_list_remove(&partial->by_age);
    free(partial);
    *held = NULL;
    return cap;
}

void cg_partial_renew(struct cg_partials *partials, struct cg_partial *partial, uint64_t now_ns)
{
    cg_list_remove(&partial->by_age);
    partial->begun_ns = now_ns;
    cg_list_append(&partials->by_age, &partial->by_age);
}

struct cg_partial *cg_partial_oldest(const struct cg_partials *partials)
{
    return cg_list_is_empty(&partials->by_age)
               ? NULL
               : CG_LIST_ENTRY(partials->by_age.next, struct cg_partial, by_age);
}
