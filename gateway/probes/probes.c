#include "probes/probes.h"

#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "probes/watch.h"

#include <limits.h>
#include <stdlib.h>

enum {
    LOG_PERIOD_S = 10,
    LOG_LINES_MAX = 100,
    TURN_MS = 50,         /* between two looks at what is due, so that few wake-ups serve many */
    DUE_MAX = 64,         /* in one turn, so that descriptors are served too */
    LEAVE_GRACE_MS = 200, /* beyond the deadline of the readings themselves */
};

/* The one list. */
static const struct cg_probe_ops *const table[CG_PROBE_COUNT] = {
    [CG_PROBE_CGROUP] = &cg_probe_cgroup,
    [CG_PROBE_FC_METRICS] = &cg_probe_fc_metrics,
    [CG_PROBE_NFTABLES] = &cg_probe_nftables,
    [CG_PROBE_TAP_LINK] = &cg_probe_tap_link,
};

const char *cg_probe_reason(enum cg_probe_outcome outcome)
{
    static const char *const reasons[CG_PROBE_OUTCOME_COUNT] = {
        [CG_PROBE_MISSING] = "missing",       [CG_PROBE_DENIED] = "denied",
        [CG_PROBE_UNREADABLE] = "unreadable", [CG_PROBE_MALFORMED] = "malformed",
        [CG_PROBE_TIMEOUT] = "timeout",       [CG_PROBE_UNSUPPORTED] = "unsupported",
    };
    CG_ASSERT(outcome < CG_PROBE_OUTCOME_COUNT && reasons[outcome] != NULL);
    return reasons[outcome];
}

const char *cg_probe_why_name(enum cg_probe_why why)
{
    static const char *const names[] = {
        [CG_PROBE_BASE] = "start",
        [CG_PROBE_TICK] = "interval",
        [CG_PROBE_HURRIED] = "change",
        [CG_PROBE_LAST] = "end",
    };
    return names[why];
}

bool cg_probe_host_add(struct cg_probe_host *host, int fd, struct cg_probe_source *source,
                       struct cg_error *err)
{
    return cg_loop_add(&host->loop, fd, source, err);
}

void cg_probe_host_remove(struct cg_probe_host *host, int fd)
{
    cg_loop_remove(&host->loop, fd);
}

/* --- the thread --- */

/* The next watch that somebody said something of, or NULL. */
static struct cg_probe_watch *take_note(struct cg_probes *probes, bool *ret_leaving)
{
    struct cg_probe_watch *watch = NULL;
    (void)pthread_mutex_lock(&probes->lock);
    if (!cg_list_is_empty(&probes->inbox)) {
        watch = CG_LIST_ENTRY(probes->inbox.next, struct cg_probe_watch, in_inbox);
        cg_list_remove(&watch->in_inbox);
        *ret_leaving = watch->leaving;
    }
    (void)pthread_mutex_unlock(&probes->lock);
    return watch;
}

static void take_inbox(struct cg_probes *probes)
{
    struct cg_probe_watch *watch;
    bool leaving = false;
    while ((watch = take_note(probes, &leaving)) != NULL) {
        if (!cg_list_is_linked(&watch->in_list)) {
            cg_list_append(&probes->watches, &watch->in_list);
        }
        if (leaving) {
            cg_probe_watch_end(watch);
        } else {
            cg_probe_watch_begin(watch);
        }
    }
}

static void bury(struct cg_probes *probes)
{
    while (!cg_list_is_empty(&probes->dead)) {
        struct cg_probe_watch *watch =
            CG_LIST_ENTRY(probes->dead.next, struct cg_probe_watch, in_list);
        cg_list_remove(&watch->in_list);
        (void)pthread_mutex_lock(&probes->lock);
        if (watch->cell->probe_watch == watch) {
            watch->cell->probe_watch = NULL;
        }
        (void)pthread_mutex_unlock(&probes->lock);
        cg_probe_watch_free(watch);
    }
}

static void turn(struct cg_probes *probes)
{
    struct cg_loop_ready ready;
    uint64_t due_ns = probes->timers.first == NULL ? UINT64_MAX : probes->timers.first->due_ns;
    due_ns = due_ns < probes->not_before_ns ? probes->not_before_ns : due_ns;
    cg_loop_wait(&probes->host.loop, cg_clock_monotonic(probes->host.clock), due_ns, &ready);
    probes->now_ns = cg_clock_monotonic(probes->host.clock);
    for (unsigned i = 0; i < ready.count; i++) {
        const struct cg_probe_source *source = ready.data[i];
        source->serve(source->context);
    }
    unsigned served = 0;
    while (served < DUE_MAX && probes->timers.first != NULL &&
           probes->timers.first->due_ns <= probes->now_ns) {
        cg_probe_watch_due(CG_LIST_ENTRY(probes->timers.first, struct cg_probe_due, timer));
        served++;
    }
    probes->not_before_ns = served == DUE_MAX ? 0 : probes->now_ns + TURN_MS * CG_NS_PER_MS;
    /* Behind the descriptors: what leaves may take one of them along. */
    if (ready.woken) {
        take_inbox(probes);
    }
    bury(probes);
}

