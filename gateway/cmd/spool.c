/* spool.c - `cellgate spool`: looks into a spool's directory, and sets an exporter back.
 * docs/contract.md section 8. Reads also while a gateway has it; changes nothing but by rewind. */
#include "spool/view.h"

#include "base/utf8.h"
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cmd/cmd.h"
#include "cmd/quote.h"
#include "event/json_write.h"
#include "run/config.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = CG_JSON_ESCAPE_GROWTH * CG_EVENT_BYTES_MAX + 4096 };

static const char help[] =
    "usage: cellgate spool list [--json] (--dir DIR|--config FILE)\n"
    "       cellgate spool cat [--from N] [--to N] [--cell ID] [--json] (--dir DIR|…)\n"
    "       cellgate spool rewind EXPORTER (--oldest|--index N|--time T) (--dir DIR|…)\n"
    "Looks into a spool's directory, also while a gateway has it open.\n"
    "\n"
    "  list    the segments, where each exporter stands, and the live runs\n"
    "  cat     the events, one JSON object a line, as exporters get them\n"
    "  rewind  lets an exporter deliver again from an earlier event on; the gateway\n"
    "          must be stopped\n"
    "\n"
    "  -d, --dir DIR      the spool's directory (spool.dir of the configuration)\n"
    "  -c, --config FILE  take it from this configuration\n"
    "      --from N       the first event's index\n"
    "      --to N         the last event's index\n"
    "      --cell ID      events of this cell only\n"
    "      --oldest       rewind to the oldest event that is kept\n"
    "      --index N      rewind to this event\n"
    "      --time T       rewind to the first event received at or after T, as in\n"
    "                     2026-11-25T10:00:00Z\n"
    "  -j, --json         list: one JSON object; cat: with index, cell and run of each\n"
    "  -h, --help         show this\n"
    "\n"
    "Exit codes: 0, 1 failed (or events are missing), 64 usage, 78 configuration.\n";

struct request;

struct action {
    const char *name;
    bool (*run)(const struct request *request, struct cg_spool_view *view, struct cg_error *err);
};

struct request {
    const char *exporter;
    const char *dir;
    const char *config;
    const char *cell;
    const char *time;
    uint64_t from, to, index;
    bool json, oldest, has_index;
};

/* --- list --- */

struct listing {
    struct cg_buf out;
    bool json;
    bool first; /* of the list that is being written */
    uint64_t next_index;
};

static void next_item(struct listing *listing)
{
    cg_buf_append_str(&listing->out, listing->first ? "" : ",");
    listing->first = false;
}

static void list_segments(const struct cg_spool_view *view, struct listing *listing)
{
    struct cg_view_segment segment;
    struct cg_buf *out = &listing->out;
    if (!listing->json) {
        cg_buf_printf(out, "%-28s %20s %20s %14s\n", "SEGMENT", "FIRST", "NEXT", "BYTES");
    }
    listing->first = true;
    for (size_t i = 0; cg_spool_view_segment(view, i, &segment); i++) {
        if (listing->json) {
            next_item(listing);
            cg_buf_printf(out,
                          "{\"file\":\"%s\",\"first_index\":%" PRIu64 ",\"next_index\":%" PRIu64
                          ",\"bytes\":%" PRIu64 "}",
                          segment.file, segment.first_index, segment.next_index,
                          segment.file_bytes);
        } else {
            cg_buf_printf(out, "%-28s %20" PRIu64 " %20" PRIu64 " %14" PRIu64 "\n", segment.file,
                          segment.first_index, segment.next_index, segment.file_bytes);
        }
    }
}

static void list_damaged(void *context, const char *file)
{
    struct listing *listing = context;
    struct cg_buf *out = &listing->out;
    if (listing->json) {
        next_item(listing);
        cg_json_append_string(out, cg_bytes_str(file));
    } else {
        (void)cg_quote_append(out, cg_bytes_str(file));
        cg_buf_append_str(out, "  set aside as damaged\n");
    }
}

