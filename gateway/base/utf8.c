#include "base/utf8.h"

#include <stdint.h>

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The number of bytes of the character of two to four bytes at `at`, or 0 if it is none. The second
 * byte's range depends on the first: that keeps out overlong forms (E0, F0), surrogates (ED) and
 * what lies beyond U+10FFFF (F4). */
static size_t multibyte_length(const uint8_t *at, size_t left)
{
    uint8_t lead = at[0];
    if (lead < 0xC2 || lead > 0xF4 || left < 2) {
        return 0;
    }
    if (lead < 0xE0) {
        return is_continuation(at[1]) ? 2 : 0;
    }
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    size_t length = lead < 0xF0 ? 3 : 4;
    if (left < length || at[1] < low || at[1] > high || !is_continuation(at[2]) ||
        (length == 4 && !is_continuation(at[3]))) {
        return 0;
    }
    return length;
}

bool cg_utf8_valid(struct cg_bytes text)
{
    const uint8_t *at = (const uint8_t *)text.data;
    size_t left = text.len;
    while (left > 0) {
        /* Nearly all text is ASCII: eight characters at a glance. */
        uint64_t eight;
        if (left >= sizeof(eight)) {
            memcpy(&eight, at, sizeof(eight));
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof(eight);
                left -= sizeof(eight);
                continue;
            }
        }
        size_t length = *at < 0x80 ? 1 : multibyte_length(at, left);
        if (length == 0) {
            return false;
        }
        at += length;
        left -= length;
    }
    return true;
}
