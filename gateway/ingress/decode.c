#include "ingress/decode.h"

#include "base/utf8.h"
#include "cellgate/error.h"
#include "ingress/cursor.h"
#include "ingress/skip.h"

enum {
    KEY_BYTES_MAX = 4096,
    TAG_BIGNUM = 2,
    TAG_NEGATIVE_BIGNUM = 3,
};

/* The fields of a frame, in the order in which the agent sends them. */
enum field {
    FIELD_CONTENT_VERSION,
    FIELD_PROBE_SOURCE,
    FIELD_GUEST_PID,
    FIELD_GUEST_COMM,
    FIELD_GUEST_MONOTONIC_NS,
    FIELD_COUNT,
    FIELD_UNKNOWN = FIELD_COUNT,
};

/* What one decoding knows. */
struct decoding {
    struct cg_cursor cursor;
    char *scratch; /* for texts in chunks, one behind the other */
    size_t scratch_used;
};

static enum cg_refusal read_text(struct decoding *decoding, struct cg_bytes *ret_text)
{
    struct cg_cursor *cursor = &decoding->cursor;
    struct cg_head head;
    enum cg_refusal refusal = cg_cursor_next_past_tags(cursor, &head);
    if (refusal != CG_REFUSAL_NONE) {
        return refusal;
    }
    if (head.kind == CG_HEAD_TEXT) {
        if (!cg_utf8_valid(head.content)) {
            return cg_cursor_refuse(cursor, CG_REFUSAL_TEXT, "a text is not UTF-8");
        }
        *ret_text = head.content;
        return CG_REFUSAL_NONE;
    }
    if (head.kind != CG_HEAD_TEXT_START) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_FIELD, "a text field is not a text");
    }
    /* All chunks of a frame together are shorter than the frame, hence than the scratch. */
    char *text = decoding->scratch + decoding->scratch_used;
    size_t length = 0;
    struct cg_chunks chunks = cg_chunks_of(head.kind);
    for (;;) {
        struct cg_bytes chunk;
        refusal = cg_chunks_next(cursor, &chunks, &chunk);
        if (refusal != CG_REFUSAL_NONE) {
            return refusal;
        }
        if (chunks.open == 0) {
            decoding->scratch_used += length;
            *ret_text = cg_bytes(text, length);
            return CG_REFUSAL_NONE;
        }
        CG_ASSERT(chunk.len <= CG_FRAME_BODY_BYTES_MAX - decoding->scratch_used - length);
        memcpy(text + length, chunk.data, chunk.len);
        length += chunk.len;
    }
}

static const char out_of_range[] = "an integer field is out of range";

/* Appends big-endian `digits` to *value; leading zeros are free. */
static enum cg_refusal add_digits(struct cg_cursor *cursor, struct cg_bytes digits, uint64_t *value)
{
    for (size_t i = 0; i < digits.len; i++) {
        if (*value >> 56 != 0) {
            return cg_cursor_refuse(cursor, CG_REFUSAL_FIELD, out_of_range);
        }
        *value = *value << 8 | (uint8_t)digits.data[i];
    }
    return CG_REFUSAL_NONE;
}

/* The byte string behind tag 2, in whatever chunks. */
static enum cg_refusal read_bignum(struct cg_cursor *cursor, uint64_t *ret_value)
{
    struct cg_head head;
    uint64_t value = 0;
    enum cg_refusal refusal = cg_cursor_next(cursor, &head);
    if (refusal != CG_REFUSAL_NONE) {
        return refusal;
    }
    if (head.kind == CG_HEAD_BYTES) {
        refusal = add_digits(cursor, head.content, &value);
    } else if (head.kind == CG_HEAD_BYTES_START) {
        struct cg_chunks chunks = cg_chunks_of(head.kind);
        struct cg_bytes chunk;
        while ((refusal = cg_chunks_next(cursor, &chunks, &chunk)) == CG_REFUSAL_NONE &&
               chunks.open > 0) {
            refusal = add_digits(cursor, chunk, &value);
            if (refusal != CG_REFUSAL_NONE) {
                break;
            }
        }
    } else {
        refusal = cg_cursor_refuse(cursor, CG_REFUSAL_FIELD, "a big integer is not a byte string");
    }
    if (refusal == CG_REFUSAL_NONE) {
        *ret_value = value;
    }
    return refusal;
}