static bool is_ending(struct cg_probes *probes)
{
    (void)pthread_mutex_lock(&probes->lock);
    bool ending = probes->ending;
    (void)pthread_mutex_unlock(&probes->lock);
    return ending;
}

static void *run(void *context)
{
    struct cg_probes *probes = context;
    while (!is_ending(probes)) {
        turn(probes);
    }
    return NULL;
}

/* --- cells come and go --- */

static void free_unused(struct cg_probe_watch *watch)
{
    cg_buf_fini(&watch->texts);
    cg_cell_unref(watch->cell);
    free(watch);
}

/* Which probes the cell has, a bit each; 0: none, as for most of thousands. */
static unsigned probes_of(const struct cg_probes *probes, const struct cg_cell *cell,
                          struct cg_buf *texts, struct cg_probe_spec *ret_spec)
{
    struct cg_error err = {0};
    if (!cg_probe_spec_resolve(&probes->config.policy, cell->probes, cell->identity.cell_id, texts,
                               ret_spec) ||
        !cg_probe_spec_check(ret_spec, &err)) {
        /* A default may come to nothing with this cell's id in it. */
        CG_LOG(CG_LOG_ERROR, "probes_off", CG_F_BYTES("cell", cell->identity.cell_id),
               CG_F_STR("reason", err.text[0] == '\0' ? "out of memory" : err.text));
        return 0;
    }
    unsigned has = 0;
    for (unsigned i = 0; i < CG_PROBE_COUNT; i++) {
        if (ret_spec->text[cg_probe_subject(i)] != NULL && probes->shared[i] != NULL) {
            has |= 1U << i;
        }
    }
    return has;
}

/* A watch that nobody knows yet, with the probes that the cell has; NULL: none, or no memory. */
static struct cg_probe_watch *make_watch(struct cg_probes *probes, struct cg_cell *cell)
{
    cg_auto_buf struct cg_buf texts;
    struct cg_probe_spec spec = {0};
    cg_buf_init(&texts, (size_t)CG_PROBE_TEXT_COUNT * PATH_MAX * 2);
    unsigned has = probes_of(probes, cell, &texts, &spec);
    struct cg_probe_watch *watch = has == 0 ? NULL : calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return NULL;
    }
    watch->probes = probes;
    watch->due = (struct cg_probe_due){.watch = watch};
    cg_timer_init(&watch->due.timer);
    cg_list_init(&watch->in_inbox);
    cg_list_init(&watch->in_list);
    watch->cell = cg_cell_ref(cell);
    watch->spec = spec;
    watch->texts = texts; /* the spec's texts do not move */
    cg_buf_init(&texts, 0);
    for (unsigned i = 0; i < CG_PROBE_COUNT; i++) {
        watch->instances[i].ops = (has & 1U << i) != 0 ? table[i] : NULL;
    }
    return watch;
}

/* Under the lock. */
static void note(struct cg_probes *probes, struct cg_probe_watch *watch)
{
    if (!cg_list_is_linked(&watch->in_inbox)) {
        cg_list_append(&probes->inbox, &watch->in_inbox);
    }
    cg_loop_wake(&probes->host.loop);
}

void cg_probes_join(struct cg_probes *probes, struct cg_cell *cell)
{
    struct cg_probe_watch *watch = make_watch(probes, cell);
    if (watch == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&probes->lock);
    bool taken = !probes->ending && cell->probe_watch == NULL;
    if (taken) {
        cell->probe_watch = watch;
        cg_probe_watch_announce(watch);
        note(probes, watch);
    }
    (void)pthread_mutex_unlock(&probes->lock);
    if (!taken) {
        free_unused(watch);
    }
}

void cg_probes_leave(struct cg_probes *probes, struct cg_cell *cell)
{
    uint64_t until_ns = cg_clock_monotonic(&cg_clock_system) + probes->config.policy.deadline_ns +
                        LEAVE_GRACE_MS * CG_NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CG_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CG_NS_PER_S)};
    (void)pthread_mutex_lock(&probes->lock);
    struct cg_probe_watch *watch = cell->probe_watch;
    if (watch != NULL && !watch->leaving && !probes->ending) {
        watch->leaving = true;
        note(probes, watch);
    }
    int waited = 0;
    while (cell->probe_watch != NULL && !cell->probe_watch->gone && !probes->ending &&
           waited == 0) {
        waited = pthread_cond_clockwait(&probes->left, &probes->lock, CLOCK_MONOTONIC, &until);
    }
    (void)pthread_mutex_unlock(&probes->lock);
}

/* --- start and stop --- */

static void joined(void *context, struct cg_cell *cell)
{
    cg_probes_join(context, cell);
}

static void leaving(void *context, struct cg_cell *cell)
{
    cg_probes_leave(context, cell);
}

