/* send.c - `cellgate send`: plays guests against a gateway. docs/contract.md section 8. */
#include "base/utf8.h"
#include "cellgate/clock.h"
#include "cmd/cmd.h"
#include "cmd/send_guests.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CELLS_MAX = 1000000, CONNECTIONS_MAX = 1000000 };

static const char help[] =
    "usage: cellgate send --socket BASE [OPTION]...\n"
    "Plays guests: connects to <BASE>_9001 and sends frames. In BASE, %d stands for\n"
    "the cell's number, from 0.\n"
    "\n"
    "How much:\n"
    "  --cells N             play N cells (1)\n"
    "  --connections N       with N connections each (1)\n"
    "  --frames N            of N frames each (1; without end if there is a --rate or\n"
    "                        a --duration)\n"
    "  --rate N              N frames per second in all (as fast as they go)\n"
    "  --duration TIME       begin no frame after this: 500ms, 10s, 2m, or seconds\n"
    "  --hold TIME           keep connections open so long after their last frame\n"
    "  --reconnect N         connect again, at most N times each, after a break (0)\n"
    "  --timeout TIME        wait so long for a connect, for the last bytes to be\n"
    "                        taken and for the peer to close (10s)\n"
    "What:\n"
    "  --probe-source TEXT   (process.spawned)\n"
    "  --comm TEXT           (simulated)\n"
    "  --pid N               (the frame's number within its cell, from 1)\n"
    "  --monotonic-ns N      (the time)\n"
    "  --content-version N   (1)\n"
    "  --input FILE          frames from FILE (- is standard input) in turn, a JSON\n"
    "                        object per line: probe_source, guest_comm, guest_pid,\n"
    "                        guest_monotonic_ns, content_version, each optional; one\n"
    "                        round of them unless --frames, --rate or --duration\n"
    "                        says otherwise\n"
    "  --malformed KIND      behind the last frame of each connection, one that is\n"
    "                        oversized, zero, truncated, garbage, nested or of another\n"
    "                        version; or one with forged attribution keys, which is\n"
    "                        good but for those\n"
    "Output:\n"
    "  --json                the summary as a JSON object\n"
    "  --help                show this\n"
    "\n"
    "Prints how many frames were sent (the socket took all their bytes) and lost\n"
    "(due, but the connection could not be made or broke). Exits with 1 if any was\n"
    "lost, or may have been: a connection was reset, or not closed in time.\n";

enum {
    OPTION_SOCKET = 256,
    OPTION_CELLS,
    OPTION_CONNECTIONS,
    OPTION_FRAMES,
    OPTION_RATE,
    OPTION_DURATION,
    OPTION_HOLD,
    OPTION_RECONNECT,
    OPTION_TIMEOUT,
    OPTION_PROBE_SOURCE,
    OPTION_COMM,
    OPTION_PID,
    OPTION_MONOTONIC,
    OPTION_VERSION,
    OPTION_INPUT,
    OPTION_MALFORMED,
    OPTION_JSON,
    OPTION_HELP,
};

static const struct option options[] = {
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"cells", required_argument, NULL, OPTION_CELLS},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"frames", required_argument, NULL, OPTION_FRAMES},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"hold", required_argument, NULL, OPTION_HOLD},
    {"reconnect", required_argument, NULL, OPTION_RECONNECT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"probe-source", required_argument, NULL, OPTION_PROBE_SOURCE},
    {"comm", required_argument, NULL, OPTION_COMM},
    {"pid", required_argument, NULL, OPTION_PID},
    {"monotonic-ns", required_argument, NULL, OPTION_MONOTONIC},
    {"content-version", required_argument, NULL, OPTION_VERSION},
    {"input", required_argument, NULL, OPTION_INPUT},
    {"malformed", required_argument, NULL, OPTION_MALFORMED},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* What the command line says. */
struct request {
    struct cg_send_plan plan;
    struct cg_send_frame frame;
    const char *input;
    const char *malformed;
    bool frames_given;
    bool json;
    bool help;
};

static volatile sig_atomic_t stopped;

static void on_stop_signal(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/* The next call of a signal kills, so that a second Ctrl-C helps where the first does not. */
static void catch_stop_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop_signal, .sa_flags = (int)SA_RESETHAND};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

/* Decimal digits, and where they end. */
static bool parse_digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
    if (*text < '0' || *text > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    *ret_value = value;
    *ret_end = end;
    return true;
}