static void list_position(void *context, const struct cg_view_position *position)
{
    struct listing *listing = context;
    struct cg_buf *out = &listing->out;
    uint64_t behind =
        position->index < listing->next_index ? listing->next_index - position->index : 0;
    if (listing->json) {
        next_item(listing);
        cg_buf_printf(out, "{\"exporter\":\"%s\",\"damaged\":%s,\"index\":%" PRIu64 "}",
                      position->name, position->damaged ? "true" : "false", position->index);
    } else if (position->damaged) {
        cg_buf_printf(out, "%-28s damaged: it starts at the oldest event\n", position->name);
    } else {
        cg_buf_printf(out, "%-28s %20" PRIu64 " %20" PRIu64 "\n", position->name, position->index,
                      behind);
    }
}

static void list_run(void *context, const struct cg_view_run *run)
{
    struct listing *listing = context;
    struct cg_buf *out = &listing->out;
    if (listing->json) {
        next_item(listing);
        cg_buf_append_str(out, "{\"cell\":");
        cg_json_append_string(out, run->cell);
        cg_buf_append_str(out, ",\"run\":");
        cg_json_append_string(out, run->run);
        cg_buf_printf(out, ",\"sequence\":%" PRIu64 ",\"connection\":%" PRIu32 "}", run->sequence,
                      run->connection);
    } else {
        cg_buf_printf(out, "%20" PRIu64 " %10" PRIu32 "  ", run->sequence, run->connection);
        (void)cg_quote_append(out, run->cell);
        cg_buf_append_char(out, '/');
        (void)cg_quote_append(out, run->run);
        cg_buf_append_char(out, '\n');
    }
}

static void list_for_people(const struct cg_spool_view *view, struct listing *listing)
{
    struct cg_buf *out = &listing->out;
    uint64_t holder = cg_spool_view_holder(view);
    if (holder != 0) {
        cg_buf_printf(out, "held by process %" PRIu64 "; this is how it was a moment ago\n\n",
                      holder);
    }
    list_segments(view, listing);
    cg_spool_view_damaged(view, list_damaged, listing);
    cg_buf_printf(out, "\n%-28s %20s %20s\n", "EXPORTER", "NEXT TO DELIVER", "BEHIND");
    cg_spool_view_positions(view, list_position, listing);
    cg_buf_printf(out, "\n%20s %10s  %s\n", "LAST SEQUENCE", "CONNECTION", "CELL/RUN");
    cg_spool_view_runs(view, list_run, listing);
}

static void list_as_json(const struct cg_spool_view *view, struct listing *listing)
{
    struct cg_buf *out = &listing->out;
    uint64_t holder = cg_spool_view_holder(view);
    cg_buf_printf(out, "{\"first_index\":%" PRIu64 ",\"next_index\":%" PRIu64 ",\"held_by\":",
                  cg_spool_view_first(view), cg_spool_view_next(view));
    if (holder == 0) {
        cg_buf_append_str(out, "null");
    } else {
        cg_buf_append_u64(out, holder);
    }
    cg_buf_append_str(out, ",\"segments\":[");
    list_segments(view, listing);
    cg_buf_append_str(out, "],\"damaged\":[");
    listing->first = true;
    cg_spool_view_damaged(view, list_damaged, listing);
    cg_buf_append_str(out, "],\"positions\":[");
    listing->first = true;
    cg_spool_view_positions(view, list_position, listing);
    cg_buf_append_str(out, "],\"runs\":[");
    listing->first = true;
    cg_spool_view_runs(view, list_run, listing);
    cg_buf_append_str(out, "]}\n");
}

static bool list(const struct request *request, struct cg_spool_view *view, struct cg_error *err)
{
    enum { LIST_BYTES_MAX = 256 * 1024 * 1024 };
    struct listing listing = {.json = request->json, .next_index = cg_spool_view_next(view)};
    cg_buf_init(&listing.out, LIST_BYTES_MAX);
    if (request->json) {
        list_as_json(view, &listing);
    } else {
        list_for_people(view, &listing);
    }
    bool good = !listing.out.failed &&
                fwrite(listing.out.data, 1, listing.out.len, stdout) == listing.out.len;
    cg_buf_fini(&listing.out);
    return good || cg_error_set(err, "the list could not be written");
}

/* --- cat --- */

