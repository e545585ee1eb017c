/* tap.c - `cellgate tap`: events of a running gateway, as they come. docs/contract.md section 8. */
#include "base/utf8.h"
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/control_stream.h"
#include "cmd/quote.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TARGET_BYTES_MAX = 8192, SHOWN_LINE_BYTES_MAX = 8 << 20 };

struct request {
    const char *socket, *cell, *types, *limit;
    bool raw;
};

static void print_help(FILE *out)
{
    (void)fputs(
        "usage: cellgate tap [CELL] [OPTION]...\n"
        "Prints the events that a running gateway appends from now on, one JSON text a line, as\n"
        "they go out. A tap holds nothing up: where it is too slow, events pass it by, and a line\n"
        "{\"skipped\":N} says how many it never saw.\n"
        "\n"
        "  CELL                only of cells whose id matches: * is any text, ? one character\n"
        "  -t, --types GLOB    only of types that match, such as '*.agent_silenced'\n"
        "  -n, --limit N       end after N events\n"
        "  -r, --raw           on a terminal too, every byte as it is\n"
        "  -s, --socket PATH   the control socket; $CELLGATE_CONTROL, or else\n"
        "                      " CG_CONTROL_SOCKET_DEFAULT "\n"
        "  -h, --help          show this\n"
        "\n"
        "On a terminal, characters that would drive it are shown as \\uXXXX.\n"
        "Exit codes: 0 at the limit, by SIGINT or SIGTERM, or when the gateway stops; 1 refused "
        "or\n"
        "failed; 64 usage.\n",
        out);
}

/* --- the end by a signal --- */

static volatile sig_atomic_t told_to_end;

static void note_signal(int signal)
{
    (void)signal;
    told_to_end = 1;
}

/* SIGINT and SIGTERM come only while waiting for events or for stdout, so that none falls between a
 * look at the flag and the wait. *ret_waiting is the mask to wait with. */
static void catch_signals(sigset_t *ret_waiting)
{
    static const int ending[] = {SIGINT, SIGTERM};
    struct sigaction action = {.sa_handler = note_signal};
    sigset_t blocked;
    sigemptyset(&action.sa_mask);
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        (void)sigaddset(&blocked, ending[i]);
        (void)sigaction(ending[i], &action, NULL);
    }
    (void)sigprocmask(SIG_BLOCK, &blocked, ret_waiting);
}

/* --- lines --- */

static bool print_line(struct cg_bytes line, bool escape, struct cg_buf *shown,
                       struct cg_error *err)
{
    if (escape) {
        cg_buf_clear(shown);
        if (!cg_utf8_valid(line) || !cg_quote_append_json(shown, line)) {
            return cg_error_set(err, "a line of the answer cannot be shown");
        }
        line = cg_buf_bytes(shown);
    }
    (void)fwrite(line.data, 1, line.len, stdout);
    (void)putchar('\n');
    return ferror(stdout) == 0 || cg_error_errno(err, errno, "write");
}

static bool print_lines(struct cg_control_stream *stream, bool escape, struct cg_buf *shown,
                        struct cg_error *err)
{
    struct cg_bytes line;
    while (cg_control_stream_line(stream, &line)) {
        if (!print_line(line, escape, shown, err)) {
            return false;
        }
    }
    return fflush(stdout) == 0 || cg_error_errno(err, errno, "write");
}

/* The same, but a signal ends it where stdout does not take the lines. */
static bool print_until_told(struct cg_control_stream *stream, const sigset_t *waiting, bool escape,
                             struct cg_buf *shown, struct cg_error *err)
{
    sigset_t blocking;
    (void)sigprocmask(SIG_SETMASK, waiting, &blocking);
    bool printed = print_lines(stream, escape, shown, err);
    (void)sigprocmask(SIG_SETMASK, &blocking, NULL);
    return printed || told_to_end != 0;
}

/* Until the stream ends or a signal comes. */
static bool follow(struct cg_control_stream *stream, const sigset_t *waiting, bool escape,
                   struct cg_error *err)
{
    cg_auto_buf struct cg_buf shown;
    cg_buf_init(&shown, SHOWN_LINE_BYTES_MAX);
    for (;;) {
        if (!print_until_told(stream, waiting, escape, &shown, err)) {
            return false;
        }
        if (told_to_end != 0 || stream->ended) {
            return true;
        }
        struct pollfd readable = {.fd = stream->fd, .events = POLLIN};
        if (ppoll(&readable, 1, NULL, waiting) > 0 && !cg_control_stream_read(stream, err)) {
            return false;
        }
    }
}

/* --- the command --- */

static void append_argument(struct cg_buf *target, const char *key, const char *value)
{
    if (value != NULL) {
        cg_buf_printf(target, "%c%s=", memchr(target->data, '?', target->len) == NULL ? '?' : '&',
                      key);
        cg_control_append_encoded(target, value);
    }
}

static int tap(const struct request *request)
{
    struct cg_control_stream stream;
    struct cg_error err = {0};
    sigset_t waiting;
    cg_auto_buf struct cg_buf target;
    cg_buf_init(&target, TARGET_BYTES_MAX);
    cg_buf_append_str(&target, "/v1/tap");
    append_argument(&target, "cell", request->cell);
    append_argument(&target, "types", request->types);
    append_argument(&target, "limit", request->limit);
    const char *text = cg_buf_str(&target);
    if (text == NULL) {
        (void)fputs("cellgate tap: the patterns are too long\n", stderr);
        return CG_EXIT_USAGE;
    }
    catch_signals(&waiting);
    bool good = cg_control_stream_open(&stream, request->socket, text, &err) &&
                follow(&stream, &waiting, !request->raw && isatty(STDOUT_FILENO) == 1, &err);
    cg_control_stream_close(&stream);
    if (!good) {
        (void)fprintf(stderr, "cellgate tap: %s\n", err.text);
    }
    return good ? CG_EXIT_OK : CG_EXIT_FAILED;
}

int cg_cmd_tap(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'}, {"types", required_argument, NULL, 't'},
        {"limit", required_argument, NULL, 'n'},  {"raw", no_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct request request = {.socket = cg_control_socket()};
    for (int option; (option = getopt_long(argc, argv, "s:t:n:rh", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            request.socket = optarg;
            break;
        case 't':
            request.types = optarg;
            break;
        case 'n':
            request.limit = optarg;
            break;
        case 'r':
            request.raw = true;
            break;
        case 'h':
            print_help(stdout);
            return CG_EXIT_OK;
        default:
            return CG_EXIT_USAGE;
        }
    }
    if (argc - optind > 1) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    request.cell = argv[optind];
    return tap(&request);
}