static void join_registered(void *context, const struct cg_cell *cell)
{
    cg_probes_join(context, (struct cg_cell *)(uintptr_t)cell);
}

/* A probe that cannot start is off, and the log says so; the others do without it. */
static void start_shared(struct cg_probes *probes)
{
    for (unsigned i = 0; i < CG_PROBE_COUNT; i++) {
        struct cg_error err = {0};
        if (probes->config.policy.enabled[i] &&
            !table[i]->start(&probes->host, &probes->shared[i], &err)) {
            probes->shared[i] = NULL;
            CG_LOG(CG_LOG_ERROR, "probe_off", CG_F_STR("probe", cg_probe_name(i)),
                   CG_F_STR("reason", err.text));
        }
    }
}

/* Watches whose turn never came. */
static void take_rest(struct cg_probes *probes)
{
    struct cg_probe_watch *watch;
    bool leaves = false;
    while ((watch = take_note(probes, &leaves)) != NULL) {
        if (!cg_list_is_linked(&watch->in_list)) {
            cg_list_append(&probes->watches, &watch->in_list);
        }
    }
}

/* All watches go, and what their probes share. */
static void end_watches(struct cg_probes *probes)
{
    take_rest(probes);
    while (!cg_list_is_empty(&probes->watches)) {
        struct cg_list *node = probes->watches.next;
        cg_list_remove(node);
        cg_list_append(&probes->dead, node);
    }
    bury(probes);
    for (unsigned i = CG_PROBE_COUNT; i > 0; i--) {
        if (probes->shared[i - 1] != NULL) {
            table[i - 1]->stop(cg_steal_ptr(probes->shared[i - 1]));
        }
    }
}

static bool start_thread(struct cg_probes *probes, struct cg_error *err)
{
    int errnum = cg_thread_start(&probes->thread, "probes", run, probes);
    if (errnum != 0) {
        return cg_error_errno(err, errnum, "start the probes' thread");
    }
    probes->running = true;
    return true;
}

bool cg_probes_start(const struct cg_probes_config *config, struct cg_probes **ret_probes,
                     struct cg_error *err)
{
    struct cg_probes *probes = calloc(1, sizeof(*probes));
    if (probes == NULL) {
        return cg_error_set(err, "out of memory for the probes");
    }
    probes->config = *config;
    probes->host = (struct cg_probe_host){.loop = {.epoll_fd = -1, .wake_fd = -1},
                                          .policy = &probes->config.policy,
                                          .clock = config->clock};
    (void)pthread_mutex_init(&probes->lock, NULL);
    (void)pthread_cond_init(&probes->left, NULL);
    cg_list_init(&probes->inbox);
    cg_list_init(&probes->watches);
    cg_list_init(&probes->dead);
    probes->log_limit.period_ns = LOG_PERIOD_S * CG_NS_PER_S;
    probes->log_limit.burst = LOG_LINES_MAX;
    probes->sink.emit = cg_probe_watch_emit;
    cg_output_init(&probes->sink.inputs);
    cg_output_init(&probes->sink.output);
    cg_buf_init(&probes->inputs, CG_PROBE_CONTENT_BYTES_MAX);
    cg_buf_init(&probes->output, CG_PROBE_CONTENT_BYTES_MAX);
    bool looping = cg_loop_init(&probes->host.loop, err);
    if (looping) {
        start_shared(probes);
    }
    if (!looping || !start_thread(probes, err)) {
        end_watches(probes);
        cg_probes_free(probes);
        return false;
    }
    probes->watcher = (struct cg_ingress_watcher){probes, joined, leaving};
    if (config->ingress != NULL) {
        cg_ingress_watch(config->ingress, &probes->watcher);
        cg_registry_visit(config->registry, join_registered, probes);
    }
    *ret_probes = probes;
    return true;
}

void cg_probes_stop(struct cg_probes *probes)
{
    if (probes == NULL || !probes->running) {
        return;
    }
    if (probes->config.ingress != NULL) {
        cg_ingress_watch(probes->config.ingress, NULL);
    }
    (void)pthread_mutex_lock(&probes->lock);
    probes->ending = true;
    (void)pthread_cond_broadcast(&probes->left);
    (void)pthread_mutex_unlock(&probes->lock);
    cg_loop_wake(&probes->host.loop);
    (void)pthread_join(probes->thread, NULL);
    probes->running = false;
    end_watches(probes);
}

void cg_probes_free(struct cg_probes *probes)
{
    if (probes == NULL) {
        return;
    }
    cg_probes_stop(probes);
    cg_output_fini(&probes->sink.inputs);
    cg_output_fini(&probes->sink.output);
    cg_buf_fini(&probes->inputs);
    cg_buf_fini(&probes->output);
    cg_loop_fini(&probes->host.loop);
    (void)pthread_cond_destroy(&probes->left);
    (void)pthread_mutex_destroy(&probes->lock);
    free(probes);
}
