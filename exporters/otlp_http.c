/*
 * otlp_http.c - OTLP over HTTP: the exporter `otlp-http`.
 *
 * One POST a batch, protobuf or JSON. Which status means what is OTLP's own list of what may be
 * tried again, and docs/contract.md section 7 for the rest.
 */
#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/compress.h"
#include "exporters/http_client.h"
#include "exporters/http_status.h"
#include "exporters/otlp.h"
#include "exporters/otlp_answer.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    BATCH_EVENTS_DEFAULT = 512,
    BATCH_BYTES_DEFAULT = 1024 * 1024,
    REQUEST_BYTES_MAX = 64 * 1024 * 1024, /* OTLP: what servers should take, unpacked */
};

struct config {
    struct cg_http_client_config http;
    struct cg_compress_config compress;
    int encoding; /* enum cg_otlp_encoding */
    const char *instance_id;
};

struct exporter {
    const struct config *config;
    struct cg_http_client *client;
    struct cg_compressor *compressor; /* NULL: none */
    struct cg_buf compressed;
    struct cg_otlp *otlp;
    struct cg_otlp_reader *reader;
};

static const struct cg_option_name encoding_names[] = {
    {"protobuf", CG_OTLP_PROTOBUF},
    {"json", CG_OTLP_JSON},
    {NULL, 0},
};

static const struct cg_option options[] = {
    CG_HTTP_CLIENT_OPTIONS(struct config, http),
    {.key = "encoding",
     .type = CG_OPTION_ENUM,
     .offset = offsetof(struct config, encoding),
     .names = encoding_names,
     .fallback = "protobuf",
     .help = "protobuf (application/x-protobuf) or json (application/json)."},
    CG_OTLP_INSTANCE_OPTION(struct config, instance_id),
    CG_COMPRESS_OPTIONS(struct config, compress),
    {.key = NULL},
};

static bool validate(const void *config_bytes, struct cg_error *err)
{
    const struct config *config = config_bytes;
    return cg_http_client_validate(&config->http, err) &&
           cg_compress_validate(&config->compress, err);
}

static void close_exporter(void *instance)
{
    struct exporter *exporter = instance;
    cg_http_client_free(exporter->client);
    cg_compressor_free(exporter->compressor);
    cg_buf_fini(&exporter->compressed);
    cg_otlp_free(exporter->otlp);
    cg_otlp_reader_free(exporter->reader);
    free(exporter);
}

static bool init_exporter(struct exporter *exporter, const struct config *config,
                          const struct cg_exporter_env *env, struct cg_error *err)
{
    char user_agent[64];
    (void)snprintf(user_agent, sizeof(user_agent), "cellgate/%s", env->version);
    exporter->config = config;
    cg_buf_init(&exporter->compressed, 2 * (size_t)REQUEST_BYTES_MAX);
    struct cg_http_client_params params = {
        .config = &config->http,
        .user_agent = user_agent,
        .default_path = "/v1/logs",
        .answer_kept_bytes_max = CG_OTLP_ANSWER_BYTES_MAX,
    };
    return cg_otlp_new((enum cg_otlp_encoding)config->encoding, config->instance_id, env,
                       &exporter->otlp, err) &&
           cg_otlp_reader_new(&exporter->reader, err) &&
           cg_compressor_new(&config->compress, &exporter->compressor, err) &&
           cg_http_client_new(&params, &exporter->client, err);
}

static bool open_exporter(const void *config, const struct cg_exporter_env *env,
                          void **ret_exporter, struct cg_error *err)
{
    struct exporter *exporter = calloc(1, sizeof(*exporter));
    if (exporter == NULL) {
        return cg_error_set(err, "no memory for an exporter");
    }
    if (!init_exporter(exporter, config, env, err)) {
        close_exporter(exporter);
        return false;
    }
    *ret_exporter = exporter;
    return true;
}

