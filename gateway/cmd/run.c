/* run.c - `cellgate run`: the gateway, from its configuration to a clean end. */
#include "cellgate/clock.h"
#include "cellgate/log.h"
#include "cmd/cmd.h"
#include "gateway.h"
#include "run/config.h"
#include "run/notify.h"
#include "run/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SETTINGS_MAX = 256,
    DESCRIPTORS_BESIDE_CELLS = 512,
    DESCRIPTOR_TABLE_MAX = 65536,
    PROBLEMS_BYTES_MAX = 1 << 20,
    WATCHDOG_SHARE = 4,     /* so many looks in the time that the watchdog allows */
    EXTEND_PERIOD_MS = 500, /* how often a drain asks for more time, */
    EXTEND_MS = 15000,      /* and how much it asks for */
};

static const char help[] =
    "usage: cellgate run --config FILE [--set PATH=VALUE]...\n"
    "Runs the gateway until SIGTERM or SIGINT; it is ready when /readyz says 200.\n"
    "\n"
    "  --config FILE      the configuration (YAML or JSON); - is standard input\n"
    "  --set PATH=VALUE   sets one value over the file's: --set http.listen=127.0.0.1:0\n"
    "\n"
    "SIGTERM, SIGINT  stop accepting, append what the sockets hold, give the exporters\n"
    "                 shutdown.drain to catch up, exit 0; a second one ends the waiting\n"
    "SIGHUP           read the configuration, keys and certificates again\n"
    "SIGUSR1          exporters reopen their files\n"
    "\n"
    "exit: 0 stopped cleanly, 1 could not start, 64 usage, 78 configuration\n";

/* A connected cell holds two descriptors, its listener and its connection. */
static void raise_descriptor_limit(const struct cg_config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        CG_LOG(CG_LOG_WARNING, "descriptor_limit_not_raised",
               CG_F_STR("reason", strerrordesc_np(errno)));
    }
    uint64_t wanted = 2 * config->ingress.cells.count + DESCRIPTORS_BESIDE_CELLS;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted) {
        CG_LOG(CG_LOG_WARNING, "descriptors_scarce", CG_F_U64("hard_limit", limit.rlim_max),
               CG_F_U64("wanted", wanted), CG_F_U64("cells", config->ingress.cells.count),
               CG_F_STR("advice", "raise the hard limit (LimitNOFILE, ulimit -Hn); connections "
                                  "beyond it are closed at once and counted"));
    }
}

/* The kernel doubles a process's table of descriptors as it fills. Once threads share the table,
 * each time costs whoever opens a descriptor then a wait of some 15 ms; for the acceptor that is a
 * VMM's device thread waiting. So the table grows now, while there is one thread. */
static void grow_descriptor_table(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == 0) {
        return;
    }
    rlim_t size = limit.rlim_cur < DESCRIPTOR_TABLE_MAX ? limit.rlim_cur : DESCRIPTOR_TABLE_MAX;
    int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)size - 1);
    if (last >= 0) {
        (void)close(last);
    }
}

static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

