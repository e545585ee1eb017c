/*
 * http_config.h - what an operator says about one destination over HTTP: the struct, and the rows
 * that every exporter over HTTP puts into its option table. docs/contract.md section 7.
 *
 * cg_http_client_validate checks what needs more than one key.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_CONFIG_H
#define CELLGATE_EXPORTERS_HTTP_CONFIG_H

#include "cellgate/option.h"
#include "exporters/tls_files.h"

#include <stddef.h>
#include <stdint.h>

enum {
    CG_HTTP_URL_BYTES_MAX = 2048,
    CG_HTTP_HEADERS_MAX = 32, /* configured ones */
};

enum cg_http_version {
    CG_HTTP_VERSION_AUTO, /* over TLS what the destination prefers, otherwise 1.1 */
    CG_HTTP_VERSION_1_1,
    CG_HTTP_VERSION_2, /* over TLS as auto; in clear text without asking first */
};

/* Part of an exporter's configuration; borrowed by the client. */
struct cg_http_client_config {
    const char *url;
    struct cg_pairs headers;
    const char *bearer_token_file;
    struct cg_tls_files tls;
    int version; /* enum cg_http_version */
    uint64_t timeout_ns;
    uint64_t connect_timeout_ns;
};

extern const struct cg_option_name cg_http_version_names[];

/* Rows for an exporter's option table; `member` is a struct cg_http_client_config. */
#define CG_HTTP_CLIENT_OPTIONS(config_type, member)                                                \
    CG_HTTP_DESTINATION_OPTIONS(config_type, member),                                              \
        {                                                                                          \
            .key = "http_version",                                                                 \
            .type = CG_OPTION_ENUM,                                                                \
            .offset = offsetof(config_type, member.version),                                       \
            .names = cg_http_version_names,                                                        \
            .fallback = "auto",                                                                    \
            .help = "auto, 1.1 or 2 (in clear text, 2 presumes that the destination speaks it).",  \
        },                                                                                         \
        CG_HTTP_TIMEOUT_OPTIONS(config_type, member)

/* The same in parts, for a protocol that leaves the version of HTTP no choice. */
#define CG_HTTP_DESTINATION_OPTIONS(config_type, member)                                           \
    {                                                                                              \
        .key = "url",                                                                              \
        .type = CG_OPTION_STRING,                                                                  \
        .offset = offsetof(config_type, member.url),                                               \
        .min = 1,                                                                                  \
        .max = CG_HTTP_URL_BYTES_MAX,                                                              \
        .required = true,                                                                          \
        .secret = true, /* user:password@ may be in it */                                          \
        .help = "Where to POST: http:// or https://, user:password@ for basic authentication.",    \
    },                                                                                             \
        {                                                                                          \
            .key = "headers",                                                                      \
            .type = CG_OPTION_PAIRS,                                                               \
            .offset = offsetof(config_type, member.headers),                                       \
            .max = CG_HTTP_HEADERS_MAX,                                                            \
            .secret = true,                                                                        \
            .help = "Headers of each request beside those the protocol sets.",                     \
        },                                                                                         \
        {                                                                                          \
            .key = "bearer_token_file",                                                            \
            .type = CG_OPTION_PATH,                                                                \
            .offset = offsetof(config_type, member.bearer_token_file),                             \
            .help = "File with a bearer token (mode 0600), read again when it changes.",           \
        },                                                                                         \
    {                                                                                              \
        .key = "tls", .type = CG_OPTION_SECTION, .offset = offsetof(config_type, member.tls),      \
        .fields = cg_tls_options, .help = "Certificate files for https.",                          \
    }

#define CG_HTTP_TIMEOUT_OPTIONS(config_type, member)                                               \
    {                                                                                              \
        .key = "timeout",                                                                          \
        .type = CG_OPTION_DURATION,                                                                \
        .offset = offsetof(config_type, member.timeout_ns),                                        \
        .min = UINT64_C(10000000),                                                                 \
        .max = UINT64_C(3600000000000),                                                            \
        .fallback = "30s",                                                                         \
        .help = "For a whole request, from connecting to the end of the answer.",                  \
    },                                                                                             \
    {                                                                                              \
        .key = "connect_timeout", .type = CG_OPTION_DURATION,                                      \
        .offset = offsetof(config_type, member.connect_timeout_ns), .min = UINT64_C(10000000),     \
        .max = UINT64_C(3600000000000), .fallback = "10s",                                         \
        .help = "For finding and reaching the destination, TLS handshake included.",               \
    }

#endif
