#include "delivery/delivery.h"

#include "base/thread.h"
#include "delivery/worker.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <time.h>

enum { LOG_BURST = 10, LOG_PERIOD_S = 10 };

const char *cg_delivery_state_name(enum cg_delivery_state state)
{
    static const char *const names[] = {
        [CG_DELIVERY_IDLE] = "idle",
        [CG_DELIVERY_SENDING] = "sending",
        [CG_DELIVERY_BACKOFF] = "backoff",
        [CG_DELIVERY_HOLDING] = "holding",
    };
    return names[state];
}

const char *cg_outcome_name(enum cg_outcome outcome)
{
    static const char *const names[CG_OUTCOME_COUNT] = {
        [CG_OUTCOME_OK] = "ok",         [CG_OUTCOME_BACKOFF] = "backoff",
        [CG_OUTCOME_CONFIG] = "config", [CG_OUTCOME_TOO_LARGE] = "too_large",
        [CG_OUTCOME_POISON] = "poison",
    };
    return names[outcome];
}

/* --- start and stop --- */

static uint64_t choose_seed(const struct cg_delivery_config *config)
{
    uint64_t seed = config->jitter_seed;
    if (seed == 0 && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
        seed = cg_clock_realtime(config->clock); /* good enough for jitter */
    }
    return seed;
}

static void init_plan(struct cg_delivery *delivery)
{
    const struct cg_delivery_config *config = &delivery->config;
    const struct cg_plan_limits limits = {
        .batch_events = config->batch_events,
        .batch_bytes = config->batch_bytes,
        .suspect_after = config->suspect_after,
        .backoff_initial_ns = config->backoff_initial_ns,
        .backoff_max_ns = config->backoff_max_ns,
        .hold_initial_ns = config->hold_initial_ns,
        .hold_max_ns = config->hold_max_ns,
        .retry_after_max_ns = config->retry_after_max_ns,
        .jitter_seed = choose_seed(config),
    };
    cg_plan_init(&delivery->plan, &limits);
}

/* For an object whose thread has ended or never ran. */
static void free_delivery(struct cg_delivery *delivery)
{
    if (delivery->reader != NULL) {
        cg_spool_reader_close(delivery->reader);
    }
    cg_replay_fini(delivery);
    cg_dead_letters_close(&delivery->letters);
    cg_selection_fini(&delivery->selection);
    pthread_cond_destroy(&delivery->watch_wake);
    pthread_cond_destroy(&delivery->changed);
    pthread_mutex_destroy(&delivery->mutex);
    free(delivery->letters_path);
    free(delivery);
}

static void cleanup_delivery(struct cg_delivery **delivery)
{
    if (*delivery != NULL) {
        free_delivery(*delivery);
    }
}

static struct cg_delivery *new_delivery(const struct cg_delivery_config *config,
                                        struct cg_spool *spool)
{
    struct cg_delivery *delivery = calloc(1, sizeof(*delivery));
    if (delivery == NULL) {
        return NULL;
    }
    delivery->config = *config;
    delivery->spool = spool;
    delivery->letters.fd = -1;
    delivery->trouble = CG_DELIVERY_SENDING;
    delivery->log_limit.period_ns = LOG_PERIOD_S * CG_NS_PER_S;
    delivery->log_limit.burst = LOG_BURST;
    delivery->event_log_limit.period_ns = LOG_PERIOD_S * CG_NS_PER_S;
    delivery->event_log_limit.burst = LOG_BURST;
    delivery->status = (struct cg_delivery_status){
        .name = config->name,
        .type = config->ops->type,
        .up = true,
    };
    init_plan(delivery);
    cg_selection_init(&delivery->selection, config->filter);

    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&delivery->mutex, NULL);
    pthread_cond_init(&delivery->changed, &attributes);
    pthread_cond_init(&delivery->watch_wake, &attributes);
    pthread_condattr_destroy(&attributes);
    return delivery;
}

/* Signals are the main thread's; a broken pipe is an error of write, not a signal. */
static int create_thread(struct cg_delivery *delivery, void *(*run)(void *), const char *prefix,
                         pthread_t *ret_thread)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    char name[16]; /* what pthread_setname_np takes */
    (void)snprintf(name, sizeof(name), "%s-%.12s", prefix, delivery->config.name);
    int failure = cg_thread_start(ret_thread, name, run, delivery);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

/* --- the watchdog: a thread of its own, since the worker is what may hang --- */

