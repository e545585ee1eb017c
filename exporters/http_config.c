#include "exporters/http_config.h"

const struct cg_option_name cg_http_version_names[] = {
    {"auto", CG_HTTP_VERSION_AUTO},
    {"1.1", CG_HTTP_VERSION_1_1},
    {"2", CG_HTTP_VERSION_2},
    {NULL, 0},
};

const struct cg_option cg_tls_options[] = {
    {.key = "ca_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, ca_file),
     .help = "PEM file of trusted authorities, instead of the system's."},
    {.key = "cert_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, cert_file),
     .help = "PEM file with the client certificate and its chain; needs key_file."},
    {.key = "key_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, key_file),
     .help = "PEM file with the client certificate's private key, without a passphrase."},
    {.key = NULL},
};
