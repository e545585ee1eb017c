#include "run/surrogates.h"

#include <ctype.h>
#include <stdint.h>

enum { ESCAPE_LEN = 6, PAIR_LEN = 2 * ESCAPE_LEN };

static bool looks_like_json(struct cg_bytes text)
{
    size_t at = 0;
    while (at < text.len && isspace((unsigned char)text.data[at])) {
        at++;
    }
    return at < text.len && text.data[at] == '{';
}

/* The value of `\u and four digits` at `at`, if it lies within [first, last]. */
static bool read_half(const char *at, uint32_t first, uint32_t last, uint32_t *ret_half)
{
    if (at[0] != '\\' || at[1] != 'u') {
        return false;
    }
    uint32_t value = 0;
    for (size_t i = 2; i < ESCAPE_LEN; i++) {
        unsigned char c = (unsigned char)at[i];
        if (!isxdigit(c)) {
            return false;
        }
        value = value * 16 + (uint32_t)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    if (value < first || value > last) {
        return false;
    }
    *ret_half = value;
    return true;
}

static bool read_pair(struct cg_bytes rest, uint32_t *ret_point)
{
    uint32_t high;
    uint32_t low;
    if (rest.len < PAIR_LEN || !read_half(rest.data, 0xD800, 0xDBFF, &high) ||
        !read_half(rest.data + ESCAPE_LEN, 0xDC00, 0xDFFF, &low)) {
        return false;
    }
    *ret_point = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    return true;
}

static void append_point(struct cg_buf *buf, uint32_t point)
{
    const char bytes[] = {(char)(0xF0 | point >> 18), (char)(0x80 | (point >> 12 & 0x3F)),
                          (char)(0x80 | (point >> 6 & 0x3F)), (char)(0x80 | (point & 0x3F))};
    (void)cg_buf_append(buf, cg_bytes(bytes, sizeof(bytes)));
}

bool cg_surrogates_join(struct cg_bytes text, struct cg_buf *buf, struct cg_bytes *ret_text)
{
    if (!looks_like_json(text)) {
        *ret_text = text;
        return true;
    }
    bool quoted = false;
    size_t copied = 0; /* everything before it is in `buf` */
    for (size_t at = 0; at < text.len; at++) {
        uint32_t point;
        if (text.data[at] == '"') {
            quoted = !quoted;
        } else if (quoted && text.data[at] == '\\') {
            if (read_pair(cg_bytes(text.data + at, text.len - at), &point)) {
                (void)cg_buf_append(buf, cg_bytes(text.data + copied, at - copied));
                append_point(buf, point);
                copied = at + PAIR_LEN;
                at += PAIR_LEN - 1;
            } else {
                at++; /* whatever is escaped does not end the string */
            }
        }
    }
    if (copied == 0) {
        *ret_text = text;
        return true;
    }
    (void)cg_buf_append(buf, cg_bytes(text.data + copied, text.len - copied));
    if (buf->failed) {
        return false;
    }
    *ret_text = cg_buf_bytes(buf);
    return true;
}
