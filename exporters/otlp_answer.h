/*
 * otlp_answer.h - what a collector says: partial success, and the status beside a refusal.
 *
 * All of it comes from a peer that is not trusted. protobuf-c takes its memory from one arena that
 * is allocated when the reader is made, so that nothing a peer declares makes us allocate; what
 * does not fit counts as unreadable. Pure but for that memory; one thread at a time.
 */
#ifndef CELLGATE_EXPORTERS_OTLP_ANSWER_H
#define CELLGATE_EXPORTERS_OTLP_ANSWER_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "cellgate/exporter.h"
#include "exporters/otlp.h"

#include <stdbool.h>
#include <stdint.h>

/* Of an answer's body, as much as is read of any (http_answer.h). OTLP lets clients stop at 4 MiB;
 * docs/contract.md section 7 has the smaller bound for all exporters. */
enum { CG_OTLP_ANSWER_BYTES_MAX = 1024 * 1024 };

struct cg_otlp_reader;

CG_MUST_USE bool cg_otlp_reader_new(struct cg_otlp_reader **ret_reader, struct cg_error *err);
void cg_otlp_reader_free(struct cg_otlp_reader *reader);

/*
 * An ExportLogsServiceResponse, from whoever has accepted the batch. Fills `rejected` and, if the
 * collector says anything, `detail`; an empty body says nothing. False if it cannot be read, in
 * which case the verdict is as it was: what was accepted stays accepted.
 */
bool cg_otlp_read_response(struct cg_otlp_reader *reader, enum cg_otlp_encoding encoding,
                           struct cg_bytes body, struct cg_verdict *verdict);

enum { CG_OTLP_MESSAGE_BYTES_MAX = 200 };

/* A google.rpc.Status. */
struct cg_otlp_status {
    char message[CG_OTLP_MESSAGE_BYTES_MAX + 1]; /* as it came, but cut, and ends at a NUL */
    bool has_retry_info;
    uint64_t retry_delay_ns; /* 0 for a delay that is negative or not given */
};

CG_MUST_USE bool cg_otlp_read_status(struct cg_otlp_reader *reader, struct cg_bytes body,
                                     struct cg_otlp_status *ret_status);

#endif
