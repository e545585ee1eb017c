#include "http/vmm_watch.h"

#include "base/list.h"
#include "base/loop.h"
#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cellgate/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

enum {
    STAT_BYTES_MAX = 1024,
    STAT_START_FIELD = 22, /* proc(5), counted from 1 */
};

struct cg_vmm_watch {
    struct cg_list in_watcher; /* all, due, or dropped */
    int pidfd;
    bool started; /* in the loop */
    bool dropped;
    char cell_id[CG_ID_BYTES_MAX + 1];
    char run_id[CG_ID_BYTES_MAX + 1];
};

struct cg_vmm_watcher {
    const struct cg_clock *clock;
    uint64_t retry_interval_ns;
    cg_vmm_ended *ended;
    void *context;
    struct cg_loop loop;
    pthread_t thread;
    bool running;
    _Atomic bool stopping;

    pthread_mutex_t lock; /* covers the lists, and `started` and `dropped` of each watch */
    struct cg_list all;
    struct cg_list due;     /* their processes have ended */
    struct cg_list dropped; /* freed between turns, when no ready descriptor is remembered */
};

static void free_watches(struct cg_list *watches)
{
    for (struct cg_list *at = watches->next; at != watches;) {
        struct cg_vmm_watch *watch = CG_LIST_ENTRY(at, struct cg_vmm_watch, in_watcher);
        at = at->next;
        (void)close(watch->pidfd);
        free(watch);
    }
    cg_list_init(watches);
}

static void free_dropped(struct cg_vmm_watcher *watcher)
{
    (void)pthread_mutex_lock(&watcher->lock);
    free_watches(&watcher->dropped);
    (void)pthread_mutex_unlock(&watcher->lock);
}

/* It is not watched any more, so that it is ready once only. */
static void make_due(struct cg_vmm_watcher *watcher, struct cg_vmm_watch *watch)
{
    (void)pthread_mutex_lock(&watcher->lock);
    if (!watch->dropped && watch->started) {
        cg_loop_remove(&watcher->loop, watch->pidfd);
        watch->started = false;
        cg_list_remove(&watch->in_watcher);
        cg_list_append(&watcher->due, &watch->in_watcher);
    }
    (void)pthread_mutex_unlock(&watcher->lock);
}

/* Tells the ends that are due, each once. A watch that is dropped meanwhile stays in memory until
 * the end of the turn. Returns whether one is to be tried again. */
static bool tell_due(struct cg_vmm_watcher *watcher)
{
    struct cg_list again;
    cg_list_init(&again);
    (void)pthread_mutex_lock(&watcher->lock);
    while (!cg_list_is_empty(&watcher->due) && !atomic_load(&watcher->stopping)) {
        struct cg_vmm_watch *watch =
            CG_LIST_ENTRY(watcher->due.next, struct cg_vmm_watch, in_watcher);
        cg_list_remove(&watch->in_watcher);
        cg_list_append(&again, &watch->in_watcher);
        (void)pthread_mutex_unlock(&watcher->lock);
        (void)watcher->ended(watcher->context, watch->cell_id, watch->run_id);
        (void)pthread_mutex_lock(&watcher->lock);
    }
    /* Whose end was taken was dropped by that. */
    bool more = !cg_list_is_empty(&again);
    while (!cg_list_is_empty(&again)) {
        struct cg_list *node = again.next;
        cg_list_remove(node);
        cg_list_append(&watcher->due, node);
    }
    (void)pthread_mutex_unlock(&watcher->lock);
    return more;
}

static void *run(void *context)
{
    struct cg_vmm_watcher *watcher = context;
    uint64_t retry_at_ns = UINT64_MAX;
    while (!atomic_load(&watcher->stopping)) {
        struct cg_loop_ready ready;
        uint64_t now_ns = cg_clock_monotonic(watcher->clock);
        cg_loop_wait(&watcher->loop, now_ns, retry_at_ns, &ready);
        for (unsigned i = 0; i < ready.count; i++) {
            make_due(watcher, ready.data[i]);
        }
        now_ns = cg_clock_monotonic(watcher->clock);
        if (ready.count > 0 || now_ns >= retry_at_ns) {
            retry_at_ns = tell_due(watcher) ? now_ns + watcher->retry_interval_ns : UINT64_MAX;
        }
        free_dropped(watcher);
    }
    return NULL;
}

