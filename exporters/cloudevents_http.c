/*
 * cloudevents_http.c - CloudEvents over HTTP: the exporter `cloudevents-http`.
 *
 * An event in the spool is a CloudEvent in its JSON form already, so a request's body is made of
 * the events' bytes where they lie: in batch mode with brackets around and commas between, in
 * single mode one event as it is. docs/contract.md section 7.
 */
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/compress.h"
#include "exporters/http_client.h"
#include "exporters/http_status.h"

#include <stdio.h>
#include <stdlib.h>

enum mode { MODE_BATCH, MODE_SINGLE };

enum {
    BATCH_EVENTS_DEFAULT = 512,
    BATCH_BYTES_DEFAULT = 1024 * 1024,
    COMPRESSED_BYTES_MAX = 256 * 1024 * 1024,
};

struct config {
    struct cg_http_client_config http;
    struct cg_compress_config compress;
    int mode; /* enum mode */
};

struct exporter {
    const struct config *config;
    struct cg_http_client *client;
    struct cg_compressor *compressor; /* NULL: none */
    struct cg_buf compressed;
    struct cg_bytes *pieces; /* a body's, kept from batch to batch */
    size_t piece_cap;
};

static const struct cg_option_name mode_names[] = {
    {"batch", MODE_BATCH},
    {"single", MODE_SINGLE},
    {NULL, 0},
};

static const struct cg_option options[] = {
    CG_HTTP_CLIENT_OPTIONS(struct config, http),
    {.key = "mode",
     .type = CG_OPTION_ENUM,
     .offset = offsetof(struct config, mode),
     .names = mode_names,
     .fallback = "batch",
     .help = "batch: a JSON array of events a request; single: one event a request."},
    CG_COMPRESS_OPTIONS(struct config, compress),
    {.key = NULL},
};

static bool validate(const void *config_bytes, struct cg_error *err)
{
    const struct config *config = config_bytes;
    return cg_http_client_validate(&config->http, err) &&
           cg_compress_validate(&config->compress, err);
}

/* In single mode each event is acknowledged by itself, and a verdict speaks for a whole batch. */
static uint64_t batch_events_max(const void *config_bytes)
{
    const struct config *config = config_bytes;
    return config->mode == MODE_SINGLE ? 1 : 0;
}

static void close_exporter(void *instance)
{
    struct exporter *exporter = instance;
    cg_http_client_free(exporter->client);
    cg_compressor_free(exporter->compressor);
    cg_buf_fini(&exporter->compressed);
    free(exporter->pieces);
    free(exporter);
}

static bool init_exporter(struct exporter *exporter, const struct config *config,
                          const struct cg_exporter_env *env, struct cg_error *err)
{
    char user_agent[64];
    (void)snprintf(user_agent, sizeof(user_agent), "cellgate/%s", env->version);
    exporter->config = config;
    cg_buf_init(&exporter->compressed, COMPRESSED_BYTES_MAX);
    struct cg_http_client_params params = {
        .config = &config->http,
        .user_agent = user_agent,
        .answer_kept_bytes_max = CG_VERDICT_ANSWER_MAX,
    };
    return cg_compressor_new(&config->compress, &exporter->compressor, err) &&
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

static bool reserve_pieces(struct exporter *exporter, size_t count)
{
    if (count <= exporter->piece_cap) {
        return true;
    }
    struct cg_bytes *pieces = reallocarray(exporter->pieces, count, sizeof(*pieces));
    if (pieces == NULL) {
        return false;
    }
    exporter->pieces = pieces;
    exporter->piece_cap = count;
    return true;
}

/* "[" event "," event … "]": two pieces an event and the bracket at the end. */
static size_t lay_out_batch(struct cg_bytes *pieces, const struct cg_batch *batch)
{
    size_t at = 0;
    for (size_t i = 0; i < batch->count; i++) {
        pieces[at++] = i == 0 ? CG_BYTES("[") : CG_BYTES(",");
        pieces[at++] = batch->events[i].bytes;
    }
    pieces[at++] = CG_BYTES("]");
    return at;
}

static void post(struct exporter *exporter, const char *content_type, const struct cg_bytes *pieces,
                 size_t count, struct cg_verdict *ret_verdict)
{
    struct cg_http_request request = {
        .content_type = content_type,
        .pieces = pieces,
        .piece_count = count,
    };
    struct cg_bytes compressed;
    if (exporter->compressor != NULL) {
        if (!cg_compressor_run(exporter->compressor, pieces, count, &exporter->compressed)) {
            ret_verdict->kind = CG_VERDICT_BACKOFF;
            (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail),
                           "no memory to compress a batch");
            return;
        }
        compressed = cg_buf_bytes(&exporter->compressed);
        request.pieces = &compressed;
        request.piece_count = 1;
        request.content_encoding = cg_compressor_encoding(exporter->compressor);
    }
    struct cg_http_answer answer;
    if (!cg_http_client_post(exporter->client, &request, &answer, ret_verdict)) {
        return;
    }
    cg_http_status_verdict(CG_HTTP_RULES_PLAIN, answer.status, answer.retry_after,
                           cg_clock_realtime(&cg_clock_system), ret_verdict);
    size_t len = answer.body.len < CG_VERDICT_ANSWER_MAX ? answer.body.len : CG_VERDICT_ANSWER_MAX;
    if (len > 0) {
        memcpy(ret_verdict->answer, answer.body.data, len);
    }
    ret_verdict->answer_len = len;
}

static void deliver(void *instance, const struct cg_batch *batch, struct cg_verdict *ret_verdict)
{
    struct exporter *exporter = instance;
    if (exporter->config->mode == MODE_SINGLE) {
        CG_ASSERT(batch->count == 1);
        post(exporter, "application/cloudevents+json", &batch->events[0].bytes, 1, ret_verdict);
        return;
    }
    if (!reserve_pieces(exporter, 2 * batch->count + 1)) {
        ret_verdict->kind = CG_VERDICT_BACKOFF;
        (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "no memory for a batch");
        return;
    }
    size_t count = lay_out_batch(exporter->pieces, batch);
    post(exporter, "application/cloudevents-batch+json", exporter->pieces, count, ret_verdict);
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

extern const struct cg_exporter_ops cg_exporter_cloudevents_http;
const struct cg_exporter_ops cg_exporter_cloudevents_http = {
    .type = "cloudevents-http",
    .summary = "CloudEvents over HTTP, one JSON array or one event a request",
    .options = options,
    .config_size = sizeof(struct config),
    .validate = validate,
    .batch_events = BATCH_EVENTS_DEFAULT,
    .batch_bytes = BATCH_BYTES_DEFAULT,
    .batch_events_max = batch_events_max,
    .open = open_exporter,
    .deliver = deliver,
    .cancel = cancel,
    .reopen = reopen,
    .certificate_expiry_s = certificate_expiry_s,
    .close = close_exporter,
};
