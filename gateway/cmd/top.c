/* top.c - `cellgate top`: cells and exporters on the terminal. docs/contract.md section 8. */
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cmd/cmd.h"
#include "cmd/control_client.h"
#include "cmd/terminal.h"
#include "cmd/top_sample.h"
#include "cmd/top_view.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    INTERVAL_DEFAULT_MS = 2000,
    INTERVAL_MIN_MS = 100,
    INTERVAL_MAX_MS = 3600 * 1000,
    TABLE_CELLS_DEFAULT = 100,
    LOAD_DIVISOR = 4, /* asking takes at most this part of the time */
    SCREEN_BYTES_MAX = 8 << 20,
    TYPED_BYTES_MAX = 64,
};

struct request {
    const char *socket;
    bool once;
    uint64_t interval_ms;
    size_t cells_max;
    enum cg_top_order order;
};

static void print_help(FILE *out)
{
    (void)fputs(
        "usage: cellgate top [OPTION]...\n"
        "Watches the cells and exporters of a running gateway: rates, lag, silence.\n"
        "\n"
        "  -i, --interval S    seconds between looks (0.1 to 3600; 2); longer where a look takes\n"
        "                      long, since it never asks for more than a quarter of the time\n"
        "  -o, --order ORDER   busy (the busiest cells first), silent (the silent ones first) or "
        "id\n"
        "  -1, --once          print one table, with the rates of one interval, and end\n"
        "  -n, --cells N       with --once: show N cells at most (100)\n"
        "  -s, --socket PATH   the control socket; $CELLGATE_CONTROL, or else\n"
        "                      " CG_CONTROL_SOCKET_DEFAULT "\n"
        "  -h, --help          show this\n"
        "\n"
        "Keys: q quits; b, s and i order the cells; arrows, j, k, page up and down, space, Home, "
        "End.\n"
        "Exit codes: 0 ok; 1 there is no terminal, or with --once no gateway that answers; 64 "
        "usage.\n",
        out);
}

/* --- the thread that asks, so that keys and signals never wait for the gateway --- */

struct sampler {
    const char *socket;
    int asked_fd; /* eventfds: a sample is wanted; one is there */
    int done_fd;
    pthread_mutex_t lock;
    struct cg_top_sample *sample; /* under the lock, until it is taken; NULL: it failed */
    struct cg_error err;
};

static void *sample_on_request(void *context)
{
    struct sampler *sampler = context;
    for (eventfd_t count; eventfd_read(sampler->asked_fd, &count) == 0;) {
        struct cg_error err = {0};
        struct cg_top_sample *sample = cg_top_sample_take(sampler->socket, &err);
        pthread_mutex_lock(&sampler->lock);
        cg_top_sample_free(sampler->sample);
        sampler->sample = sample;
        sampler->err = err;
        pthread_mutex_unlock(&sampler->lock);
        (void)eventfd_write(sampler->done_fd, 1);
    }
    return NULL;
}

/* It may be in the middle of a question when the command ends, so it is never joined, and what it
 * uses is never freed. */
static struct sampler *start_sampler(const char *socket, struct cg_error *err)
{
    static struct sampler sampler = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    sampler.socket = socket;
    sampler.asked_fd = eventfd(1, EFD_CLOEXEC); /* the first one is wanted at once */
    sampler.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sampler.asked_fd < 0 || sampler.done_fd < 0) {
        (void)cg_error_errno(err, errno, "make an eventfd");
        return NULL;
    }
    int failure = pthread_create(&thread, NULL, sample_on_request, &sampler);
    if (failure != 0) {
        (void)cg_error_errno(err, failure, "start a thread");
        return NULL;
    }
    (void)pthread_detach(thread);
    return &sampler;
}

/* --- the screen --- */

struct top {
    struct cg_top_view view;
    uint64_t interval_ns;
    uint64_t next_ns; /* when to ask again; UINT64_MAX: a sample is under way */
    struct sampler *sampler;
    struct cg_terminal terminal;
    struct cg_top_sample *sample; /* that is shown; NULL: none yet */
    struct cg_error failure;      /* of the last question; "": none */
    struct cg_buf screen;
    bool over;
};

static uint64_t now_ns(void)
{
    return cg_clock_monotonic(&cg_clock_system);
}

static void draw(struct top *top)
{
    static const struct cg_top_sample nothing = {.spool_bytes = CG_TOP_UNKNOWN,
                                                 .spool_bytes_max = CG_TOP_UNKNOWN};
    struct cg_top_view *view = &top->view;
    cg_terminal_size(&view->lines, &view->columns);
    view->notice = top->failure.text[0] != '\0' ? top->failure.text
                   : top->sample == NULL        ? "asking the gateway"
                                                : NULL;
    cg_buf_clear(&top->screen);
    cg_top_view_render(view, top->sample == NULL ? &nothing : top->sample, &top->screen);
    if (!top->screen.failed && !cg_terminal_write(cg_buf_bytes(&top->screen))) {
        top->over = true;
    }
}

