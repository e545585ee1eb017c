#include "event/json_write.h"

#include <stdint.h>

/* The character behind the backslash for what has a short form, 'u' for the other controls, 0 for
 * what goes out as it is. */
static const char escape_of[256] = {
    [0x00] = 'u', [0x01] = 'u', [0x02] = 'u', [0x03] = 'u',  [0x04] = 'u', [0x05] = 'u',
    [0x06] = 'u', [0x07] = 'u', [0x08] = 'b', [0x09] = 't',  [0x0a] = 'n', [0x0b] = 'u',
    [0x0c] = 'f', [0x0d] = 'r', [0x0e] = 'u', [0x0f] = 'u',  [0x10] = 'u', [0x11] = 'u',
    [0x12] = 'u', [0x13] = 'u', [0x14] = 'u', [0x15] = 'u',  [0x16] = 'u', [0x17] = 'u',
    [0x18] = 'u', [0x19] = 'u', [0x1a] = 'u', [0x1b] = 'u',  [0x1c] = 'u', [0x1d] = 'u',
    [0x1e] = 'u', [0x1f] = 'u', ['"'] = '"',  ['\\'] = '\\',
};

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Is one of these eight bytes to be escaped? (A borrow between bytes can only happen above a byte
 * that is to be escaped itself, so the answer for the word as a whole is exact.) */
static bool word_needs_escape(uint64_t word)
{
    uint64_t quote = word ^ EACH_BYTE('"');
    uint64_t backslash = word ^ EACH_BYTE('\\');
    uint64_t control = (word - EACH_BYTE(0x20)) & ~word;
    quote = (quote - EACH_BYTE(1)) & ~quote;
    backslash = (backslash - EACH_BYTE(1)) & ~backslash;
    return ((control | quote | backslash) & EACH_BYTE(0x80)) != 0;
}

/* Length of the run from `at` on that needs no escape. */
static size_t plain_run(struct cg_bytes text, size_t at)
{
    size_t end = at;
    uint64_t word;
    while (text.len - end >= sizeof(word)) {
        memcpy(&word, text.data + end, sizeof(word));
        if (word_needs_escape(word)) {
            break;
        }
        end += sizeof(word);
    }
    while (end < text.len && escape_of[(unsigned char)text.data[end]] == 0) {
        end++;
    }
    return end - at;
}

size_t cg_json_escape(struct cg_bytes text, char *out)
{
    static const char hex[] = "0123456789abcdef";
    char *to = out;
    for (size_t at = 0; at < text.len;) {
        size_t run = plain_run(text, at);
        memcpy(to, text.data + at, run);
        to += run;
        at += run;
        if (at == text.len) {
            break;
        }
        unsigned char c = (unsigned char)text.data[at++];
        *to++ = '\\';
        *to++ = escape_of[c];
        if (escape_of[c] == 'u') {
            *to++ = '0';
            *to++ = '0';
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        }
    }
    return (size_t)(to - out);
}

size_t cg_json_escaped_len(struct cg_bytes text)
{
    size_t len = text.len;
    for (size_t at = plain_run(text, 0); at < text.len; at += 1 + plain_run(text, at + 1)) {
        len += escape_of[(unsigned char)text.data[at]] == 'u' ? CG_JSON_ESCAPE_GROWTH - 1 : 1;
    }
    return len;
}

bool cg_json_append_string(struct cg_buf *out, struct cg_bytes text)
{
    size_t len = cg_json_escaped_len(text);
    if (!cg_buf_reserve(out, len + 2)) {
        return false;
    }
    char *to = out->data + out->len;
    to[0] = '"';
    (void)cg_json_escape(text, to + 1);
    to[1 + len] = '"';
    out->len += len + 2;
    return true;
}
