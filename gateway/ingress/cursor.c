#include "ingress/cursor.h"

#include "base/utf8.h"

enum cg_refusal cg_cursor_next_past_tags(struct cg_cursor *cursor, struct cg_head *ret_head)
{
    enum cg_refusal refusal;
    do {
        refusal = cg_cursor_next(cursor, ret_head);
    } while (refusal == CG_REFUSAL_NONE && ret_head->kind == CG_HEAD_TAG);
    return refusal;
}

struct cg_chunks cg_chunks_of(enum cg_head_kind start)
{
    return (struct cg_chunks){
        .whole = start == CG_HEAD_TEXT_START ? CG_HEAD_TEXT : CG_HEAD_BYTES,
        .start = start,
        .open = 1,
    };
}

enum cg_refusal cg_chunks_next(struct cg_cursor *cursor, struct cg_chunks *chunks,
                               struct cg_bytes *ret_chunk)
{
    while (chunks->open > 0) {
        struct cg_head head;
        enum cg_refusal refusal = cg_cursor_next(cursor, &head);
        if (refusal != CG_REFUSAL_NONE) {
            return refusal;
        }
        if (head.kind == chunks->whole) {
            if (head.kind == CG_HEAD_TEXT && !cg_utf8_valid(head.content)) {
                return cg_cursor_refuse(cursor, CG_REFUSAL_TEXT, "a chunk of text is not UTF-8");
            }
            *ret_chunk = head.content;
            return CG_REFUSAL_NONE;
        }
        if (head.kind == chunks->start) {
            chunks->open++;
        } else if (head.kind == CG_HEAD_BREAK) {
            chunks->open--;
        } else {
            return cg_cursor_refuse(cursor, CG_REFUSAL_MALFORMED,
                                    "a string in chunks holds something else than its chunks");
        }
    }
    return CG_REFUSAL_NONE;
}
