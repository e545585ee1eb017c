/*
 * registration_body.h - the body of PUT /v1/cells/{id}, strictly read. docs/contract.md section 6.
 * Pure but for memory.
 *
 * JSON that is not JSON, or ambiguous, is 400; JSON that says something else than a registration is
 * 422; both name the member if one is at fault. Whether the values are allowed (ids, paths, labels)
 * is for cg_cell_spec_check to say: this only gives them their types.
 */
#ifndef CELLGATE_HTTP_REGISTRATION_BODY_H
#define CELLGATE_HTTP_REGISTRATION_BODY_H

#include "cellgate/buf.h"
#include "cellgate/limits.h"
#include "http/enrolment.h"

enum { CG_REGISTRATION_BODY_BYTES_MAX = 64 << 10 };

struct cg_registration_body {
    struct cg_enrol_request request; /* borrows from the rest */
    struct cg_pair labels[CG_LABELS_MAX];
    struct cg_probe_spec probes;
    struct cg_buf texts;
};

struct cg_registration_body_problem {
    unsigned status; /* 400 or 422 */
    char member[64]; /* "" for none; may hold what the peer sent */
    struct cg_error detail;
};

/* `cell_id` is borrowed. On success the caller ends it with cg_registration_body_fini. */
CG_MUST_USE bool cg_registration_body_parse(struct cg_registration_body *ret_registration,
                                            const char *cell_id, struct cg_bytes body,
                                            struct cg_registration_body_problem *ret_problem);
void cg_registration_body_fini(struct cg_registration_body *registration);

#endif
