#include "exporters/kafka_properties.h"

#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "exporters/token_file.h"

#include <stdio.h>
#include <string.h>

enum { BROKERS_TEXT_BYTES_MAX = 16 * 1024, ERROR_TEXT_BYTES_MAX = 512 };

/* What may not be passed through, and why. */
static const struct {
    const char *name;
    const char *why;
} refused[] = {
    {"bootstrap.servers", "is what brokers says"},
    {"metadata.broker.list", "is what brokers says"},
    {"enable.idempotence", "is always true: order and repeats rest on it"},
    {"enable.gapless.guarantee", "is always true: order rests on it"},
    {"acks", "is always all: what is acknowledged must be kept"},
    {"request.required.acks", "is always all: what is acknowledged must be kept"},
    {"message.timeout.ms", "is always 0: how long to try is what timeout and retry say"},
    {"delivery.timeout.ms", "is always 0: how long to try is what timeout and retry say"},
    {"retries", "is unlimited: how long to try is what timeout and retry say"},
    {"message.send.max.retries", "is unlimited: how long to try is what timeout and retry say"},
    {"transactional.id", "would need transactions, which the gateway does not use"},
    {"delivery.report.only.error", "would take the acknowledgements away"},
    {"log.queue", "is the gateway's"},
    {"enabled_events", "is the gateway's"},
    {"plugin.library.paths", "would load code into the gateway"},
    {"test.mock.num.brokers", "would acknowledge what nobody keeps"},
    {"ssl.ca.location", "is what tls.ca_file says"},
    {"ssl.certificate.location", "is what tls.cert_file says"},
    {"ssl.key.location", "is what tls.key_file says"},
};

/* On which delivery rests. */
static const struct cg_pair fixed[] = {
    {"enable.idempotence", "true"},
    {"enable.gapless.guarantee", "true"}, /* a batch that fails takes those behind it along */
    {"acks", "all"},
    {"message.timeout.ms", "0"},
};

/* Before what the operator says. */
static const struct cg_pair defaults[] = {
    /* How long a topic may be unknown before it is, which must be well below our own timeout. */
    {"topic.metadata.propagation.max.ms", "5000"},
    {"socket.keepalive.enable", "true"},
};

static void free_conf(rd_kafka_conf_t **conf)
{
    if (*conf != NULL) {
        rd_kafka_conf_destroy(*conf);
    }
}

#define auto_conf __attribute__((cleanup(free_conf)))

static bool set(rd_kafka_conf_t *conf, const char *name, const char *value, struct cg_error *err)
{
    char text[ERROR_TEXT_BYTES_MAX] = "";
    rd_kafka_conf_res_t done = rd_kafka_conf_set(conf, name, value, text, sizeof(text));
    explicit_bzero(text, sizeof(text)); /* it quotes the value */
    if (done == RD_KAFKA_CONF_UNKNOWN) {
        return cg_error_set(err, "%s: librdkafka has no such property", name);
    }
    return done == RD_KAFKA_CONF_OK ||
           cg_error_set(err, "%s: librdkafka does not take this value", name);
}

static bool check_name(const char *name, struct cg_error *err)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (strcmp(refused[i].name, name) == 0) {
            return cg_error_set(err, "%s %s", name, refused[i].why);
        }
    }
    return true;
}