static enum cg_refusal read_integer(struct cg_cursor *cursor, uint64_t max, uint64_t *ret_value)
{
    struct cg_head head;
    uint64_t value = 0;
    enum cg_refusal refusal;
    do {
        refusal = cg_cursor_next(cursor, &head);
    } while (refusal == CG_REFUSAL_NONE && head.kind == CG_HEAD_TAG && head.value != TAG_BIGNUM &&
             head.value != TAG_NEGATIVE_BIGNUM);
    if (refusal == CG_REFUSAL_NONE) {
        if (head.kind == CG_HEAD_UNSIGNED) {
            value = head.value;
        } else if (head.kind == CG_HEAD_TAG && head.value == TAG_BIGNUM) {
            refusal = read_bignum(cursor, &value);
        } else {
            refusal = cg_cursor_refuse(cursor, CG_REFUSAL_FIELD,
                                       "an integer field is not an unsigned integer");
        }
    }
    if (refusal == CG_REFUSAL_NONE && value > max) {
        refusal = cg_cursor_refuse(cursor, CG_REFUSAL_FIELD, out_of_range);
    }
    if (refusal == CG_REFUSAL_NONE) {
        *ret_value = value;
    }
    return refusal;
}

/* The five names have five lengths. */
static enum field field_named(struct cg_bytes name)
{
    static const struct cg_bytes names[FIELD_COUNT] = {
        [FIELD_CONTENT_VERSION] = CG_BYTES("content_version"),
        [FIELD_PROBE_SOURCE] = CG_BYTES("probe_source"),
        [FIELD_GUEST_PID] = CG_BYTES("guest_pid"),
        [FIELD_GUEST_COMM] = CG_BYTES("guest_comm"),
        [FIELD_GUEST_MONOTONIC_NS] = CG_BYTES("guest_monotonic_ns"),
    };
    for (enum field field = 0; field < FIELD_COUNT; field++) {
        if (names[field].len == name.len) {
            return memcmp(names[field].data, name.data, name.len) == 0 ? field : FIELD_UNKNOWN;
        }
    }
    return FIELD_UNKNOWN;
}

static enum cg_refusal judge_key(struct cg_cursor *cursor, const struct cg_head *head,
                                 enum field *ret_field)
{
    if (head->kind != CG_HEAD_TEXT && head->kind != CG_HEAD_BYTES) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_STRUCTURE,
                                "a key is not one text or byte string");
    }
    if (head->content.len > KEY_BYTES_MAX) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_STRUCTURE, "a key is longer than 4096 bytes");
    }
    *ret_field = field_named(head->content);
    if (*ret_field == FIELD_UNKNOWN && head->kind == CG_HEAD_TEXT &&
        !cg_utf8_valid(head->content)) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_TEXT, "a key is not UTF-8");
    }
    return CG_REFUSAL_NONE;
}

static enum cg_refusal read_field(struct decoding *decoding, enum field field,
                                  struct cg_declaration *declaration)
{
    struct cg_cursor *cursor = &decoding->cursor;
    uint64_t value = 0;
    enum cg_refusal refusal;
    switch (field) {
    case FIELD_CONTENT_VERSION:
        refusal = read_integer(cursor, UINT16_MAX, &value);
        declaration->content_version = (uint16_t)value;
        return refusal;
    case FIELD_PROBE_SOURCE:
        return read_text(decoding, &declaration->probe_source);
    case FIELD_GUEST_PID:
        refusal = read_integer(cursor, UINT32_MAX, &value);
        declaration->guest_pid = (uint32_t)value;
        return refusal;
    case FIELD_GUEST_COMM:
        return read_text(decoding, &declaration->guest_comm);
    case FIELD_GUEST_MONOTONIC_NS:
        return read_integer(cursor, UINT64_MAX, &declaration->guest_monotonic_ns);
    case FIELD_UNKNOWN:
        break;
    }
    return cg_skip_value(cursor);
}

