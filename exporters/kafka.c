/*
 * kafka.c - events into a Kafka topic: the exporter `kafka`.
 *
 * Each event is one message in the CloudEvents Kafka binding's structured mode: its JSON text as
 * value, the cell id as key, so that a cell's events are one partition's and stay in order. The
 * producer is idempotent and waits for all in-sync replicas; nothing but a delivery report
 * acknowledges. While the library waits for a broker to come back, it sends nothing twice. Once a
 * batch has failed or has taken too long, its messages are taken back and the producer with them,
 * so that the same batch with a new producer can neither leave a gap nor change the order of what
 * is there. docs/contract.md section 7, docs/queues.md.
 */
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cellgate/exporter.h"
#include "exporters/kafka_properties.h"
#include "exporters/resolve.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

enum {
    BATCH_EVENTS_DEFAULT = 4096,
    BATCH_BYTES_DEFAULT = 4 * 1024 * 1024,
    TOPIC_BYTES_MAX = 249,
    RETURN_TIMEOUT_S = 5,         /* for messages taken back; then the producer goes first */
    MESSAGE_OVERHEAD_BYTES = 512, /* of a record's framing, key and header */
    HOST_BYTES_MAX = 256,
    RESOLVE_TIMEOUT_MS = 1000,
};

struct config {
    struct cg_kafka_properties properties;
    const char *topic;
    uint64_t timeout_ns;
};

struct exporter {
    const struct config *config;
    char *client_id;
    int cancel_fd; /* eventfd; readable for good once cancelled */
    int event_fd;  /* eventfd; the library writes it when its queue is no longer empty */
    atomic_bool cancelled;
    atomic_bool reopen;
    _Atomic uint64_t certificate_expiry_s;

    rd_kafka_t *producer; /* NULL: to be made before the next batch */
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    uint64_t message_bytes_max;

    /* Of the batch in progress: */
    size_t outstanding; /* messages without a report */
    rd_kafka_resp_err_t failure;
    rd_kafka_resp_err_t trouble; /* the last word about brokers */
    char trouble_text[CG_VERDICT_DETAIL_MAX];
};

/* --- what an error means --- */

static enum cg_verdict_kind kind_of(rd_kafka_resp_err_t error)
{
    switch (error) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return CG_VERDICT_DELIVERED;
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
        return CG_VERDICT_TOO_LARGE;
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        return CG_VERDICT_SUSPECT;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
    case RD_KAFKA_RESP_ERR_SECURITY_DISABLED:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
        return CG_VERDICT_CONFIG;
    default:
        return CG_VERDICT_BACKOFF;
    }
}

static void answer(struct cg_verdict *ret_verdict, enum cg_verdict_kind kind, const char *text)
{
    ret_verdict->kind = kind;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "%.*s",
                   CG_VERDICT_DETAIL_MAX - 1, text);
}

/* --- the producer --- */

static void drop_producer(struct exporter *exporter)
{
    if (exporter->producer == NULL) {
        return;
    }
    rd_kafka_queue_destroy(exporter->queue);
    rd_kafka_topic_destroy(exporter->topic);
    rd_kafka_destroy(exporter->producer);
    exporter->queue = NULL;
    exporter->topic = NULL;
    exporter->producer = NULL;
    exporter->outstanding = 0; /* nothing refers to any message any more */
}

/* Exporters log nothing; what matters comes as an event too. */
static void drop_log_line(const rd_kafka_t *producer, int level, const char *facility,
                          const char *text)
{
    (void)producer;
    (void)level;
    (void)facility;
    (void)text;
}

static uint64_t message_bytes_max(const rd_kafka_conf_t *conf)
{
    char text[32] = "";
    size_t size = sizeof(text);
    if (rd_kafka_conf_get(conf, "message.max.bytes", text, &size) != RD_KAFKA_CONF_OK) {
        return UINT64_MAX;
    }
    return strtoull(text, NULL, 10);
}

