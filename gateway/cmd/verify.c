/* verify.c - `cellgate verify`: which events are what somebody with a key signed, and which are
 * missing. docs/contract.md sections 5, 7 and 8. */
#include "event/verify.h"
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cmd/cmd.h"
#include "cmd/gaps.h"
#include "cmd/lines.h"
#include "cmd/quote.h"
#include "event/key_file.h"
#include "event/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
    EXIT_NO_ENVELOPE = 2,
    DOCUMENT_BYTES_MAX = 64 << 20, /* a batch, a pretty-printed event, a line */
    DOCUMENT_NODES_MAX = 8 << 20,
    DOCUMENT_LEVELS_MAX = 127, /* what other verifiers read */
    WARNINGS_SHOWN_MAX = 20,
    PROGRESS_EVENTS = 4096, /* between two looks at the clock */
};

static const char help[] =
    "usage: cellgate verify [--keys FILE] [--hmac-keys FILE] [--gaps] [FILE]...\n"
    "Verifies signed events: transport events and bare envelopes, one, a batch (a JSON\n"
    "array), or one or a batch a line. Without FILE, or for -, reads standard input.\n"
    "\n"
    "Prints a line per event: ok or fail, its id (- for none), and the reason, with tabs\n"
    "between.\n"
    "\n"
    "  --keys FILE       Ed25519 public keys: a JSON object, kid -> base64url\n"
    "  --hmac-keys FILE  HMAC keys, likewise; not readable by others\n"
    "  --gaps            also print, per run, the sequence numbers that are missing and not\n"
    "                    named as dropped, and those that came more than once\n"
    "  --help            show this\n"
    "\n"
    "Exits with 1 if anything failed, is missing or came twice, and with 2 if there was no\n"
    "signed event at all.\n";

struct verify {
    struct cg_verifier verifier;
    struct cg_json json;
    struct cg_buf line;        /* of output */
    struct cg_gaps *gaps;      /* of signed events; NULL unless asked for */
    struct cg_gaps *bare_gaps; /* of unsigned ones, reported where there are no signed ones */
    const char *file;          /* being read */
    uint64_t count[CG_JUDGEMENT_COUNT];
    uint64_t warnings;
    uint64_t next_progress_ns; /* 0: no progress is shown */
    uint64_t events;
    bool failed; /* reading, writing, or for want of memory */
};

static void complain(struct verify *verify, const char *what)
{
    (void)fprintf(stderr, "cellgate verify: %s: %s\n", verify->file, what);
    verify->failed = true;
}

static void append_text(struct verify *verify, uint32_t node)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, verify->json.nodes[node].len);
    if (!cg_json_decode(&verify->json, node, &text) ||
        !cg_quote_append(&verify->line, cg_buf_bytes(&text))) {
        verify->line.failed = true;
    }
}

static void print_judgement(struct verify *verify, const struct cg_judgement *judgement)
{
    struct cg_buf *line = &verify->line;
    cg_buf_clear(line);
    (void)cg_buf_append_str(line, judgement->kind == CG_JUDGED_OK ? "ok\t" : "fail\t");
    if (judgement->id != 0) {
        append_text(verify, judgement->id);
    } else {
        (void)cg_buf_append_char(line, '-');
    }
    (void)cg_buf_append_char(line, '\t');
    (void)cg_buf_append_str(line, cg_judgement_name(judgement->kind));
    if (judgement->kind == CG_JUDGED_OK) {
        (void)cg_buf_append_str(line, " by ");
        append_text(verify, judgement->kid);
    } else if (judgement->detail.text[0] != '\0') {
        (void)cg_buf_printf(line, ": %s", judgement->detail.text);
    }
    (void)cg_buf_append_char(line, '\n');
    if (line->failed || fwrite(line->data, 1, line->len, stdout) != line->len) {
        verify->failed = true;
    }
}

/* Points out what a signature does not cover. Only the first few are shown, all are counted. */
static void warn(struct verify *verify, const struct cg_judgement *judgement, const char *what,
                 uint32_t node)
{
    struct cg_buf *line = &verify->line;
    if (verify->warnings++ >= WARNINGS_SHOWN_MAX) {
        return;
    }
    cg_buf_clear(line);
    (void)cg_buf_append_str(line, "warning: ");
    append_text(verify, judgement->id);
    (void)cg_buf_printf(line, ": %s", what);
    if (node != 0) {
        (void)cg_buf_append_char(line, ' ');
        append_text(verify, node);
    }
    (void)cg_buf_append_char(line, '\n');
    if (!line->failed) {
        (void)fwrite(line->data, 1, line->len, stderr);
    }
}

