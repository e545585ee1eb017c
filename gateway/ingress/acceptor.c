#include "ingress/acceptor.h"

#include "base/loop.h"
#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "ingress/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum {
    ACCEPTS_PER_TURN_MAX = 16,   /* of one cell, so that a loop of connects delays nobody else */
    BREATHER_MS = 5,             /* when the kernel has no memory or descriptors at all */
    DESCRIPTORS_SPARE_SHARE = 8, /* one in so many descriptors is not for guests, */
    DESCRIPTORS_SPARE_MAX = 512, /* but not more than this */
};

/* A channel to be removed; on the stack of the thread that waits for it. */
struct removal {
    struct cg_list in_acceptor;
    struct cg_channel *channel;
    bool done;
};

struct cg_acceptor {
    const struct cg_ingress_config *config;
    struct cg_ingress_shared *shared;
    struct cg_loop loop;
    int reserve_fd; /* given up to accept, and close, when descriptors run out */
    bool breathless;
    bool running;
    _Atomic bool stopping;
    _Atomic uint64_t turns;
    pthread_t thread;

    pthread_mutex_t lock; /* covers those below */
    bool ended;           /* the thread looks at removals no more */
    struct cg_list removals;
    pthread_cond_t removed;
};

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static const struct {
    const char *name;
    enum cg_metric_series series;
} refusals[CG_CONNECT_REFUSAL_COUNT] = {
    [CG_CONNECT_CAP] = {"cap", CG_SERIES_connections_refused_cap},
    [CG_CONNECT_DESCRIPTORS] = {"descriptors", CG_SERIES_connections_refused_descriptors},
    [CG_CONNECT_MEMORY] = {"memory", CG_SERIES_connections_refused_memory},
    [CG_CONNECT_PEER] = {"peer", CG_SERIES_connections_refused_peer},
};

static void report_refusal(struct cg_acceptor *acceptor, struct cg_channel *channel,
                           enum cg_connect_refusal refusal)
{
    cg_metric_add(refusals[refusal].series, 1);
    atomic_fetch_add_explicit(&channel->cell->connections_refused, 1, memory_order_relaxed);
    cg_reader_note_refused(channel->reader, channel, refusal);
    uint64_t suppressed;
    if (cg_channel_may_log(channel, CG_LINE_CONNECTION, acceptor->shared,
                           cg_clock_monotonic(acceptor->config->clock), &suppressed)) {
        CG_LOG(CG_LOG_WARNING, "connection_refused",
               CG_F_BYTES("cell", channel->cell->identity.cell_id),
               CG_F_STR("reason", refusals[refusal].name), CG_F_U64("suppressed", suppressed));
    }
}

/* Descriptors have run out: the reserve makes room to accept and close at once, so that the guest
 * learns of it and the backlog does not fill. */
static void refuse_by_reserve(struct cg_acceptor *acceptor, struct cg_channel *channel)
{
    if (acceptor->reserve_fd >= 0) {
        (void)close(acceptor->reserve_fd);
        int fd = accept4(channel->listening.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            report_refusal(acceptor, channel, CG_CONNECT_DESCRIPTORS);
            (void)close(fd);
        }
    }
    acceptor->reserve_fd = open_reserve();
    acceptor->breathless = acceptor->reserve_fd < 0;
}

/* Who has connected, by the user id the process had then. */
static bool peer_may_connect(const struct cg_acceptor *acceptor, int fd)
{
    const struct cg_range *uids = &acceptor->config->peer_uids;
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return !uids->present || (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
                              peer.uid >= uids->first && peer.uid <= uids->last);
}

