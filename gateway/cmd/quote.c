#include "cmd/quote.h"

#include "cellgate/log.h"

#include <stdint.h>

enum {
    SHOWN_MAX = 64, /* of one character, escaped for the log */
    ASCII_LAST = 0x7e,
};

/* The character at `at`; *ret_len is how many bytes it takes. The text is valid UTF-8. */
static uint32_t character_at(struct cg_bytes text, size_t at, size_t *ret_len)
{
    unsigned char lead = (unsigned char)text.data[at];
    size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t code = len == 1 ? lead : lead & (0xffU >> (len + 1));
    CG_ASSERT(len <= text.len - at);
    for (size_t i = 1; i < len; i++) {
        code = code << 6 | ((unsigned char)text.data[at + i] & 0x3f);
    }
    *ret_len = len;
    return code;
}

/* Beyond ASCII, what the log shows as it is counts as printable. */
static bool printable(struct cg_bytes character, uint32_t code)
{
    if (code <= ASCII_LAST) {
        return code >= ' ';
    }
    char shown[SHOWN_MAX];
    size_t len = cg_text_escape(character, shown, sizeof(shown));
    return cg_bytes_equal(cg_bytes(shown, len), character);
}

static bool all_printable(struct cg_bytes text)
{
    size_t len;
    for (size_t at = 0; at < text.len; at += len) {
        uint32_t code = character_at(text, at, &len);
        if (!printable(cg_bytes(text.data + at, len), code)) {
            return false;
        }
    }
    return true;
}

static void append_quoted(struct cg_buf *out, uint32_t code)
{
    if (code == '"' || code == '\\') {
        (void)cg_buf_printf(out, "\\%c", (char)code);
    } else if (code >= ' ' && code <= ASCII_LAST) {
        (void)cg_buf_append_char(out, (char)code);
    } else if (code < 0x10000) {
        (void)cg_buf_printf(out, "\\u%04x", code);
    } else {
        code -= 0x10000;
        (void)cg_buf_printf(out, "\\u%04x\\u%04x", 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff));
    }
}

bool cg_quote_append(struct cg_buf *out, struct cg_bytes text)
{
    bool plain = text.len > 0 && text.data[0] != '"' && !cg_bytes_equal(text, CG_BYTES("-")) &&
                 all_printable(text);
    if (plain) {
        return cg_buf_append(out, text);
    }
    (void)cg_buf_append_char(out, '"');
    size_t len;
    for (size_t at = 0; at < text.len; at += len) {
        append_quoted(out, character_at(text, at, &len));
    }
    return cg_buf_append_char(out, '"');
}

bool cg_quote_append_json(struct cg_buf *out, struct cg_bytes json)
{
    size_t len;
    for (size_t at = 0; at < json.len; at += len) {
        uint32_t code = character_at(json, at, &len);
        if ((code >= ' ' && code <= ASCII_LAST) || printable(cg_bytes(json.data + at, len), code)) {
            cg_buf_append(out, cg_bytes(json.data + at, len));
        } else {
            append_quoted(out, code);
        }
    }
    return !out->failed;
}