/* Takes up a sample that is there. */
static void take_sample(struct top *top)
{
    eventfd_t count;
    struct sampler *sampler = top->sampler;
    if (eventfd_read(sampler->done_fd, &count) != 0) {
        return;
    }
    pthread_mutex_lock(&sampler->lock);
    struct cg_top_sample *sample = cg_steal_ptr(sampler->sample);
    top->failure = sampler->err;
    pthread_mutex_unlock(&sampler->lock);
    uint64_t pause_ns = top->interval_ns;
    if (sample != NULL) {
        if (top->sample != NULL) {
            const struct cg_top_view by_id = {.order = CG_TOP_ID};
            cg_top_view_sort(&by_id, top->sample);
        }
        cg_top_sample_rate(sample, top->sample);
        cg_top_view_sort(&top->view, sample);
        cg_top_sample_free(top->sample);
        top->sample = sample;
        uint64_t rest_ns = (LOAD_DIVISOR - 1) * sample->took_ns;
        pause_ns = pause_ns > rest_ns ? pause_ns : rest_ns;
    }
    top->next_ns = now_ns() + pause_ns;
    draw(top);
}

static void order_by(struct top *top, enum cg_top_order order)
{
    top->view.order = order;
    top->view.first = 0;
    if (top->sample != NULL) {
        cg_top_view_sort(&top->view, top->sample);
    }
}

static void scroll(struct top *top, size_t up, size_t down)
{
    size_t *first = &top->view.first;
    *first = *first > up ? *first - up : 0;
    *first += down; /* the view brings it into range */
}

static void follow_key(struct top *top, enum cg_key key)
{
    size_t page = top->view.page > 0 ? top->view.page : 1;
    size_t all = top->sample == NULL ? 0 : top->sample->cells_count;
    switch ((int)key) {
    case 'q':
        top->over = true;
        break;
    case 'b':
        order_by(top, CG_TOP_BUSY);
        break;
    case 's':
        order_by(top, CG_TOP_SILENT);
        break;
    case 'i':
        order_by(top, CG_TOP_ID);
        break;
    case 'k':
    case CG_KEY_UP:
        scroll(top, 1, 0);
        break;
    case 'j':
    case CG_KEY_DOWN:
        scroll(top, 0, 1);
        break;
    case CG_KEY_PAGE_UP:
        scroll(top, page, 0);
        break;
    case ' ':
    case CG_KEY_PAGE_DOWN:
        scroll(top, 0, page);
        break;
    case CG_KEY_HOME:
        scroll(top, all, 0);
        break;
    case CG_KEY_END:
        scroll(top, 0, all);
        break;
    default:
        break;
    }
}

static void follow_keys(struct top *top)
{
    char typed[TYPED_BYTES_MAX];
    ssize_t got = read(STDIN_FILENO, typed, sizeof(typed));
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) {
        top->over = true; /* the terminal is gone */
    }
    size_t len = 0;
    for (size_t at = 0; got > 0 && at < (size_t)got; at += len) {
        follow_key(top, cg_terminal_key(cg_bytes(typed + at, (size_t)got - at), &len));
    }
    draw(top);
}

static void follow_signals(struct top *top)
{
    for (int signal; (signal = cg_terminal_signal(&top->terminal)) != 0;) {
        top->over = top->over || (signal != SIGWINCH && signal != SIGTSTP);
    }
    draw(top);
}

static int wait_ms(const struct top *top)
{
    uint64_t now = now_ns();
    if (top->next_ns == UINT64_MAX) {
        return -1;
    }
    return top->next_ns > now ? (int)((top->next_ns - now) / CG_NS_PER_MS + 1) : 0;
}

static void watch(struct top *top)
{
    draw(top);
    while (!top->over) {
        struct pollfd fds[] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = top->terminal.signal_fd, .events = POLLIN},
            {.fd = top->sampler->done_fd, .events = POLLIN},
        };
        (void)poll(fds, sizeof(fds) / sizeof(fds[0]), wait_ms(top));
        if (fds[1].revents != 0) {
            follow_signals(top);
        }
        if (fds[0].revents != 0 && !top->over) {
            follow_keys(top);
        }
        if (fds[2].revents != 0) {
            take_sample(top);
        }
        if (now_ns() >= top->next_ns) {
            top->next_ns = UINT64_MAX;
            (void)eventfd_write(top->sampler->asked_fd, 1);
        }
    }
}

