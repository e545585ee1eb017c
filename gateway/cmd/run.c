/* run.c - `cellgate run`: the gateway, from its configuration to a clean end. */
#include "cellgate/clock.h"
#include "cellgate/log.h"
#include "cmd/cmd.h"
#include "gateway.h"
#include "run/config.h"
#include "run/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum {
    SETTINGS_MAX = 256,
    DESCRIPTORS_BESIDE_CELLS = 512,
    DESCRIPTOR_TABLE_MAX = 65536,
    PROBLEMS_BYTES_MAX = 1 << 20
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

/* Once the gateway drains, a second request to stop is the operator's word that waiting is over; a
 * rotation of logs (SIGUSR1) is not. */
static bool is_stop_asked_again(void)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGHUP);
    const struct timespec now = {0};
    static bool asked; /* the signal is taken once, the answer stays */
    asked = asked || sigtimedwait(&stop, NULL, &now) > 0;
    return asked;
}

static void serve(struct cg_gateway *gateway, const sigset_t *set)
{
    for (;;) {
        int number = 0;
        if (sigwait(set, &number) != 0) {
            continue;
        }
        if (number != SIGUSR1) {
            CG_LOG(CG_LOG_INFO, "stopping", CG_F_STR("signal", sigabbrev_np(number)));
            return;
        }
        CG_LOG(CG_LOG_INFO, "reopening", CG_F_STR("signal", "USR1"));
        cg_gateway_reopen(gateway);
    }
}

static void free_sandbox(struct cg_sandbox **sandbox)
{
    cg_sandbox_free(*sandbox);
}

static int run_gateway(const char *path, const struct cg_config *config)
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
    bool prepared = cg_sandbox_prepare(path, config, &sandbox, &is_helper, &err);
    if (prepared && is_helper) {
        return CG_EXIT_OK; /* the gateway that it helped is gone */
    }
    struct cg_gateway *gateway = NULL;
    if (!prepared || !cg_gateway_start(config, sandbox, &gateway, &err)) {
        CG_LOG(CG_LOG_ERROR, "start_failed", CG_F_STR("reason", err.text));
        return CG_EXIT_FAILED;
    }
    CG_LOG(CG_LOG_INFO, "ready", CG_F_U64("cells", config->ingress.cells.count));
    (void)sd_notify(0, "READY=1");

    serve(gateway, &set);
    (void)sd_notify(0, "STOPPING=1");
    cg_gateway_drain(gateway, cg_clock_monotonic(&cg_clock_system) + config->shutdown.drain_ns,
                     is_stop_asked_again);
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
    int status = run_gateway(path, config);
    cg_config_free(config);
    return status;
}
