/* cell.c - `cellgate cell`: cells in and out, for people. docs/contract.md sections 6 and 8. */
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "event/json_write.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
    BODY_BYTES_MAX = 1 << 20, /* the gateway has the last word on what is too large */
    TARGET_BYTES_MAX = 8192,
    PAGE_CELLS = 1000,
};

struct request {
    const char *socket;
    bool json;
    const char *run_id, *hash, *base, *keepalive_ms, *owner, *mode, *traceparent, *vmm_pid;
    const char *labels[CG_LABELS_MAX];
    size_t labels_count;
    const char *state, *wait;
};

static void print_help(FILE *out)
{
    (void)fputs(
        "usage: cellgate cell add ID --run R --hash H --base PATH [OPTION]...\n"
        "       cellgate cell rm ID [--wait 30s]\n"
        "       cellgate cell list [--state STATE]\n"
        "       cellgate cell show ID\n"
        "Registers cells at a running gateway, ends their runs, and shows them.\n"
        "\n"
        "  -s, --socket PATH        the control socket; $CELLGATE_CONTROL, or else\n"
        "                           " CG_CONTROL_SOCKET_DEFAULT "\n"
        "  -j, --json               what the gateway answers; `list` gives a cell a line\n"
        "  -h, --help               show this\n"
        "\n"
        "add:\n"
        "  -r, --run ID             this run of the cell\n"
        "  -H, --hash TEXT          hash of the signed specification it is started from\n"
        "  -b, --base PATH          the VMM's socket for vsock; guests are heard on PATH_9001\n"
        "  -k, --keepalive-ms N     how long it may be silent\n"
        "  -o, --owner UID:GID      owner of the socket file\n"
        "  -m, --mode MODE          its permissions, \"0660\"\n"
        "  -l, --label KEY=VALUE    goes on each event; up to 16\n"
        "  -t, --traceparent TEXT   W3C trace context, goes on each event\n"
        "  -p, --vmm-pid PID        the run ends when this process does\n"
        "rm:\n"
        "  -w, --wait DURATION      until every exporter has acknowledged it all\n"
        "list:\n"
        "  -S, --state STATE        waiting, live, idle, silent or paused\n"
        "\n"
        "Exit codes: 0 done, 1 refused or failed, 64 usage.\n",
        out);
}

static int refuse(const char *words)
{
    (void)fprintf(stderr, "cellgate cell: %s\n", words);
    return CG_EXIT_USAGE;
}

/* --- asking --- */

/* Asks about a cell ("" for all); `query` is added as it is. */
static bool ask(const struct request *request, const char *method, const char *cell_id,
                const char *query, struct cg_bytes body, struct cg_control_answer *ret_answer)
{
    cg_auto_buf struct cg_buf target;
    struct cg_error err = {0};
    cg_buf_init(&target, TARGET_BYTES_MAX);
    cg_buf_append_str(&target, "/v1/cells");
    if (cell_id != NULL) {
        cg_buf_append_char(&target, '/');
        cg_control_append_encoded(&target, cell_id);
    }
    cg_buf_append_str(&target, query);
    const char *text = cg_buf_str(&target);
    if (text == NULL) {
        (void)cg_error_set(&err, "the id is too long");
    }
    if (text == NULL || !cg_control_ask(request->socket, method, text, body, ret_answer, &err)) {
        (void)fprintf(stderr, "cellgate cell: %s\n", err.text);
        return false;
    }
    return true;
}

/* Prints the answer by `show`, or as JSON; complains of a problem. Ends the answer. */
static int conclude(const struct request *request, struct cg_control_answer *answer,
                    void (*show)(const struct cg_json *json))
{
    bool good = answer->status < 300 && answer->json.count > 0;
    if (request->json) {
        (void)fwrite(answer->body.data, 1, answer->body.len, stdout);
    } else if (good) {
        show(&answer->json);
    }
    if (!good) {
        cg_control_complain("cell", answer);
    }
    cg_control_answer_fini(answer);
    return good && fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}

/* Every member of an object, one a line. */
static void show_members(const struct cg_json *json)
{
    char value[CG_CONTROL_SHOWN_MAX];
    for (uint32_t key = 1; key < json->nodes[0].next; key = json->nodes[key + 1].next) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s", CG_BYTES_ARG(cg_json_raw(json, key)));
        (void)printf("%-20s %s\n", name, cg_control_show(json, 0, name, value));
    }
}

/* --- add --- */

static void add_text(struct cg_buf *out, const char *member, const char *text)
{
    if (text != NULL) {
        cg_buf_append_char(out, out->len == 1 ? ' ' : ',');
        cg_json_append_string(out, cg_bytes_str(member));
        cg_buf_append_char(out, ':');
        cg_json_append_string(out, cg_bytes_str(text));
    }
}

