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
    cg_dead_letters_close(&delivery->letters);
    pthread_cond_destroy(&delivery->changed);
    pthread_mutex_destroy(&delivery->mutex);
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
    delivery->status = (struct cg_delivery_status){
        .name = config->name,
        .type = config->ops->type,
        .up = true,
    };
    init_plan(delivery);

    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&delivery->mutex, NULL);
    pthread_cond_init(&delivery->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return delivery;
}

/* Signals are the main thread's; a broken pipe is an error of write, not a signal. */
static int create_thread(struct cg_delivery *delivery)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    char name[16];
    (void)snprintf(name, sizeof(name), "to-%.12s", delivery->config.name);
    int failure = cg_thread_start(&delivery->thread, name, cg_worker_main, delivery);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

bool cg_delivery_start(const struct cg_delivery_config *config, struct cg_spool *spool,
                       struct cg_delivery **ret_delivery, struct cg_error *err)
{
    __attribute__((cleanup(cleanup_delivery))) struct cg_delivery *delivery =
        new_delivery(config, spool);
    if (delivery == NULL) {
        return cg_error_set(err, "exporter %s: no memory", config->name);
    }
    if (!cg_dead_letters_open(&delivery->letters, config->dead_letter_path, config->name, err) ||
        !cg_spool_reader_open(spool, config->name, &delivery->reader, err)) {
        return cg_error_context(err, "exporter %s", config->name);
    }
    int failure = create_thread(delivery);
    if (failure != 0) {
        return cg_error_errno(err, failure, "exporter %s: thread", config->name);
    }
    pthread_mutex_lock(&delivery->mutex);
    while (!delivery->opened && !delivery->open_failed) {
        pthread_cond_wait(&delivery->changed, &delivery->mutex);
    }
    pthread_mutex_unlock(&delivery->mutex);
    if (delivery->open_failed) {
        pthread_join(delivery->thread, NULL);
        return cg_error_set(err, "exporter %s: %s", config->name, delivery->open_error.text);
    }
    *ret_delivery = cg_steal_ptr(delivery);
    return true;
}

void cg_delivery_stop(struct cg_delivery *delivery)
{
    const struct cg_exporter_ops *ops = delivery->config.ops;
    pthread_mutex_lock(&delivery->mutex);
    atomic_store(&delivery->stopping, true);
    if (ops->cancel != NULL && delivery->exporter != NULL) {
        ops->cancel(delivery->exporter);
    }
    pthread_mutex_unlock(&delivery->mutex);
    cg_spool_reader_interrupt(delivery->reader);
    pthread_join(delivery->thread, NULL);
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
    cg_spool_reader_backlog(delivery->reader, &ret_status->backlog);
}

const struct cg_histogram *cg_delivery_durations(const struct cg_delivery *delivery)
{
    return &delivery->durations;
}
