/*
 * cursor.h - moving through the body of a frame, head by head. Pure, no heap.
 *
 * What decode.c and skip.c share. A function that returns CG_REFUSAL_NONE has moved past what it
 * read; any other refusal ends the decoding, and the cursor says why.
 */
#ifndef CELLGATE_CURSOR_H
#define CELLGATE_CURSOR_H

#include "ingress/decode.h"
#include "ingress/head.h"

struct cg_cursor {
    struct cg_bytes rest; /* not yet read */
    const char *why;      /* static; set with each refusal */
};

static inline enum cg_refusal cg_cursor_refuse(struct cg_cursor *cursor, enum cg_refusal refusal,
                                               const char *why)
{
    cursor->why = why;
    return refusal;
}

static inline void cg_cursor_advance(struct cg_cursor *cursor, size_t size)
{
    cursor->rest.data += size;
    cursor->rest.len -= size;
}

static inline enum cg_refusal cg_cursor_next(struct cg_cursor *cursor, struct cg_head *ret_head)
{
    size_t size = cg_head_read(cursor->rest, ret_head);
    if (size == 0) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_MALFORMED,
                                "an item is cut short or uses a reserved form");
    }
    cg_cursor_advance(cursor, size);
    return CG_REFUSAL_NONE;
}

/* As above; before the map, a key or a text, tags say nothing that counts. */
enum cg_refusal cg_cursor_next_past_tags(struct cg_cursor *cursor, struct cg_head *ret_head);

/* The chunks of an indefinite string, which may themselves be indefinite strings of its type. */
struct cg_chunks {
    enum cg_head_kind whole; /* CG_HEAD_BYTES or CG_HEAD_TEXT */
    enum cg_head_kind start; /* the same with _START */
    size_t open;             /* strings begun and not ended; the frame's length bounds it */
};

/* To be called after a head of kind `start` has been read. */
struct cg_chunks cg_chunks_of(enum cg_head_kind start);

/* Sets *ret_chunk to the next chunk, whose text is checked; at the end of the whole string `open`
 * is 0, and *ret_chunk untouched. */
enum cg_refusal cg_chunks_next(struct cg_cursor *cursor, struct cg_chunks *chunks,
                               struct cg_bytes *ret_chunk);

#endif