static void warn_of_unsigned_parts(struct verify *verify, const struct cg_judgement *judgement)
{
    const struct {
        uint32_t node;
        const char *what;
    } odd[] = {
        {judgement->unknown_event, "the signature does not cover the event's member"},
        {judgement->unknown_envelope, "the signature does not cover the envelope's member"},
        {judgement->unknown_outside, "the signature does not cover the transport event's member"},
        {judgement->not_before, "advisory, not enforced: not before"},
        {judgement->not_after, "advisory, not enforced: not after"},
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        if (odd[i].node != 0) {
            warn(verify, judgement, odd[i].what, odd[i].node);
        }
    }
    if (judgement->outside_differs) {
        warn(verify, judgement, "the transport event's id or time is not the signed one", 0);
    }
}

static void show_progress(struct verify *verify)
{
    if (verify->next_progress_ns == 0 || verify->events % PROGRESS_EVENTS != 0) {
        return;
    }
    uint64_t now = cg_clock_monotonic(&cg_clock_system);
    if (now >= verify->next_progress_ns) {
        (void)fprintf(stderr, "\r%llu events, %llu failed ", (unsigned long long)verify->events,
                      (unsigned long long)(verify->events - verify->count[CG_JUDGED_OK]));
        verify->next_progress_ns = now + CG_NS_PER_S / 4;
    }
}

static void account(struct verify *verify, const struct cg_judgement *judgement)
{
    struct cg_error err = {0};
    struct cg_gaps *gaps = judgement->kind == CG_JUDGED_OK         ? verify->gaps
                           : judgement->kind == CG_JUDGED_UNSIGNED ? verify->bare_gaps
                                                                   : NULL;
    if (gaps != NULL && !verify->failed &&
        !cg_gaps_add(gaps, &verify->json, judgement->event, &err)) {
        complain(verify, err.text);
    }
}

static void record(struct verify *verify, const struct cg_judgement *judgement)
{
    verify->count[judgement->kind]++;
    verify->events++;
    print_judgement(verify, judgement);
    if (judgement->kind == CG_JUDGED_OK) {
        warn_of_unsigned_parts(verify, judgement);
    }
    account(verify, judgement);
    show_progress(verify);
}

static void record_malformed(struct verify *verify, const char *why)
{
    struct cg_judgement judgement = {.kind = CG_JUDGED_MALFORMED};
    (void)cg_error_set(&judgement.detail, "%s", why);
    record(verify, &judgement);
}

static void judge(struct verify *verify, uint32_t node)
{
    struct cg_judgement judgement;
    cg_verifier_judge(&verify->verifier, &verify->json, node, &judgement);
    record(verify, &judgement);
}

/* Judges the document that the reader holds: one event, or a batch. */
static void judge_document(struct verify *verify)
{
    const struct cg_json *json = &verify->json;
    if (cg_json_type(json, 0) != CG_JSON_ARRAY) {
        judge(verify, 0);
        return;
    }
    for (uint32_t element = 1; element < json->count; element = json->nodes[element].next) {
        judge(verify, element);
    }
}

static void judge_line(struct verify *verify, struct cg_bytes line, uint64_t number)
{
    struct cg_error err = {0};
    if (cg_json_parse(&verify->json, line, &err)) {
        judge_document(verify);
        return;
    }
    cg_auto_buf struct cg_buf why;
    cg_buf_init(&why, sizeof(err.text));
    (void)cg_buf_printf(&why, "line %llu: %s", (unsigned long long)number, err.text);
    const char *text = cg_buf_str(&why);
    record_malformed(verify, text == NULL ? err.text : text);
}

/*
 * The first line decides: if it is the beginning of a JSON text that goes on, the file may be one
 * document over many lines, or lines the first of which is damaged. True if it was a document.
 */
