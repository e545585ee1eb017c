/*
 * nats_jetstream_config.h - what an operator says about the servers of a NATS system. Pure; any
 * thread.
 */
#ifndef CELLGATE_EXPORTERS_NATS_JETSTREAM_CONFIG_H
#define CELLGATE_EXPORTERS_NATS_JETSTREAM_CONFIG_H

#include "cellgate/error.h"
#include "cellgate/option.h"
#include "exporters/tls_files.h"

enum {
    CG_NATS_SERVERS_MAX = 16,
    CG_NATS_SERVER_BYTES_MAX = 512,
    CG_NATS_HOST_BYTES_MAX = 256,
};

/* Part of the exporter's configuration. Files are read at each connect. */
struct cg_nats_link_config {
    struct cg_strings servers;
    const char *credentials_file; /* a user's JWT and seed, as `nsc` writes them */
    const char *token_file;
    const char *user;
    const char *password_file;
    struct cg_tls_files tls;
    uint64_t connect_timeout_ns;
};

/* The checks that need more than one key or more than a length. */
CG_MUST_USE bool cg_nats_link_validate(const struct cg_nats_link_config *config,
                                       struct cg_error *err);

/* A server that is written tls://, or certificate files, mean that clear text will not do. */
bool cg_nats_link_wants_tls(const struct cg_nats_link_config *config);

/* The host of "nats://host:4222", "tls://[::1]" or "host:4222"; false if it is none of these. */
CG_MUST_USE bool cg_nats_server_parse(const char *text, bool *ret_is_tls,
                                      char ret_host[CG_NATS_HOST_BYTES_MAX]);

#endif
