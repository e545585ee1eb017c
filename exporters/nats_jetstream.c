/*
 * nats_jetstream.c - events into a NATS JetStream stream: the exporter `nats-jetstream`.
 *
 * Each event is one message: its JSON text as payload, its id as Nats-Msg-Id, the CloudEvents
 * attributes of the inner event as headers. Nothing but the server's PubAck acknowledges: a batch
 * is delivered when each of its messages has one. If one fails in the middle, the whole batch comes
 * again, and the stream drops by id what it has already. docs/contract.md section 7,
 * docs/queues.md.
 */
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/nats_jetstream_link.h"
#include "exporters/nats_jetstream_subject.h"

#include <inttypes.h>

enum {
    BATCH_EVENTS_DEFAULT = 4096,
    BATCH_BYTES_DEFAULT = 4 * 1024 * 1024,
    WINDOW_MAX = 65536,
    UNSENT_BYTES_MAX = 256 * 1024, /* beyond it, what is taken up is sent first */
    STREAM_NAME_BYTES_MAX = 255,
    HEADER_BYTES_MAX = 1024, /* a header's value; longer ones are cut */
    SCRATCH_BYTES_MAX = CG_NATS_SUBJECT_BYTES_MAX + CG_NATS_HEADERS_MAX * (HEADER_BYTES_MAX + 1),
    REQUEST_BYTES_MAX = 4096,
    CREATE_TIMEOUT_S = 10,
};

struct create_config {
    bool enabled;
    uint64_t replicas;
    uint64_t max_bytes;
    uint64_t max_age_ns;
    uint64_t duplicate_window_ns;
};

struct config {
    struct cg_nats_link_config link;
    const char *subject;
    const char *stream;
    struct create_config create;
    uint64_t window;
    uint64_t timeout_ns;
};

struct exporter {
    const struct config *config;
    struct cg_nats_link *link;
    bool proven;           /* a message over this connection was acknowledged */
    struct cg_buf scratch; /* a message's subject and header values, each terminated */
    unsigned char *acked;  /* a bit for each event of the batch */
    size_t acked_cap;      /* bytes */
};

/* --- the stream --- */

/* Everything below the part of the subject that is the same for all events. */
static bool make_create_request(const struct config *config, struct cg_buf *out)
{
    const struct create_config *create = &config->create;
    size_t fixed = cg_nats_template_fixed(config->subject);
    cg_buf_printf(out, "{\"name\":\"%s\",\"subjects\":[\"%.*s%s\"],", config->stream, (int)fixed,
                  config->subject, config->subject[fixed] == '\0' ? "" : ".>");
    cg_buf_printf(out, "\"retention\":\"limits\",\"storage\":\"file\",\"discard\":\"old\",");
    cg_buf_printf(out, "\"max_consumers\":-1,\"max_msgs\":-1,\"max_msg_size\":-1,");
    cg_buf_printf(out, "\"num_replicas\":%" PRIu64 ",\"max_age\":%" PRIu64 ",", create->replicas,
                  create->max_age_ns);
    if (create->max_bytes > 0) {
        cg_buf_printf(out, "\"max_bytes\":%" PRIu64 ",", create->max_bytes);
    } else {
        cg_buf_append_str(out, "\"max_bytes\":-1,");
    }
    cg_buf_printf(out, "\"duplicate_window\":%" PRIu64 "}", create->duplicate_window_ns);
    return !out->failed;
}

static bool create_stream(struct exporter *exporter, struct cg_verdict *ret_verdict)
{
    cg_auto_buf struct cg_buf request;
    cg_buf_init(&request, REQUEST_BYTES_MAX);
    char subject[STREAM_NAME_BYTES_MAX + 32];
    (void)snprintf(subject, sizeof(subject), "$JS.API.STREAM.CREATE.%s", exporter->config->stream);
    struct cg_nats_message message = {.subject = subject};
    if (!make_create_request(exporter->config, &request)) {
        ret_verdict->kind = CG_VERDICT_BACKOFF;
        return false;
    }
    message.payload = cg_buf_bytes(&request);
    cg_nats_link_begin(exporter->link);
    if (!cg_nats_link_publish(exporter->link, &message, 0, ret_verdict)) {
        return false;
    }
    uint64_t deadline_ns = cg_clock_monotonic(&cg_clock_system) + CREATE_TIMEOUT_S * CG_NS_PER_S;
    uint64_t number;
    struct cg_nats_ack ack;
    while (!cg_nats_link_answer(exporter->link, true, &number, &ack)) {
        if (!cg_nats_link_pump(exporter->link, deadline_ns, ret_verdict)) {
            return false;
        }
    }
    if (ack.good || ack.error_code == CG_NATS_STREAM_NAME_IN_USE) {
        return true;
    }
    cg_nats_ack_verdict(&ack, ret_verdict);
    return false;
}

