#include "ingress/ingress.h"

#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "ingress/ingress_state.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LOG_PERIOD_S = 10, /* about guests' doings, all cells together */
    LOG_LINES_MAX = 100,
};

/* --- starting --- */

static void *run_reader(void *context)
{
    cg_reader_run(context);
    return NULL;
}

static int start_thread(struct cg_ingress_worker *worker, unsigned which)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "ingress-%u", which);
    int errnum = cg_thread_start(&worker->thread, name, run_reader, worker->reader);
    worker->running = errnum == 0;
    return errnum;
}

static bool start_worker(struct cg_ingress *ingress, unsigned which,
                         const struct cg_envelope *envelope, const struct cg_signing_key *key,
                         struct cg_spool *spool, struct cg_error *err)
{
    struct cg_ingress_worker *worker = &ingress->workers[which];
    if (!cg_reader_new(&ingress->config, &ingress->shared, envelope, key, spool, &worker->reader,
                       err)) {
        return false;
    }
    int errnum = start_thread(worker, which);
    return errnum == 0 || cg_error_errno(err, errnum, "start ingress thread %u", which);
}

bool cg_ingress_start(const struct cg_ingress_config *config, const struct cg_envelope *envelope,
                      const struct cg_signing_key *key, struct cg_spool *spool,
                      struct cg_ingress **ret_ingress, struct cg_error *err)
{
    CG_ASSERT(config->threads > 0 && config->threads <= CG_INGRESS_THREADS_MAX &&
              config->connections_max > 0);
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
    cg_listening_sweep(config->registrations, config->roots, config->files, config->handover);
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

struct cg_listening_request cg_ingress_listening_request(const struct cg_ingress *ingress,
                                                         const struct cg_cell *cell)
{
    return (struct cg_listening_request){
        .vsock_uds_base = cell->vsock_uds_base,
        .look = {.mode = cell->socket_mode, .uid = cell->socket_uid, .gid = cell->socket_gid},
        .roots = ingress->config.roots,
        .files = ingress->config.files,
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
void cg_ingress_remove_socket(struct cg_ingress *ingress, const struct cg_cell *cell,
                              const struct cg_listening *listening)
{
    const struct cg_listening_request request = cg_ingress_listening_request(ingress, cell);
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

enum cg_listening_outcome cg_ingress_bind(struct cg_ingress *ingress, const struct cg_cell *cell,
                                          const struct cg_kept_registration *registration,
                                          struct cg_listening *ret_listening, struct cg_error *err)
{
    const struct cg_listening_request request = cg_ingress_listening_request(ingress, cell);
    if (cg_ingress_resume_listening(ingress, cell, &request, ret_listening)) {
        return CG_LISTENING_DONE;
    }
    return cg_listening_open(&request, ingress->config.registrations, registration, ret_listening,
                             err);
}

void cg_ingress_unbind(struct cg_ingress *ingress, const struct cg_cell *cell,
                       struct cg_listening *listening)
{
    cg_ingress_remove_socket(ingress, cell, listening);
    cg_listening_close(listening);
}

bool cg_ingress_adopt(struct cg_ingress *ingress, struct cg_cell *cell,
                      struct cg_listening *listening, struct cg_error *err)
{
    CG_ASSERT(cell->ingress_thread < ingress->config.threads && cell->channel == NULL);
    const struct cg_handover_cell *left = cg_ingress_find_left(ingress, cell);
    if (left != NULL) {
        cg_ingress_resume_counters(ingress, cell, left);
        ingress->resumed.cells++;
    }
    struct cg_channel *channel =
        cg_channel_new(cell, ingress->workers[cell->ingress_thread].reader, listening);
    if (channel == NULL) {
        cg_ingress_unbind(ingress, cell, listening);
        return cg_error_set(err, "out of memory for a channel");
    }
    if (!add_channel(ingress, channel, err)) {
        cg_ingress_remove_socket(ingress, cell, listening);
        cg_channel_free(channel);
        return false;
    }
    say_joined(ingress, cell); /* before anybody hears its guest */
    if (!cg_acceptor_add(ingress->acceptor, channel, err)) {
        /* The reader knows it already, and lets it go as it does any. */
        struct cg_run_totals totals;
        say_leaving(ingress, cell);
        cg_ingress_unbind(ingress, cell, &channel->listening);
        if (take_channel(ingress, cell) != NULL) {
            bool told = cg_reader_forget(channel->reader, channel, 0, &totals);
            (void)told; /* nothing has happened in this run */
        }
        return false;
    }
    if (left != NULL) {
        cg_ingress_resume_connections(ingress, channel, left);
    }
    return true;
}

enum cg_listening_outcome cg_ingress_enrol(struct cg_ingress *ingress, struct cg_cell *cell,
                                           const struct cg_kept_registration *registration,
                                           struct cg_error *err)
{
    struct cg_listening listening;
    enum cg_listening_outcome outcome =
        cg_ingress_bind(ingress, cell, registration, &listening, err);
    if (outcome == CG_LISTENING_DONE && !cg_ingress_adopt(ingress, cell, &listening, err)) {
        outcome = CG_LISTENING_FAILED;
    }
    return outcome;
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
    cg_ingress_remove_socket(ingress, cell, &channel->listening);
    cg_acceptor_remove(ingress->acceptor, channel);
    cg_listening_close(&channel->listening);
    return cg_reader_forget(channel->reader, channel, deadline_ns, ret_totals) ||
           cg_error_set(err, "the spool has not taken the last events yet");
}

unsigned cg_ingress_turns(const struct cg_ingress *ingress, uint64_t *ret_turns)
{
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        ret_turns[i] = cg_reader_turns(ingress->workers[i].reader);
    }
    ret_turns[ingress->config.threads] = cg_acceptor_turns(ingress->acceptor);
    return ingress->config.threads + 1;
}

void cg_ingress_poke(struct cg_ingress *ingress)
{
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        cg_reader_poke(ingress->workers[i].reader);
    }
    cg_acceptor_poke(ingress->acceptor);
}

void cg_ingress_settle(struct cg_ingress *ingress)
{
    uint64_t before[CG_INGRESS_TURNS_MAX];
    uint64_t deadline_ns = cg_clock_monotonic(&cg_clock_system) + CG_NS_PER_S;
    (void)cg_ingress_turns(ingress, before);
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        struct cg_reader *reader = ingress->workers[i].reader;
        cg_reader_poke(reader);
        while (cg_reader_turns(reader) == before[i] &&
               cg_clock_monotonic(&cg_clock_system) < deadline_ns) {
            (void)poll(NULL, 0, 1);
        }
    }
}

uint32_t cg_ingress_connections(const struct cg_ingress *ingress)
{
    return atomic_load_explicit(&ingress->shared.connections, memory_order_relaxed);
}

/* --- the end --- */

void cg_ingress_end_workers(struct cg_ingress *ingress, enum cg_reader_order order,
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

/* Those that came to rest, to be handed over, go on to the end that they come to after all. */
static void restart_workers(struct cg_ingress *ingress, uint64_t deadline_ns)
{
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        struct cg_ingress_worker *worker = &ingress->workers[i];
        if (worker->running) {
            continue;
        }
        cg_reader_order(worker->reader, CG_READER_DRAIN, deadline_ns);
        if (start_thread(worker, i) != 0) {
            cg_reader_run(worker->reader);
        }
    }
}

/* Names first, so that nobody connects any more; then who has connected is let in; then no more. */
static void end_listening(struct cg_ingress *ingress)
{
    for (struct cg_channel *channel = ingress->channels; channel != NULL; channel = channel->next) {
        cg_ingress_remove_socket(ingress, channel->cell, &channel->listening);
    }
    cg_acceptor_stop(ingress->acceptor);
    for (struct cg_channel *channel = ingress->channels; channel != NULL; channel = channel->next) {
        cg_acceptor_empty(ingress->acceptor, channel);
        cg_listening_close(&channel->listening);
    }
}

void cg_ingress_begin_end(struct cg_ingress *ingress)
{
    (void)pthread_mutex_lock(&ingress->lock);
    ingress->ending = true; /* the channels are ours from here on */
    (void)pthread_mutex_unlock(&ingress->lock);
}

void cg_ingress_drain(struct cg_ingress *ingress, uint64_t deadline_ns)
{
    cg_ingress_begin_end(ingress);
    end_listening(ingress);
    restart_workers(ingress, deadline_ns);
    cg_ingress_end_workers(ingress, CG_READER_DRAIN, deadline_ns);
}

void cg_ingress_stop(struct cg_ingress *ingress)
{
    if (ingress->acceptor != NULL) {
        cg_acceptor_stop(ingress->acceptor);
    }
    cg_ingress_end_workers(ingress, CG_READER_STOP, 0);
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        cg_reader_free(ingress->workers[i].reader);
    }
    cg_overflow_report_rest(&ingress->shared.overflow);
    (void)cg_handover_close(ingress->config.handover);
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