static bool parse_integer(const char *name, const char *text, uint64_t min, uint64_t max,
                          uint64_t *ret_value, struct cg_error *err)
{
    uint64_t value;
    const char *end;
    if (!parse_digits(text, &value, &end) || *end != '\0' || value < min || value > max) {
        return cg_error_set(err, "--%s takes an integer from %llu to %llu, and not '%s'", name,
                            (unsigned long long)min, (unsigned long long)max, text);
    }
    *ret_value = value;
    return true;
}

static bool parse_duration(const char *name, const char *text, uint64_t *ret_ns,
                           struct cg_error *err)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {
        {"", CG_NS_PER_S},  {"us", CG_NS_PER_US},    {"ms", CG_NS_PER_MS},
        {"s", CG_NS_PER_S}, {"m", 60 * CG_NS_PER_S}, {"h", 3600 * CG_NS_PER_S},
    };
    static const uint64_t longest_ns = UINT64_C(365) * 24 * 3600 * CG_NS_PER_S;
    uint64_t value;
    const char *end;
    if (parse_digits(text, &value, &end)) {
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
            if (strcmp(end, units[i].unit) == 0 && value <= longest_ns / units[i].ns) {
                *ret_ns = value * units[i].ns;
                return true;
            }
        }
    }
    return cg_error_set(err, "--%s takes a time like 500ms, 10s or 2m, and not '%s'", name, text);
}

static bool parse_text(const char *name, const char *text, struct cg_bytes *ret_text,
                       struct cg_error *err)
{
    if (!cg_utf8_valid(cg_bytes_str(text))) {
        return cg_error_set(err, "--%s takes text in UTF-8", name);
    }
    *ret_text = cg_bytes_str(text);
    return true;
}

static bool parse_frame_option(struct request *request, int option, const char *name,
                               const char *text, struct cg_error *err)
{
    struct cg_send_frame *frame = &request->frame;
    uint64_t value = 0;
    bool ok;
    switch (option) {
    case OPTION_PROBE_SOURCE:
        return parse_text(name, text, &frame->probe_source, err);
    case OPTION_COMM:
        return parse_text(name, text, &frame->guest_comm, err);
    case OPTION_PID:
        frame->pid_fixed = true;
        ok = parse_integer(name, text, 0, UINT32_MAX, &value, err);
        frame->guest_pid = (uint32_t)value;
        return ok;
    case OPTION_MONOTONIC:
        frame->monotonic_fixed = true;
        return parse_integer(name, text, 0, UINT64_MAX, &frame->guest_monotonic_ns, err);
    case OPTION_VERSION:
        ok = parse_integer(name, text, 0, UINT16_MAX, &value, err);
        frame->content_version = (uint16_t)value;
        return ok;
    case OPTION_INPUT:
        request->input = text;
        return true;
    case OPTION_MALFORMED:
        request->malformed = text;
        return true;
    default:
        return cg_error_set(err, "`cellgate send --help` lists the options");
    }
}

static bool parse_option(struct request *request, int option, const char *name, const char *text,
                         struct cg_error *err)
{
    struct cg_send_plan *plan = &request->plan;
    uint64_t value = 0;
    bool ok;
    switch (option) {
    case OPTION_SOCKET:
        plan->socket_base = text;
        return true;
    case OPTION_CELLS:
        ok = parse_integer(name, text, 1, CELLS_MAX, &value, err);
        plan->cells = (uint32_t)value;
        return ok;
    case OPTION_CONNECTIONS:
        ok = parse_integer(name, text, 1, CONNECTIONS_MAX, &value, err);
        plan->connections = (uint32_t)value;
        return ok;
    case OPTION_FRAMES:
        request->frames_given = true;
        return parse_integer(name, text, 0, CG_SEND_UNLIMITED - 1, &plan->frames, err);
    case OPTION_RATE:
        return parse_integer(name, text, 1, UINT32_MAX, &plan->rate, err);
    case OPTION_DURATION:
        return parse_duration(name, text, &plan->duration_ns, err);
    case OPTION_HOLD:
        return parse_duration(name, text, &plan->hold_ns, err);
    case OPTION_RECONNECT:
        ok = parse_integer(name, text, 0, UINT32_MAX, &value, err);
        plan->reconnects = (uint32_t)value;
        return ok;
    case OPTION_TIMEOUT:
        return parse_duration(name, text, &plan->timeout_ns, err);
    case OPTION_JSON:
        request->json = true;
        return true;
    case OPTION_HELP:
        request->help = true;
        return true;
    default:
        return parse_frame_option(request, option, name, text, err);
    }
}

