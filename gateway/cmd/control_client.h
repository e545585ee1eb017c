/*
 * control_client.h - one request to the control socket: what `cell` and `status` share.
 *
 * A small HTTP/1.1 client of its own. The exporters' client speaks in verdicts, retries, TLS and
 * proxies, none of which a Unix socket on the same host has; here there is one request on one
 * connection, and an answer with a length.
 */
#ifndef CELLGATE_CMD_CONTROL_CLIENT_H
#define CELLGATE_CMD_CONTROL_CLIENT_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "event/json.h"

#define CG_CONTROL_SOCKET_DEFAULT "/run/cellgate/control.sock"

/* $CELLGATE_CONTROL, or the default. */
const char *cg_control_socket(void);

struct cg_control_answer {
    unsigned status;
    struct cg_buf raw;    /* all of it */
    struct cg_bytes body; /* in it */
    struct cg_json json;  /* the body, if it is JSON; else no nodes */
};

/* Sends and reads the whole answer. `target` is path and query, encoded; an empty body is none. The
 * caller ends the answer with cg_control_answer_fini. */
CG_MUST_USE bool cg_control_ask(const char *socket, const char *method, const char *target,
                                struct cg_bytes body, struct cg_control_answer *ret_answer,
                                struct cg_error *err);
void cg_control_answer_fini(struct cg_control_answer *answer);

/* The parts of it, for an answer that is read otherwise (control_stream.h). The caller closes the
 * descriptor. */
CG_MUST_USE bool cg_control_connect(const char *socket, int *ret_fd, struct cg_error *err);
/* The whole request: head, and body if there is one. */
CG_MUST_USE bool cg_control_send(int fd, const char *method, const char *target,
                                 struct cg_bytes body, struct cg_error *err);

/* Appends a path segment or a query value, percent-encoded. */
void cg_control_append_encoded(struct cg_buf *target, const char *text);

/* Says on stderr what a problem document says: "cellgate NAME: 409 Conflict: run_id: …". */
void cg_control_complain(const char *name, const struct cg_control_answer *answer);

/* What a member says, for people: strings escaped for a terminal, numbers and words as they are,
 * "-" for null or absent. Returns `out`. */
enum { CG_CONTROL_SHOWN_MAX = 1024 };
const char *cg_control_show(const struct cg_json *json, uint32_t object, const char *member,
                            char out[CG_CONTROL_SHOWN_MAX]);

#endif