static bool make_producer(struct exporter *exporter, struct cg_error *err)
{
    const struct config *config = exporter->config;
    uint64_t expiry_s = 0;
    if (!cg_tls_files_check(&config->properties.tls, &expiry_s, err)) {
        return false;
    }
    atomic_store(&exporter->certificate_expiry_s, expiry_s);
    rd_kafka_conf_t *conf;
    if (!cg_kafka_properties_make(&config->properties, exporter->client_id, &conf, err)) {
        return false;
    }
    rd_kafka_conf_set_log_cb(conf, drop_log_line);
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    exporter->message_bytes_max = message_bytes_max(conf);

    char text[CG_VERDICT_DETAIL_MAX] = "";
    exporter->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (exporter->producer == NULL) {
        rd_kafka_conf_destroy(conf);
        return cg_error_set(err, "%s", text);
    }
    exporter->queue = rd_kafka_queue_get_main(exporter->producer);
    exporter->topic = rd_kafka_topic_new(exporter->producer, config->topic, NULL);
    if (exporter->topic == NULL) {
        (void)cg_error_set(err, "topic: %s", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_queue_destroy(exporter->queue);
        rd_kafka_destroy(cg_steal_ptr(exporter->producer));
        return false;
    }
    const uint64_t one = 1;
    rd_kafka_queue_io_event_enable(exporter->queue, exporter->event_fd, &one, sizeof(one));
    return true;
}

/* --- events of the library --- */

static void take_report(struct exporter *exporter, const rd_kafka_message_t *message)
{
    CG_ASSERT(exporter->outstanding > 0);
    exporter->outstanding--;
    bool first = exporter->failure == RD_KAFKA_RESP_ERR_NO_ERROR ||
                 exporter->failure == RD_KAFKA_RESP_ERR__FATAL;
    /* Behind a message that failed, the others fail for its sake only. */
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && first) {
        exporter->failure = message->err;
    }
}

static void take_error(struct exporter *exporter, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN &&
        exporter->trouble != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return; /* why they are was the word before */
    }
    exporter->trouble = error;
    const char *text = rd_kafka_event_error_string(event);
    (void)snprintf(exporter->trouble_text, sizeof(exporter->trouble_text), "%s", text);
}

static void take_events(struct exporter *exporter)
{
    uint64_t count;
    (void)!read(exporter->event_fd, &count, sizeof(count));
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(exporter->queue, 0)) != NULL) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
            const rd_kafka_message_t *message;
            while ((message = rd_kafka_event_message_next(event)) != NULL) {
                take_report(exporter, message);
            }
        } else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR) {
            take_error(exporter, event);
        }
        rd_kafka_event_destroy(event);
    }
}

/* Waits until there are events or the monotonic deadline has come. False if cancelled or late. */
static bool wait_for_events(struct exporter *exporter, uint64_t deadline_ns)
{
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    if (now_ns >= deadline_ns) {
        return false;
    }
    struct pollfd fds[] = {{.fd = exporter->event_fd, .events = POLLIN},
                           {.fd = exporter->cancel_fd, .events = POLLIN}};
    (void)poll(fds, 2, (int)((deadline_ns - now_ns) / CG_NS_PER_MS) + 1);
    take_events(exporter);
    return fds[1].revents == 0;
}

/* --- a batch --- */

/* A list of our own, of which the message takes possession: one that the library makes (from
 * RD_KAFKA_VTYPE_HEADER) it frees twice, in 2.0.2, when the topic turns out not to exist. */
static rd_kafka_headers_t *make_headers(void)
{
    static const char content_type[] = "application/cloudevents+json";
    rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
    (void)rd_kafka_header_add(headers, "content-type", -1, content_type, sizeof(content_type) - 1);
    return headers;
}

static rd_kafka_resp_err_t produce(struct exporter *exporter, const struct cg_event *event)
{
    struct cg_bytes cell = cg_event_get(event, CG_TEXT_CELL);
    rd_kafka_headers_t *headers = make_headers();
    rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = exporter->topic},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)cell.data, cell.len}},
        /* Not copied: the batch outlives the messages, see take_back. */
        {.vtype = RD_KAFKA_VTYPE_VALUE,
         .u.mem = {(void *)(uintptr_t)event->bytes.data, event->bytes.len}},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *error =
        rd_kafka_produceva(exporter->producer, parts, sizeof(parts) / sizeof(parts[0]));
    if (error == NULL) {
        exporter->outstanding++;
        return RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    rd_kafka_headers_destroy(headers);
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    rd_kafka_error_destroy(error);
    return code;
}

/* Trouble that waiting does not mend. Brokers that are down, or slow, or elect a leader, are not.
 */
static bool is_hopeless(const struct exporter *exporter)
{
    return exporter->failure != RD_KAFKA_RESP_ERR_NO_ERROR ||
           exporter->trouble == RD_KAFKA_RESP_ERR__FATAL ||
           (exporter->trouble != RD_KAFKA_RESP_ERR_NO_ERROR &&
            kind_of(exporter->trouble) == CG_VERDICT_CONFIG);
}