static void hand_over(struct cg_acceptor *acceptor, struct cg_channel *channel, int fd)
{
    struct cg_cell *cell = channel->cell;
    if (!peer_may_connect(acceptor, fd)) {
        report_refusal(acceptor, channel, CG_CONNECT_PEER);
        (void)close(fd);
        return;
    }
    uint32_t open = atomic_load_explicit(&cell->connections, memory_order_relaxed);
    if (open >= acceptor->config->connections_max) {
        report_refusal(acceptor, channel, CG_CONNECT_CAP);
        (void)close(fd);
        return;
    }
    struct cg_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        report_refusal(acceptor, channel, CG_CONNECT_MEMORY);
        (void)close(fd);
        return;
    }
    atomic_fetch_add_explicit(&cell->connections, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&acceptor->shared->connections, 1, memory_order_relaxed);
    cg_metric_add(CG_SERIES_connections_opened, 1);
    connection->channel = channel;
    connection->fd = fd;
    connection->ordinal =
        atomic_fetch_add_explicit(&cell->connections_opened, 1, memory_order_relaxed) + 1;
    connection->state = CG_CONNECTION_OPEN;
    cg_list_init(&connection->in_channel);
    cg_list_init(&connection->in_draining);
    cg_reader_give(channel->reader, connection);
}

/* Guests leave some of the descriptors to the spool, to exporters and to whoever asks for health:
 * the spool needs one for its next segment, and until it has it no guest is read, or closed. */
static bool is_spare(int fd)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return false;
    }
    rlim_t share = limit.rlim_cur / DESCRIPTORS_SPARE_SHARE;
    rlim_t spare = share < DESCRIPTORS_SPARE_MAX ? share : DESCRIPTORS_SPARE_MAX;
    return (rlim_t)fd >= limit.rlim_cur - spare; /* the lowest free one is given out */
}

/* Returns whether there may be more to accept. */
static bool accept_one(struct cg_acceptor *acceptor, struct cg_channel *channel)
{
    int fd = accept4(channel->listening.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && is_spare(fd)) {
        report_refusal(acceptor, channel, CG_CONNECT_DESCRIPTORS);
        (void)close(fd);
        return true;
    }
    if (fd >= 0) {
        hand_over(acceptor, channel, fd);
        return true;
    }
    switch (errno) {
    case EAGAIN:
        return false;
    case EMFILE:
    case ENFILE:
        refuse_by_reserve(acceptor, channel);
        return !acceptor->breathless;
    case ENOBUFS:
    case ENOMEM:
        cg_metric_add(CG_SERIES_connections_refused_memory, 1);
        acceptor->breathless = true;
        return false;
    default: /* this one connection is gone */
        return true;
    }
}

static void accept_some(struct cg_acceptor *acceptor, struct cg_channel *channel, unsigned max)
{
    for (unsigned i = 0; i < max && accept_one(acceptor, channel); i++) {
    }
}

/* Between turns, when no ready descriptor is remembered. */
static void remove_channels(struct cg_acceptor *acceptor)
{
    (void)pthread_mutex_lock(&acceptor->lock);
    while (!cg_list_is_empty(&acceptor->removals)) {
        struct removal *removal =
            CG_LIST_ENTRY(acceptor->removals.next, struct removal, in_acceptor);
        cg_list_remove(&removal->in_acceptor);
        (void)pthread_mutex_unlock(&acceptor->lock);
        cg_loop_remove(&acceptor->loop, removal->channel->listening.fd);
        accept_some(acceptor, removal->channel, acceptor->config->connections_max);
        (void)pthread_mutex_lock(&acceptor->lock);
        removal->done = true;
        (void)pthread_cond_broadcast(&acceptor->removed);
    }
    (void)pthread_mutex_unlock(&acceptor->lock);
}

void cg_acceptor_remove(struct cg_acceptor *acceptor, struct cg_channel *channel)
{
    struct removal removal = {.channel = channel};
    cg_list_init(&removal.in_acceptor);
    (void)pthread_mutex_lock(&acceptor->lock);
    if (acceptor->ended) {
        removal.done = true; /* nobody watches the socket any more */
    } else {
        cg_list_append(&acceptor->removals, &removal.in_acceptor);
        cg_loop_wake(&acceptor->loop);
    }
    while (!removal.done) {
        (void)pthread_cond_wait(&acceptor->removed, &acceptor->lock);
    }
    (void)pthread_mutex_unlock(&acceptor->lock);
}

