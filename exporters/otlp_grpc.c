/*
 * otlp_grpc.c - OTLP over gRPC: the exporter `otlp-grpc`.
 *
 * gRPC is a POST over HTTP/2 whose body is a message behind five bytes, and whose outcome stands in
 * the trailers; for unary calls that is all, so libcurl does it (http_client.h). Over TLS one
 * connection serves all batches; in clear text (h2c) each batch has its own.
 */
#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/compress.h"
#include "exporters/grpc_status.h"
#include "exporters/http_client.h"
#include "exporters/http_url.h"
#include "exporters/otlp.h"
#include "exporters/otlp_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define EXPORT_PATH "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

enum {
    /* Servers take messages of 4 MiB. A record is at most twice its event and some 400 bytes, so
     * that a full default batch stays far below; what an operator makes larger is split. */
    BATCH_EVENTS_DEFAULT = 512,
    BATCH_BYTES_DEFAULT = 1024 * 1024,
    MESSAGE_BYTES_MIN = 256 * 1024, /* any one event fits */
    MESSAGE_BYTES_MAX = 64 * 1024 * 1024,
    HTTP_OK = 200,
};

struct config {
    struct cg_http_client_config http;
    struct cg_compress_config compress;
    uint64_t message_bytes;
    const char *instance_id;
};

struct exporter {
    const struct config *config;
    struct cg_http_client_config http; /* the configured one, with HTTP/2 */
    struct cg_http_client *client;
    struct cg_compressor *compressor; /* NULL: none */
    struct cg_buf compressed;
    struct cg_otlp *otlp;
    struct cg_otlp_reader *reader;
    char timeout[24]; /* for grpc-timeout */
};

/* What every gRPC server knows; zstd is no encoding of gRPC's own. */
static const struct cg_option_name compression_names[] = {
    {"none", CG_COMPRESSION_NONE},
    {"gzip", CG_COMPRESSION_GZIP},
    {NULL, 0},
};

static const struct cg_option options[] = {
    CG_HTTP_DESTINATION_OPTIONS(struct config, http),
    CG_HTTP_TIMEOUT_OPTIONS(struct config, http),
    {.key = "message_bytes",
     .type = CG_OPTION_SIZE,
     .offset = offsetof(struct config, message_bytes),
     .min = MESSAGE_BYTES_MIN,
     .max = MESSAGE_BYTES_MAX,
     .fallback = "4MiB",
     .help = "The largest message that the server takes; larger batches are split beforehand."},
    CG_OTLP_INSTANCE_OPTION(struct config, instance_id),
    {.key = "compression",
     .type = CG_OPTION_ENUM,
     .offset = offsetof(struct config, compress.compression),
     .names = compression_names,
     .fallback = "none",
     .help = "How messages are compressed: none or gzip."},
    {.key = "compression_level",
     .type = CG_OPTION_INTEGER,
     .offset = offsetof(struct config, compress.level),
     .max = CG_GZIP_LEVEL_MAX,
     .fallback = "0",
     .help = "1 (fast) to 9; 0 is the library's default."},
    {.key = NULL},
};

