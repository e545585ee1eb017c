/* tap.c - `cellgate tap`: events of a running gateway, as they come. docs/contract.md section 8. */
#include "base/utf8.h"
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/control_stream.h"
#include "cmd/quote.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TARGET_BYTES_MAX = 8192, OUT_BYTES_MAX = 16 << 20 /* what was read, escaped */ };

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
        "On a terminal, characters that would drive it are shown as JSON escapes.\n"
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

/* SIGINT and SIGTERM come only in waits, so that none falls between a look at the flag and the
 * wait. *ret_waiting is the mask to wait with. */
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

struct printing {
    struct cg_control_stream stream;
    const sigset_t *waiting;
    bool escape;
    struct cg_buf out; /* lines, of which … */
    size_t written;    /* … so many bytes are */
};

/* Waits until a descriptor is ready. False: a signal came instead. */
static bool wait_for(const struct printing *printing, int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};
    return ppoll(&ready, 1, NULL, printing->waiting) > 0;
}

static bool take_lines(struct printing *printing, struct cg_error *err)
{
    struct cg_bytes line;
    cg_buf_clear(&printing->out);
    printing->written = 0;
    while (cg_control_stream_line(&printing->stream, &line)) {
        if (!cg_utf8_valid(line)) {
            return cg_error_set(err, "a line of the answer is not UTF-8");
        }
        if (printing->escape) {
            cg_quote_append_json(&printing->out, line);
        } else {
            cg_buf_append(&printing->out, line);
        }
        cg_buf_append_char(&printing->out, '\n');
    }
    return !printing->out.failed || cg_error_set(err, "no memory for a line");
}

/* A pipe that is ready takes PIPE_BUF bytes without waiting, and waiting is for ppoll. */
static bool write_lines(struct printing *printing, struct cg_error *err)
{
    while (printing->written < printing->out.len) {
        size_t left = printing->out.len - printing->written;
        if (!wait_for(printing, STDOUT_FILENO, POLLOUT)) {
            if (told_to_end != 0) {
                return true; /* nobody takes the rest */
            }
            continue;
        }
        ssize_t count = write(STDOUT_FILENO, printing->out.data + printing->written,
                              left < PIPE_BUF ? left : PIPE_BUF);
        if (count < 0 && errno != EINTR && errno != EAGAIN) {
            return cg_error_errno(err, errno, "write");
        }
        printing->written += count > 0 ? (size_t)count : 0;
    }
    return true;
}

/* Until the stream ends or a signal comes. */
static bool follow(struct printing *printing, struct cg_error *err)
{
    struct cg_control_stream *stream = &printing->stream;
    for (;;) {
        if (!take_lines(printing, err) || !write_lines(printing, err)) {
            return false;
        }
        if (told_to_end != 0 || stream->ended) {
            return true;
        }
        if (wait_for(printing, stream->fd, POLLIN) && !cg_control_stream_read(stream, err)) {
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
    struct cg_error err = {0};
    sigset_t waiting;
    struct printing printing = {
        .waiting = &waiting,
        .escape = !request->raw && isatty(STDOUT_FILENO) == 1,
    };
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
    cg_buf_init(&printing.out, OUT_BYTES_MAX);
    catch_signals(&waiting);
    bool good = cg_control_stream_open(&printing.stream, request->socket, text, &err) &&
                follow(&printing, &err);
    cg_control_stream_close(&printing.stream);
    cg_buf_fini(&printing.out);
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
