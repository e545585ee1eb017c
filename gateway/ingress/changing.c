/* changing.c - what a reload has changed is taken up between two turns. */
#include "cellgate/cleanup.h"
#include "ingress/ingress_state.h"
#include "ingress/reader_state.h"

#include <stdlib.h>

/* One Ed25519 signature takes as long as thirty events without one: shorter turns are fairer. */
enum { READ_BYTES_ED25519 = 32 * 1024 };

enum { CHANGE_WAIT_MS = 1000 }; /* for all threads to take it up */

struct cg_reader_change {
    struct cg_ingress_settings settings;
    struct cg_signer *signer; /* NULL: the one it has */
};

bool cg_reader_change_new(const struct cg_ingress_settings *settings,
                          const struct cg_signing_key *key, struct cg_reader_change **ret_change,
                          struct cg_error *err)
{
    struct cg_reader_change *change = calloc(1, sizeof(*change));
    if (change == NULL) {
        return cg_error_set(err, "out of memory for a change");
    }
    change->settings = *settings;
    if (key != NULL && !cg_signer_new(key, &change->signer, err)) {
        free(change);
        return false;
    }
    *ret_change = change;
    return true;
}

void cg_reader_change_free(struct cg_reader_change *change)
{
    if (change != NULL) {
        if (change->signer != NULL) {
            cg_signer_free(change->signer);
        }
        free(change);
    }
}

void cg_reader_change(struct cg_reader *reader, struct cg_reader_change *change)
{
    (void)pthread_mutex_lock(&reader->inbox_lock);
    struct cg_reader_change *before = atomic_load(&reader->change);
    if (before != NULL && change->signer == NULL) {
        change->signer = cg_steal_ptr(before->signer);
    }
    atomic_store(&reader->change, change);
    (void)pthread_mutex_unlock(&reader->inbox_lock);
    cg_reader_change_free(before);
    cg_loop_wake(&reader->loop);
}

void cg_reader_await_change(struct cg_reader *reader, uint64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CG_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CG_NS_PER_S)};
    int waited = 0;
    (void)pthread_mutex_lock(&reader->inbox_lock);
    while (atomic_load(&reader->change) != NULL && waited == 0) {
        waited =
            pthread_cond_clockwait(&reader->changed, &reader->inbox_lock, CLOCK_MONOTONIC, &until);
    }
    (void)pthread_mutex_unlock(&reader->inbox_lock);
}

void cg_reader_settle(struct cg_reader *reader)
{
    reader->rate = cg_rate_make(reader->settings.frames_per_second, reader->settings.frames_burst);
    reader->read_bytes = cg_pipeline_signing_mode(reader->pipeline) == CG_SIGNING_ED25519
                             ? READ_BYTES_ED25519
                             : CG_READ_BYTES_MAX;
}

void cg_reader_take_change(struct cg_reader *reader)
{
    /* Nearly always there is none, and then the lock is not asked for. */
    if (atomic_load_explicit(&reader->change, memory_order_acquire) == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&reader->inbox_lock);
    struct cg_reader_change *change = atomic_exchange(&reader->change, NULL);
    bool other_rate = change->settings.frames_per_second != reader->settings.frames_per_second ||
                      change->settings.frames_burst != reader->settings.frames_burst;
    reader->settings = change->settings;
    atomic_store(&reader->shared->boot_grace_ns, change->settings.boot_grace_ns);
    if (change->signer != NULL) {
        cg_pipeline_set_signer(reader->pipeline, cg_steal_ptr(change->signer));
    }
    (void)pthread_cond_broadcast(&reader->changed);
    (void)pthread_mutex_unlock(&reader->inbox_lock);
    cg_reader_change_free(change);
    cg_reader_settle(reader);
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        struct cg_channel *channel = CG_LIST_ENTRY(at, struct cg_channel, in_reader);
        if (other_rate) {
            cg_rate_bucket_init(&channel->bucket); /* a debt by the old rate is nobody's wish */
        }
        cg_reader_schedule(reader, channel); /* the keep-alive window may be another now */
    }
}

/* --- of all readers --- */

struct cg_ingress_change {
    unsigned count;
    struct cg_reader_change *of_reader[]; /* `count`; NULL once handed over */
};

bool cg_ingress_change_new(const struct cg_ingress *ingress,
                           const struct cg_ingress_settings *settings,
                           const struct cg_signing_key *key, struct cg_ingress_change **ret_change,
                           struct cg_error *err)
{
    unsigned count = ingress->config.threads;
    struct cg_ingress_change *change =
        calloc(1, sizeof(*change) + count * sizeof(struct cg_reader_change *));
    if (change == NULL) {
        return cg_error_set(err, "out of memory for a change");
    }
    change->count = count;
    for (unsigned i = 0; i < count; i++) {
        if (!cg_reader_change_new(settings, key, &change->of_reader[i], err)) {
            cg_ingress_change_free(change);
            return false;
        }
    }
    *ret_change = change;
    return true;
}

void cg_ingress_change_apply(struct cg_ingress *ingress, struct cg_ingress_change *change)
{
    uint64_t until_ns = cg_clock_monotonic(&cg_clock_system) + CHANGE_WAIT_MS * CG_NS_PER_MS;
    for (unsigned i = 0; i < change->count; i++) {
        cg_reader_change(ingress->workers[i].reader, cg_steal_ptr(change->of_reader[i]));
    }
    for (unsigned i = 0; i < change->count; i++) {
        cg_reader_await_change(ingress->workers[i].reader, until_ns);
    }
    cg_ingress_change_free(change);
}

void cg_ingress_change_free(struct cg_ingress_change *change)
{
    for (unsigned i = 0; change != NULL && i < change->count; i++) {
        cg_reader_change_free(change->of_reader[i]);
    }
    free(change);
}