struct printing {
    struct cg_buf line;
    const char *cell; /* NULL: all */
    bool json;
    bool terminal;
    bool failed;
};

static bool print_event(void *context, const struct cg_event *event)
{
    struct printing *printing = context;
    struct cg_buf *line = &printing->line;
    struct cg_bytes cell = cg_event_get(event, CG_TEXT_CELL);
    if (printing->cell != NULL && !cg_bytes_equal(cell, cg_bytes_str(printing->cell))) {
        return true;
    }
    cg_buf_clear(line);
    if (printing->json) {
        char received[CG_TIME_TEXT_LEN + 1] = {0};
        cg_time_format(event->meta.received_ns, received);
        cg_buf_printf(line, "{\"index\":%" PRIu64 ",\"received\":\"%s\",\"cell\":", event->index,
                      received);
        cg_json_append_string(line, cell);
        cg_buf_append_str(line, ",\"run\":");
        cg_json_append_string(line, cg_event_get(event, CG_TEXT_RUN));
        cg_buf_printf(line, ",\"sequence\":%" PRIu64 ",\"event\":", event->meta.sequence);
    }
    if (printing->terminal && cg_utf8_valid(event->bytes)) {
        (void)cg_quote_append_json(line, event->bytes);
    } else {
        cg_buf_append(line, event->bytes);
    }
    cg_buf_append_str(line, printing->json ? "}\n" : "\n");
    printing->failed = line->failed || fwrite(line->data, 1, line->len, stdout) != line->len;
    return !printing->failed;
}

static bool cat(const struct request *request, struct cg_spool_view *view, struct cg_error *err)
{
    struct printing printing = {
        .cell = request->cell, .json = request->json, .terminal = isatty(STDOUT_FILENO) == 1};
    uint64_t to = request->to == UINT64_MAX ? UINT64_MAX : request->to + 1;
    uint64_t missing = 0;
    cg_buf_init(&printing.line, LINE_BYTES_MAX);
    bool good = cg_spool_view_read(view, request->from, to, print_event, &printing, &missing, err);
    cg_buf_fini(&printing.line);
    if (good && printing.failed) {
        return cg_error_set(err, "the events could not be written");
    }
    if (good && missing > 0) {
        return cg_error_set(err, "%" PRIu64 " events in between are missing: damaged%s", missing,
                            cg_spool_view_holder(view) != 0
                                ? ", or delivered and deleted by the gateway meanwhile"
                                : "");
    }
    return good;
}

/* --- rewind --- */

/* RFC 3339 in UTC, to the second or finer. */
static bool parse_time(const char *text, uint64_t *ret_ns)
{
    struct tm parts = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == NULL) {
        return false;
    }
    uint64_t fraction_ns = 0;
    if (*rest == '.') {
        uint64_t unit = CG_NS_PER_S / 10;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10) {
            fraction_ns += unit * (uint64_t)(*rest - '0');
        }
    }
    time_t seconds = timegm(&parts);
    if (strcmp(rest, "Z") != 0 || seconds < 0) {
        return false;
    }
    *ret_ns = (uint64_t)seconds * CG_NS_PER_S + fraction_ns;
    return true;
}

static bool rewind_exporter(const struct request *request, struct cg_spool_view *view,
                            struct cg_error *err)
{
    uint64_t index = request->oldest ? cg_spool_view_first(view) : request->index;
    uint64_t time_ns;
    if (request->time != NULL &&
        (!parse_time(request->time, &time_ns) || !cg_spool_view_at(view, time_ns, &index, err))) {
        return err->text[0] != '\0' ||
               cg_error_set(err, "--time: expected a time like 2026-11-25T10:00:00Z");
    }
    if (!cg_spool_view_rewind(view, request->exporter, index, err)) {
        return cg_error_context(err, "%s", request->exporter);
    }
    (void)printf("%s starts at event %" PRIu64 ", %" PRIu64 " before the end\n", request->exporter,
                 index, cg_spool_view_next(view) - index);
    return true;
}

/* --- all --- */

static bool parse_number(const char *name, const char *text, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0') {
        (void)fprintf(stderr, "cellgate spool: --%s: expected a number\n", name);
        return false;
    }
    *ret_number = number;
    return true;
}

