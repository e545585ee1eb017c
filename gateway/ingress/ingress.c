#include "ingress/ingress.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "ingress/acceptor.h"
#include "ingress/reader.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOG_PERIOD_S = 10, LOG_LINES_MAX = 100 }; /* about guests' doings, all cells together */

struct worker {
    struct cg_reader *reader;
    pthread_t thread;
    bool running;
};

struct cg_ingress {
    struct cg_ingress_config config;
    struct cg_ingress_shared shared;
    struct cg_acceptor *acceptor;

    pthread_rwlock_t watcher_lock; /* held for reading while the watcher is called */
    const struct cg_ingress_watcher *watcher;

    pthread_mutex_t lock; /* covers the two below, and each cell's `channel` */
    bool ending;
    struct cg_channel *channels; /* the newest first */

    struct worker workers[]; /* config.threads */
};

/* --- starting --- */

static void *run_reader(void *context)
{
    cg_reader_run(context);
    return NULL;
}

static bool start_worker(struct cg_ingress *ingress, unsigned which,
                         const struct cg_envelope *envelope, const struct cg_signing_key *key,
                         struct cg_spool *spool, struct cg_error *err)
{
    struct worker *worker = &ingress->workers[which];
    if (!cg_reader_new(&ingress->config, &ingress->shared, envelope, key, spool, &worker->reader,
                       err)) {
        return false;
    }
    int errnum = pthread_create(&worker->thread, NULL, run_reader, worker->reader);
    if (errnum != 0) {
        return cg_error_errno(err, errnum, "start ingress thread %u", which);
    }
    char name[32];
    (void)snprintf(name, sizeof(name), "ingress-%u", which);
    (void)pthread_setname_np(worker->thread, name);
    worker->running = true;
    return true;
}

bool cg_ingress_start(const struct cg_ingress_config *config, const struct cg_envelope *envelope,
                      const struct cg_signing_key *key, struct cg_spool *spool,
                      struct cg_ingress **ret_ingress, struct cg_error *err)
{
    CG_ASSERT(config->threads > 0 && config->connections_max > 0);
    struct cg_ingress *ingress =
        calloc(1, sizeof(*ingress) + config->threads * sizeof(ingress->workers[0]));
    if (ingress == NULL) {
        return cg_error_set(err, "out of memory for ingress");
    }
    ingress->config = *config;
    ingress->shared.log_limit.period_ns = LOG_PERIOD_S * CG_NS_PER_S;
    ingress->shared.log_limit.burst = LOG_LINES_MAX;
    ingress->shared.pause_log_limit = ingress->shared.log_limit;
    cg_overflow_init(&ingress->shared.overflow);
    (void)pthread_mutex_init(&ingress->lock, NULL);
    (void)pthread_rwlock_init(&ingress->watcher_lock, NULL);
    cg_listening_sweep(config->registrations, config->roots);
    bool started = true;
    for (unsigned i = 0; started && i < config->threads; i++) {
        started = start_worker(ingress, i, envelope, key, spool, err);
    }
    if (!started ||
        !cg_acceptor_start(&ingress->config, &ingress->shared, &ingress->acceptor, err)) {
        cg_ingress_stop(ingress);
        return false;
    }
    *ret_ingress = ingress;
    return true;
}

/* --- cells --- */

static struct cg_listening_request listening_request(const struct cg_ingress *ingress,
                                                     const struct cg_cell *cell)
{
    return (struct cg_listening_request){
        .vsock_uds_base = cell->vsock_uds_base,
        .mode = cell->socket_mode,
        .uid = cell->socket_uid,
        .gid = cell->socket_gid,
        .roots = ingress->config.roots,
    };
}

static bool add_channel(struct cg_ingress *ingress, struct cg_channel *channel,
                        struct cg_error *err)
{
    (void)pthread_mutex_lock(&ingress->lock);
    bool added = ingress->ending ? cg_error_set(err, "the gateway is stopping") : true;
    if (added) {
        cg_reader_adopt(channel->reader, channel);
        channel->next = ingress->channels;
        if (channel->next != NULL) {
            channel->next->previous = channel;
        }
        ingress->channels = channel;
        channel->cell->channel = channel;
    }
    (void)pthread_mutex_unlock(&ingress->lock);
    return added;
}

