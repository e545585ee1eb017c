/*
 * dead_letter.c - `cellgate dead-letter`: what could not be delivered, for people.
 * docs/contract.md sections 7 and 8.
 */
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/dead_letter_files.h"
#include "event/json_write.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
    TARGET_BYTES_MAX = 8192,
    BODY_BYTES_MAX = 64 * 1024, /* what the gateway takes */
    ANSWER_BYTES_MAX = 64 << 20,
    PAGE_LETTERS = 1000,
};

struct request {
    const char *socket, *state_dir; /* one of them */
    bool json, all, yes;
    const char *exporter; /* NULL: all */
    char *const *ids;
    size_t ids_count;
};

/* What came back, from the gateway or from the files. */
struct reply {
    struct cg_buf text;
    struct cg_json json;
};

static void print_help(FILE *out)
{
    (void)fputs("usage: cellgate dead-letter list [EXPORTER]\n"
                "       cellgate dead-letter show EXPORTER ID\n"
                "       cellgate dead-letter replay EXPORTER ID...|--all\n"
                "       cellgate dead-letter drop EXPORTER ID...|--all --yes\n"
                "Shows events that could not be delivered, lets them be sent again with the same\n"
                "id and bytes, or forgets them.\n"
                "\n"
                "  -s, --socket PATH     the control socket of a running gateway;\n"
                "                        $CELLGATE_CONTROL, or else\n"
                "                        " CG_CONTROL_SOCKET_DEFAULT "\n"
                "  -d, --state-dir DIR   the files of a gateway that does not run; what is to be\n"
                "                        sent again is sent once it does\n"
                "  -j, --json            JSON; `list EXPORTER` gives a letter a line\n"
                "  -a, --all             every letter of the exporter\n"
                "  -y, --yes             dropping all of them is meant\n"
                "  -h, --help            show this\n"
                "\n"
                "Exit codes: 0 done, 1 refused or failed, 64 usage.\n",
                out);
}

static int refuse(const char *words)
{
    (void)fprintf(stderr, "cellgate dead-letter: %s\n", words);
    return CG_EXIT_USAGE;
}

static bool fail(const struct cg_error *err)
{
    char shown[2 * CG_ERROR_TEXT_MAX];
    (void)cg_text_escape(cg_bytes_str(err->text), shown, sizeof(shown));
    (void)fprintf(stderr, "cellgate dead-letter: %s\n", shown);
    return false;
}

/* --- asking --- */

static void reply_init(struct reply *reply)
{
    cg_buf_init(&reply->text, ANSWER_BYTES_MAX);
    cg_json_init(&reply->json, (struct cg_json_limits){.bytes_max = ANSWER_BYTES_MAX,
                                                       .nodes_max = UINT32_MAX / 2,
                                                       .levels_max = CG_JSON_LEVELS_MAX});
}

static void reply_fini(struct reply *reply)
{
    cg_json_fini(&reply->json);
    cg_buf_fini(&reply->text);
}

#define auto_reply __attribute__((cleanup(reply_fini)))

/* Asks the gateway; `rest` is added to the exporter's path as it is. */
static bool ask(const struct request *request, const char *method, const char *rest,
                struct cg_bytes body, struct reply *reply)
{
    cg_auto_buf struct cg_buf target;
    struct cg_control_answer answer;
    struct cg_error err = {0};
    cg_buf_init(&target, TARGET_BYTES_MAX);
    cg_buf_append_str(&target, "/v1/dead-letters");
    if (request->exporter != NULL) {
        cg_buf_append_char(&target, '/');
        cg_control_append_encoded(&target, request->exporter);
    }
    cg_buf_append_str(&target, rest);
    const char *text = cg_buf_str(&target);
    if (text == NULL) {
        (void)cg_error_set(&err, "the name is too long");
        return fail(&err);
    }
    if (!cg_control_ask(request->socket, method, text, body, &answer, &err)) {
        return fail(&err);
    }
    bool good = answer.status == 200;
    if (good) {
        cg_buf_append(&reply->text, answer.body);
    } else {
        cg_control_complain("dead-letter", &answer);
    }
    cg_control_answer_fini(&answer);
    return good;
}

static bool parse(struct reply *reply)
{
    struct cg_error err = {0};
    return cg_json_parse(&reply->json, cg_buf_bytes(&reply->text), &err) || fail(&err);
}

/* --- list --- */

