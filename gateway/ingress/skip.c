#include "ingress/skip.h"

#include "base/utf8.h"

enum {
    LEVELS_MAX = 255,
    TAG_BIGNUM = 2,
    TAG_NEGATIVE_BIGNUM = 3,
    BIGNUM_BYTES_MAX = 16,
};

/* An array, map or tag inside an unknown value whose end has not been reached. */
struct level {
    enum { LEVEL_COUNTED, LEVEL_ARRAY_TO_BREAK, LEVEL_MAP_TO_BREAK } end;
    uint32_t left; /* COUNTED: items still to come */
    bool odd;      /* MAP_TO_BREAK: a key without its value */
};

struct levels {
    struct level stack[LEVELS_MAX];
    size_t depth;
};

/* Opens the level that `head` begins. One of nothing (an empty array) is opened too, because it
 * counts for the depth; the caller closes it at once. */
static enum cg_refusal open_level(struct cg_cursor *cursor, struct levels *levels,
                                  const struct cg_head *head)
{
    if (levels->depth == LEVELS_MAX) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_DEPTH, "a value is nested more than 255 deep");
    }
    struct level level = {.end = LEVEL_COUNTED};
    if (head->kind == CG_HEAD_ARRAY_START) {
        level.end = LEVEL_ARRAY_TO_BREAK;
    } else if (head->kind == CG_HEAD_MAP_START) {
        level.end = LEVEL_MAP_TO_BREAK;
    } else if (head->kind == CG_HEAD_TAG) {
        level.left = 1;
    } else {
        uint64_t items_each = head->kind == CG_HEAD_MAP ? 2 : 1;
        if (head->value > cursor->rest.len / items_each) {
            return cg_cursor_refuse(cursor, CG_REFUSAL_MALFORMED,
                                    "an array or map says more items than there are bytes");
        }
        level.left = (uint32_t)(head->value * items_each);
    }
    levels->stack[levels->depth++] = level;
    return CG_REFUSAL_NONE;
}

/* A break ends the innermost level, if that is one that ends so. */
static enum cg_refusal close_by_break(struct cg_cursor *cursor, struct levels *levels)
{
    const struct level *level = levels->depth == 0 ? NULL : &levels->stack[levels->depth - 1];
    if (level == NULL || level->end == LEVEL_COUNTED || level->odd) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_MALFORMED,
                                "a break stands where an item is due");
    }
    levels->depth--;
    return CG_REFUSAL_NONE;
}

/* An item is complete: that may complete the level it stands in, and so on outwards. */
static void item_done(struct levels *levels)
{
    while (levels->depth > 0) {
        struct level *level = &levels->stack[levels->depth - 1];
        if (level->end != LEVEL_COUNTED) {
            level->odd = level->end == LEVEL_MAP_TO_BREAK && !level->odd;
            return;
        }
        if (--level->left > 0) {
            return;
        }
        levels->depth--;
    }
}

/* Tag 2 or 3 with the short byte string behind it is one number and takes no level. Sets
 * *ret_number to whether that was read. */
static enum cg_refusal skip_short_bignum(struct cg_cursor *cursor, uint64_t tag, bool *ret_number)
{
    *ret_number = false;
    if (tag != TAG_BIGNUM && tag != TAG_NEGATIVE_BIGNUM) {
        return CG_REFUSAL_NONE;
    }
    struct cg_head head;
    size_t size = cg_head_read(cursor->rest, &head);
    if (size == 0 || head.kind != CG_HEAD_BYTES || head.content.len > BIGNUM_BYTES_MAX) {
        return CG_REFUSAL_NONE;
    }
    if (tag == TAG_NEGATIVE_BIGNUM && head.content.len == BIGNUM_BYTES_MAX &&
        (uint8_t)head.content.data[0] >= 0x80) {
        return cg_cursor_refuse(cursor, CG_REFUSAL_MALFORMED, "a negative integer is below -2^127");
    }
    cg_cursor_advance(cursor, size);
    *ret_number = true;
    return CG_REFUSAL_NONE;
}

static enum cg_refusal skip_chunks(struct cg_cursor *cursor, enum cg_head_kind start)
{
    struct cg_chunks chunks = cg_chunks_of(start);
    struct cg_bytes chunk;
    enum cg_refusal refusal;
    do {
        refusal = cg_chunks_next(cursor, &chunks, &chunk);
    } while (refusal == CG_REFUSAL_NONE && chunks.open > 0);
    return refusal;
}

/* Reads one head of an unknown value, and what belongs to it. *ret_done: an item is complete. */
static enum cg_refusal skip_step(struct cg_cursor *cursor, struct levels *levels, bool *ret_done)
{
    struct cg_head head;
    enum cg_refusal refusal = cg_cursor_next(cursor, &head);
    if (refusal != CG_REFUSAL_NONE) {
        return refusal;
    }
    *ret_done = true;
    switch (head.kind) {
    case CG_HEAD_UNSIGNED:
    case CG_HEAD_NEGATIVE:
    case CG_HEAD_BYTES:
    case CG_HEAD_SIMPLE:
        return CG_REFUSAL_NONE;
    case CG_HEAD_TEXT:
        return cg_utf8_valid(head.content)
                   ? CG_REFUSAL_NONE
                   : cg_cursor_refuse(cursor, CG_REFUSAL_TEXT,
                                      "a text of an unknown key is not UTF-8");
    case CG_HEAD_BYTES_START:
    case CG_HEAD_TEXT_START:
        return skip_chunks(cursor, head.kind);
    case CG_HEAD_BREAK:
        return close_by_break(cursor, levels);
    case CG_HEAD_TAG:
        refusal = skip_short_bignum(cursor, head.value, ret_done);
        if (refusal != CG_REFUSAL_NONE || *ret_done) {
            return refusal;
        }
        break;
    case CG_HEAD_ARRAY:
    case CG_HEAD_MAP:
        *ret_done = head.value == 0;
        break;
    case CG_HEAD_ARRAY_START:
    case CG_HEAD_MAP_START:
        *ret_done = false;
        break;
    }
    refusal = open_level(cursor, levels, &head);
    if (refusal == CG_REFUSAL_NONE && *ret_done) {
        levels->depth--; /* it was empty */
    }
    return refusal;
}

enum cg_refusal cg_skip_value(struct cg_cursor *cursor)
{
    struct levels levels;
    levels.depth = 0;
    do {
        bool done;
        enum cg_refusal refusal = skip_step(cursor, &levels, &done);
        if (refusal != CG_REFUSAL_NONE) {
            return refusal;
        }
        if (done) {
            item_done(&levels);
        }
    } while (levels.depth > 0);
    return CG_REFUSAL_NONE;
}