static bool validate(const void *config_bytes, struct cg_error *err)
{
    const struct config *config = config_bytes;
    if (!cg_http_client_validate(&config->http, err) ||
        !cg_compress_validate(&config->compress, err)) {
        return false;
    }
    if (!cg_http_url_is_bare(config->http.url)) {
        return cg_error_set(err, "url: gRPC has paths of its own; give scheme, host and port only");
    }
    const struct cg_pairs *headers = &config->http.headers;
    for (size_t i = 0; i < headers->count; i++) {
        if (strncasecmp(headers->items[i].key, "grpc-", 5) == 0) {
            return cg_error_set(err, "headers: %s is set by the exporter itself",
                                headers->items[i].key);
        }
    }
    return true;
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
    (void)snprintf(exporter->timeout, sizeof(exporter->timeout), "%llum",
                   (unsigned long long)(config->http.timeout_ns / CG_NS_PER_MS));
    exporter->config = config;
    exporter->http = config->http;
    exporter->http.version = CG_HTTP_VERSION_2;
    cg_buf_init(&exporter->compressed, 2 * (size_t)MESSAGE_BYTES_MAX);
    struct cg_http_client_params params = {
        .config = &exporter->http,
        .user_agent = user_agent,
        .default_path = EXPORT_PATH,
        .answer_kept_bytes_max = CG_OTLP_ANSWER_BYTES_MAX,
    };
    return cg_otlp_new(CG_OTLP_PROTOBUF, config->instance_id, env, &exporter->otlp, err) &&
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

static void call(struct exporter *exporter, const struct cg_bytes *pieces, size_t count,
                 struct cg_verdict *ret_verdict)
{
    const struct cg_http_header headers[] = {
        {"TE", "trailers"},
        {"grpc-timeout", exporter->timeout},
        {"grpc-encoding", "gzip"}, /* the last one: only with compression */
    };
    struct cg_http_request request = {
        .content_type = "application/grpc",
        .headers = headers,
        .header_count = exporter->compressor != NULL ? 3 : 2,
        .pieces = pieces,
        .piece_count = count,
    };
    struct cg_http_answer answer = {.body_whole = true};
    bool answered = cg_http_client_post(exporter->client, &request, &answer, ret_verdict);
    const char *status = cg_http_client_header(exporter->client, "grpc-status");
    if (!answered && (status == NULL || strcmp(status, "0") == 0)) {
        return;
    }
    /* A server that refuses a message before it has read it all resets the stream behind its
     * trailers, which libcurl takes for a failure; the refusal was heard all the same. */
    const struct cg_grpc_answer grpc = {
        .http_status = answered ? answer.status : HTTP_OK,
        .retry_after = answer.retry_after,
        .status = status,
        .message = cg_http_client_header(exporter->client, "grpc-message"),
        .details = cg_http_client_header(exporter->client, "grpc-status-details-bin"),
        .body = answer.body_whole ? answer.body : CG_BYTES(""),
    };
    *ret_verdict = (struct cg_verdict){0};
    cg_grpc_verdict(exporter->reader, &grpc, cg_clock_realtime(&cg_clock_system), ret_verdict);
}

static void refuse(struct cg_verdict *ret_verdict, enum cg_verdict_kind kind, const char *detail)
{
    ret_verdict->kind = kind;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "%s", detail);
}

static void deliver(void *instance, const struct cg_batch *batch, struct cg_verdict *ret_verdict)
{
    struct exporter *exporter = instance;
    struct cg_otlp_request message;
    if (!cg_otlp_encode(exporter->otlp, batch, &message)) {
        refuse(ret_verdict, CG_VERDICT_BACKOFF, "no memory for a batch");
        return;
    }
    if (message.bytes > exporter->config->message_bytes) {
        refuse(ret_verdict, CG_VERDICT_TOO_LARGE, "the message would be larger than message_bytes");
        return;
    }
    char prefix[CG_GRPC_PREFIX_BYTES];
    if (exporter->compressor == NULL) {
        cg_grpc_prefix_write(prefix, false, (uint32_t)message.bytes);
        message.pieces[0] = cg_bytes(prefix, sizeof(prefix));
        call(exporter, message.pieces, message.count, ret_verdict);
        return;
    }
    if (!cg_compressor_run(exporter->compressor, message.pieces, message.count,
                           &exporter->compressed)) {
        refuse(ret_verdict, CG_VERDICT_BACKOFF, "no memory to compress a batch");
        return;
    }
    cg_grpc_prefix_write(prefix, true, (uint32_t)exporter->compressed.len);
    const struct cg_bytes pieces[] = {cg_bytes(prefix, sizeof(prefix)),
                                      cg_buf_bytes(&exporter->compressed)};
    call(exporter, pieces, 2, ret_verdict);
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

extern const struct cg_exporter_ops cg_exporter_otlp_grpc;
const struct cg_exporter_ops cg_exporter_otlp_grpc = {
    .type = "otlp-grpc",
    .summary =
        "OpenTelemetry logs over gRPC: https:// is TLS, http:// is HTTP/2 in clear text. The "
        "URL has no path.",
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