/* --- a batch --- */

/* Where a terminated copy of the text begins in the scratch buffer; its memory does not move, since
 * all of it was allocated at the start. */
static const char *terminated(struct cg_buf *scratch, struct cg_bytes text)
{
    size_t start = scratch->len;
    cg_buf_append(scratch,
                  cg_bytes(text.data, text.len < HEADER_BYTES_MAX ? text.len : HEADER_BYTES_MAX));
    cg_buf_append_char(scratch, '\0');
    return scratch->data + start;
}

static bool publish(struct exporter *exporter, const struct cg_event *event, uint64_t number,
                    struct cg_verdict *ret_verdict)
{
    const struct config *config = exporter->config;
    struct cg_buf *scratch = &exporter->scratch;
    cg_buf_clear(scratch);
    cg_nats_subject_append(config->subject, event, scratch);
    cg_buf_append_char(scratch, '\0');
    const char *id = terminated(scratch, cg_event_get(event, CG_TEXT_ID));
    const struct cg_nats_header headers[CG_NATS_HEADERS_MAX] = {
        {"Nats-Msg-Id", id},
        {"ce-id", id},
        {"ce-source", terminated(scratch, cg_event_get(event, CG_TEXT_SOURCE))},
        {"ce-type", terminated(scratch, cg_event_get(event, CG_TEXT_TYPE))},
        {"ce-specversion", "1.0"},
        {"content-type", "application/cloudevents+json"},
        {"Nats-Expected-Stream", config->stream},
    };
    CG_ASSERT(!scratch->failed);
    struct cg_nats_message message = {
        .subject = scratch->data,
        .headers = headers,
        .header_count = config->stream != NULL ? 7 : 6,
        .payload = event->bytes,
    };
    return cg_nats_link_publish(exporter->link, &message, number, ret_verdict);
}

/* Counts each event once, whatever the server sends. */
static bool count_ack(struct exporter *exporter, uint64_t number, uint64_t published)
{
    unsigned char bit = (unsigned char)(1U << (number % 8));
    if (number >= published || (exporter->acked[number / 8] & bit) != 0) {
        return false;
    }
    exporter->acked[number / 8] |= bit;
    return true;
}

static bool take_answers(struct exporter *exporter, uint64_t published, uint64_t *acked,
                         struct cg_verdict *ret_verdict)
{
    uint64_t number;
    struct cg_nats_ack ack;
    while (cg_nats_link_answer(exporter->link, false, &number, &ack)) {
        if (!ack.good) {
            cg_nats_ack_verdict(&ack, ret_verdict);
            return false;
        }
        exporter->proven = true;
        *acked += count_ack(exporter, number, published);
    }
    return true;
}

/* Takes up messages until the window is full, but not before half of it is free: one at a time,
 * each acknowledgement would cost a write of its own. The first over a connection goes alone: where
 * nothing takes it, something may take the ones behind it a moment later, and they would come to
 * stand before it. */
static bool fill_window(struct exporter *exporter, const struct cg_batch *batch, uint64_t acked,
                        uint64_t *published, struct cg_verdict *ret_verdict)
{
    uint64_t window = exporter->proven ? exporter->config->window : 1;
    if (*published - acked > window / 2) {
        return true;
    }
    while (*published < batch->count && *published - acked < window &&
           cg_nats_link_unsent(exporter->link) < UNSENT_BYTES_MAX) {
        if (!publish(exporter, &batch->events[*published], *published, ret_verdict)) {
            return false;
        }
        (*published)++;
    }
    return true;
}

/* False, with the verdict, at the first message that fails. */
static bool send_batch(struct exporter *exporter, const struct cg_batch *batch,
                       struct cg_verdict *ret_verdict)
{
    uint64_t deadline_ns = cg_clock_monotonic(&cg_clock_system) + exporter->config->timeout_ns;
    uint64_t published = 0;
    uint64_t acked = 0;
    cg_nats_link_begin(exporter->link);
    while (acked < batch->count) {
        if (!fill_window(exporter, batch, acked, &published, ret_verdict)) {
            return false;
        }
        /* In this order: what came with the news that the connection is gone still counts. */
        bool alive = cg_nats_link_pump(exporter->link, deadline_ns, ret_verdict);
        if (!take_answers(exporter, published, &acked, ret_verdict)) {
            return false;
        }
        if (!alive && acked < batch->count) {
            return false;
        }
    }
    return true;
}

