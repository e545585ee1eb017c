/*
 * grpc_status.h - what came of a unary gRPC call, as a verdict: docs/contract.md section 7.
 *
 * Pure but for the reader's memory (otlp_answer.h); what it reads comes from a peer that is not
 * trusted. The texts are those of gRPC over HTTP/2: grpc-status in decimal, grpc-message
 * percent-encoded, grpc-status-details-bin in base64, messages behind a prefix of five bytes.
 */
#ifndef CELLGATE_EXPORTERS_GRPC_STATUS_H
#define CELLGATE_EXPORTERS_GRPC_STATUS_H

#include "cellgate/bytes.h"
#include "cellgate/exporter.h"
#include "exporters/otlp_answer.h"

#include <stdbool.h>
#include <stdint.h>

enum { CG_GRPC_PREFIX_BYTES = 5 };

/* Writes the prefix of a message of that many bytes. */
void cg_grpc_prefix_write(char prefix[CG_GRPC_PREFIX_BYTES], bool compressed, uint32_t bytes);

/* The one message in an answer's body. False for none, for more than one, for half a one and for a
 * compressed one (which we tell nobody that we could read). */
CG_MUST_USE bool cg_grpc_message_read(struct cg_bytes body, struct cg_bytes *ret_message);

/* What came back. Texts are NULL where there is none; they may be trailers or, where the answer has
 * nothing else, headers. */
struct cg_grpc_answer {
    int http_status;
    struct cg_bytes retry_after; /* of HTTP, for when something else than gRPC answers */
    const char *status;          /* grpc-status */
    const char *message;         /* grpc-message */
    const char *details;         /* grpc-status-details-bin */
    struct cg_bytes body;
};

/* Fills all of *ret_verdict, which comes zeroed. */
void cg_grpc_verdict(struct cg_otlp_reader *reader, const struct cg_grpc_answer *answer,
                     uint64_t now_realtime_ns, struct cg_verdict *ret_verdict);

/* Percent-decodes as much as fits `max` bytes, NUL included; what is no escape stays as it is, and
 * an escaped NUL becomes a question mark. Returns the length. */
size_t cg_grpc_text_decode(const char *text, char *out, size_t max);

/* Standard base64, padded or not, strictly; several values joined by commas are not taken. Needs
 * room for 3 bytes in 4. False if it is something else or does not fit. */
CG_MUST_USE bool cg_grpc_binary_decode(const char *text, char *out, size_t max, size_t *ret_len);

#endif
