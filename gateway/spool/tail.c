#include "spool/tail.h"

#include "cellgate/error.h"

#include <stdlib.h>

void cg_tail_init(struct cg_tail *tail)
{
    tail->free = NULL;
    tail->blocks = 0;
    tail->first = tail->count = 0;
}

/* Where the i-th extent, counted from the oldest, lies in the ring. */
static size_t slot(const struct cg_tail *tail, size_t i)
{
    return (tail->first + i) % CG_TAIL_EXTENTS_MAX;
}

static void drop_first(struct cg_tail *tail)
{
    struct cg_block *block = tail->extents[tail->first].block;
    tail->first = (tail->first + 1) % CG_TAIL_EXTENTS_MAX;
    tail->count--;
    cg_tail_block_put(tail, block);
}

void cg_tail_fini(struct cg_tail *tail)
{
    while (tail->count > 0) {
        drop_first(tail);
    }
    while (tail->free != NULL) {
        struct cg_block *block = tail->free;
        tail->free = block->next_free;
        tail->blocks--;
        free(block);
    }
    CG_ASSERT(tail->blocks == 0);
}

struct cg_block *cg_tail_block_get(struct cg_tail *tail)
{
    while (tail->free == NULL && tail->blocks >= CG_TAIL_BLOCKS_MAX && tail->count > 0) {
        drop_first(tail);
    }
    struct cg_block *block = tail->free;
    if (block == NULL) {
        block = aligned_alloc(_Alignof(struct cg_block), sizeof(*block));
        if (block == NULL) {
            return NULL;
        }
        tail->blocks++;
    } else {
        tail->free = block->next_free;
    }
    block->references = 1;
    return block;
}

void cg_tail_block_put(struct cg_tail *tail, struct cg_block *block)
{
    CG_ASSERT(block->references > 0);
    if (--block->references > 0) {
        return;
    }
    if (tail->blocks > CG_TAIL_BLOCKS_MAX) {
        tail->blocks--;
        free(block);
        return;
    }
    block->next_free = tail->free; /* last in, first out: it is still warm */
    tail->free = block;
}

void cg_tail_publish(struct cg_tail *tail, const struct cg_extent *extent)
{
    if (tail->count > 0) {
        struct cg_extent *last = &tail->extents[slot(tail, tail->count - 1)];
        if (last->block == extent->block && last->offset + last->len == extent->offset &&
            last->segment == extent->segment &&
            last->file_offset + last->len == extent->file_offset &&
            last->end_index == extent->first_index) {
            last->len += extent->len;
            last->end_index = extent->end_index;
            return;
        }
    }
    if (tail->count == CG_TAIL_EXTENTS_MAX) {
        drop_first(tail);
    }
    tail->extents[slot(tail, tail->count)] = *extent;
    tail->count++;
    extent->block->references++;
}

const struct cg_extent *cg_tail_find(const struct cg_tail *tail, uint64_t index)
{
    size_t low = 0;
    size_t high = tail->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (tail->extents[slot(tail, middle)].end_index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == tail->count || tail->extents[slot(tail, low)].first_index > index) {
        return NULL;
    }
    return &tail->extents[slot(tail, low)];
}

const struct cg_extent *cg_tail_find_behind(const struct cg_tail *tail, uint64_t index)
{
    for (size_t i = 0; i < tail->count; i++) {
        const struct cg_extent *extent = &tail->extents[slot(tail, i)];
        if (extent->first_index > index) {
            return extent;
        }
    }
    return NULL;
}

void cg_tail_trim(struct cg_tail *tail, uint64_t index)
{
    while (tail->count > 0 && tail->extents[tail->first].end_index <= index) {
        drop_first(tail);
    }
}