static bool is_number(const char *text)
{
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

static bool add_number(struct cg_buf *out, const char *member, const char *text)
{
    if (text == NULL) {
        return true;
    }
    cg_buf_printf(out, ",\"%s\":%s", member, text);
    return is_number(text);
}

static bool add_owner(struct cg_buf *out, const char *text)
{
    if (text == NULL) {
        return true;
    }
    size_t uid_len = strspn(text, "0123456789");
    if (uid_len == 0 || text[uid_len] != ':' || !is_number(text + uid_len + 1)) {
        return false;
    }
    return cg_buf_printf(out, ",\"owner\":{\"uid\":%.*s,\"gid\":%s}", (int)uid_len, text,
                         text + uid_len + 1);
}

static bool add_labels(struct cg_buf *out, const struct request *request)
{
    for (size_t i = 0; i < request->labels_count; i++) {
        const char *label = request->labels[i];
        const char *equals = strchr(label, '=');
        if (equals == NULL) {
            return false;
        }
        cg_buf_append_str(out, i == 0 ? ",\"labels\":{" : ",");
        cg_json_append_string(out, cg_bytes(label, (size_t)(equals - label)));
        cg_buf_append_char(out, ':');
        cg_json_append_string(out, cg_bytes_str(equals + 1));
    }
    return request->labels_count == 0 || cg_buf_append_char(out, '}');
}

static int add(const struct request *request, const char *cell_id)
{
    struct cg_control_answer answer;
    cg_auto_buf struct cg_buf body;
    cg_buf_init(&body, BODY_BYTES_MAX);
    if (request->run_id == NULL || request->hash == NULL || request->base == NULL) {
        return refuse("add needs --run, --hash and --base");
    }
    cg_buf_append_char(&body, '{');
    add_text(&body, "run_id", request->run_id);
    add_text(&body, "spec_signature_hash", request->hash);
    add_text(&body, "vsock_uds_base", request->base);
    add_text(&body, "mode", request->mode);
    add_text(&body, "traceparent", request->traceparent);
    if (!add_number(&body, "keepalive_ms", request->keepalive_ms)) {
        return refuse("--keepalive-ms: expected a number");
    }
    if (!add_number(&body, "vmm_pid", request->vmm_pid)) {
        return refuse("--vmm-pid: expected a number");
    }
    if (!add_owner(&body, request->owner)) {
        return refuse("--owner: expected UID:GID, in numbers");
    }
    if (!add_labels(&body, request)) {
        return refuse("--label: expected KEY=VALUE");
    }
    if (!cg_buf_append_char(&body, '}')) {
        return refuse("that is too long");
    }
    if (!ask(request, "PUT", cell_id, "", cg_buf_bytes(&body), &answer)) {
        return CG_EXIT_FAILED;
    }
    return conclude(request, &answer, show_members);
}

/* --- rm and show --- */

static int rm(const struct request *request, const char *cell_id)
{
    struct cg_control_answer answer;
    cg_auto_buf struct cg_buf query;
    cg_buf_init(&query, TARGET_BYTES_MAX);
    if (request->wait != NULL) {
        cg_buf_append_str(&query, "?wait=");
        cg_control_append_encoded(&query, request->wait);
    }
    const char *text = cg_buf_str(&query);
    if (text == NULL) {
        return refuse("--wait: expected a duration such as 30s");
    }
    if (!ask(request, "DELETE", cell_id, text, cg_bytes(NULL, 0), &answer)) {
        return CG_EXIT_FAILED;
    }
    return conclude(request, &answer, show_members);
}

static int show(const struct request *request, const char *cell_id)
{
    struct cg_control_answer answer;
    if (!ask(request, "GET", cell_id, "", cg_bytes(NULL, 0), &answer)) {
        return CG_EXIT_FAILED;
    }
    return conclude(request, &answer, show_members);
}

/* --- list --- */

static void show_row(const struct cg_json *json, uint32_t cell)
{
    static const char *const columns[] = {"cell_id", "run_id",   "state",
                                          "frames",  "sequence", "connections"};
    static const int widths[] = {-32, -32, -8, 12, 12, 12};
    char text[CG_CONTROL_SHOWN_MAX];
    for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
        (void)printf("%s%*s", i == 0 ? "" : " ", widths[i],
                     cg_control_show(json, cell, columns[i], text));
    }
    (void)putchar('\n');
}

