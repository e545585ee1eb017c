/*
 * verify.h - judging one event: is what it says what somebody with a key signed? Pure but for
 * memory. docs/contract.md section 5.
 *
 * Takes the event as a reader's node: a transport event, a bare envelope, or an event that nobody
 * signed. What is verified is the event inside: its eight members, rendered again. All else (the
 * transport event's own members, unknown members, kid, algorithm, notBefore, notAfter) is not
 * covered by the signature, and what is odd among it is pointed out beside the verdict.
 *
 * A verifier belongs to one thread; the keyring may be shared.
 */
#ifndef CELLGATE_VERIFY_H
#define CELLGATE_VERIFY_H

#include "cellgate/buf.h"
#include "cellgate/error.h"
#include "event/canonical.h"
#include "event/json.h"
#include "event/keyring.h"

#define CG_ENVELOPE_EVENT_TYPE CG_BYTES("dev.cellos.events.signed_envelope.v1")

enum cg_judgement_kind {
    CG_JUDGED_OK,
    CG_JUDGED_UNSIGNED,  /* a CloudEvent without an envelope */
    CG_JUDGED_MALFORMED, /* no event, or not the members that an envelope and its event have */
    CG_JUDGED_ALGORITHM, /* not one that we know */
    CG_JUDGED_KID,       /* no key of that name and algorithm */
    CG_JUDGED_SIGNATURE, /* not base64url, or of the wrong length */
    CG_JUDGED_NUMBER,    /* data has a number that has no canonical form */
    CG_JUDGED_MISMATCH,  /* the signature is not this event's */
    CG_JUDGEMENT_COUNT
};

/* Nodes are those of the reader that was judged; 0 for none. */
struct cg_judgement {
    enum cg_judgement_kind kind;
    struct cg_error detail; /* for MALFORMED and NUMBER */
    uint32_t event;         /* the event inside; for UNSIGNED the event itself */
    uint32_t id; /* the id of the event inside, once envelope and event are well-formed */
    uint32_t kid;
    uint32_t algorithm;
    /* Not covered by the signature: */
    uint32_t not_before;
    uint32_t not_after;
    uint32_t unknown_outside; /* the first unknown member's key in the transport event, */
    uint32_t unknown_envelope;
    uint32_t unknown_event;
    bool outside_differs; /* the transport event's id or time is not the signed one */
};

struct cg_verifier {
    const struct cg_keyring *ring;
    struct cg_canonical canonical;
    struct cg_buf bytes; /* the canonical bytes of the event being judged */
    struct cg_buf text;
};

/* `event_bytes_max` bounds what one event takes in canonical form. */
void cg_verifier_init(struct cg_verifier *verifier, const struct cg_keyring *ring,
                      size_t event_bytes_max);
void cg_verifier_fini(struct cg_verifier *verifier);

void cg_verifier_judge(struct cg_verifier *verifier, const struct cg_json *json, uint32_t node,
                       struct cg_judgement *ret_judgement);

/* What a kind means, in a few words. */
const char *cg_judgement_name(enum cg_judgement_kind kind);

#endif