/* Blocks the signals for every thread, before there is a second one; main waits for them. */
static void block_signals(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        sigaddset(ret_set, signals[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk, and no end */
}

/* Asks for time to drain now and then: the unit's limit is for a gateway that does not end. */
static void ask_for_time(void)
{
    static uint64_t next_ns;
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    if (now_ns >= next_ns) {
        next_ns = now_ns + EXTEND_PERIOD_MS * CG_NS_PER_MS;
        cg_notify_extend(EXTEND_MS * CG_NS_PER_MS);
    }
}

/* Once the gateway drains, a second request to stop is the operator's word that waiting is over; a
 * rotation of logs (SIGUSR1) or a reload (SIGHUP) is not. */
static bool is_stop_asked_again(void)
{
    ask_for_time();
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    const struct timespec now = {0};
    static bool asked; /* the signal is taken once, the answer stays */
    asked = asked || sigtimedwait(&stop, NULL, &now) > 0;
    return asked;
}

/* The next signal; 0: there was none until then (UINT64_MAX: for ever). */
static int await_signal(const sigset_t *set, uint64_t until_ns)
{
    if (until_ns == UINT64_MAX) {
        int number = 0;
        return sigwait(set, &number) == 0 ? number : 0;
    }
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    const struct timespec wait = {.tv_sec = (time_t)(wait_ns / CG_NS_PER_S),
                                  .tv_nsec = (long)(wait_ns % CG_NS_PER_S)};
    int number = sigtimedwait(set, NULL, &wait);
    return number > 0 ? number : 0;
}

/* Says that the gateway is alive if every thread that guests depend on has turned since the last
 * look; a stuck one silences the watchdog, which then ends the process. */
static void keep_watchdog(struct cg_gateway *gateway)
{
    static const char *stuck_before;
    const char *stuck = NULL;
    if (cg_gateway_turns(gateway, &stuck)) {
        cg_notify_alive();
    } else if (stuck_before == NULL || strcmp(stuck, stuck_before) != 0) {
        CG_LOG(CG_LOG_ERROR, "thread_stuck", CG_F_STR("thread", stuck));
    }
    stuck_before = stuck;
}

static void serve(struct cg_gateway *gateway, const sigset_t *set)
{
    const uint64_t period_ns = cg_notify_watchdog_ns() / WATCHDOG_SHARE;
    uint64_t look_ns = period_ns == 0 ? UINT64_MAX : 0;
    for (;;) {
        int number = await_signal(set, look_ns);
        if (look_ns != UINT64_MAX && cg_clock_monotonic(&cg_clock_system) >= look_ns) {
            look_ns = cg_clock_monotonic(&cg_clock_system) + period_ns;
            keep_watchdog(gateway);
        }
        switch (number) {
        case SIGTERM:
        case SIGINT:
            CG_LOG(CG_LOG_INFO, "stopping", CG_F_STR("signal", sigabbrev_np(number)));
            return;
        case SIGHUP:
            CG_LOG(CG_LOG_INFO, "reloading", CG_F_STR("signal", "HUP"));
            cg_notify_reloading();
            cg_gateway_ask_reload(gateway, cg_notify_ready);
            break;
        case SIGUSR1:
            CG_LOG(CG_LOG_INFO, "reopening", CG_F_STR("signal", "USR1"));
            cg_gateway_reopen(gateway);
            break;
        default:
            break;
        }
    }
}

/* A descriptor that nobody has taken is a unit that means something else than we do. */
static void report_inherited(struct cg_inherited *inherited)
{
    for (size_t i = 0; i < inherited->count; i++) {
        if (inherited->items[i].fd >= 0) {
            CG_LOG(CG_LOG_WARNING, "descriptor_unused", CG_F_STR("name", inherited->items[i].name),
                   CG_F_STR("advice", "FileDescriptorName= of the socket unit: http or control"));
        }
    }
    cg_inherited_close(inherited);
}

static void free_sandbox(struct cg_sandbox **sandbox)
{
    cg_sandbox_free(*sandbox);
}

/* Takes the configuration. */
static int run_gateway(const struct cg_gateway_source *source, struct cg_config *config)
{
    sigset_t set;
    block_signals(&set);
    /* Every file is made with the mode it is meant to have; for a socket nothing but the umask
     * could take bits away, and the umask is the process's, so it is set once, before there are
     * threads. */
    (void)umask(0);
    cg_log_configure((enum cg_log_level)config->log.level, (enum cg_log_format)config->log.format);
    CG_LOG(CG_LOG_INFO, "starting", CG_F_STR("version", CELLGATE_VERSION),
           CG_F_STR("node", config->node), CG_F_U64("cells", config->ingress.cells.count),
           CG_F_U64("exporters", config->exporters_count));
    raise_descriptor_limit(config);
    grow_descriptor_table();

    struct cg_error err = {0};
    __attribute__((cleanup(free_sandbox))) struct cg_sandbox *sandbox = NULL;
    bool is_helper = false;
    bool prepared = cg_sandbox_prepare(source->path, config, &sandbox, &is_helper, &err);
    if (prepared && is_helper) {
        cg_config_free(config);
        return CG_EXIT_OK; /* the gateway that it helped is gone */
    }
    struct cg_gateway *gateway = NULL;
    if (!prepared || !cg_gateway_start(source, config, sandbox, &gateway, &err)) {
        CG_LOG(CG_LOG_ERROR, "start_failed", CG_F_STR("reason", err.text));
        cg_config_free(config);
        return CG_EXIT_FAILED;
    }
    report_inherited(source->inherited);
    CG_LOG(CG_LOG_INFO, "ready", CG_F_U64("cells", config->ingress.cells.count));
    cg_notify_ready();

    serve(gateway, &set);
    cg_notify_stopping();
    const uint64_t drain_ns = cg_gateway_drain_ns(gateway);
    cg_notify_extend(drain_ns + EXTEND_MS * CG_NS_PER_MS);
    cg_gateway_drain(gateway, cg_clock_monotonic(&cg_clock_system) + drain_ns, is_stop_asked_again);
    cg_gateway_stop(gateway);
    CG_LOG(CG_LOG_INFO, "stopped", CG_F_U64("status", CG_EXIT_OK));
    return CG_EXIT_OK;
}

int cg_cmd_run(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"set", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *path = NULL;
    const char *settings[SETTINGS_MAX];
    size_t settings_count = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'h') {
            (void)fputs(help, stdout);
            return CG_EXIT_OK;
        }
        if (option == 'c') {
            path = optarg;
        } else if (option == 's' && settings_count < SETTINGS_MAX) {
            settings[settings_count++] = optarg;
        } else {
            (void)fputs(help, stderr);
            return CG_EXIT_USAGE;
        }
    }
    if (path == NULL || optind != argc) {
        (void)fputs(help, stderr);
        return CG_EXIT_USAGE;
    }

    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, PROBLEMS_BYTES_MAX);
    struct cg_config *config = NULL;
    if (!cg_config_load(path, settings, settings_count, &config, &problems)) {
        (void)fprintf(stderr, "%s", cg_buf_str(&problems));
        return CG_EXIT_CONFIG;
    }
    struct cg_inherited inherited;
    cg_inherited_collect(&inherited);
    const struct cg_gateway_source source = {path, settings, settings_count, &inherited};
    int status = run_gateway(&source, config);
    cg_inherited_close(&inherited);
    return status;
}