/* Shows a page and appends the next one's place to `after`; false if it is none. */
static bool show_page(const struct request *request, const struct cg_control_answer *answer,
                      struct cg_buf *after)
{
    const struct cg_json *json = &answer->json;
    uint32_t cells = json->count == 0 ? 0 : cg_json_find(json, 0, CG_BYTES("cells"));
    if (answer->status != 200 || cells == 0 || cg_json_type(json, cells) != CG_JSON_ARRAY) {
        cg_control_complain("cell", answer);
        return false;
    }
    for (uint32_t at = cells + 1; at < json->nodes[cells].next; at = json->nodes[at].next) {
        if (request->json) {
            (void)printf("%.*s\n", CG_BYTES_ARG(cg_json_raw(json, at)));
        } else {
            show_row(json, at);
        }
    }
    uint32_t next = cg_json_find(json, 0, CG_BYTES("next"));
    cg_buf_clear(after);
    if (next != 0 && cg_json_type(json, next) == CG_JSON_STRING) {
        cg_json_decode(json, next, after);
    }
    return true;
}

static int list(const struct request *request)
{
    cg_auto_buf struct cg_buf after;
    cg_auto_buf struct cg_buf query;
    cg_buf_init(&after, CG_ID_BYTES_MAX + 1);
    cg_buf_init(&query, TARGET_BYTES_MAX);
    if (!request->json) {
        (void)printf("%-32s %-32s %-8s %12s %12s %12s\n", "CELL", "RUN", "STATE", "FRAMES",
                     "SEQUENCE", "CONNECTIONS");
    }
    do {
        struct cg_control_answer answer;
        cg_buf_clear(&query);
        cg_buf_printf(&query, "?limit=%d", PAGE_CELLS);
        if (request->state != NULL) {
            cg_buf_append_str(&query, "&state=");
            cg_control_append_encoded(&query, request->state);
        }
        if (after.len > 0) {
            cg_buf_append_str(&query, "&after=");
            cg_control_append_encoded(&query, cg_buf_str(&after));
        }
        const char *text = cg_buf_str(&query);
        if (text == NULL) {
            return refuse("--state: too long");
        }
        if (!ask(request, "GET", NULL, text, cg_bytes(NULL, 0), &answer)) {
            return CG_EXIT_FAILED;
        }
        bool shown = show_page(request, &answer, &after);
        cg_control_answer_fini(&answer);
        if (!shown) {
            return CG_EXIT_FAILED;
        }
    } while (after.len > 0);
    return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}

/* --- the command --- */

/* False: --help was asked for, or the usage is wrong; *ret_status says which. */
static bool read_options(int argc, char **argv, struct request *request, int *ret_status)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"run", required_argument, NULL, 'r'},
        {"hash", required_argument, NULL, 'H'},
        {"base", required_argument, NULL, 'b'},
        {"owner", required_argument, NULL, 'o'},
        {"keepalive-ms", required_argument, NULL, 'k'},
        {"mode", required_argument, NULL, 'm'},
        {"label", required_argument, NULL, 'l'},
        {"vmm-pid", required_argument, NULL, 'p'},
        {"traceparent", required_argument, NULL, 't'},
        {"wait", required_argument, NULL, 'w'},
        {"state", required_argument, NULL, 'S'},
        {NULL, 0, NULL, 0},
    };
    const struct {
        int option;
        const char **value;
    } texts[] = {
        {'s', &request->socket}, {'r', &request->run_id},      {'H', &request->hash},
        {'b', &request->base},   {'o', &request->owner},       {'k', &request->keepalive_ms},
        {'m', &request->mode},   {'w', &request->wait},        {'p', &request->vmm_pid},
        {'S', &request->state},  {'t', &request->traceparent},
    };
    for (int option;
         (option = getopt_long(argc, argv, "s:jhr:H:b:o:k:m:l:p:t:w:S:", options, NULL)) != -1;) {
        *ret_status = option == 'h' ? CG_EXIT_OK : CG_EXIT_USAGE;
        if (option == 'h') {
            print_help(stdout);
            return false;
        }
        if (option == '?') {
            return false;
        }
        if (option == 'l') {
            if (request->labels_count == CG_LABELS_MAX) {
                (void)refuse("at most 16 --label");
                return false;
            }
            request->labels[request->labels_count++] = optarg;
        }
        request->json = request->json || option == 'j';
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            if (texts[i].option == option) {
                *texts[i].value = optarg;
            }
        }
    }
    return true;
}

int cg_cmd_cell(int argc, char **argv)
{
    struct request request = {.socket = cg_control_socket()};
    int status = CG_EXIT_OK;
    if (!read_options(argc, argv, &request, &status)) {
        return status;
    }
    int words = argc - optind;
    const char *verb = words > 0 ? argv[optind] : "";
    const char *cell_id = words > 1 ? argv[optind + 1] : NULL;
    if (strcmp(verb, "list") == 0 && words == 1) {
        return list(&request);
    }
    if (words == 2 && strcmp(verb, "add") == 0) {
        return add(&request, cell_id);
    }
    if (words == 2 && strcmp(verb, "rm") == 0) {
        return rm(&request, cell_id);
    }
    if (words == 2 && strcmp(verb, "show") == 0) {
        return show(&request, cell_id);
    }
    print_help(stderr);
    return CG_EXIT_USAGE;
}
