/* sign.c - `cellgate sign`: CloudEvents in, signed transport events out.
 * docs/contract.md sections 5 and 8. */
#include "event/sign.h"
#include "cellgate/error.h"
#include "cmd/cmd.h"
#include "cmd/lines.h"
#include "event/canonical.h"
#include "event/json.h"
#include "event/keys.h"
#include "event/transport.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    LINE_BYTES_MAX = 1 << 20,
    LINE_NODES_MAX = 1 << 18,
    /* Canonical bytes, and as many again around them: an id is in the transport event once more. */
    OUTPUT_BYTES_MAX = 4 * LINE_BYTES_MAX,
    KID_JSON_BYTES_MAX = 8192,
};

static const char help[] =
    "usage: cellgate sign [OPTION]...\n"
    "Signs CloudEvents: reads one as JSON per line, its members in any order, and prints\n"
    "its signed transport event.\n"
    "\n"
    "  --mode MODE      off, hmac-sha256 or ed25519\n"
    "  --kid KID        the name of the key\n"
    "  --kid-json JSON  the same as a JSON string, for names that no shell can pass\n"
    "  --key-file FILE  the key in base64url; not readable by group or others\n"
    "  --bare           print only the envelope\n"
    "  --help           show this\n"
    "\n"
    "Without options the key comes from the environment (CELLOS_EVENT_SIGNING,\n"
    "CELLOS_HOST_TELEMETRY_SIGN_ALG and those that go with them). With the mode off, prints\n"
    "the canonical event. Numbers in data must be integers from -2^63 to 2^64-1.\n"
    "\n"
    "Exits with 1 if any line was refused, and with 78 if the key is not in order.\n";

struct sign {
    struct cg_signer *signer;
    struct cg_json json;
    struct cg_canonical canonical;
    struct cg_buf event; /* the canonical bytes */
    struct cg_buf line;  /* of output */
    struct cg_buf text[3];
    bool bare;
    bool failed; /* any line, or reading, or writing */
};

static void complain(struct sign *sign, uint64_t line, const char *what)
{
    (void)fprintf(stderr, "cellgate sign: line %llu: %s\n", (unsigned long long)line, what);
    sign->failed = true;
}

/* A member of the event as it stands in canonical JSON, in a buffer of its own. */
static struct cg_bytes attribute_json(struct sign *sign, const struct cg_attributes *attributes,
                                      enum cg_attribute which, struct cg_buf *out)
{
    cg_buf_clear(out);
    uint32_t node = attributes->node[which];
    if (node != 0) {
        (void)cg_canonical_append_text(&sign->json, node, out);
    }
    return cg_buf_bytes(out);
}

static bool wrap_event(struct sign *sign, const struct cg_attributes *attributes)
{
    struct cg_bytes canonical = cg_buf_bytes(&sign->event);
    if (cg_signer_mode(sign->signer) == CG_SIGNING_OFF) {
        return cg_buf_append(&sign->line, canonical);
    }
    if (sign->bare) {
        return cg_transport_append_envelope(&sign->line, sign->signer, canonical);
    }
    const struct cg_transport_attributes outside = {
        .id_json = attribute_json(sign, attributes, CG_ATTRIBUTE_ID, &sign->text[0]),
        .time_json = attribute_json(sign, attributes, CG_ATTRIBUTE_TIME, &sign->text[1]),
        .traceparent_json =
            attribute_json(sign, attributes, CG_ATTRIBUTE_TRACEPARENT, &sign->text[2]),
    };
    return !sign->text[0].failed && !sign->text[1].failed && !sign->text[2].failed &&
           cg_transport_append_event(&sign->line, sign->signer, canonical, &outside);
}

static bool sign_event(struct sign *sign, struct cg_bytes line, uint64_t number,
                       struct cg_error *err)
{
    struct cg_attributes attributes;
    cg_buf_clear(&sign->event);
    cg_buf_clear(&sign->line);
    if (!cg_json_parse(&sign->json, line, err) ||
        !cg_canonical_inspect(&sign->canonical, &sign->json, 0, &attributes, err) ||
        !cg_canonical_render(&sign->canonical, &sign->json, &attributes, &sign->event, err)) {
        return false;
    }
    if (attributes.unknown != 0) {
        (void)fprintf(stderr,
                      "cellgate sign: line %llu: warning: members beside the eight of an event are "
                      "left out\n",
                      (unsigned long long)number);
    }
    if (!wrap_event(sign, &attributes) || !cg_buf_append_char(&sign->line, '\n')) {
        return cg_error_set(err, "the event could not be signed");
    }
    return true;
}