/* The directory; exit code 78 if the configuration has none. */
static int find_dir(const struct request *request, struct cg_config **ret_config,
                    const char **ret_dir)
{
    *ret_dir = request->dir;
    if (request->config == NULL) {
        return CG_EXIT_OK;
    }
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, (size_t)1024 * 1024);
    if (!cg_config_load(request->config, NULL, 0, ret_config, &problems)) {
        (void)fputs(cg_buf_str(&problems), stderr);
        return CG_EXIT_CONFIG;
    }
    *ret_dir = (*ret_config)->spool.dir;
    if (*ret_dir == NULL) {
        (void)fprintf(stderr, "cellgate spool: %s: the spool has no directory\n", request->config);
        return CG_EXIT_CONFIG;
    }
    return CG_EXIT_OK;
}

static const struct action actions[] = {{"list", list}, {"cat", cat}, {"rewind", rewind_exporter}};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(actions[i].name, name) == 0) {
            return &actions[i];
        }
    }
    return NULL;
}

static int run(const struct action *action, const struct request *request)
{
    struct cg_config *config = NULL;
    const char *dir = NULL;
    int code = find_dir(request, &config, &dir);
    if (code != CG_EXIT_OK) {
        cg_config_free(config);
        return code;
    }
    struct cg_error err = {0};
    struct cg_spool_view *view = NULL;
    bool good = cg_spool_view_open(dir, &view, &err) && action->run(request, view, &err);
    if (view != NULL) {
        cg_spool_view_close(view);
    }
    cg_config_free(config);
    bool written = fflush(stdout) == 0;
    if (!good || !written) {
        (void)fprintf(stderr, "cellgate spool: %s\n",
                      good ? "the output could not be written" : err.text);
    }
    return good && written ? CG_EXIT_OK : CG_EXIT_FAILED;
}

/* One option. False: it is wrong, and that has been said. */
static bool take_option(int option, struct request *request)
{
    switch (option) {
    case 'd':
        request->dir = optarg;
        return true;
    case 'c':
        request->config = optarg;
        return true;
    case 'C':
        request->cell = optarg;
        return true;
    case 'T':
        request->time = optarg;
        return true;
    case 'O':
        request->oldest = true;
        return true;
    case 'j':
        request->json = true;
        return true;
    case 'f':
        return parse_number("from", optarg, &request->from);
    case 't':
        return parse_number("to", optarg, &request->to);
    case 'i':
        request->has_index = true;
        return parse_number("index", optarg, &request->index);
    default:
        return false;
    }
}

/* Whether the words fit together. */
static bool makes_sense(const struct action *action, const struct request *request)
{
    if ((request->dir == NULL) == (request->config == NULL)) {
        return false;
    }
    bool targets = request->oldest || request->has_index || request->time != NULL;
    if (action->run == rewind_exporter) {
        return request->exporter != NULL &&
               request->oldest + request->has_index + (request->time != NULL) == 1;
    }
    return request->exporter == NULL && !targets;
}

int cg_cmd_spool(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"config", required_argument, NULL, 'c'},
        {"cell", required_argument, NULL, 'C'},
        {"from", required_argument, NULL, 'f'},
        {"to", required_argument, NULL, 't'},
        {"index", required_argument, NULL, 'i'},
        {"time", required_argument, NULL, 'T'},
        {"oldest", no_argument, NULL, 'O'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct request request = {.to = UINT64_MAX};
    for (int option; (option = getopt_long(argc, argv, "d:c:jh", options, NULL)) != -1;) {
        if (option == 'h') {
            (void)fputs(help, stdout);
            return CG_EXIT_OK;
        }
        if (!take_option(option, &request)) {
            return CG_EXIT_USAGE;
        }
    }
    const struct action *action = optind < argc ? find_action(argv[optind++]) : NULL;
    request.exporter = optind < argc ? argv[optind++] : NULL;
    if (action == NULL || optind != argc || !makes_sense(action, &request)) {
        (void)fputs(help, stderr);
        return CG_EXIT_USAGE;
    }
    return run(action, &request);
}