static void act_on_stall(struct cg_delivery *delivery, enum cg_watchdog_turn turn,
                         const struct cg_spool_backlog *backlog)
{
    bool stalled = turn != CG_WATCHDOG_RECOVERED;
    atomic_store(&delivery->stalled, stalled);
    if (turn == CG_WATCHDOG_RECOVERED) {
        CG_LOG(CG_LOG_INFO, "exporter_moving", CG_F_STR("exporter", delivery->config.name));
        return;
    }
    if (turn == CG_WATCHDOG_STALLS) {
        CG_LOG(CG_LOG_ERROR, "exporter_stalled", CG_F_STR("exporter", delivery->config.name),
               CG_F_U64("watchdog_ms", delivery->config.watchdog_ns / CG_NS_PER_MS),
               CG_F_U64("backlog_events", backlog->events));
    }
    const struct cg_exporter_ops *ops = delivery->config.ops;
    pthread_mutex_lock(&delivery->mutex);
    if (delivery->exporter != NULL) {
        atomic_store(&delivery->rebuild, true);
        if (ops->cancel != NULL) {
            ops->cancel(delivery->exporter);
        }
    }
    pthread_mutex_unlock(&delivery->mutex);
    cg_spool_reader_interrupt(delivery->reader);
}

static void look(struct cg_delivery *delivery)
{
    struct cg_spool_backlog backlog;
    cg_spool_reader_backlog(delivery->reader, &backlog);
    const struct cg_watchdog_view view = {
        .now_ns = cg_clock_monotonic(delivery->config.clock),
        .progress_ns = atomic_load(&delivery->progress_ns),
        .excused_until_ns = atomic_load(&delivery->excused_until_ns),
        .backlog = backlog.events > 0,
    };
    enum cg_watchdog_turn turn = cg_watchdog_look(&delivery->watchdog, &view);
    if (turn != CG_WATCHDOG_NOTHING) {
        act_on_stall(delivery, turn, &backlog);
    }
}

static void *watch(void *argument)
{
    struct cg_delivery *delivery = argument;
    uint64_t interval_ns = cg_watchdog_interval_ns(&delivery->watchdog);
    pthread_mutex_lock(&delivery->mutex);
    while (!atomic_load(&delivery->stopping)) {
        uint64_t until_ns = cg_clock_monotonic(&cg_clock_system) + interval_ns;
        const struct timespec until = {
            .tv_sec = (time_t)(until_ns / CG_NS_PER_S),
            .tv_nsec = (long)(until_ns % CG_NS_PER_S),
        };
        if (pthread_cond_timedwait(&delivery->watch_wake, &delivery->mutex, &until) == ETIMEDOUT) {
            pthread_mutex_unlock(&delivery->mutex);
            look(delivery);
            pthread_mutex_lock(&delivery->mutex);
        }
    }
    pthread_mutex_unlock(&delivery->mutex);
    return NULL;
}

static bool start_watching(struct cg_delivery *delivery, struct cg_error *err)
{
    if (delivery->config.watchdog_ns == 0) {
        return true;
    }
    cg_watchdog_init(&delivery->watchdog, delivery->config.watchdog_ns,
                     cg_clock_monotonic(delivery->config.clock));
    int failure = create_thread(delivery, watch, "on", &delivery->watch_thread);
    delivery->watch_started = failure == 0;
    return failure == 0 || cg_error_errno(err, failure, "thread");
}

/* --- start and stop, continued --- */

static bool start_worker(struct cg_delivery *delivery, struct cg_error *err)
{
    int failure = create_thread(delivery, cg_worker_main, "to", &delivery->thread);
    if (failure != 0) {
        return cg_error_errno(err, failure, "thread");
    }
    pthread_mutex_lock(&delivery->mutex);
    while (!delivery->opened && !delivery->open_failed) {
        pthread_cond_wait(&delivery->changed, &delivery->mutex);
    }
    pthread_mutex_unlock(&delivery->mutex);
    if (delivery->open_failed) {
        pthread_join(delivery->thread, NULL);
        return cg_error_set(err, "%s", delivery->open_error.text);
    }
    return true;
}

/* Ends the threads, cancelling a request in progress. */
static void stop_threads(struct cg_delivery *delivery)
{
    const struct cg_exporter_ops *ops = delivery->config.ops;
    pthread_mutex_lock(&delivery->mutex);
    atomic_store(&delivery->stopping, true);
    if (ops->cancel != NULL && delivery->exporter != NULL) {
        ops->cancel(delivery->exporter);
    }
    pthread_cond_signal(&delivery->watch_wake);
    pthread_mutex_unlock(&delivery->mutex);
    cg_spool_reader_interrupt(delivery->reader);
    if (delivery->watch_started) {
        pthread_join(delivery->watch_thread, NULL);
    }
    pthread_join(delivery->thread, NULL);
}

static bool copy_letters_path(struct cg_delivery *delivery, struct cg_error *err)
{
    const char *path = delivery->config.dead_letter_path;
    delivery->letters_path = path == NULL ? NULL : strdup(path);
    return path == NULL || delivery->letters_path != NULL || cg_error_set(err, "no memory");
}