static void judge(struct exporter *exporter, const struct cg_http_answer *answer,
                  struct cg_verdict *ret_verdict)
{
    enum cg_otlp_encoding encoding = (enum cg_otlp_encoding)exporter->config->encoding;
    struct cg_otlp_status status;
    cg_http_status_verdict(CG_HTTP_RULES_OTLP, answer->status, answer->retry_after,
                           cg_clock_realtime(&cg_clock_system), ret_verdict);
    if (ret_verdict->kind == CG_VERDICT_DELIVERED) {
        if (!answer->body_whole ||
            !cg_otlp_read_response(exporter->reader, encoding, answer->body, ret_verdict)) {
            (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail),
                           "HTTP %d with an answer that cannot be read", answer->status);
        }
    } else if (encoding == CG_OTLP_PROTOBUF && answer->body_whole && answer->body.len > 0 &&
               cg_otlp_read_status(exporter->reader, answer->body, &status) &&
               status.message[0] != '\0') {
        (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "HTTP %d: %s",
                       answer->status, status.message);
    }
    size_t len =
        answer->body.len < CG_VERDICT_ANSWER_MAX ? answer->body.len : CG_VERDICT_ANSWER_MAX;
    if (len > 0) {
        memcpy(ret_verdict->answer, answer->body.data, len);
    }
    ret_verdict->answer_len = len;
}

static void refuse(struct cg_verdict *ret_verdict, enum cg_verdict_kind kind, const char *detail)
{
    ret_verdict->kind = kind;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "%s", detail);
}

static void deliver(void *instance, const struct cg_batch *batch, struct cg_verdict *ret_verdict)
{
    struct exporter *exporter = instance;
    struct cg_otlp_request encoded;
    if (!cg_otlp_encode(exporter->otlp, batch, &encoded)) {
        refuse(ret_verdict, CG_VERDICT_BACKOFF, "no memory for a batch");
        return;
    }
    if (encoded.bytes >= REQUEST_BYTES_MAX) {
        refuse(ret_verdict, CG_VERDICT_TOO_LARGE, "the request would have 64 MiB or more");
        return;
    }
    struct cg_http_request request = {
        .content_type = exporter->config->encoding == CG_OTLP_JSON ? "application/json"
                                                                   : "application/x-protobuf",
        .pieces = encoded.pieces,
        .piece_count = encoded.count,
    };
    struct cg_bytes compressed;
    if (exporter->compressor != NULL) {
        if (!cg_compressor_run(exporter->compressor, encoded.pieces, encoded.count,
                               &exporter->compressed)) {
            refuse(ret_verdict, CG_VERDICT_BACKOFF, "no memory to compress a batch");
            return;
        }
        compressed = cg_buf_bytes(&exporter->compressed);
        request.pieces = &compressed;
        request.piece_count = 1;
        request.content_encoding = cg_compressor_encoding(exporter->compressor);
    }
    struct cg_http_answer answer;
    if (cg_http_client_post(exporter->client, &request, &answer, ret_verdict)) {
        judge(exporter, &answer, ret_verdict);
    }
}

static void cancel(void *instance)
{
    struct exporter *exporter = instance;
    cg_http_client_cancel(exporter->client);
}

static void reopen(void *instance)
{
    struct exporter *exporter = instance;
    cg_http_client_reopen(exporter->client);
}

static uint64_t certificate_expiry_s(const void *instance)
{
    const struct exporter *exporter = instance;
    return cg_http_client_certificate_expiry_s(exporter->client);
}

extern const struct cg_exporter_ops cg_exporter_otlp_http;
const struct cg_exporter_ops cg_exporter_otlp_http = {
    .type = "otlp-http",
    .summary = "OpenTelemetry logs over HTTP, in protobuf or JSON. A URL without a path means "
               "`/v1/logs`; any other path is taken as it is.",
    .options = options,
    .config_size = sizeof(struct config),
    .validate = validate,
    .batch_events = BATCH_EVENTS_DEFAULT,
    .batch_bytes = BATCH_BYTES_DEFAULT,
    .open = open_exporter,
    .deliver = deliver,
    .cancel = cancel,
    .reopen = reopen,
    .certificate_expiry_s = certificate_expiry_s,
    .close = close_exporter,
};