static bool reserve_acked(struct exporter *exporter, size_t count)
{
    size_t bytes = count / 8 + 1;
    if (bytes > exporter->acked_cap) {
        unsigned char *acked = realloc(exporter->acked, bytes);
        if (acked == NULL) {
            return false;
        }
        exporter->acked = acked;
        exporter->acked_cap = bytes;
    }
    memset(exporter->acked, 0, bytes);
    return true;
}

static void deliver(void *instance, const struct cg_batch *batch, struct cg_verdict *ret_verdict)
{
    struct exporter *exporter = instance;
    if (!reserve_acked(exporter, batch->count)) {
        ret_verdict->kind = CG_VERDICT_BACKOFF;
        (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "no memory for a batch");
        return;
    }
    bool is_new = false;
    if (!cg_nats_link_connect(exporter->link, &is_new, ret_verdict)) {
        return;
    }
    exporter->proven = exporter->proven && !is_new;
    bool ready =
        !is_new || !exporter->config->create.enabled || create_stream(exporter, ret_verdict);
    if (ready && send_batch(exporter, batch, ret_verdict)) {
        memset(ret_verdict, 0, sizeof(*ret_verdict));
        ret_verdict->kind = CG_VERDICT_DELIVERED;
        return;
    }
    if (ret_verdict->kind != CG_VERDICT_SUSPECT) {
        cg_nats_link_drop(exporter->link); /* whatever is wrong with it, the next one is new */
    }
}

/* --- life --- */

static void close_exporter(void *instance)
{
    struct exporter *exporter = instance;
    if (exporter->link != NULL) {
        cg_nats_link_free(exporter->link);
    }
    cg_buf_fini(&exporter->scratch);
    free(exporter->acked);
    free(exporter);
}

static bool open_exporter(const void *config_bytes, const struct cg_exporter_env *env,
                          void **ret_exporter, struct cg_error *err)
{
    const struct config *config = config_bytes;
    struct exporter *exporter = calloc(1, sizeof(*exporter));
    if (exporter == NULL) {
        return cg_error_set(err, "no memory for an exporter");
    }
    exporter->config = config;
    cg_buf_init(&exporter->scratch, SCRATCH_BYTES_MAX);
    char name[320];
    (void)snprintf(name, sizeof(name), "cellgate %s %s", env->node, env->name);
    if (!cg_buf_reserve(&exporter->scratch, SCRATCH_BYTES_MAX)) {
        (void)cg_error_set(err, "no memory for an exporter");
        close_exporter(exporter);
        return false;
    }
    if (!cg_nats_link_new(&config->link, name, &exporter->link, err)) {
        close_exporter(exporter);
        return false;
    }
    *ret_exporter = exporter;
    return true;
}

static void cancel(void *instance)
{
    struct exporter *exporter = instance;
    cg_nats_link_cancel(exporter->link);
}

static void reopen(void *instance)
{
    struct exporter *exporter = instance;
    cg_nats_link_reopen(exporter->link);
}

static uint64_t certificate_expiry_s(const void *instance)
{
    const struct exporter *exporter = instance;
    return cg_nats_link_certificate_expiry_s(exporter->link);
}

/* --- options --- */

static bool is_stream_name(const char *name)
{
    return name[strcspn(name, " .*>/\\\"\t\r\n")] == '\0';
}

static bool validate(const void *config_bytes, struct cg_error *err)
{
    const struct config *config = config_bytes;
    if (!cg_nats_link_validate(&config->link, err)) {
        return false;
    }
    if (!cg_nats_template_check(config->subject, err)) {
        return cg_error_context(err, "subject");
    }
    if (config->stream != NULL && !is_stream_name(config->stream)) {
        return cg_error_set(err, "stream: no spaces, dots, slashes, quotes, '*' or '>'");
    }
    if (!config->create.enabled) {
        return true;
    }
    if (config->stream == NULL) {
        return cg_error_set(err, "create_stream needs stream, the name");
    }
    return cg_nats_template_fixed(config->subject) > 0 ||
           cg_error_set(err, "create_stream needs a subject whose first token is the same for all");
}

