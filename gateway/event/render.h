/*
 * render.h - putting pieces of text one behind the other, for the hot path of event/. Pure.
 *
 * Each function writes at `at` and returns where the text ends. The caller has bounded the whole
 * text beforehand, with CG_RENDER_SLACK to spare: what is written in fixed sizes may run over the
 * end of its text, into bytes that the next piece overwrites.
 */
#ifndef CELLGATE_RENDER_H
#define CELLGATE_RENDER_H

#include "cellgate/bytes.h"

#include <endian.h>
#include <stdint.h>

enum { CG_RENDER_SLACK = 16 };

/* A constant piece: its length is known, so this is a few stores. */
#define CG_RENDER_LITERAL(at, literal)                                                             \
    ((char *)memcpy((at), "" literal, sizeof(literal) - 1) + sizeof(literal) - 1)

/* Ids and names are mostly 4 to 32 bytes long, for which calling memcpy costs more than copying:
 * two copies of a fixed size, which overlap in the middle, serve a whole range of lengths. */
static inline char *cg_render_bytes(char *at, struct cg_bytes bytes)
{
    const char *from = bytes.data;
    size_t len = bytes.len;
    if (len >= 16 && len <= 32) {
        memcpy(at, from, 16);
        memcpy(at + len - 16, from + len - 16, 16);
    } else if (len >= 8 && len < 16) {
        memcpy(at, from, 8);
        memcpy(at + len - 8, from + len - 8, 8);
    } else if (len >= 4 && len < 8) {
        memcpy(at, from, 4);
        memcpy(at + len - 4, from + len - 4, 4);
    } else if (len > 0) {
        memcpy(at, from, len);
    }
    return at + len;
}

/*
 * The eight digits of a number below 10^8, one a byte, the first in the lowest: divided by 10^4,
 * then by 10^2 in both halves at once, then by 10 in all four quarters. The multiplications by
 * 10486 / 2^20 and 103 / 2^10 are exact divisions in the ranges at hand.
 */
static inline uint64_t cg_render_digits(uint32_t number)
{
    uint64_t halves = number / 10000 | (uint64_t)(number % 10000) << 32;
    uint64_t hundreds = (halves * 10486 >> 20) & UINT64_C(0x0000007f0000007f);
    uint64_t quarters = hundreds | (halves - hundreds * 100) << 16;
    uint64_t tens = (quarters * 103 >> 10) & UINT64_C(0x000f000f000f000f);
    return tens | (quarters - tens * 10) << 8;
}

#define CG_RENDER_ZEROS UINT64_C(0x3030303030303030)

/* Eight digits, leading zeros included, of a number below 10^8. */
static inline char *cg_render_eight(char *at, uint32_t number)
{
    uint64_t text = htole64(cg_render_digits(number) | CG_RENDER_ZEROS);
    memcpy(at, &text, sizeof(text));
    return at + sizeof(text);
}

/* As many digits as a number below 10^8 has. */
static inline char *cg_render_u27(char *at, uint32_t number)
{
    uint64_t digits = cg_render_digits(number);
    unsigned leading = number == 0 ? 7 : (unsigned)__builtin_ctzll(digits) / 8;
    uint64_t text = htole64((digits | CG_RENDER_ZEROS) >> leading * 8);
    memcpy(at, &text, sizeof(text));
    return at + sizeof(text) - leading;
}

static inline char *cg_render_u64(char *at, uint64_t number)
{
    const uint64_t eight = 100000000;
    if (number < 10) { /* ordinals of connections, mostly */
        *at = (char)('0' + number);
        return at + 1;
    }
    if (number < eight) {
        return cg_render_u27(at, (uint32_t)number);
    }
    uint64_t high = number / eight;
    if (high < eight) {
        at = cg_render_u27(at, (uint32_t)high);
    } else {
        at = cg_render_u27(at, (uint32_t)(high / eight));
        at = cg_render_eight(at, (uint32_t)(high % eight));
    }
    return cg_render_eight(at, (uint32_t)(number % eight));
}

#endif
