/*
 * kafka_properties.h - what an operator says about a Kafka cluster, as librdkafka's configuration.
 *
 * Every property of librdkafka can be passed through, but for those on which delivery rests and
 * those that have a key of their own here. A value is never part of an error: it may be a secret.
 */
#ifndef CELLGATE_EXPORTERS_KAFKA_PROPERTIES_H
#define CELLGATE_EXPORTERS_KAFKA_PROPERTIES_H

#include "cellgate/error.h"
#include "cellgate/option.h"
#include "exporters/tls_files.h"

#include <librdkafka/rdkafka.h>

enum {
    CG_KAFKA_BROKERS_MAX = 64,
    CG_KAFKA_PROPERTIES_MAX = 128,
};

/* Part of the exporter's configuration. */
struct cg_kafka_properties {
    struct cg_strings brokers;  /* host[:port] */
    struct cg_pairs given;      /* property: value */
    struct cg_pairs from_files; /* property: file with the value */
    struct cg_tls_files tls;
};

/* Known properties with values that librdkafka takes, and none that is the gateway's. No I/O. */
CG_MUST_USE bool cg_kafka_properties_validate(const struct cg_kafka_properties *properties,
                                              struct cg_error *err);

/* Writes the host of a broker that is written HOST[:PORT] or [HOST]:PORT, cut to max bytes. */
void cg_kafka_broker_host(const char *broker, char *ret_host, size_t max);

/* A configuration for a producer, to be taken over by rd_kafka_new. Reads the files. */
CG_MUST_USE bool cg_kafka_properties_make(const struct cg_kafka_properties *properties,
                                          const char *client_id, rd_kafka_conf_t **ret_conf,
                                          struct cg_error *err);

#endif