static const struct cg_option create_options[] = {
    {.key = "enabled",
     .type = CG_OPTION_BOOL,
     .offset = offsetof(struct create_config, enabled),
     .fallback = "false",
     .help = "Make the stream at connecting if it does not exist; one that does is left as it is."},
    {.key = "replicas",
     .type = CG_OPTION_INTEGER,
     .offset = offsetof(struct create_config, replicas),
     .min = 1,
     .max = 5,
     .fallback = "1",
     .help = "On how many servers of a cluster the stream lies."},
    {.key = "max_bytes",
     .type = CG_OPTION_SIZE,
     .offset = offsetof(struct create_config, max_bytes),
     .max = UINT64_C(1) << 62,
     .help = "The stream drops its oldest messages beyond this; none: no limit."},
    {.key = "max_age",
     .type = CG_OPTION_DURATION,
     .offset = offsetof(struct create_config, max_age_ns),
     .max = INT64_MAX,
     .help = "The stream drops messages older than this; none: no limit."},
    {.key = "duplicate_window",
     .type = CG_OPTION_DURATION,
     .offset = offsetof(struct create_config, duplicate_window_ns),
     .min = UINT64_C(100000000),
     .max = INT64_MAX,
     .fallback = "2m",
     .help = "How long the stream knows message ids, to drop repeats; at most max_age."},
    {0},
};

static const struct cg_option tls_options[] = {
    {.key = "ca_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, ca_file),
     .help = "PEM file of trusted authorities, beside the system's."},
    {.key = "cert_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, cert_file),
     .help = "PEM file with the client certificate and its chain; needs key_file."},
    {.key = "key_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, key_file),
     .help = "PEM file with the client certificate's private key, without a passphrase."},
    {0},
};

static const struct cg_option options[] = {
    {.key = "servers",
     .type = CG_OPTION_STRINGS,
     .offset = offsetof(struct config, link.servers),
     .min = 1,
     .max = CG_NATS_SERVERS_MAX,
     .required = true,
     .help = "nats://HOST[:PORT] or tls://HOST[:PORT]: one, or some of a cluster. Others that a "
             "server names are not used."},
    {.key = "subject",
     .type = CG_OPTION_STRING,
     .offset = offsetof(struct config, subject),
     .min = 1,
     .max = CG_NATS_TEMPLATE_BYTES_MAX,
     .fallback = "cellgate.{cell_id}.{type}",
     .help = "Where to publish; {cell_id}, {run_id} and {type} are the event's, made safe."},
    {.key = "stream",
     .type = CG_OPTION_STRING,
     .offset = offsetof(struct config, stream),
     .min = 1,
     .max = STREAM_NAME_BYTES_MAX,
     .help = "The stream that must take the messages; none: whichever has the subject."},
    {.key = "create_stream",
     .type = CG_OPTION_SECTION,
     .offset = offsetof(struct config, create),
     .fields = create_options,
     .help = "Make the stream, with file storage and every subject below the fixed tokens."},
    {.key = "window",
     .type = CG_OPTION_INTEGER,
     .offset = offsetof(struct config, window),
     .min = 1,
     .max = WINDOW_MAX,
     .fallback = "1024",
     .help = "How many messages may be on their way without an acknowledgement."},
    {.key = "timeout",
     .type = CG_OPTION_DURATION,
     .offset = offsetof(struct config, timeout_ns),
     .min = UINT64_C(10000000),
     .max = UINT64_C(3600000000000),
     .fallback = "30s",
     .help = "For a whole batch, from the first message to the last acknowledgement."},
    {.key = "connect_timeout",
     .type = CG_OPTION_DURATION,
     .offset = offsetof(struct config, link.connect_timeout_ns),
     .min = UINT64_C(10000000),
     .max = UINT64_C(600000000000),
     .fallback = "5s",
     .help = "For finding and reaching each of the servers, TLS handshake and login included."},
    {.key = "credentials_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct config, link.credentials_file),
     .help = "File with a user's JWT and seed (mode 0600), read at each connect."},
    {.key = "token_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct config, link.token_file),
     .help = "File with a token (mode 0600), read at each connect."},
    {.key = "user",
     .type = CG_OPTION_STRING,
     .offset = offsetof(struct config, link.user),
     .min = 1,
     .max = 255,
     .help = "User name; needs password_file."},
    {.key = "password_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct config, link.password_file),
     .help = "File with the user's password (mode 0600), read at each connect."},
    {.key = "tls",
     .type = CG_OPTION_SECTION,
     .offset = offsetof(struct config, link.tls),
     .fields = tls_options,
     .help = "Certificate files; with any of them, or a tls:// server, TLS is required."},
    {0},
};

extern const struct cg_exporter_ops cg_exporter_nats_jetstream;
const struct cg_exporter_ops cg_exporter_nats_jetstream = {
    .type = "nats-jetstream",
    .summary = "NATS JetStream, one message an event, acknowledged by the stream",
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