static bool show_screen(const struct request *request, struct cg_error *err)
{
    struct top top = {
        .view = {.order = request->order, .screen = true},
        .interval_ns = request->interval_ms * CG_NS_PER_MS,
        .next_ns = UINT64_MAX,
    };
    if (!cg_terminal_is_one()) {
        return cg_error_set(err, "this is no terminal; --once prints a table");
    }
    if (!cg_terminal_enter(&top.terminal, err)) {
        return false;
    }
    cg_buf_init(&top.screen, SCREEN_BYTES_MAX);
    top.sampler = start_sampler(request->socket, err);
    if (top.sampler != NULL) {
        watch(&top);
    }
    cg_terminal_leave(&top.terminal);
    cg_buf_fini(&top.screen);
    cg_top_sample_free(top.sample);
    return top.sampler != NULL;
}

/* --- the table --- */

static bool print_table(const struct request *request, struct cg_error *err)
{
    struct cg_top_view view = {.order = request->order, .cells_max = request->cells_max};
    struct cg_top_sample *before = cg_top_sample_take(request->socket, err);
    if (before == NULL) {
        return false;
    }
    (void)poll(NULL, 0, (int)request->interval_ms);
    struct cg_top_sample *sample = cg_top_sample_take(request->socket, err);
    bool good = sample != NULL;
    if (good) {
        cg_auto_buf struct cg_buf table;
        cg_buf_init(&table, SCREEN_BYTES_MAX);
        cg_top_sample_rate(sample, before);
        cg_top_view_sort(&view, sample);
        cg_top_view_render(&view, sample, &table);
        if (table.failed) {
            good = cg_error_set(err, "the table is too long; see --cells");
        } else if (fwrite(table.data, 1, table.len, stdout) != table.len || fflush(stdout) != 0) {
            good = cg_error_errno(err, errno, "write");
        }
    }
    cg_top_sample_free(sample);
    cg_top_sample_free(before);
    return good;
}

/* --- the command --- */

static bool read_interval(const char *text, uint64_t *ret_ms)
{
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds * 1000 >= INTERVAL_MIN_MS) ||
        !(seconds * 1000 <= INTERVAL_MAX_MS)) {
        return false;
    }
    *ret_ms = (uint64_t)(seconds * 1000);
    return true;
}

static bool read_count(const char *text, size_t *ret_count)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9 || text[digits] != '\0') {
        return false;
    }
    *ret_count = strtoul(text, NULL, 10);
    return true;
}

static bool read_order(const char *text, enum cg_top_order *ret_order)
{
    static const char *const names[] = {
        [CG_TOP_BUSY] = "busy", [CG_TOP_SILENT] = "silent", [CG_TOP_ID] = "id"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_order = (enum cg_top_order)i;
            return true;
        }
    }
    return false;
}

static int refuse(const char *words)
{
    (void)fprintf(stderr, "cellgate top: %s\n", words);
    return CG_EXIT_USAGE;
}

/* CG_EXIT_OK: go on. */
static int read_option(int option, struct request *request)
{
    switch (option) {
    case 's':
        request->socket = optarg;
        return CG_EXIT_OK;
    case '1':
        request->once = true;
        return CG_EXIT_OK;
    case 'i':
        return read_interval(optarg, &request->interval_ms)
                   ? CG_EXIT_OK
                   : refuse("--interval: expected seconds, 0.1 to 3600");
    case 'n':
        return read_count(optarg, &request->cells_max) ? CG_EXIT_OK
                                                       : refuse("--cells: expected a number");
    case 'o':
        return read_order(optarg, &request->order) ? CG_EXIT_OK
                                                   : refuse("--order: expected busy, silent or id");
    default:
        return CG_EXIT_USAGE;
    }
}

int cg_cmd_top(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},
        {"interval", required_argument, NULL, 'i'},
        {"order", required_argument, NULL, 'o'},
        {"once", no_argument, NULL, '1'},
        {"cells", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct request request = {.socket = cg_control_socket(),
                              .interval_ms = INTERVAL_DEFAULT_MS,
                              .cells_max = TABLE_CELLS_DEFAULT};
    for (int option; (option = getopt_long(argc, argv, "s:i:o:1n:h", options, NULL)) != -1;) {
        if (option == 'h') {
            print_help(stdout);
            return CG_EXIT_OK;
        }
        int status = read_option(option, &request);
        if (status != CG_EXIT_OK) {
            return status;
        }
    }
    if (optind < argc) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    struct cg_error err = {0};
    bool good = request.once ? print_table(&request, &err) : show_screen(&request, &err);
    if (!good) {
        (void)fprintf(stderr, "cellgate top: %s\n", err.text);
    }
    return good ? CG_EXIT_OK : CG_EXIT_FAILED;
}