static void show_counts(const struct cg_json *json)
{
    static const char *const columns[] = {"exporter",    "letters",   "replaying", "bytes",
                                          "oldest_time", "bytes_max", "reasons"};
    static const int widths[] = {-20, 8, 10, 12, -30, 12, 0};
    char text[CG_CONTROL_SHOWN_MAX];
    (void)printf("%-20s %8s %10s %12s %-30s %12s %s\n", "EXPORTER", "LETTERS", "REPLAYING", "BYTES",
                 "OLDEST", "AT MOST", "REASONS");
    uint32_t array = cg_json_find(json, 0, CG_BYTES("exporters"));
    if (array == 0 || cg_json_type(json, array) != CG_JSON_ARRAY) {
        return;
    }
    for (uint32_t at = array + 1; at < json->nodes[array].next; at = json->nodes[at].next) {
        for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]) - 1; i++) {
            (void)printf("%*s ", widths[i], cg_control_show(json, at, columns[i], text));
        }
        uint32_t reasons = cg_json_find(json, at, CG_BYTES("reasons"));
        for (uint32_t key = reasons + 1; reasons != 0 && key < json->nodes[reasons].next;
             key = json->nodes[key + 1].next) {
            (void)printf("%s%.*s %.*s", key == reasons + 1 ? "" : ", ",
                         CG_BYTES_ARG(cg_json_raw(json, key)),
                         CG_BYTES_ARG(cg_json_raw(json, key + 1)));
        }
        (void)putchar('\n');
    }
}

static int list_exporters(const struct request *request)
{
    auto_reply struct reply reply;
    struct cg_error err = {0};
    reply_init(&reply);
    bool got = request->state_dir == NULL
                   ? ask(request, "GET", "", cg_bytes(NULL, 0), &reply)
                   : cg_letter_files_counts(request->state_dir, &reply.text, &err) || fail(&err);
    if (!got || !parse(&reply)) {
        return CG_EXIT_FAILED;
    }
    if (request->json) {
        (void)fwrite(reply.text.data, 1, reply.text.len, stdout);
    } else {
        show_counts(&reply.json);
    }
    return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}

static void show_letter(const struct cg_json *json, uint32_t letter)
{
    static const char *const columns[] = {"id",  "time",     "reason", "state", "cell",
                                          "run", "sequence", "status", "detail"};
    static const int widths[] = {-36, -30, -9, -5, -20, -20, 10, 6, 0};
    char text[CG_CONTROL_SHOWN_MAX];
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        (void)printf("%s%*s", i == 0 ? "" : " ", widths[i],
                     cg_control_show(json, letter, columns[i], text));
    }
    (void)putchar('\n');
}

/* Shows a page; *after becomes the next one's, 0 behind the last. */
static bool show_page(const struct request *request, const struct cg_json *json, uint64_t *after)
{
    uint32_t letters = cg_json_find(json, 0, CG_BYTES("letters"));
    uint32_t next = cg_json_find(json, 0, CG_BYTES("next"));
    if (letters == 0 || cg_json_type(json, letters) != CG_JSON_ARRAY || next == 0) {
        return false;
    }
    for (uint32_t at = letters + 1; at < json->nodes[letters].next; at = json->nodes[at].next) {
        if (request->json) {
            (void)printf("%.*s\n", CG_BYTES_ARG(cg_json_raw(json, at)));
        } else {
            show_letter(json, at);
        }
    }
    *after = 0;
    return cg_json_type(json, next) == CG_JSON_NULL || cg_json_u64(json, next, after);
}

static int list_letters(const struct request *request)
{
    uint64_t after = 0;
    if (!request->json) {
        (void)printf("%-36s %-30s %-9s %-5s %-20s %-20s %10s %6s %s\n", "ID", "SINCE", "REASON",
                     "STATE", "CELL", "RUN", "SEQUENCE", "STATUS", "DETAIL");
    }
    do {
        auto_reply struct reply reply;
        struct cg_error err = {0};
        char rest[64];
        (void)snprintf(rest, sizeof(rest), "?limit=%d&after=%llu", PAGE_LETTERS,
                       (unsigned long long)after);
        reply_init(&reply);
        bool got = request->state_dir == NULL
                       ? ask(request, "GET", rest, cg_bytes(NULL, 0), &reply)
                       : cg_letter_files_list(request->state_dir, request->exporter, after,
                                              PAGE_LETTERS, &reply.text, &err) ||
                             fail(&err);
        if (!got || !parse(&reply)) {
            return CG_EXIT_FAILED;
        }
        if (!show_page(request, &reply.json, &after)) {
            (void)fputs("cellgate dead-letter: the answer is no list\n", stderr);
            return CG_EXIT_FAILED;
        }
    } while (after != 0);
    return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}

/* --- show --- */

static int show(const struct request *request)
{
    static const char *const members[] = {"id",     "state",  "time",   "exporter",
                                          "reason", "cell",   "run",    "sequence",
                                          "index",  "status", "detail", "answer"};
    auto_reply struct reply reply;
    struct cg_error err = {0};
    cg_auto_buf struct cg_buf rest;
    cg_buf_init(&rest, TARGET_BYTES_MAX);
    cg_buf_append_char(&rest, '/');
    cg_control_append_encoded(&rest, request->ids[0]);
    reply_init(&reply);
    if (cg_buf_str(&rest) == NULL) {
        return refuse("the id is too long");
    }
    bool got = request->state_dir == NULL
                   ? ask(request, "GET", cg_buf_str(&rest), cg_bytes(NULL, 0), &reply)
                   : cg_letter_files_one(request->state_dir, request->exporter, request->ids[0],
                                         &reply.text, &err) ||
                         fail(&err);
    if (!got || !parse(&reply)) {
        return CG_EXIT_FAILED;
    }
    if (request->json) {
        (void)fwrite(reply.text.data, 1, reply.text.len, stdout);
        return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
    }
    char text[CG_CONTROL_SHOWN_MAX];
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        (void)printf("%-10s %s\n", members[i], cg_control_show(&reply.json, 0, members[i], text));
    }
    (void)printf("%-10s %s\n", "event", cg_control_show(&reply.json, 0, "event", text));
    return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}