/* The channel is somebody else's from here on; NULL: the cell does not listen. */
static struct cg_channel *take_channel(struct cg_ingress *ingress, struct cg_cell *cell)
{
    (void)pthread_mutex_lock(&ingress->lock);
    struct cg_channel *channel = ingress->ending ? NULL : cell->channel;
    if (channel != NULL) {
        *(channel->previous == NULL ? &ingress->channels : &channel->previous->next) =
            channel->next;
        if (channel->next != NULL) {
            channel->next->previous = channel->previous;
        }
        channel->next = channel->previous = NULL;
        cell->channel = NULL;
    }
    (void)pthread_mutex_unlock(&ingress->lock);
    return channel;
}

/* The name first, so that nobody connects any more. */
static void remove_socket(struct cg_ingress *ingress, const struct cg_cell *cell,
                          const struct cg_listening *listening)
{
    const struct cg_listening_request request = listening_request(ingress, cell);
    cg_listening_unlink(listening, &request);
    char path[PATH_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s_%d", cell->vsock_uds_base, CG_TELEMETRY_PORT);
    cg_registrations_unmade(ingress->config.registrations, path);
}

/* --- who watches --- */

void cg_ingress_watch(struct cg_ingress *ingress, const struct cg_ingress_watcher *watcher)
{
    (void)pthread_rwlock_wrlock(&ingress->watcher_lock);
    ingress->watcher = watcher;
    (void)pthread_rwlock_unlock(&ingress->watcher_lock);
}

static void say_joined(struct cg_ingress *ingress, struct cg_cell *cell)
{
    (void)pthread_rwlock_rdlock(&ingress->watcher_lock);
    if (ingress->watcher != NULL) {
        ingress->watcher->joined(ingress->watcher->context, cell);
    }
    (void)pthread_rwlock_unlock(&ingress->watcher_lock);
}

static void say_leaving(struct cg_ingress *ingress, struct cg_cell *cell)
{
    (void)pthread_rwlock_rdlock(&ingress->watcher_lock);
    if (ingress->watcher != NULL) {
        ingress->watcher->leaving(ingress->watcher->context, cell);
    }
    (void)pthread_rwlock_unlock(&ingress->watcher_lock);
}

void cg_ingress_observe(struct cg_ingress *ingress, struct cg_cell *cell,
                        struct cg_reading *reading)
{
    (void)pthread_mutex_lock(&ingress->lock);
    struct cg_channel *channel = ingress->ending ? NULL : cell->channel;
    if (channel != NULL) {
        cg_reader_observe(channel->reader, channel, cg_steal_ptr(reading));
    }
    (void)pthread_mutex_unlock(&ingress->lock);
    cg_reading_free(reading);
}

/* --- cells come and go --- */

enum cg_listening_outcome cg_ingress_enrol(struct cg_ingress *ingress, struct cg_cell *cell,
                                           const struct cg_kept_registration *registration,
                                           struct cg_error *err)
{
    CG_ASSERT(cell->ingress_thread < ingress->config.threads && cell->channel == NULL);
    const struct cg_listening_request request = listening_request(ingress, cell);
    struct cg_listening listening;
    enum cg_listening_outcome outcome =
        cg_listening_open(&request, ingress->config.registrations, registration, &listening, err);
    if (outcome != CG_LISTENING_DONE) {
        return outcome;
    }
    struct cg_channel *channel =
        cg_channel_new(cell, ingress->workers[cell->ingress_thread].reader, &listening);
    if (channel == NULL) {
        (void)cg_error_set(err, "out of memory for a channel");
        remove_socket(ingress, cell, &listening);
        cg_listening_close(&listening);
        return CG_LISTENING_FAILED;
    }
    if (!add_channel(ingress, channel, err)) {
        remove_socket(ingress, cell, &listening);
        cg_channel_free(channel);
        return CG_LISTENING_FAILED;
    }
    if (!cg_acceptor_add(ingress->acceptor, channel, err)) {
        /* The reader knows it already, and lets it go as it does any. */
        struct cg_run_totals totals;
        remove_socket(ingress, cell, &listening);
        cg_listening_close(&channel->listening);
        if (take_channel(ingress, cell) != NULL) {
            bool told = cg_reader_forget(channel->reader, channel, 0, &totals);
            (void)told; /* nothing has happened in this run */
        }
        return CG_LISTENING_FAILED;
    }
    say_joined(ingress, cell);
    return CG_LISTENING_DONE;
}

bool cg_ingress_listen(struct cg_ingress *ingress, struct cg_cell *cell, struct cg_error *err)
{
    return cg_ingress_enrol(ingress, cell, NULL, err) == CG_LISTENING_DONE;
}

bool cg_ingress_forget(struct cg_ingress *ingress, struct cg_cell *cell, uint64_t deadline_ns,
                       struct cg_run_totals *ret_totals, struct cg_error *err)
{
    say_leaving(ingress, cell);
    struct cg_channel *channel = take_channel(ingress, cell);
    if (channel == NULL) {
        return cg_error_set(err, "the gateway is stopping");
    }
    remove_socket(ingress, cell, &channel->listening);
    cg_acceptor_remove(ingress->acceptor, channel);
    cg_listening_close(&channel->listening);
    return cg_reader_forget(channel->reader, channel, deadline_ns, ret_totals) ||
           cg_error_set(err, "the spool has not taken the last events yet");
}

uint32_t cg_ingress_connections(const struct cg_ingress *ingress)
{
    return atomic_load_explicit(&ingress->shared.connections, memory_order_relaxed);
}

/* --- the end --- */

static void end_workers(struct cg_ingress *ingress, enum cg_reader_order order,
                        uint64_t deadline_ns)
{
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        if (ingress->workers[i].running) {
            cg_reader_order(ingress->workers[i].reader, order, deadline_ns);
        }
    }
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        if (ingress->workers[i].running) {
            (void)pthread_join(ingress->workers[i].thread, NULL);
            ingress->workers[i].running = false;
        }
    }
}