/* The pairs of the one map: `count` of them, or up to a break where a key could stand. */
static enum cg_refusal read_pairs(struct decoding *decoding, bool counted, uint64_t count,
                                  struct cg_declaration *declaration)
{
    struct cg_cursor *cursor = &decoding->cursor;
    unsigned seen = 0;
    while (!counted || count-- > 0) {
        struct cg_head head;
        enum field field;
        enum cg_refusal refusal = cg_cursor_next(cursor, &head);
        if (refusal == CG_REFUSAL_NONE && head.kind == CG_HEAD_BREAK && !counted) {
            break;
        }
        if (refusal == CG_REFUSAL_NONE && head.kind == CG_HEAD_TAG) {
            refusal = cg_cursor_next_past_tags(cursor, &head);
        }
        if (refusal == CG_REFUSAL_NONE) {
            refusal = judge_key(cursor, &head, &field);
        }
        if (refusal != CG_REFUSAL_NONE) {
            return refusal;
        }
        if (field != FIELD_UNKNOWN) {
            if ((seen & 1u << field) != 0) {
                return cg_cursor_refuse(cursor, CG_REFUSAL_FIELD, "a field is repeated");
            }
            seen |= 1u << field;
        }
        refusal = read_field(decoding, field, declaration);
        if (refusal != CG_REFUSAL_NONE) {
            return refusal;
        }
    }
    if (seen != (1u << FIELD_COUNT) - 1) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_FIELD, "a field is missing");
    }
    return CG_REFUSAL_NONE;
}

static enum cg_refusal read_body(struct decoding *decoding, struct cg_declaration *declaration)
{
    struct cg_cursor *cursor = &decoding->cursor;
    struct cg_head head;
    enum cg_refusal refusal = cg_cursor_next_past_tags(cursor, &head);
    if (refusal != CG_REFUSAL_NONE) {
        return refusal;
    }
    if (head.kind != CG_HEAD_MAP && head.kind != CG_HEAD_MAP_START) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_STRUCTURE, "the body is not a map");
    }
    bool counted = head.kind == CG_HEAD_MAP;
    if (counted && head.value > cursor->rest.len / 2) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_MALFORMED,
                                "the map says more pairs than there are");
    }
    refusal = read_pairs(decoding, counted, head.value, declaration);
    if (refusal == CG_REFUSAL_NONE && declaration->content_version >> 8 != 0) {
        /* Judged last: only a frame that is good in all else is of another version. */
        return cg_cursor_refuse(cursor, CG_REFUSAL_UNSUPPORTED_VERSION,
                                "the major version is not 0");
    }
    return refusal;
}

enum cg_refusal cg_decode(struct cg_bytes body, struct cg_decode_scratch *scratch,
                          struct cg_declaration *ret_declaration, const char **ret_why)
{
    CG_ASSERT(body.len <= CG_FRAME_BODY_BYTES_MAX);
    struct decoding decoding = {.cursor = {.rest = body}, .scratch = scratch->text};
    struct cg_declaration declaration = {0};
    enum cg_refusal refusal = read_body(&decoding, &declaration);
    if (refusal == CG_REFUSAL_NONE) {
        *ret_declaration = declaration;
    } else {
        *ret_why = decoding.cursor.why;
    }
    return refusal;
}

const char *cg_refusal_name(enum cg_refusal refusal)
{
    static const char *const names[CG_REFUSAL_COUNT] = {
        [CG_REFUSAL_NONE] = "none",
        [CG_REFUSAL_LENGTH] = "length",
        [CG_REFUSAL_TRUNCATED] = "truncated",
        [CG_REFUSAL_MALFORMED] = "malformed",
        [CG_REFUSAL_TEXT] = "text",
        [CG_REFUSAL_STRUCTURE] = "structure",
        [CG_REFUSAL_DEPTH] = "depth",
        [CG_REFUSAL_FIELD] = "field",
        [CG_REFUSAL_UNSUPPORTED_VERSION] = "unsupported_version",
    };
    CG_ASSERT((unsigned)refusal < CG_REFUSAL_COUNT);
    return names[refusal];
}
