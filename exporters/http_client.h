/*
 * http_client.h - POSTs to one destination: what every exporter over HTTP shares.
 *
 * A client keeps its connection from request to request, and turns everything that can happen to
 * one into an answer or a verdict (docs/contract.md section 7). Redirects are not followed,
 * certificates are always verified (TLS 1.2 at least), the proxy comes from the environment, and
 * what a destination sends back is bounded: 1 MiB is read, less is kept.
 *
 * A client belongs to one thread; only cg_http_client_cancel and cg_http_client_reopen may be
 * called from others.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_CLIENT_H
#define CELLGATE_EXPORTERS_HTTP_CLIENT_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "cellgate/exporter.h"
#include "exporters/http_answer.h"
#include "exporters/http_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The checks that need more than one key or more than a length. No I/O; any thread. */
CG_MUST_USE bool cg_http_client_validate(const struct cg_http_client_config *config,
                                         struct cg_error *err);

/* Writes the URL for people: without user information, cut to `max` bytes, terminated. */
void cg_http_url_show(const char *text, char *out, size_t max);

struct cg_http_client;

/*
 * What an exporter adds to its operator's configuration. answer_kept_bytes_max is how much of an
 * answer's body cg_http_answer shows (an OTLP answer must be seen whole, others only by people).
 */
struct cg_http_client_params {
    const struct cg_http_client_config *config; /* validated; borrowed until free */
    const char *user_agent;                     /* copied */
    /* Taken where the URL has no path of its own, and copied; NULL: the URL as it is. */
    const char *default_path;
    size_t answer_kept_bytes_max;
};

/* Fails for what the operator must mend: files missing or of no use. Connects to nothing. */
CG_MUST_USE bool cg_http_client_new(const struct cg_http_client_params *params,
                                    struct cg_http_client **ret_client, struct cg_error *err);
void cg_http_client_free(struct cg_http_client *client);

struct cg_http_header {
    const char *name;
    const char *value;
};

/* One POST. Everything is borrowed for the call. The body is the pieces, one behind the other, sent
 * from where they lie; an empty piece is allowed. */
struct cg_http_request {
    const char *content_type;
    const char *content_encoding;         /* NULL: none */
    const struct cg_http_header *headers; /* further ones of the protocol */
    size_t header_count;
    const struct cg_bytes *pieces;
    size_t piece_count;
};

/*
 * Sends and waits, at most timeout_ns. True if an answer came, whatever its status. Otherwise
 * *ret_verdict is BACKOFF or CONFIG with its detail: see verdict_of_failure in the source for which
 * failure is which.
 */
CG_MUST_USE bool cg_http_client_post(struct cg_http_client *client,
                                     const struct cg_http_request *request,
                                     struct cg_http_answer *ret_answer,
                                     struct cg_verdict *ret_verdict);

/* After a post that was answered: the last value of a trailer, which is the destination's last
 * word, or of a header if there is no such trailer; NULL for neither. Borrowed until the next call.
 */
const char *cg_http_client_header(struct cg_http_client *client, const char *name);

/* Any thread: the post in progress, and every later one, fails with BACKOFF soon. */
void cg_http_client_cancel(struct cg_http_client *client);
/* Any thread: the next post reads certificate files again and uses a new connection. (The token
 * file needs no telling.) */
void cg_http_client_reopen(struct cg_http_client *client);
/* Any thread: end of the client certificate, seconds of real time; 0 without one. */
uint64_t cg_http_client_certificate_expiry_s(const struct cg_http_client *client);

#endif