/* Names first, so that nobody connects any more; then who has connected is let in; then no more. */
static void end_listening(struct cg_ingress *ingress)
{
    for (struct cg_channel *channel = ingress->channels; channel != NULL; channel = channel->next) {
        remove_socket(ingress, channel->cell, &channel->listening);
    }
    cg_acceptor_stop(ingress->acceptor);
    for (struct cg_channel *channel = ingress->channels; channel != NULL; channel = channel->next) {
        cg_acceptor_empty(ingress->acceptor, channel);
        cg_listening_close(&channel->listening);
    }
}

void cg_ingress_drain(struct cg_ingress *ingress, uint64_t deadline_ns)
{
    (void)pthread_mutex_lock(&ingress->lock);
    ingress->ending = true; /* the channels are ours from here on */
    (void)pthread_mutex_unlock(&ingress->lock);
    end_listening(ingress);
    end_workers(ingress, CG_READER_DRAIN, deadline_ns);
}

void cg_ingress_stop(struct cg_ingress *ingress)
{
    if (ingress->acceptor != NULL) {
        cg_acceptor_stop(ingress->acceptor);
    }
    end_workers(ingress, CG_READER_STOP, 0);
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        cg_reader_free(ingress->workers[i].reader);
    }
    cg_overflow_report_rest(&ingress->shared.overflow);
    cg_acceptor_free(ingress->acceptor);
    while (ingress->channels != NULL) {
        struct cg_channel *channel = ingress->channels;
        ingress->channels = channel->next;
        cg_channel_end_log(channel);
        cg_channel_free(channel);
    }
    (void)pthread_rwlock_destroy(&ingress->watcher_lock);
    (void)pthread_mutex_destroy(&ingress->lock);
    free(ingress);
}