static bool judge_rest_as_one(struct verify *verify, struct cg_lines *lines)
{
    struct cg_bytes rest;
    struct cg_error err = {0};
    if (cg_lines_peek_rest(lines, &rest) == CG_LINES_LINE &&
        cg_json_parse(&verify->json, rest, &err)) {
        judge_document(verify);
        cg_lines_take_rest(lines);
        return true;
    }
    return false;
}

static void judge_stream(struct verify *verify, int fd)
{
    struct cg_lines lines;
    cg_lines_init(&lines, fd, DOCUMENT_BYTES_MAX);
    struct cg_bytes line;
    bool first = true;
    enum cg_lines_outcome outcome;
    while ((outcome = cg_lines_next(&lines, &line)) <= CG_LINES_TOO_LONG && !verify->failed) {
        if (outcome == CG_LINES_TOO_LONG) {
            record_malformed(verify, "a line of more than 64 MiB");
            continue;
        }
        if (cg_line_is_blank(line)) {
            continue;
        }
        struct cg_error err = {0};
        if (first && !cg_json_parse(&verify->json, line, &err) && verify->json.cut) {
            if (judge_rest_as_one(verify, &lines)) {
                continue;
            }
            cg_lines_give_back(&lines);
        } else {
            judge_line(verify, line, lines.number);
        }
        first = false;
    }
    if (outcome == CG_LINES_FAILED) {
        complain(verify, strerror(errno));
    }
    cg_lines_fini(&lines);
}

static void judge_file(struct verify *verify, const char *path)
{
    if (strcmp(path, "-") == 0) {
        verify->file = "standard input";
        judge_stream(verify, STDIN_FILENO);
        return;
    }
    verify->file = path;
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        complain(verify, strerror(errno));
        return;
    }
    judge_stream(verify, fd);
}

/* Reads a file of public keys; `ret_text` is the caller's to end. */
static bool read_public_keys(const char *path, struct cg_buf *ret_text, struct cg_error *err)
{
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cg_error_errno(err, errno, "%s", path);
    }
    while (cg_buf_reserve(ret_text, 4096)) {
        ssize_t got = read(fd, ret_text->data + ret_text->len, ret_text->cap - ret_text->len);
        if (got == 0) {
            return true;
        }
        if (got < 0 && errno != EINTR) {
            return cg_error_errno(err, errno, "%s", path);
        }
        ret_text->len += got > 0 ? (size_t)got : 0;
    }
    return cg_error_set(err, "%s: longer than a keys file may be", path);
}

static bool load_keys(struct cg_keyring *ring, const char *keys, const char *hmac_keys,
                      struct cg_error *err)
{
    if (keys != NULL) {
        cg_auto_buf struct cg_buf text;
        cg_buf_init(&text, CG_KEYRING_TEXT_BYTES_MAX);
        if (!read_public_keys(keys, &text, err)) {
            return false;
        }
        if (!cg_keyring_add(ring, CG_SIGNING_ED25519, cg_buf_bytes(&text), err)) {
            return cg_error_context(err, "%s", keys);
        }
    }
    if (hmac_keys != NULL) {
        cg_auto_key_text struct cg_key_text text = {0};
        if (!cg_key_file_read(hmac_keys, NULL, &text, err)) {
            return false;
        }
        if (!cg_keyring_add(ring, CG_SIGNING_HMAC_SHA256, cg_bytes(text.data, text.len), err)) {
            return cg_error_context(err, "%s", hmac_keys);
        }
    }
    return true;
}

static void print_summary(const struct verify *verify)
{
    uint64_t unsigned_events = verify->count[CG_JUDGED_UNSIGNED];
    uint64_t failed = verify->events - verify->count[CG_JUDGED_OK] - unsigned_events;
    if (verify->next_progress_ns != 0) {
        (void)fputs("\r\033[K", stderr);
    }
    (void)fprintf(stderr, "%llu events: %llu ok, %llu failed, %llu unsigned; %llu warnings\n",
                  (unsigned long long)verify->events,
                  (unsigned long long)verify->count[CG_JUDGED_OK], (unsigned long long)failed,
                  (unsigned long long)unsigned_events, (unsigned long long)verify->warnings);
}

