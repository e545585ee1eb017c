/*
 * tail.h - the newest records in memory: the blocks that writers render into, lent to readers.
 *
 * A commit publishes an extent: so many records, in this block, from this index. A reader whose
 * next index lies in an extent borrows from the block; others read the segment file. Blocks are
 * counted references (the writer's, one for each extent, one for each loan) and return to the pool
 * with the last. Everything here is under the spool's lock, but for the bytes of a block: a writer
 * changes only what it has not published yet.
 */
#ifndef CELLGATE_TAIL_H
#define CELLGATE_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CG_BLOCK_BYTES = 512 * 1024, /* stays in the processor's cache while it is filled and read */
    CG_TAIL_BLOCKS_MAX = 24,     /* beyond it extents are given up; loans can only delay that */
    CG_TAIL_EXTENTS_MAX = 2048,
};

struct cg_block {
    struct cg_block *next_free;
    uint32_t references;
    _Alignas(64) char data[CG_BLOCK_BYTES];
};

struct cg_extent {
    struct cg_block *block;
    uint32_t offset; /* in the block */
    uint32_t len;
    uint64_t first_index;
    uint64_t end_index;
    uint64_t segment; /* where the same bytes lie in the spool: first index of the segment, … */
    uint64_t file_offset;
    uint64_t base; /* … and bytes of the segments before it */
};

struct cg_tail {
    struct cg_block *free;
    unsigned blocks; /* in existence */
    struct cg_extent extents[CG_TAIL_EXTENTS_MAX];
    size_t first, count; /* a ring, by index */
};

void cg_tail_init(struct cg_tail *tail);
/* All loans are back and all writers closed. */
void cg_tail_fini(struct cg_tail *tail);

/* A block with one reference; gives up the oldest extents for it if it must. NULL: no memory. */
struct cg_block *cg_tail_block_get(struct cg_tail *tail);
void cg_tail_block_put(struct cg_tail *tail, struct cg_block *block);

/* Adds an extent behind all others, joining it with the last where they touch. */
void cg_tail_publish(struct cg_tail *tail, const struct cg_extent *extent);
/* The extent that holds `index`, or NULL. Valid until the lock is released. */
const struct cg_extent *cg_tail_find(const struct cg_tail *tail, uint64_t index);
/* The oldest extent that begins behind `index`, or NULL; walks over them. Likewise. */
const struct cg_extent *cg_tail_find_behind(const struct cg_tail *tail, uint64_t index);
/* Forgets extents of events below `index`. */
void cg_tail_trim(struct cg_tail *tail, uint64_t index);

#endif
