/*
 * http_answer.h - gathers what a destination sends back, within bounds. No I/O.
 *
 * Everything here comes from a peer that is not trusted: a body is read up to a limit and kept up
 * to a smaller one, and of the head only Retry-After is taken. An intake belongs to one thread.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_ANSWER_H
#define CELLGATE_EXPORTERS_HTTP_ANSWER_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    CG_HTTP_ANSWER_BYTES_MAX = 1024 * 1024, /* read of an answer's body, and no further */
    CG_HTTP_RETRY_AFTER_BYTES_MAX = 63,
};

/* An answer. Borrowed from the intake (of a client: until its next call). */
struct cg_http_answer {
    int status;
    struct cg_bytes retry_after; /* the header's value; empty: none */
    struct cg_bytes body;        /* its first answer_kept_bytes_max bytes */
    bool body_whole;             /* all of it is there */
};

/* Where an answer arrives: init once, then for each answer reset, head lines, body, take. */
struct cg_http_intake {
    struct cg_buf body;
    size_t body_seen_bytes;
    bool body_too_long;
    bool head_whole; /* its empty line was seen */
    char retry_after[CG_HTTP_RETRY_AFTER_BYTES_MAX + 1];
};

void cg_http_intake_init(struct cg_http_intake *intake, size_t kept_bytes_max);
void cg_http_intake_fini(struct cg_http_intake *intake);
void cg_http_intake_reset(struct cg_http_intake *intake);

/* One line of a head, or of a trailer, with its line end. */
void cg_http_intake_line(struct cg_http_intake *intake, struct cg_bytes line);

/* More of the body. False ends the reading: body_too_long, or no memory. */
CG_MUST_USE bool cg_http_intake_body(struct cg_http_intake *intake, struct cg_bytes more);

struct cg_http_answer cg_http_intake_take(const struct cg_http_intake *intake, int status);

#endif
