#include "ingress/ingress.h"

#include "ingress/acceptor.h"
#include "ingress/reader.h"
#include "ingress/sockets_made.h"

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

    pthread_mutex_t lock; /* covers the two below */
    struct cg_sockets_made *sockets_made;
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
    (void)pthread_mutex_init(&ingress->lock, NULL);
    bool started = config->sockets_record == NULL ||
                   cg_sockets_made_open(config->sockets_record, &ingress->sockets_made, err);
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

static bool listen_locked(struct cg_ingress *ingress, struct cg_cell *cell, struct cg_error *err)
{
    const struct cg_listening_request request = listening_request(ingress, cell);
    struct cg_listening listening;
    if (!cg_listening_open(&request, ingress->sockets_made, &listening, err)) {
        return false;
    }
    CG_ASSERT(cell->ingress_thread < ingress->config.threads);
    struct cg_channel *channel =
        cg_channel_new(cell, ingress->workers[cell->ingress_thread].reader, &listening);
    if (channel == NULL) {
        cg_listening_unlink(&listening, &request);
        cg_listening_close(&listening);
        return cg_error_set(err, "out of memory for a channel");
    }
    if (!cg_acceptor_add(ingress->acceptor, channel, err)) {
        cg_listening_unlink(&listening, &request);
        cg_channel_free(channel);
        return false;
    }
    channel->next = ingress->channels;
    ingress->channels = channel;
    return true;
}

bool cg_ingress_listen(struct cg_ingress *ingress, struct cg_cell *cell, struct cg_error *err)
{
    (void)pthread_mutex_lock(&ingress->lock);
    bool listening = listen_locked(ingress, cell, err);
    (void)pthread_mutex_unlock(&ingress->lock);
    return listening;
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
        const struct cg_listening_request request = listening_request(ingress, channel->cell);
        cg_listening_unlink(&channel->listening, &request);
    }
    struct cg_error err = {0};
    if (ingress->sockets_made != NULL && !cg_sockets_made_clear(ingress->sockets_made, &err)) {
        CG_LOG(CG_LOG_WARNING, "sockets_record_failed", CG_F_STR("detail", err.text));
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
    end_listening(ingress);
    (void)pthread_mutex_unlock(&ingress->lock);
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
    cg_acceptor_free(ingress->acceptor);
    while (ingress->channels != NULL) {
        struct cg_channel *channel = ingress->channels;
        ingress->channels = channel->next;
        cg_channel_free(channel);
    }
    cg_sockets_made_close(ingress->sockets_made);
    (void)pthread_mutex_destroy(&ingress->lock);
    free(ingress);
}