bool cg_vmm_watcher_start(const struct cg_clock *clock, uint64_t retry_interval_ns,
                          cg_vmm_ended *ended, void *context, struct cg_vmm_watcher **ret_watcher,
                          struct cg_error *err)
{
    struct cg_vmm_watcher *watcher = calloc(1, sizeof(*watcher));
    if (watcher == NULL) {
        return cg_error_set(err, "out of memory for the watcher of processes");
    }
    watcher->clock = clock;
    watcher->retry_interval_ns = retry_interval_ns;
    watcher->ended = ended;
    watcher->context = context;
    watcher->loop = (struct cg_loop){.epoll_fd = -1, .wake_fd = -1};
    (void)pthread_mutex_init(&watcher->lock, NULL);
    cg_list_init(&watcher->all);
    cg_list_init(&watcher->due);
    cg_list_init(&watcher->dropped);
    if (!cg_loop_init(&watcher->loop, err)) {
        cg_vmm_watcher_stop(watcher);
        return false;
    }
    int errnum = cg_thread_start(&watcher->thread, "vmm-watch", run, watcher);
    if (errnum != 0) {
        cg_vmm_watcher_stop(watcher);
        return cg_error_errno(err, errnum, "start the watcher of processes");
    }
    watcher->running = true;
    *ret_watcher = watcher;
    return true;
}

void cg_vmm_watcher_stop(struct cg_vmm_watcher *watcher)
{
    if (watcher == NULL) {
        return;
    }
    if (watcher->running) {
        atomic_store(&watcher->stopping, true);
        cg_loop_wake(&watcher->loop);
        (void)pthread_join(watcher->thread, NULL);
    }
    free_watches(&watcher->all);
    free_watches(&watcher->due);
    free_watches(&watcher->dropped);
    cg_loop_fini(&watcher->loop);
    (void)pthread_mutex_destroy(&watcher->lock);
    free(watcher);
}

/* When the process started, in clock ticks since the machine did. The name before it may hold
 * anything, parentheses too: fields are counted from the last one. */
static bool read_start_ticks(uint64_t pid, uint64_t *ret_ticks)
{
    char path[64];
    char text[STAT_BYTES_MAX];
    (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid);
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (len <= 0) {
        return false;
    }
    text[len] = '\0';
    const char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < STAT_START_FIELD; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return false;
    }
    *ret_ticks = strtoull(at + 1, NULL, 10);
    return true;
}

bool cg_vmm_watch_new(struct cg_vmm_watcher *watcher, const struct cg_cell *cell,
                      struct cg_vmm_watch **ret_watch, uint64_t *ret_start_ticks,
                      struct cg_error *err)
{
    cg_auto_close int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)cell->vmm_pid, 0);
    if (pidfd < 0) {
        return cg_error_errno(err, errno, "vmm_pid: %" PRIu64, cell->vmm_pid);
    }
    /* The descriptor is held already: if the number was used again since, it says so at once. */
    uint64_t ticks;
    if (!read_start_ticks(cell->vmm_pid, &ticks)) {
        return cg_error_set(err, "vmm_pid: %" PRIu64 ": there is no such process", cell->vmm_pid);
    }
    struct cg_vmm_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return cg_error_set(err, "vmm_pid: out of memory");
    }
    watch->pidfd = cg_steal_fd(&pidfd);
    (void)snprintf(watch->cell_id, sizeof(watch->cell_id), "%.*s",
                   CG_BYTES_ARG(cell->identity.cell_id));
    (void)snprintf(watch->run_id, sizeof(watch->run_id), "%.*s",
                   CG_BYTES_ARG(cell->identity.run_id));
    cg_list_init(&watch->in_watcher);
    (void)pthread_mutex_lock(&watcher->lock);
    cg_list_append(&watcher->all, &watch->in_watcher);
    (void)pthread_mutex_unlock(&watcher->lock);
    *ret_watch = watch;
    *ret_start_ticks = ticks;
    return true;
}

void cg_vmm_watch_start(struct cg_vmm_watcher *watcher, struct cg_vmm_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    struct cg_error err = {0};
    (void)pthread_mutex_lock(&watcher->lock);
    const bool started = cg_loop_add(&watcher->loop, watch->pidfd, watch, &err);
    watch->started = started; /* a process that has ended is due, and its watch gone, at once */
    (void)pthread_mutex_unlock(&watcher->lock);
    if (!started) {
        CG_LOG(CG_LOG_ERROR, "vmm_not_watched", CG_F_STR("cell", watch->cell_id),
               CG_F_STR("detail", err.text));
    }
}

void cg_vmm_watch_drop(struct cg_vmm_watcher *watcher, struct cg_vmm_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&watcher->lock);
    if (watch->started) {
        cg_loop_remove(&watcher->loop, watch->pidfd);
        watch->started = false;
    }
    watch->dropped = true;
    cg_list_remove(&watch->in_watcher);
    cg_list_append(&watcher->dropped, &watch->in_watcher);
    (void)pthread_mutex_unlock(&watcher->lock);
    cg_loop_wake(&watcher->loop);
}
