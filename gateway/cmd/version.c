/* version.c - `cellgate version`: the program, the libraries it runs with, the exporters in it. */
#include "cellgate/buf.h"
#include "cmd/cmd.h"
#include "event/json_write.h"
#include "exporters/registry.h"

#include <cbor.h>
#include <cjson/cJSON.h>
#include <getopt.h>
#ifdef CELLGATE_EXPORTER_KAFKA
#include <librdkafka/rdkafka.h>
#endif
#include <microhttpd.h>
#ifdef CELLGATE_EXPORTER_NATS_JETSTREAM
#include <nats/nats.h>
#endif
#include <openssl/crypto.h>
#if defined(CELLGATE_EXPORTER_OTLP_GRPC) || defined(CELLGATE_EXPORTER_OTLP_HTTP)
#include <protobuf-c/protobuf-c.h>
#endif
#include <sodium.h>
#include <stdio.h>
#include <yaml.h>
#include <zlib.h>
#include <zstd.h>

enum { VERSION_TEXT_BYTES_MAX = 65536, LIBRARIES_MAX = 16 };

#define STRINGIFY_(token) #token
#define STRINGIFY(token)  STRINGIFY_(token)

struct library {
    const char *name;
    const char *version;
};

/* As loaded at run time, which need not be what was compiled against; libcbor does not tell. */
static size_t list_libraries(struct library libraries[LIBRARIES_MAX])
{
    const struct library list[] = {
        {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
        {"libsodium", sodium_version_string()},
        {"libmicrohttpd", MHD_get_version()},
        {"libcbor", STRINGIFY(CBOR_MAJOR_VERSION) "." STRINGIFY(CBOR_MINOR_VERSION) "." STRINGIFY(
                        CBOR_PATCH_VERSION)},
        {"cjson", cJSON_Version()},
        {"libyaml", yaml_get_version_string()},
        {"zlib", zlibVersion()},
        {"libzstd", ZSTD_versionString()},
#ifdef CELLGATE_EXPORTER_KAFKA
        {"librdkafka", rd_kafka_version_str()},
#endif
#ifdef CELLGATE_EXPORTER_NATS_JETSTREAM
        {"libnats", nats_GetVersion()},
#endif
#if defined(CELLGATE_EXPORTER_OTLP_GRPC) || defined(CELLGATE_EXPORTER_OTLP_HTTP)
        {"protobuf-c", protobuf_c_version()},
#endif
    };
    _Static_assert(sizeof(list) <= LIBRARIES_MAX * sizeof(list[0]), "more libraries than expected");
    memcpy(libraries, list, sizeof(list));
    return sizeof(list) / sizeof(list[0]);
}

static void append_text(struct cg_buf *out, const struct library *libraries, size_t count)
{
    cg_buf_append_str(out, "cellgate " CELLGATE_VERSION "\n");
    for (size_t i = 0; i < count; i++) {
        cg_buf_printf(out, "%s %s\n", libraries[i].name, libraries[i].version);
    }
    for (size_t i = 0; cg_exporters[i] != NULL; i++) {
        cg_buf_printf(out, "exporter %s\n", cg_exporters[i]->type);
    }
}

static void append_json(struct cg_buf *out, const struct library *libraries, size_t count)
{
    cg_buf_append_str(out, "{\"name\":\"cellgate\",\"version\":\"" CELLGATE_VERSION "\","
                           "\"libraries\":{");
    for (size_t i = 0; i < count; i++) {
        cg_buf_append_str(out, i == 0 ? "" : ",");
        cg_json_append_string(out, cg_bytes_str(libraries[i].name));
        cg_buf_append_char(out, ':');
        cg_json_append_string(out, cg_bytes_str(libraries[i].version));
    }
    cg_buf_append_str(out, "},\"exporters\":[");
    for (size_t i = 0; cg_exporters[i] != NULL; i++) {
        cg_buf_append_str(out, i == 0 ? "" : ",");
        cg_json_append_string(out, cg_bytes_str(cg_exporters[i]->type));
    }
    cg_buf_append_str(out, "]}\n");
}

static void print_help(FILE *out)
{
    (void)fputs("usage: cellgate version [--json]\n"
                "Shows the version, the libraries in use and the exporters built in, one a line.\n",
                out);
}

int cg_cmd_version(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool json = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'j':
            json = true;
            break;
        case 'h':
            print_help(stdout);
            return CG_EXIT_OK;
        default:
            print_help(stderr);
            return CG_EXIT_USAGE;
        }
    }
    if (optind != argc) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    struct library libraries[LIBRARIES_MAX];
    size_t count = list_libraries(libraries);
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, VERSION_TEXT_BYTES_MAX);
    if (json) {
        append_json(&out, libraries, count);
    } else {
        append_text(&out, libraries, count);
    }
    bool done = !out.failed && fwrite(out.data, 1, out.len, stdout) == out.len;
    return fflush(stdout) == 0 && done ? CG_EXIT_OK : CG_EXIT_FAILED;
}
