/*
 * canonical.h - an event that somebody wrote, in the one form whose bytes are signed. Pure but for
 * memory. docs/contract.md section 4; section 5 says what verifying makes of it.
 *
 * The hot path renders its events in this form to begin with (envelope.h); here an event in any
 * order, spacing and escaping is brought into it, for `sign` and `verify`. Nothing is converted on
 * the way: a number that has more than one spelling is refused, because verifiers do not agree on
 * which one they render.
 */
#ifndef CELLGATE_CANONICAL_H
#define CELLGATE_CANONICAL_H

#include "cellgate/buf.h"
#include "cellgate/error.h"
#include "event/json.h"

/* The members that are signed, in their order. */
enum cg_attribute {
    CG_ATTRIBUTE_SPECVERSION,
    CG_ATTRIBUTE_ID,
    CG_ATTRIBUTE_SOURCE,
    CG_ATTRIBUTE_TYPE,
    CG_ATTRIBUTE_DATACONTENTTYPE,
    CG_ATTRIBUTE_DATA,
    CG_ATTRIBUTE_TIME,
    CG_ATTRIBUTE_TRACEPARENT,
    CG_ATTRIBUTE_COUNT
};

/* Where an event's members stand among a reader's nodes; 0 for what is absent or null. */
struct cg_attributes {
    uint32_t node[CG_ATTRIBUTE_COUNT];
    uint32_t unknown; /* the key of the first member beside the eight */
};

/* Levels of an event that still stands, with an envelope, a transport event and a batch around it,
 * within the levels that verifiers read. */
enum { CG_CANONICAL_LEVELS_MAX = 124 };

/* Memory that is used again from event to event. Starts as {0}. */
struct cg_canonical {
    struct cg_json_order order;
};

void cg_canonical_fini(struct cg_canonical *canonical);

/* Finds the eight members of the object at `node`. Refused: no object, a member that repeats, one
 * of the first four absent, another type than text (data may be anything). */
CG_MUST_USE bool cg_canonical_inspect(struct cg_canonical *canonical, const struct cg_json *json,
                                      uint32_t node, struct cg_attributes *ret_attributes,
                                      struct cg_error *err);

/* Appends the canonical bytes. Inside data the last of repeated members counts. Refused: a
 * fraction, an exponent, -0, an integer outside -2^63 to 2^64-1; `out` then has a part in it. */
CG_MUST_USE bool cg_canonical_render(struct cg_canonical *canonical, const struct cg_json *json,
                                     const struct cg_attributes *attributes, struct cg_buf *out,
                                     struct cg_error *err);

/*
 * Appends any value in canonical form, and makes an integer of each number that is none: cut toward
 * 0, and beyond -2^63 to 2^64-1 the nearer end; *cut counts them. False: no memory, or more bytes
 * than `out` may have.
 */
CG_MUST_USE bool cg_canonical_render_cut(struct cg_canonical *canonical, const struct cg_json *json,
                                         uint32_t node, uint64_t *cut, struct cg_buf *out);

/* Appends a string of the text in canonical form, without quotes. Returns !out->failed. */
bool cg_canonical_append_text(const struct cg_json *json, uint32_t node, struct cg_buf *out);

#endif
