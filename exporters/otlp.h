/*
 * otlp.h - batches as OTLP log export requests, in protobuf or JSON: what both OTLP exporters
 * share.
 *
 * docs/contract.md section 7: one LogRecord an event, whose body is the event's JSON text as it is
 * sent, byte for byte, and whose attributes come from the event's header. Field numbers are those
 * of opentelemetry-proto 1.x (exporters/proto/otlp.proto); the JSON form follows OTLP's rules
 * (names in camel case, 64-bit integers as strings).
 *
 * An encoder keeps its memory from batch to batch. No I/O; one thread at a time.
 */
#ifndef CELLGATE_EXPORTERS_OTLP_H
#define CELLGATE_EXPORTERS_OTLP_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "cellgate/exporter.h"

enum cg_otlp_encoding { CG_OTLP_PROTOBUF, CG_OTLP_JSON };

enum {
    CG_OTLP_INSTANCE_ID_BYTES_MAX = 255,
    /* What the two encodings may take beside the events' own bytes; a batch that does not fit is
     * split. */
    CG_OTLP_SCRATCH_BYTES_MAX = 256 * 1024 * 1024,
};

/* A row for an exporter's option table; `member` is a const char *. */
#define CG_OTLP_INSTANCE_OPTION(config_type, member)                                               \
    {                                                                                              \
        .key = "instance_id", .type = CG_OPTION_STRING, .offset = offsetof(config_type, member),   \
        .min = 1, .max = CG_OTLP_INSTANCE_ID_BYTES_MAX,                                            \
        .help = "The resource's service.instance.id; without it, the node's name.",                \
    }

struct cg_otlp;

/* `instance_id` NULL: the node's name. The texts of `env` are copied. */
CG_MUST_USE bool cg_otlp_new(enum cg_otlp_encoding encoding, const char *instance_id,
                             const struct cg_exporter_env *env, struct cg_otlp **ret_otlp,
                             struct cg_error *err);
void cg_otlp_free(struct cg_otlp *otlp);

/* An ExportLogsServiceRequest in pieces, of which some lie in the batch: valid as long as that, and
 * until the next call. pieces[0] is empty, for whoever has to put something in front. */
struct cg_otlp_request {
    struct cg_bytes *pieces;
    size_t count;
    size_t bytes;
};

/* False if memory ran out, or the batch takes more than CG_OTLP_SCRATCH_BYTES_MAX. */
CG_MUST_USE bool cg_otlp_encode(struct cg_otlp *otlp, const struct cg_batch *batch,
                                struct cg_otlp_request *ret_request);

#endif