/* --- replay and drop --- */

static bool ask_to_mark(const struct request *request, const char *verb, struct reply *reply)
{
    cg_auto_buf struct cg_buf body;
    cg_buf_init(&body, BODY_BYTES_MAX);
    cg_buf_append_str(&body, request->all ? "{\"all\":true" : "{\"ids\":[");
    for (size_t i = 0; i < request->ids_count; i++) {
        cg_buf_append_str(&body, i == 0 ? "" : ",");
        cg_json_append_string(&body, cg_bytes_str(request->ids[i]));
    }
    cg_buf_append_str(&body, request->all ? "}" : "]}");
    if (body.failed) {
        struct cg_error err = {0};
        (void)cg_error_set(&err, "too many ids for one request");
        return fail(&err);
    }
    return ask(request, "POST", verb, cg_buf_bytes(&body), reply);
}

static bool mark_files(const struct request *request, enum cg_letter_state state,
                       struct reply *reply)
{
    struct cg_error err = {0};
    struct cg_letter_ids ids = {.items = calloc(request->ids_count + 1, sizeof(struct cg_bytes))};
    if (ids.items == NULL) {
        (void)cg_error_set(&err, "no memory");
        return fail(&err);
    }
    for (size_t i = 0; i < request->ids_count; i++) {
        ids.items[ids.count++] = cg_bytes_str(request->ids[i]);
    }
    cg_letter_ids_sort(&ids);
    bool good = cg_letter_files_mark(request->state_dir, request->exporter, &ids, state,
                                     &reply->text, &err) ||
                fail(&err);
    free(ids.items);
    return good;
}

static int mark(const struct request *request, bool drop)
{
    auto_reply struct reply reply;
    char count[CG_CONTROL_SHOWN_MAX];
    reply_init(&reply);
    bool got = request->state_dir == NULL
                   ? ask_to_mark(request, drop ? "/drop" : "/replay", &reply)
                   : mark_files(request, drop ? CG_LETTER_GONE : CG_LETTER_REDO, &reply);
    if (!got || !parse(&reply)) {
        return CG_EXIT_FAILED;
    }
    if (request->json) {
        (void)fwrite(reply.text.data, 1, reply.text.len, stdout);
    } else {
        const char *words = drop                         ? "dropped"
                            : request->state_dir == NULL ? "to be sent again"
                                                         : "to be sent again at the next start";
        (void)printf("%s %s\n", cg_control_show(&reply.json, 0, "letters", count), words);
    }
    return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}

/* --- the command --- */

static int run_verb(struct request *request, const char *verb, int words)
{
    bool replay = strcmp(verb, "replay") == 0;
    bool drop = strcmp(verb, "drop") == 0;
    if (strcmp(verb, "list") == 0 && words <= 2) {
        return request->exporter == NULL ? list_exporters(request) : list_letters(request);
    }
    if (strcmp(verb, "show") == 0 && words == 3) {
        return show(request);
    }
    if ((replay || drop) && words >= 2) {
        if (request->all == (request->ids_count > 0)) {
            return refuse("name letters by their ids, or --all");
        }
        if (drop && request->all && !request->yes) {
            return refuse("--all drops every letter for good; say --yes as well");
        }
        return mark(request, drop);
    }
    print_help(stderr);
    return CG_EXIT_USAGE;
}

int cg_cmd_dead_letter(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"state-dir", required_argument, NULL, 'd'},
        {"json", no_argument, NULL, 'j'},
        {"all", no_argument, NULL, 'a'},
        {"yes", no_argument, NULL, 'y'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct request request = {.socket = cg_control_socket()};
    for (int option; (option = getopt_long(argc, argv, "s:d:jayh", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            request.socket = optarg;
            break;
        case 'd':
            request.state_dir = optarg;
            break;
        case 'j':
            request.json = true;
            break;
        case 'a':
            request.all = true;
            break;
        case 'y':
            request.yes = true;
            break;
        case 'h':
            print_help(stdout);
            return CG_EXIT_OK;
        default:
            return CG_EXIT_USAGE;
        }
    }
    int words = argc - optind;
    request.exporter = words > 1 ? argv[optind + 1] : NULL;
    request.ids = argv + optind + (words > 1 ? 2 : 0);
    request.ids_count = words > 2 ? (size_t)words - 2 : 0;
    return run_verb(&request, words > 0 ? argv[optind] : "", words);
}