static void sign_lines(struct sign *sign)
{
    struct cg_lines lines;
    struct cg_bytes line;
    enum cg_lines_outcome outcome;
    cg_lines_init(&lines, STDIN_FILENO, LINE_BYTES_MAX);
    while ((outcome = cg_lines_next(&lines, &line)) <= CG_LINES_TOO_LONG) {
        struct cg_error err = {0};
        if (outcome == CG_LINES_TOO_LONG) {
            complain(sign, lines.number, "longer than 1 MiB");
        } else if (cg_line_is_blank(line)) {
            continue;
        } else if (!sign_event(sign, line, lines.number, &err)) {
            complain(sign, lines.number, err.text);
        } else if (fwrite(sign->line.data, 1, sign->line.len, stdout) != sign->line.len) {
            break;
        }
    }
    if (outcome == CG_LINES_FAILED) {
        complain(sign, lines.number, strerror(errno));
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        (void)fputs("cellgate sign: standard output cannot be written\n", stderr);
        sign->failed = true;
    }
    cg_lines_fini(&lines);
}

static int sign_with(struct cg_signer *signer, bool bare)
{
    struct sign sign = {.signer = signer, .bare = bare};
    cg_json_init(&sign.json, (struct cg_json_limits){.bytes_max = LINE_BYTES_MAX,
                                                     .nodes_max = LINE_NODES_MAX,
                                                     .levels_max = CG_CANONICAL_LEVELS_MAX});
    cg_buf_init(&sign.event, OUTPUT_BYTES_MAX);
    cg_buf_init(&sign.line, OUTPUT_BYTES_MAX);
    for (size_t i = 0; i < sizeof(sign.text) / sizeof(sign.text[0]); i++) {
        cg_buf_init(&sign.text[i], OUTPUT_BYTES_MAX);
    }
    sign_lines(&sign);
    for (size_t i = 0; i < sizeof(sign.text) / sizeof(sign.text[0]); i++) {
        cg_buf_fini(&sign.text[i]);
    }
    cg_buf_fini(&sign.line);
    cg_buf_fini(&sign.event);
    cg_canonical_fini(&sign.canonical);
    cg_json_fini(&sign.json);
    return sign.failed ? CG_EXIT_FAILED : CG_EXIT_OK;
}

/* What --kid-json says. The text is owned by `text`. */
static bool read_kid(const char *kid_json, struct cg_buf *text, struct cg_error *err)
{
    struct cg_json json;
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = KID_JSON_BYTES_MAX, .nodes_max = 1});
    bool good = cg_json_parse(&json, cg_bytes_str(kid_json), err);
    if (good && cg_json_type(&json, 0) != CG_JSON_STRING) {
        good = cg_error_set(err, "no JSON string");
    }
    if (good && !(cg_buf_reserve(text, KID_JSON_BYTES_MAX) && cg_json_decode(&json, 0, text))) {
        good = cg_error_set(err, "no memory");
    }
    cg_json_fini(&json);
    return good;
}

static int sign_as_requested(const struct cg_key_request *request, bool bare)
{
    struct cg_error err = {0};
    struct cg_signing_key *key = NULL;
    struct cg_signer *signer = NULL;
    const char *warning = NULL;
    bool good = cg_signing_key_load(request, getenv, &key, &warning, &err) &&
                cg_signer_new(key, &signer, &err);
    cg_signing_key_free(key);
    if (!good) {
        (void)fprintf(stderr, "cellgate sign: %s\n", err.text);
        return CG_EXIT_CONFIG;
    }
    if (warning != NULL) {
        (void)fprintf(stderr, "cellgate sign: warning: %s\n", warning);
    }
    int code = sign_with(signer, bare);
    cg_signer_free(signer);
    return code;
}

int cg_cmd_sign(int argc, char **argv)
{
    static const struct option options[] = {{"mode", required_argument, NULL, 'm'},
                                            {"kid", required_argument, NULL, 'k'},
                                            {"kid-json", required_argument, NULL, 'j'},
                                            {"key-file", required_argument, NULL, 'f'},
                                            {"bare", no_argument, NULL, 'b'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct cg_key_request request = {0};
    struct cg_error err = {0};
    const char *kid_json = NULL;
    bool bare = false;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (option) {
        case 'm':
            request.mode = optarg;
            break;
        case 'k':
            /* The caller's word, byte for byte: the rule against blank kids is for settings. */
            request.kid_exact = cg_bytes_str(optarg);
            break;
        case 'j':
            kid_json = optarg;
            break;
        case 'f':
            request.key_file = optarg;
            break;
        case 'b':
            bare = true;
            break;
        case 'h':
            return fputs(help, stdout) == EOF ? CG_EXIT_FAILED : CG_EXIT_OK;
        default:
            return CG_EXIT_USAGE;
        }
    }
    if (optind < argc || (kid_json != NULL && request.kid_exact.data != NULL)) {
        (void)fputs(optind < argc ? "cellgate sign: events come on standard input\n"
                                  : "cellgate sign: --kid and --kid-json exclude each other\n",
                    stderr);
        return CG_EXIT_USAGE;
    }
    cg_auto_buf struct cg_buf kid;
    cg_buf_init(&kid, KID_JSON_BYTES_MAX);
    if (kid_json != NULL) {
        if (!read_kid(kid_json, &kid, &err)) {
            (void)fprintf(stderr, "cellgate sign: --kid-json: %s\n", err.text);
            return CG_EXIT_USAGE;
        }
        request.kid_exact = cg_buf_bytes(&kid);
    }
    return sign_as_requested(&request, bare);
}