/* True if nothing is missing or repeated. */
static bool report_gaps(struct verify *verify)
{
    bool bare = verify->count[CG_JUDGED_UNSIGNED] == verify->events;
    struct cg_gaps_totals totals;
    struct cg_error err = {0};
    if (!cg_gaps_report(bare ? verify->bare_gaps : verify->gaps, stdout, &totals, &err)) {
        complain(verify, err.text);
        return false;
    }
    (void)fprintf(stderr, "%llu runs%s: %llu sequence numbers missing, %llu repeated\n",
                  (unsigned long long)totals.runs, bare ? " of unsigned events" : "",
                  (unsigned long long)totals.missing, (unsigned long long)totals.repeated);
    return totals.missing == 0 && totals.repeated == 0;
}

static int conclude(struct verify *verify)
{
    print_summary(verify);
    bool whole = verify->gaps == NULL || report_gaps(verify);
    if (fflush(stdout) != 0) {
        verify->file = "standard output";
        complain(verify, strerror(errno));
    }
    uint64_t good = verify->count[CG_JUDGED_OK];
    uint64_t bare = verify->count[CG_JUDGED_UNSIGNED];
    if (verify->failed || !whole || good + bare < verify->events) {
        return CG_EXIT_FAILED;
    }
    /* An unsigned event among signed ones is not what was asked for either. */
    return good == 0 ? EXIT_NO_ENVELOPE : bare > 0 ? CG_EXIT_FAILED : CG_EXIT_OK;
}

static int verify_files(const struct cg_keyring *ring, bool gaps, char **paths)
{
    struct cg_error err = {0};
    struct verify verify = {.file = "verify"};
    if (gaps && (!cg_gaps_new(&verify.gaps, &err) || !cg_gaps_new(&verify.bare_gaps, &err))) {
        cg_gaps_free(verify.gaps);
        (void)fprintf(stderr, "cellgate verify: %s\n", err.text);
        return CG_EXIT_FAILED;
    }
    cg_verifier_init(&verify.verifier, ring, DOCUMENT_BYTES_MAX + 4096);
    cg_json_init(&verify.json, (struct cg_json_limits){.bytes_max = DOCUMENT_BYTES_MAX,
                                                       .nodes_max = DOCUMENT_NODES_MAX,
                                                       .levels_max = DOCUMENT_LEVELS_MAX});
    cg_buf_init(&verify.line, (size_t)2 * DOCUMENT_BYTES_MAX * 6 + 4096);
    /* Results and progress on one terminal would run into each other. */
    if (isatty(STDERR_FILENO) == 1 && isatty(STDOUT_FILENO) == 0) {
        verify.next_progress_ns = cg_clock_monotonic(&cg_clock_system) + CG_NS_PER_S;
    }
    if (*paths == NULL) {
        judge_file(&verify, "-");
    }
    for (; *paths != NULL; paths++) {
        judge_file(&verify, *paths);
    }
    int code = conclude(&verify);
    cg_gaps_free(verify.gaps);
    cg_gaps_free(verify.bare_gaps);
    cg_verifier_fini(&verify.verifier);
    cg_json_fini(&verify.json);
    cg_buf_fini(&verify.line);
    return code;
}

int cg_cmd_verify(int argc, char **argv)
{
    static const struct option options[] = {{"keys", required_argument, NULL, 'k'},
                                            {"hmac-keys", required_argument, NULL, 'm'},
                                            {"gaps", no_argument, NULL, 'g'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *keys = NULL;
    const char *hmac_keys = NULL;
    bool gaps = false;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (option) {
        case 'k':
            keys = optarg;
            break;
        case 'm':
            hmac_keys = optarg;
            break;
        case 'g':
            gaps = true;
            break;
        case 'h':
            return fputs(help, stdout) == EOF ? CG_EXIT_FAILED : CG_EXIT_OK;
        default:
            return CG_EXIT_USAGE;
        }
    }
    if (keys == NULL && hmac_keys == NULL && !gaps) {
        (void)fputs("cellgate verify: --keys or --hmac-keys says what to verify with\n", stderr);
        return CG_EXIT_USAGE;
    }
    struct cg_error err = {0};
    struct cg_keyring *ring = NULL;
    if (!cg_keyring_new(&ring, &err) || !load_keys(ring, keys, hmac_keys, &err)) {
        (void)fprintf(stderr, "cellgate verify: %s\n", err.text);
        cg_keyring_free(ring);
        return CG_EXIT_CONFIG;
    }
    int code = verify_files(ring, gaps, argv + optind);
    cg_keyring_free(ring);
    return code;
}