bool cg_delivery_start(const struct cg_delivery_config *config, struct cg_spool *spool,
                       struct cg_delivery **ret_delivery, struct cg_error *err)
{
    __attribute__((cleanup(cleanup_delivery))) struct cg_delivery *delivery =
        new_delivery(config, spool);
    if (delivery == NULL) {
        return cg_error_set(err, "exporter %s: no memory", config->name);
    }
    if (!copy_letters_path(delivery, err) ||
        !cg_dead_letters_open(&delivery->letters, delivery->letters_path, config->name,
                              config->dead_letter_bytes_max, err) ||
        !cg_spool_reader_open(spool, config->name, &delivery->reader, err)) {
        return cg_error_context(err, "exporter %s", config->name);
    }
    cg_spool_reader_limit(delivery->reader, config->spool_quota_bytes);
    cg_replay_init(delivery);
    if (!start_worker(delivery, err)) {
        return cg_error_context(err, "exporter %s", config->name);
    }
    if (!start_watching(delivery, err)) {
        stop_threads(delivery);
        return cg_error_context(err, "exporter %s", config->name);
    }
    *ret_delivery = cg_steal_ptr(delivery);
    return true;
}

void cg_delivery_stop(struct cg_delivery *delivery)
{
    stop_threads(delivery);
    free_delivery(delivery);
}

/* --- wishes --- */

void cg_delivery_flush(struct cg_delivery *delivery)
{
    atomic_store(&delivery->flush, true);
    cg_spool_reader_interrupt(delivery->reader);
}

void cg_delivery_reopen(struct cg_delivery *delivery)
{
    const struct cg_exporter_ops *ops = delivery->config.ops;
    pthread_mutex_lock(&delivery->mutex);
    if (ops->reopen != NULL && delivery->exporter != NULL) {
        ops->reopen(delivery->exporter);
    }
    pthread_mutex_unlock(&delivery->mutex);
    atomic_store(&delivery->reopen, true);
    cg_spool_reader_interrupt(delivery->reader);
}

struct cg_dead_letters *cg_delivery_dead_letters(struct cg_delivery *delivery)
{
    return delivery->letters.path == NULL ? NULL : &delivery->letters;
}

void cg_delivery_letters_marked(struct cg_delivery *delivery)
{
    atomic_store(&delivery->letters_marked, true);
    cg_spool_reader_interrupt(delivery->reader);
}

/* --- questions --- */

static bool has_passed(const struct cg_delivery *delivery, uint64_t index)
{
    struct cg_spool_backlog backlog;
    cg_spool_reader_backlog(delivery->reader, &backlog);
    return backlog.acked_index >= index || backlog.events == 0;
}

bool cg_delivery_caught_up(struct cg_delivery *delivery, uint64_t deadline_ns)
{
    struct cg_spool_status spool;
    cg_spool_status(delivery->spool, &spool);
    const struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / CG_NS_PER_S),
        .tv_nsec = (long)(deadline_ns % CG_NS_PER_S),
    };
    bool waiting = true;
    pthread_mutex_lock(&delivery->mutex);
    while (waiting && !has_passed(delivery, spool.next_index)) {
        waiting =
            pthread_cond_timedwait(&delivery->changed, &delivery->mutex, &deadline) != ETIMEDOUT;
    }
    pthread_mutex_unlock(&delivery->mutex);
    return has_passed(delivery, spool.next_index);
}

void cg_delivery_status(struct cg_delivery *delivery, struct cg_delivery_status *ret_status)
{
    const struct cg_exporter_ops *ops = delivery->config.ops;
    pthread_mutex_lock(&delivery->mutex);
    *ret_status = delivery->status;
    if (ops->certificate_expiry_s != NULL && delivery->exporter != NULL) {
        ret_status->certificate_expiry_s = ops->certificate_expiry_s(delivery->exporter);
    }
    pthread_mutex_unlock(&delivery->mutex);
    ret_status->state = (enum cg_delivery_state)atomic_load(&delivery->state);
    ret_status->stalled = atomic_load(&delivery->stalled);
    ret_status->dead_letters.kept = delivery->letters.path != NULL;
    ret_status->dead_letters.letters = atomic_load(&delivery->letters.letters);
    ret_status->dead_letters.replaying = atomic_load(&delivery->letters.replaying);
    ret_status->dead_letters.bytes = atomic_load(&delivery->letters.bytes);
    ret_status->dead_letters.bytes_max = delivery->letters.bytes_max;
    cg_spool_reader_backlog(delivery->reader, &ret_status->backlog);
}

const struct cg_histogram *cg_delivery_durations(const struct cg_delivery *delivery)
{
    return &delivery->durations;
}
