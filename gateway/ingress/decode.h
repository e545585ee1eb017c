/*
 * decode.h - the body of a frame becomes a declaration, or is refused. Pure, no heap, no recursion.
 *
 * docs/contract.md section 2.1 is the specification, rule by rule; CBOR is RFC 8949.
 */
#ifndef CELLGATE_DECODE_H
#define CELLGATE_DECODE_H

#include "cellgate/limits.h"
#include "event/stamp.h"

/* Why a frame was refused: the outcome of decoding, with a counter for each (metrics.def). All but
 * the last are wire errors. */
enum cg_refusal {
    CG_REFUSAL_NONE,
    CG_REFUSAL_LENGTH,    /* length prefix 0 or above 65,536 */
    CG_REFUSAL_TRUNCATED, /* the stream ended inside a prefix or body */
    CG_REFUSAL_MALFORMED, /* not well-formed CBOR */
    CG_REFUSAL_TEXT,      /* text that is not UTF-8 */
    CG_REFUSAL_STRUCTURE, /* not one map with fitting keys */
    CG_REFUSAL_DEPTH,     /* nested too deeply */
    CG_REFUSAL_FIELD,     /* a field is missing, repeated, of a wrong type or out of range */
    CG_REFUSAL_UNSUPPORTED_VERSION,
    CG_REFUSAL_COUNT
};

/* "length", "truncated", …: the label of the counter. */
const char *cg_refusal_name(enum cg_refusal refusal);

/* Where texts that arrive in chunks are put together. One per thread; no initialisation. */
struct cg_decode_scratch {
    char text[CG_FRAME_BODY_BYTES_MAX];
};

/*
 * Decodes one body (1 to CG_FRAME_BODY_BYTES_MAX bytes; an empty one is malformed). On success
 * fills *ret_declaration, whose texts point into `body` or `scratch`. On refusal touches only the
 * scratch, and sets *ret_why to a static text that says which rule.
 */
enum cg_refusal cg_decode(struct cg_bytes body, struct cg_decode_scratch *scratch,
                          struct cg_declaration *ret_declaration, const char **ret_why);

#endif
