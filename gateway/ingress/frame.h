/*
 * frame.h - cutting a byte stream into frames. Pure. docs/contract.md section 2.
 *
 *     u32 little-endian body length || body
 */
#ifndef CELLGATE_FRAME_H
#define CELLGATE_FRAME_H

#include "cellgate/bytes.h"

enum cg_frame_result {
    CG_FRAME_WHOLE,   /* *ret_body is the body; the frame took 4 + body.len bytes */
    CG_FRAME_PARTIAL, /* more bytes are needed; *ret_needed is how many the frame has in all, as far
                         as is known (4 while the prefix is incomplete) */
    CG_FRAME_BAD_LENGTH, /* 0 or above CG_FRAME_BODY_BYTES_MAX */
};

/* Looks at the front of `stream`. Sets only the output that belongs to the result. */
enum cg_frame_result cg_frame_next(struct cg_bytes stream, struct cg_bytes *ret_body,
                                   size_t *ret_needed);

#endif
