/* status.c - `cellgate status`: how the gateway is, for people. docs/contract.md section 8. */
#include "cellgate/cleanup.h"
#include "cmd/cmd.h"
#include "cmd/control_client.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void print_help(FILE *out)
{
    (void)fputs("usage: cellgate status [--socket PATH] [--json]\n"
                "Shows how the gateway, its cells, its spool and its exporters are.\n"
                "\n"
                "  -s, --socket PATH   the control socket; $CELLGATE_CONTROL, or else\n"
                "                      " CG_CONTROL_SOCKET_DEFAULT "\n"
                "  -j, --json          the report as the gateway gives it\n"
                "  -h, --help          show this\n"
                "\n"
                "Exit codes: 0 ok or degraded, 1 neither, or the gateway does not answer, 64 "
                "usage.\n",
                out);
}

static void show_counts(const struct cg_json *json, uint32_t object)
{
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        (void)printf("%s%.*s %.*s", key == object + 1 ? "" : ", ",
                     CG_BYTES_ARG(cg_json_raw(json, key + 1)),
                     CG_BYTES_ARG(cg_json_raw(json, key)));
    }
    (void)putchar('\n');
}

static void show_exporters(const struct cg_json *json, uint32_t array)
{
    char name[CG_CONTROL_SHOWN_MAX];
    char type[CG_CONTROL_SHOWN_MAX];
    char state[CG_CONTROL_SHOWN_MAX];
    char delivered[CG_CONTROL_SHOWN_MAX];
    char backlog[CG_CONTROL_SHOWN_MAX];
    char error[CG_CONTROL_SHOWN_MAX];
    (void)printf("\n%-20s %-18s %-8s %12s %12s  %s\n", "EXPORTER", "TYPE", "STATE", "DELIVERED",
                 "WAITING", "LAST ERROR");
    for (uint32_t at = array + 1; at < json->nodes[array].next; at = json->nodes[at].next) {
        (void)printf("%-20s %-18s %-8s %12s %12s  %s\n", cg_control_show(json, at, "name", name),
                     cg_control_show(json, at, "type", type),
                     cg_control_show(json, at, "state", state),
                     cg_control_show(json, at, "delivered_events", delivered),
                     cg_control_show(json, at, "backlog_events", backlog),
                     cg_control_show(json, at, "last_error", error));
    }
}

static void show(const struct cg_json *json)
{
    char status[CG_CONTROL_SHOWN_MAX];
    char version[CG_CONTROL_SHOWN_MAX];
    char node[CG_CONTROL_SHOWN_MAX];
    char since[CG_CONTROL_SHOWN_MAX];
    (void)printf("%s: cellgate %s on %s since %s\n", cg_control_show(json, 0, "status", status),
                 cg_control_show(json, 0, "version", version),
                 cg_control_show(json, 0, "node", node),
                 cg_control_show(json, 0, "started_at", since));
    uint32_t cells = cg_json_find(json, 0, CG_BYTES("cells"));
    uint32_t spool = cg_json_find(json, 0, CG_BYTES("spool"));
    uint32_t exporters = cg_json_find(json, 0, CG_BYTES("exporters"));
    if (cells != 0 && cg_json_type(json, cells) == CG_JSON_OBJECT) {
        (void)fputs("cells: ", stdout);
        show_counts(json, cells);
    }
    if (spool != 0 && cg_json_type(json, spool) == CG_JSON_OBJECT) {
        char bytes[CG_CONTROL_SHOWN_MAX];
        char bytes_max[CG_CONTROL_SHOWN_MAX];
        (void)printf("spool: %s of %s bytes\n", cg_control_show(json, spool, "bytes", bytes),
                     cg_control_show(json, spool, "bytes_max", bytes_max));
    }
    if (exporters != 0 && cg_json_type(json, exporters) == CG_JSON_ARRAY) {
        show_exporters(json, exporters);
    }
}

static int ask(const char *socket, bool as_json)
{
    struct cg_control_answer answer;
    struct cg_error err = {0};
    if (!cg_control_ask(socket, "GET", "/healthz", cg_bytes(NULL, 0), &answer, &err)) {
        (void)fprintf(stderr, "cellgate status: %s\n", err.text);
        return CG_EXIT_FAILED;
    }
    if (answer.json.count == 0) {
        (void)fputs("cellgate status: the answer is no report\n", stderr);
        answer.status = 0;
    } else if (as_json) {
        (void)fwrite(answer.body.data, 1, answer.body.len, stdout);
    } else {
        show(&answer.json);
    }
    bool written = fflush(stdout) == 0;
    bool good = answer.status == 200 && written;
    cg_control_answer_fini(&answer);
    return good ? CG_EXIT_OK : CG_EXIT_FAILED;
}

int cg_cmd_status(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *socket = cg_control_socket();
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, "s:jh", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            socket = optarg;
            break;
        case 'j':
            as_json = true;
            break;
        case 'h':
            print_help(stdout);
            return CG_EXIT_OK;
        default:
            return CG_EXIT_USAGE;
        }
    }
    if (optind != argc) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    return ask(socket, as_json);
}