static bool parse_command_line(int argc, char **argv, struct request *request, struct cg_error *err)
{
    int option;
    int index = 0;
    while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (!parse_option(request, option, options[index].name, optarg, err)) {
            return false;
        }
        if (request->help) {
            return true;
        }
    }
    if (optind < argc) {
        return cg_error_set(err, "takes options only, and no '%s'", argv[optind]);
    }
    if (request->plan.socket_base == NULL) {
        return cg_error_set(err, "--socket is required");
    }
    if (request->plan.timeout_ns == 0) {
        return cg_error_set(err, "--timeout must be longer than nothing");
    }
    return true;
}

/* How many frames a connection sends where the command line does not say. */
static uint64_t frames_by_default(const struct request *request, size_t source_count)
{
    if (request->plan.rate > 0 || request->plan.duration_ns > 0) {
        return CG_SEND_UNLIMITED;
    }
    return source_count;
}

static void print_summary(const struct request *request, const struct cg_send_result *result)
{
    double seconds = (double)result->elapsed_ns / (double)CG_NS_PER_S;
    if (request->json) {
        (void)printf("{\"cells\":%u,\"connections\":%llu,\"sent\":%llu,\"lost\":%llu,"
                     "\"malformed\":%llu,\"bytes\":%llu,\"connect_failures\":%llu,"
                     "\"reconnects\":%llu,\"resets\":%llu,\"unclosed\":%llu,"
                     "\"elapsed_ms\":%llu}\n",
                     request->plan.cells, (unsigned long long)result->connections,
                     (unsigned long long)result->sent, (unsigned long long)result->lost,
                     (unsigned long long)result->malformed, (unsigned long long)result->bytes,
                     (unsigned long long)result->connect_failures,
                     (unsigned long long)result->reconnects, (unsigned long long)result->resets,
                     (unsigned long long)result->unclosed,
                     (unsigned long long)(result->elapsed_ns / CG_NS_PER_MS));
        return;
    }
    (void)printf("sent %llu, lost %llu (%llu connections, %llu bytes, %.3f s, %.0f frames/s)\n",
                 (unsigned long long)result->sent, (unsigned long long)result->lost,
                 (unsigned long long)result->connections, (unsigned long long)result->bytes,
                 seconds, seconds > 0 ? (double)result->sent / seconds : 0);
}

/* Makes the frames and plays them; what was made is freed by the caller. */
static bool send_all(struct request *request, struct cg_send_source *source,
                     struct cg_buf *malformed, struct cg_send_result *ret_result,
                     struct cg_error *err)
{
    struct cg_send_plan *plan = &request->plan;
    bool ok = request->input == NULL
                  ? cg_send_source_add(source, &request->frame, err)
                  : cg_send_source_read(source, request->input, &request->frame, err);
    if (!ok || (request->malformed != NULL &&
                !cg_send_malformed(request->malformed, &request->frame, malformed, err))) {
        return false;
    }
    plan->source = source;
    plan->malformed = cg_buf_bytes(malformed);
    if (!request->frames_given) {
        plan->frames = frames_by_default(request, cg_send_source_count(source));
    }
    catch_stop_signals();
    return cg_send_play(plan, ret_result, err);
}

int cg_cmd_send(int argc, char **argv)
{
    enum { MALFORMED_BYTES_MAX = 1 << 20, TIMEOUT_S = 10 };
    struct request request = {
        .plan = {.cells = 1,
                 .connections = 1,
                 .timeout_ns = TIMEOUT_S * CG_NS_PER_S,
                 .progress = isatty(STDERR_FILENO) == 1,
                 .stop = &stopped},
        .frame = {.content_version = 1,
                  .probe_source = CG_BYTES("process.spawned"),
                  .guest_comm = CG_BYTES("simulated")},
    };
    struct cg_error err = {0};
    if (!parse_command_line(argc, argv, &request, &err)) {
        (void)fprintf(stderr, "cellgate send: %s\n", err.text);
        return CG_EXIT_USAGE;
    }
    if (request.help) {
        (void)fputs(help, stdout);
        return CG_EXIT_OK;
    }
    struct cg_send_source source;
    cg_auto_buf struct cg_buf malformed;
    cg_send_source_init(&source);
    cg_buf_init(&malformed, MALFORMED_BYTES_MAX);
    struct cg_send_result result;
    bool played = send_all(&request, &source, &malformed, &result, &err);
    cg_send_source_fini(&source);
    if (!played) {
        (void)fprintf(stderr, "cellgate send: %s\n", err.text);
        return CG_EXIT_FAILED;
    }
    if (result.trouble[0] != '\0') {
        (void)fprintf(stderr, "cellgate send: %s\n", result.trouble);
    }
    print_summary(&request, &result);
    bool all_arrived = result.lost == 0 && result.resets == 0 && result.unclosed == 0;
    return fflush(stdout) == 0 && all_arrived ? CG_EXIT_OK : CG_EXIT_FAILED;
}