static void send_batch(struct exporter *exporter, const struct cg_batch *batch)
{
    uint64_t deadline_ns = cg_clock_monotonic(&cg_clock_system) + exporter->config->timeout_ns;
    for (size_t i = 0; i < batch->count && !is_hopeless(exporter);) {
        rd_kafka_resp_err_t error = produce(exporter, &batch->events[i]);
        if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
            i++;
        } else if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            exporter->failure = error;
        } else if (!wait_for_events(exporter, deadline_ns)) {
            exporter->failure = RD_KAFKA_RESP_ERR__TIMED_OUT;
        }
    }
    while (exporter->outstanding > 0 && !is_hopeless(exporter)) {
        if (!wait_for_events(exporter, deadline_ns) && exporter->outstanding > 0) {
            exporter->failure = RD_KAFKA_RESP_ERR__TIMED_OUT;
        }
    }
}

/*
 * The library refers to the events of the batch until each message has its report. So what is on
 * the way is taken back; and if that takes too long, the producer goes, and waits for its threads.
 */
static void take_back(struct exporter *exporter)
{
    if (exporter->outstanding > 0) {
        (void)rd_kafka_purge(exporter->producer,
                             RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    }
    uint64_t deadline_ns = cg_clock_monotonic(&cg_clock_system) + RETURN_TIMEOUT_S * CG_NS_PER_S;
    while (exporter->outstanding > 0 && cg_clock_monotonic(&cg_clock_system) < deadline_ns) {
        struct pollfd fd = {.fd = exporter->event_fd, .events = POLLIN};
        (void)poll(&fd, 1, 100);
        take_events(exporter);
    }
    drop_producer(exporter);
}

/* None of the brokers' names exists, as far as the resolver knows just now. */
static bool are_unknown_hosts(const struct exporter *exporter)
{
    const struct cg_strings *brokers = &exporter->config->properties.brokers;
    for (size_t i = 0; i < brokers->count; i++) {
        char host[HOST_BYTES_MAX];
        cg_kafka_broker_host(brokers->items[i], host, sizeof(host));
        if (!cg_resolve_is_unknown(host, exporter->cancel_fd, RESOLVE_TIMEOUT_MS)) {
            return false;
        }
    }
    return true;
}

static void judge(struct exporter *exporter, struct cg_verdict *ret_verdict)
{
    rd_kafka_resp_err_t error = exporter->failure;
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR && exporter->outstanding == 0) {
        ret_verdict->kind = CG_VERDICT_DELIVERED;
        return;
    }
    if (atomic_load(&exporter->cancelled)) {
        answer(ret_verdict, CG_VERDICT_BACKOFF, "cancelled");
        return;
    }
    /* A message that waited says only that it did; what for, the brokers have said, or nobody has.
     */
    bool waited = error == RD_KAFKA_RESP_ERR_NO_ERROR || error == RD_KAFKA_RESP_ERR__TIMED_OUT ||
                  error == RD_KAFKA_RESP_ERR__FATAL;
    if (waited && exporter->trouble != RD_KAFKA_RESP_ERR_NO_ERROR) {
        ret_verdict->status = (int)exporter->trouble;
        enum cg_verdict_kind kind = kind_of(exporter->trouble);
        if (kind == CG_VERDICT_BACKOFF && are_unknown_hosts(exporter)) {
            kind = CG_VERDICT_CONFIG;
        }
        answer(ret_verdict, kind, exporter->trouble_text);
        return;
    }
    ret_verdict->status = (int)error;
    answer(ret_verdict, kind_of(error), rd_kafka_err2str(error));
}

/* One of the events is larger than the producer itself takes? Then nothing is sent. */
static bool fits(const struct exporter *exporter, const struct cg_batch *batch,
                 struct cg_verdict *ret_verdict)
{
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->events[i].bytes.len + MESSAGE_OVERHEAD_BYTES > exporter->message_bytes_max) {
            answer(ret_verdict, CG_VERDICT_SUSPECT, "larger than message.max.bytes");
            return false;
        }
    }
    return true;
}

static void deliver(void *instance, const struct cg_batch *batch, struct cg_verdict *ret_verdict)
{
    struct exporter *exporter = instance;
    if (atomic_load(&exporter->cancelled)) {
        answer(ret_verdict, CG_VERDICT_BACKOFF, "cancelled");
        return;
    }
    if (atomic_exchange(&exporter->reopen, false)) {
        drop_producer(exporter);
    }
    struct cg_error err = {0};
    if (exporter->producer == NULL && !make_producer(exporter, &err)) {
        answer(ret_verdict, CG_VERDICT_CONFIG, err.text);
        return;
    }
    if (!fits(exporter, batch, ret_verdict)) {
        return;
    }
    take_events(exporter); /* what was the matter while there was nothing to send */
    exporter->failure = RD_KAFKA_RESP_ERR_NO_ERROR;
    exporter->trouble = RD_KAFKA_RESP_ERR_NO_ERROR;
    send_batch(exporter, batch);
    judge(exporter, ret_verdict);
    if (ret_verdict->kind != CG_VERDICT_DELIVERED) {
        take_back(exporter);
    }
}

