/*
 * head.h - one CBOR head at a time (RFC 8949 section 3), read by libcbor's stream decoder.
 *
 * A head says what an item is; of definite strings it includes the content. Only heads are judged
 * here: UTF-8, the types of chunks, nesting and where a break may stand are the business of
 * decode.c. Pure, no heap.
 */
#ifndef CELLGATE_HEAD_H
#define CELLGATE_HEAD_H

#include "cellgate/bytes.h"

#include <stdint.h>

enum cg_head_kind {
    CG_HEAD_UNSIGNED,    /* value */
    CG_HEAD_NEGATIVE,    /* value n stands for -1 - n */
    CG_HEAD_BYTES,       /* content */
    CG_HEAD_BYTES_START, /* chunks follow, up to a break */
    CG_HEAD_TEXT,        /* content, not yet checked */
    CG_HEAD_TEXT_START,  /* chunks follow, up to a break */
    CG_HEAD_ARRAY,       /* value: how many items follow */
    CG_HEAD_ARRAY_START, /* items follow, up to a break */
    CG_HEAD_MAP,         /* value: how many pairs follow */
    CG_HEAD_MAP_START,   /* pairs follow, up to a break */
    CG_HEAD_TAG,         /* value: the tag's number */
    CG_HEAD_SIMPLE,      /* false, true, null, undefined, or a float of any width */
    CG_HEAD_BREAK,
};

struct cg_head {
    enum cg_head_kind kind;
    uint64_t value;          /* of the kinds above that say so; otherwise undefined */
    struct cg_bytes content; /* likewise; points into the input */
};

/* Reads the head at the front of `input`. Returns how many bytes it took (with the content of a
 * definite string), or 0, with *ret_head undefined, if there is none: reserved or unassigned
 * values, or not all of it is there. */
size_t cg_head_read_any(struct cg_bytes input, struct cg_head *ret_head);

/* The same for the heads that real frames are made of, text and unsigned integers with an argument
 * of at most one byte: these are read in place, at a small part of the cost of a library call. Any
 * other, and whatever is not whole, gets 0. */
static inline size_t cg_head_read_short(struct cg_bytes input, struct cg_head *ret_head)
{
    enum { UNSIGNED = 0x00, TEXT = 0x60, MAJOR_MASK = 0xE0, ONE_BYTE = 24 };
    if (input.len < 2) {
        return 0;
    }
    uint8_t initial = (uint8_t)input.data[0];
    size_t argument = initial & ~MAJOR_MASK;
    size_t size = 1;
    if (argument == ONE_BYTE) {
        argument = (uint8_t)input.data[size++];
    } else if (argument > ONE_BYTE) {
        return 0;
    }
    if ((initial & MAJOR_MASK) == TEXT && argument <= input.len - size) {
        ret_head->kind = CG_HEAD_TEXT;
        ret_head->content = cg_bytes(input.data + size, argument);
        return size + argument;
    }
    if ((initial & MAJOR_MASK) == UNSIGNED) {
        ret_head->kind = CG_HEAD_UNSIGNED;
        ret_head->value = argument;
        return size;
    }
    return 0;
}

static inline size_t cg_head_read(struct cg_bytes input, struct cg_head *ret_head)
{
    size_t size = cg_head_read_short(input, ret_head);
    return size != 0 ? size : cg_head_read_any(input, ret_head);
}

#endif
