/*
 * letter.h - a dead letter as one line of JSON: writing it and reading it.
 *
 * docs/contract.md section 7. A line is an object that begins with the letter's state and the
 * event's id, always at the same place:
 *
 *     {"state":"kept","id":"…","time":…,"exporter":…,"reason":…, … ,"meta":{…},"event":{…}}
 *
 * A state has four letters, so that it can be changed in the file by writing over it. `event` is
 * the event byte for byte as it would have been sent, and `meta` what a record of the spool knows
 * of it beside its bytes, so that any exporter can send it again as if it came from there.
 *
 * Pure. A line may have been written by anybody who can write to the directory: it is read
 * strictly, and spans are checked against the event's length.
 */
#ifndef CELLGATE_LETTER_H
#define CELLGATE_LETTER_H

#include "cellgate/exporter.h"
#include "cellgate/limits.h"
#include "event/json.h"

enum {
    CG_LETTER_STATE_LEN = 4,
    CG_LETTER_STATE_OFFSET = 10, /* behind {"state":" */
    /* An event, an answer and a detail of which every byte is escaped to six, and the rest. */
    CG_LETTER_BYTES_MAX =
        CG_EVENT_BYTES_MAX + 6 * (CG_VERDICT_ANSWER_MAX + CG_VERDICT_DETAIL_MAX) + 8192,
};

enum cg_letter_state {
    CG_LETTER_KEPT, /* waits for somebody */
    CG_LETTER_REDO, /* to be sent again */
    CG_LETTER_SENT, /* the destination has it: the line may go */
    CG_LETTER_GONE, /* dropped: the line may go */
    CG_LETTER_STATE_COUNT
};
const char *cg_letter_state_name(enum cg_letter_state state); /* CG_LETTER_STATE_LEN characters */
static inline bool cg_letter_is_live(enum cg_letter_state state)
{
    return state == CG_LETTER_KEPT || state == CG_LETTER_REDO;
}

enum cg_letter_reason {
    CG_LETTER_REFUSED,   /* the destination takes others and says that this one is wrong */
    CG_LETTER_TOO_LARGE, /* it says so of this one alone */
    CG_LETTER_FAILING,   /* it fails whenever it gets this one */
    CG_LETTER_AGE,       /* older than retry.max_age before it could be delivered */
    CG_LETTER_REASON_COUNT
};
const char *cg_letter_reason_name(enum cg_letter_reason reason);
/* Why an event is given up that got this verdict alone. */
enum cg_letter_reason cg_letter_reason_of(const struct cg_verdict *verdict);

/* Appends the line, newline included, in the state KEPT; a verdict of zeroes says nothing. Returns
 * !line->failed. */
bool cg_letter_write(struct cg_buf *line, const char *exporter, const struct cg_event *event,
                     enum cg_letter_reason reason, const struct cg_verdict *verdict,
                     uint64_t realtime_ns);

/* What stands at the beginning of a line: state and id. False if that is no letter. */
CG_MUST_USE bool cg_letter_peek(struct cg_bytes line, enum cg_letter_state *ret_state,
                                struct cg_bytes *ret_id);

struct cg_letter {
    enum cg_letter_state state;
    struct cg_bytes id;
    struct cg_bytes reason; /* as it stands there, of any version */
    struct cg_event event;  /* points into the line */
};

/* A reader for lines, to be ended with cg_json_fini. */
void cg_letter_reader_init(struct cg_json *json);
/* Reads a line, with or without its newline. `ret_letter` and the nodes in `json` are valid as long
 * as the line. */
CG_MUST_USE bool cg_letter_read(struct cg_json *json, struct cg_bytes line,
                                struct cg_letter *ret_letter, struct cg_error *err);

#endif
