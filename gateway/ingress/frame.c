#include "ingress/frame.h"

#include "cellgate/limits.h"

#include <stdint.h>

static uint32_t load_u32_le(const char *at)
{
    const uint8_t *bytes = (const uint8_t *)at;
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

enum cg_frame_result cg_frame_next(struct cg_bytes stream, struct cg_bytes *ret_body,
                                   size_t *ret_needed)
{
    if (stream.len < CG_FRAME_PREFIX_BYTES) {
        *ret_needed = CG_FRAME_PREFIX_BYTES;
        return CG_FRAME_PARTIAL;
    }
    uint32_t length = load_u32_le(stream.data);
    if (length == 0 || length > CG_FRAME_BODY_BYTES_MAX) {
        return CG_FRAME_BAD_LENGTH;
    }
    if (stream.len - CG_FRAME_PREFIX_BYTES < length) {
        *ret_needed = CG_FRAME_PREFIX_BYTES + (size_t)length;
        return CG_FRAME_PARTIAL;
    }
    *ret_body = cg_bytes(stream.data + CG_FRAME_PREFIX_BYTES, length);
    return CG_FRAME_WHOLE;
}