static bool has(const struct cg_pairs *pairs, const char *name)
{
    for (size_t i = 0; i < pairs->count; i++) {
        if (strcmp(pairs->items[i].key, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool set_pairs(rd_kafka_conf_t *conf, const struct cg_pair *pairs, size_t count,
                      struct cg_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!set(conf, pairs[i].key, pairs[i].value, err)) {
            return false;
        }
    }
    return true;
}

/* host[:port]; librdkafka would take a scheme, which then contradicts security.protocol. */
static bool check_broker(const char *broker, struct cg_error *err)
{
    if (broker[0] == '\0' || strcspn(broker, "/@, \t\r\n") != strlen(broker)) {
        return cg_error_set(err, "brokers: expected HOST[:PORT]");
    }
    return true;
}

void cg_kafka_broker_host(const char *broker, char *ret_host, size_t max)
{
    bool bracketed = broker[0] == '[';
    broker += bracketed;
    (void)snprintf(ret_host, max, "%.*s", (int)strcspn(broker, bracketed ? "]" : ":"), broker);
}

bool cg_kafka_properties_validate(const struct cg_kafka_properties *properties,
                                  struct cg_error *err)
{
    for (size_t i = 0; i < properties->brokers.count; i++) {
        if (!check_broker(properties->brokers.items[i], err)) {
            return false;
        }
    }
    if ((properties->tls.cert_file == NULL) != (properties->tls.key_file == NULL)) {
        return cg_error_set(err, "tls: cert_file and key_file go together");
    }
    auto_conf rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < properties->given.count; i++) {
        const struct cg_pair *pair = &properties->given.items[i];
        if (!check_name(pair->key, err) || !set(conf, pair->key, pair->value, err)) {
            return cg_error_context(err, "properties");
        }
    }
    for (size_t i = 0; i < properties->from_files.count; i++) {
        const char *name = properties->from_files.items[i].key;
        if (has(&properties->given, name)) {
            return cg_error_set(err, "property_files: %s is among the properties too", name);
        }
        if (!check_name(name, err)) {
            return cg_error_context(err, "property_files");
        }
        /* The value is not known yet, but whether there is such a property is. */
        if (rd_kafka_conf_set(conf, name, "", NULL, 0) == RD_KAFKA_CONF_UNKNOWN) {
            return cg_error_set(err, "property_files: %s: librdkafka has no such property", name);
        }
    }
    return true;
}

/* --- making one --- */

static bool set_brokers(rd_kafka_conf_t *conf, const struct cg_strings *brokers,
                        struct cg_error *err)
{
    cg_auto_buf struct cg_buf list;
    cg_buf_init(&list, BROKERS_TEXT_BYTES_MAX);
    for (size_t i = 0; i < brokers->count; i++) {
        cg_buf_append_str(&list, i == 0 ? "" : ",");
        cg_buf_append_str(&list, brokers->items[i]);
    }
    const char *text = cg_buf_str(&list);
    return text == NULL ? cg_error_set(err, "brokers: the list is too long")
                        : set(conf, "bootstrap.servers", text, err);
}

static bool set_from_file(rd_kafka_conf_t *conf, const struct cg_pair *pair, struct cg_error *err)
{
    cg_auto_free struct cg_token_file *file = malloc(sizeof(*file));
    if (file == NULL) {
        return cg_error_set(err, "no memory for a property's value");
    }
    cg_token_file_init(file, pair->value);
    bool done = cg_token_file_refresh(file, err) && set(conf, pair->key, file->token, err);
    cg_token_file_fini(file);
    return done || cg_error_context(err, "property_files: %s", pair->key);
}

static bool set_tls(rd_kafka_conf_t *conf, const struct cg_tls_files *tls, struct cg_error *err)
{
    return (tls->ca_file == NULL || set(conf, "ssl.ca.location", tls->ca_file, err)) &&
           (tls->cert_file == NULL || (set(conf, "ssl.certificate.location", tls->cert_file, err) &&
                                       set(conf, "ssl.key.location", tls->key_file, err)));
}

/* Certificate files mean TLS and a SASL mechanism means SASL, unless the operator names it. */
static bool set_protocol(rd_kafka_conf_t *conf, const struct cg_kafka_properties *properties,
                         struct cg_error *err)
{
    if (has(&properties->given, "security.protocol")) {
        return true;
    }
    bool tls = properties->tls.ca_file != NULL || properties->tls.cert_file != NULL;
    bool sasl =
        has(&properties->given, "sasl.mechanism") || has(&properties->given, "sasl.mechanisms");
    const char *names[2][2] = {{"plaintext", "ssl"}, {"sasl_plaintext", "sasl_ssl"}};
    return set(conf, "security.protocol", names[sasl][tls], err);
}

bool cg_kafka_properties_make(const struct cg_kafka_properties *properties, const char *client_id,
                              rd_kafka_conf_t **ret_conf, struct cg_error *err)
{
    auto_conf rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (!set(conf, "client.id", client_id, err) ||
        !set_pairs(conf, defaults, sizeof(defaults) / sizeof(defaults[0]), err) ||
        !set_pairs(conf, properties->given.items, properties->given.count, err) ||
        !set_pairs(conf, fixed, sizeof(fixed) / sizeof(fixed[0]), err) ||
        !set_brokers(conf, &properties->brokers, err) || !set_protocol(conf, properties, err) ||
        !set_tls(conf, &properties->tls, err)) {
        return false;
    }
    for (size_t i = 0; i < properties->from_files.count; i++) {
        if (!set_from_file(conf, &properties->from_files.items[i], err)) {
            return false;
        }
    }
    *ret_conf = cg_steal_ptr(conf);
    return true;
}