/* --- life --- */

static void close_exporter(void *instance)
{
    struct exporter *exporter = instance;
    drop_producer(exporter);
    cg_cleanup_close(&exporter->cancel_fd);
    cg_cleanup_close(&exporter->event_fd);
    free(exporter->client_id);
    free(exporter);
}

static bool open_exporter(const void *config, const struct cg_exporter_env *env,
                          void **ret_exporter, struct cg_error *err)
{
    struct exporter *exporter = calloc(1, sizeof(*exporter));
    if (exporter == NULL) {
        return cg_error_set(err, "no memory for an exporter");
    }
    exporter->config = config;
    exporter->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    exporter->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ready = exporter->cancel_fd >= 0 && exporter->event_fd >= 0 &&
                 asprintf(&exporter->client_id, "cellgate-%s", env->node) > 0;
    if (!ready) {
        (void)cg_error_errno(err, errno, "kafka");
    }
    if (!ready || !make_producer(exporter, err)) {
        close_exporter(exporter);
        return false;
    }
    *ret_exporter = exporter;
    return true;
}

static void cancel(void *instance)
{
    struct exporter *exporter = instance;
    atomic_store(&exporter->cancelled, true);
    (void)eventfd_write(exporter->cancel_fd, 1);
}

static void reopen(void *instance)
{
    struct exporter *exporter = instance;
    atomic_store(&exporter->reopen, true);
}

static uint64_t certificate_expiry_s(const void *instance)
{
    const struct exporter *exporter = instance;
    return atomic_load(&exporter->certificate_expiry_s);
}

/* --- options --- */

static bool validate(const void *config_bytes, struct cg_error *err)
{
    const struct config *config = config_bytes;
    size_t len = strlen(config->topic);
    size_t legal = strspn(config->topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                         "0123456789._-");
    if (legal != len || strcmp(config->topic, ".") == 0 || strcmp(config->topic, "..") == 0) {
        return cg_error_set(err, "topic: letters, digits, dots, '_' and '-'");
    }
    return cg_kafka_properties_validate(&config->properties, err);
}

static const struct cg_option options[] = {
    {.key = "brokers",
     .type = CG_OPTION_STRINGS,
     .offset = offsetof(struct config, properties.brokers),
     .min = 1,
     .max = CG_KAFKA_BROKERS_MAX,
     .required = true,
     .help = "HOST[:PORT] of one or some brokers of the cluster, which name the others."},
    {.key = "topic",
     .type = CG_OPTION_STRING,
     .offset = offsetof(struct config, topic),
     .min = 1,
     .max = TOPIC_BYTES_MAX,
     .required = true,
     .help = "The topic, which is not created here; the key of a message is the cell id."},
    {.key = "timeout",
     .type = CG_OPTION_DURATION,
     .offset = offsetof(struct config, timeout_ns),
     .min = UINT64_C(10000000),
     .max = UINT64_C(3600000000000),
     .fallback = "30s",
     .help = "For a whole batch. While brokers come back within it, nothing is sent twice."},
    {.key = "properties",
     .type = CG_OPTION_PAIRS,
     .offset = offsetof(struct config, properties.given),
     .max = CG_KAFKA_PROPERTIES_MAX,
     .secret = true,
     .help = "librdkafka's own properties, as compression.type or sasl.mechanism; those on which "
             "delivery rests are refused."},
    {.key = "property_files",
     .type = CG_OPTION_PAIRS,
     .offset = offsetof(struct config, properties.from_files),
     .max = CG_KAFKA_PROPERTIES_MAX,
     .help = "Properties whose values stand in files (mode 0600), as sasl.password; read whenever "
             "a producer is made."},
    {.key = "tls",
     .type = CG_OPTION_SECTION,
     .offset = offsetof(struct config, properties.tls),
     .fields = cg_tls_options,
     .help = "Certificate files; with any of them, security.protocol is TLS unless it is given."},
    {.key = NULL},
};

extern const struct cg_exporter_ops cg_exporter_kafka;
const struct cg_exporter_ops cg_exporter_kafka = {
    .type = "kafka",
    .summary = "A Kafka topic, one message an event, keyed by cell",
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
