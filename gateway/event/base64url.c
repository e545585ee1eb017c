#include "event/base64url.h"

#include <string.h>

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* The six bits of a character, or -1. Computed without a table, so that no key byte becomes an
 * address. */
static int sextet(unsigned char c)
{
    int value = -1;
    value += (c >= 'A' && c <= 'Z') * (c - 'A' + 1);
    value += (c >= 'a' && c <= 'z') * (c - 'a' + 26 + 1);
    value += (c >= '0' && c <= '9') * (c - '0' + 52 + 1);
    value += (c == '-') * (62 + 1);
    value += (c == '_') * (63 + 1);
    return value;
}

/* Decodes `len` characters, which leave 0, 2 or 4 unused bits, into exactly len * 6 / 8 bytes. */
static bool decode_strict(const char *text, size_t len, uint8_t *out)
{
    uint32_t bits = 0;
    unsigned held = 0;
    for (size_t i = 0; i < len; i++) {
        int value = sextet((unsigned char)text[i]);
        if (value < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        held += 6;
        if (held >= 8) {
            held -= 8;
            *out++ = (uint8_t)(bits >> held);
        }
    }
    return (bits & ((1U << held) - 1)) == 0;
}

bool cg_base64url_decode(struct cg_bytes text, uint8_t *out, size_t max, size_t *ret_len)
{
    size_t len = text.len;
    while (len > 0 && text.data[len - 1] == '=') {
        len--;
    }
    if (len % 4 == 1 || len > SIZE_MAX / 6 || len * 6 / 8 > max) {
        return false;
    }
    if (!decode_strict(text.data, len, out)) {
        explicit_bzero(out, len * 6 / 8);
        return false;
    }
    *ret_len = len * 6 / 8;
    return true;
}

size_t cg_base64url_encode(struct cg_bytes bytes, char *out)
{
    const uint8_t *from = (const uint8_t *)bytes.data;
    char *to = out;
    size_t left = bytes.len;
    for (; left >= 3; left -= 3, from += 3, to += 4) {
        uint32_t bits = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        to[0] = alphabet[bits >> 18];
        to[1] = alphabet[bits >> 12 & 63];
        to[2] = alphabet[bits >> 6 & 63];
        to[3] = alphabet[bits & 63];
    }
    if (left > 0) {
        uint32_t bits = (uint32_t)from[0] << 16 | (left == 2 ? (uint32_t)from[1] << 8 : 0);
        *to++ = alphabet[bits >> 18];
        *to++ = alphabet[bits >> 12 & 63];
        if (left == 2) {
            *to++ = alphabet[bits >> 6 & 63];
        }
    }
    return (size_t)(to - out);
}
