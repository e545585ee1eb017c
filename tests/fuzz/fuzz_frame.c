/* fuzz_frame.c - a stream gives the same frames and the same end whole as byte by byte. */
#include "cellgate/error.h"
#include "cellgate/limits.h"
#include "ingress/frame.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cuts one frame as a reader does that gets a byte at a time: no verdict before its time, and none
 * that changes when more bytes are there. */
static enum cg_frame_result cut_slowly(struct cg_bytes stream, struct cg_bytes *ret_body)
{
    size_t needed = 0;
    for (size_t have = 0; have <= stream.len; have++) {
        size_t needed_now = 0;
        enum cg_frame_result result =
            cg_frame_next(cg_bytes(stream.data, have), ret_body, &needed_now);
        if (result != CG_FRAME_PARTIAL) {
            CG_ASSERT(have == (result == CG_FRAME_WHOLE ? needed : CG_FRAME_PREFIX_BYTES));
            return result;
        }
        CG_ASSERT(needed_now > have && needed_now >= needed);
        needed = needed_now;
    }
    return CG_FRAME_PARTIAL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cg_bytes stream = cg_bytes(data, size);
    for (;;) {
        struct cg_bytes body = {0};
        struct cg_bytes slow_body = {0};
        size_t needed = 0;
        enum cg_frame_result result = cg_frame_next(stream, &body, &needed);
        CG_ASSERT(cut_slowly(stream, &slow_body) == result);
        if (result != CG_FRAME_WHOLE) {
            CG_ASSERT(result == CG_FRAME_BAD_LENGTH || needed > stream.len);
            return 0;
        }
        CG_ASSERT(body.len > 0 && body.len <= CG_FRAME_BODY_BYTES_MAX);
        CG_ASSERT(body.data == slow_body.data && body.len == slow_body.len);
        stream.data += CG_FRAME_PREFIX_BYTES + body.len;
        stream.len -= CG_FRAME_PREFIX_BYTES + body.len;
    }
}