static void *run(void *context)
{
    struct cg_acceptor *acceptor = context;
    while (!atomic_load_explicit(&acceptor->stopping, memory_order_acquire)) {
        struct cg_loop_ready ready;
        if (acceptor->breathless) {
            /* The sockets stay ready: without a breath this would spin. */
            acceptor->breathless = false;
            cg_loop_pause(&acceptor->loop, 0, BREATHER_MS * CG_NS_PER_MS, &ready);
        }
        cg_loop_wait(&acceptor->loop, 0, UINT64_MAX, &ready);
        for (unsigned i = 0; i < ready.count; i++) {
            accept_some(acceptor, ready.data[i], ACCEPTS_PER_TURN_MAX);
        }
        if (ready.woken) {
            remove_channels(acceptor);
        }
        atomic_fetch_add_explicit(&acceptor->turns, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_lock(&acceptor->lock);
    acceptor->ended = true;
    (void)pthread_mutex_unlock(&acceptor->lock);
    remove_channels(acceptor); /* nobody may wait for a thread that has ended */
    return NULL;
}

bool cg_acceptor_start(const struct cg_ingress_config *config, struct cg_ingress_shared *shared,
                       struct cg_acceptor **ret_acceptor, struct cg_error *err)
{
    struct cg_acceptor *acceptor = calloc(1, sizeof(*acceptor));
    if (acceptor == NULL) {
        return cg_error_set(err, "out of memory for the acceptor");
    }
    acceptor->config = config;
    acceptor->shared = shared;
    acceptor->loop = (struct cg_loop){.epoll_fd = -1, .wake_fd = -1};
    (void)pthread_mutex_init(&acceptor->lock, NULL);
    (void)pthread_cond_init(&acceptor->removed, NULL);
    cg_list_init(&acceptor->removals);
    acceptor->reserve_fd = open_reserve();
    if (acceptor->reserve_fd < 0) {
        (void)cg_error_errno(err, errno, "open /dev/null, the reserve descriptor");
        cg_acceptor_free(acceptor);
        return false;
    }
    if (!cg_loop_init(&acceptor->loop, err)) {
        cg_acceptor_free(acceptor);
        return false;
    }
    int errnum = cg_thread_start(&acceptor->thread, "acceptor", run, acceptor);
    if (errnum != 0) {
        cg_acceptor_free(acceptor);
        return cg_error_errno(err, errnum, "start the acceptor thread");
    }
    acceptor->running = true;
    *ret_acceptor = acceptor;
    return true;
}

bool cg_acceptor_add(struct cg_acceptor *acceptor, struct cg_channel *channel, struct cg_error *err)
{
    return cg_loop_add(&acceptor->loop, channel->listening.fd, channel, err);
}

uint64_t cg_acceptor_turns(const struct cg_acceptor *acceptor)
{
    return atomic_load_explicit(&acceptor->turns, memory_order_relaxed);
}

void cg_acceptor_poke(struct cg_acceptor *acceptor)
{
    cg_loop_wake(&acceptor->loop);
}

void cg_acceptor_stop(struct cg_acceptor *acceptor)
{
    if (acceptor->running) {
        atomic_store_explicit(&acceptor->stopping, true, memory_order_release);
        cg_loop_wake(&acceptor->loop);
        (void)pthread_join(acceptor->thread, NULL);
        acceptor->running = false;
    }
}

void cg_acceptor_empty(struct cg_acceptor *acceptor, struct cg_channel *channel)
{
    CG_ASSERT(!acceptor->running);
    accept_some(acceptor, channel, acceptor->config->connections_max);
}

void cg_acceptor_free(struct cg_acceptor *acceptor)
{
    if (acceptor == NULL) {
        return;
    }
    CG_ASSERT(!acceptor->running);
    if (acceptor->reserve_fd >= 0) {
        (void)close(acceptor->reserve_fd);
    }
    cg_loop_fini(&acceptor->loop);
    (void)pthread_cond_destroy(&acceptor->removed);
    (void)pthread_mutex_destroy(&acceptor->lock);
    free(acceptor);
}
