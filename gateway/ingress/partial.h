/*
 * partial.h - frames that have been received in part.
 *
 * A connection owns memory only while it holds part of a frame, and only for the bytes that have
 * arrived. Each ingress thread has one set of them, in the order in which the frames were begun,
 * and a ceiling for their sum; who must go when it is passed is for the reader to say. One thread.
 */
#ifndef CELLGATE_PARTIAL_H
#define CELLGATE_PARTIAL_H

#include "base/list.h"
#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdint.h>

struct cg_partial {
    struct cg_list by_age;
    void *owner;       /* the connection */
    uint64_t begun_ns; /* when the frame's first byte was read */
    uint32_t len, cap;
    uint32_t needed; /* bytes of the frame in all, as far as is known */
    char bytes[];
};

struct cg_partials {
    struct cg_list by_age; /* the oldest first */
    uint64_t bytes;        /* of memory held */
};

void cg_partials_init(struct cg_partials *partials);

/* Adds to the frame in *held, or begins one where it is NULL. Returns by how much the memory held
 * has grown, or SIZE_MAX, with nothing changed, if there is none. */
CG_MUST_USE size_t cg_partial_append(struct cg_partials *partials, struct cg_partial **held,
                                     void *owner, struct cg_bytes bytes, size_t needed,
                                     uint64_t now_ns);
/* A frame's first bytes that nobody holds yet, NULL without memory; cg_partials_adopt makes it one
 * of the set, begun now, and returns how much memory it holds. */
struct cg_partial *cg_partial_new(struct cg_bytes bytes, size_t needed);
size_t cg_partials_adopt(struct cg_partials *partials, struct cg_partial *partial, void *owner,
                         uint64_t now_ns);
/* Frees *held and sets it to NULL. Returns how much memory it held. */
size_t cg_partial_drop(struct cg_partials *partials, struct cg_partial **held);
/* The frame counts as begun now. */
void cg_partial_renew(struct cg_partials *partials, struct cg_partial *partial, uint64_t now_ns);

/* The oldest, or NULL. */
struct cg_partial *cg_partial_oldest(const struct cg_partials *partials);

#endif
