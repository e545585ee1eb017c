#include "http/clients.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* Entries for connections that were told to close and have not gone yet. */
enum { CLOSING_MAX = 128 };

struct cg_http_clients {
    struct cg_http_clients_limits limits;
    uint32_t open; /* not closing */
    uint32_t capacity;
    struct cg_http_peer peers[];
};

bool cg_http_clients_new(const struct cg_http_clients_limits *limits,
                         struct cg_http_clients **ret_clients, struct cg_error *err)
{
    uint32_t capacity = limits->max + CLOSING_MAX;
    struct cg_http_clients *clients =
        calloc(1, sizeof(*clients) + capacity * sizeof(clients->peers[0]));
    if (clients == NULL) {
        return cg_error_set(err, "out of memory");
    }
    clients->limits = *limits;
    clients->capacity = capacity;
    *ret_clients = clients;
    return true;
}

void cg_http_clients_free(struct cg_http_clients *clients)
{
    free(clients);
}

static void copy_address(const struct sockaddr *address, uint8_t ret_bytes[16])
{
    memset(ret_bytes, 0, 16);
    if (address == NULL) {
        return;
    }
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;
        memcpy(ret_bytes, &v4->sin_addr, sizeof(v4->sin_addr));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;
        memcpy(ret_bytes, &v6->sin6_addr, sizeof(v6->sin6_addr));
    }
}

/* Marks a peer as told to close, and gives its descriptor. */
static int dismiss(struct cg_http_clients *clients, struct cg_http_peer *peer)
{
    peer->closing = true;
    clients->open--;
    return peer->fd;
}

/* The open peer without progress for the longest time; of `address` only, unless that is NULL. Who
 * is being worked for counts, but is not given up for a newcomer. */
static struct cg_http_peer *stalest(struct cg_http_clients *clients, const uint8_t *address,
                                    uint32_t *ret_count)
{
    struct cg_http_peer *found = NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < clients->capacity; i++) {
        struct cg_http_peer *peer = &clients->peers[i];
        bool same = address == NULL || memcmp(peer->address, address, sizeof(peer->address)) == 0;
        if (!peer->used || peer->closing || !same) {
            continue;
        }
        count++;
        if (peer->working) {
            continue;
        }
        if (found == NULL || peer->progress_ns < found->progress_ns) {
            found = peer;
        }
    }
    *ret_count = count;
    return found;
}

/* False: there is no room, and nobody who could make some. */
static bool make_room(struct cg_http_clients *clients, const uint8_t *address, int *ret_evict)
{
    uint32_t count = 0;
    struct cg_http_peer *peer = stalest(clients, address, &count);
    if (count < clients->limits.per_address_max) {
        if (clients->open < clients->limits.max) {
            return true;
        }
        peer = stalest(clients, NULL, &count);
    }
    if (peer != NULL) {
        *ret_evict = dismiss(clients, peer);
    }
    return peer != NULL;
}

struct cg_http_peer *cg_http_clients_add(struct cg_http_clients *clients, int fd,
                                         const struct sockaddr *address, uint64_t now_ns,
                                         int *ret_evict)
{
    struct cg_http_peer *slot = NULL;
    for (uint32_t i = 0; i < clients->capacity && slot == NULL; i++) {
        slot = clients->peers[i].used ? NULL : &clients->peers[i];
    }
    *ret_evict = -1;
    if (slot == NULL) {
        return NULL;
    }
    uint8_t key[16];
    copy_address(address, key);
    if (!make_room(clients, key, ret_evict)) {
        return NULL;
    }
    *slot = (struct cg_http_peer){
        .fd = fd,
        .progress_ns = now_ns,
        .deadline_ns = now_ns + clients->limits.request_ns,
        .used = true,
    };
    memcpy(slot->address, key, sizeof(key));
    clients->open++;
    return slot;
}

void cg_http_clients_request_begun(struct cg_http_clients *clients, struct cg_http_peer *peer,
                                   uint64_t now_ns)
{
    uint64_t deadline_ns = now_ns + clients->limits.request_ns;
    /* The first request counts from connecting, whatever of it has arrived. */
    peer->deadline_ns = deadline_ns < peer->deadline_ns ? deadline_ns : peer->deadline_ns;
}

void cg_http_clients_request_working(struct cg_http_peer *peer)
{
    peer->working = true;
    peer->deadline_ns = UINT64_MAX;
}

void cg_http_clients_request_worked(struct cg_http_clients *clients, struct cg_http_peer *peer,
                                    uint64_t now_ns)
{
    peer->working = false;
    peer->deadline_ns = now_ns + clients->limits.request_ns;
}

void cg_http_clients_request_done(struct cg_http_clients *clients, struct cg_http_peer *peer,
                                  uint64_t now_ns)
{
    peer->progress_ns = now_ns;
    peer->deadline_ns = now_ns + clients->limits.idle_ns;
}

void cg_http_clients_remove(struct cg_http_clients *clients, struct cg_http_peer *peer)
{
    if (!peer->closing) {
        clients->open--;
    }
    peer->used = false;
}

int cg_http_clients_overdue(struct cg_http_clients *clients, uint64_t now_ns)
{
    for (uint32_t i = 0; i < clients->capacity; i++) {
        struct cg_http_peer *peer = &clients->peers[i];
        if (peer->used && !peer->closing && now_ns >= peer->deadline_ns) {
            return dismiss(clients, peer);
        }
    }
    return -1;
}

uint64_t cg_http_clients_next_deadline(const struct cg_http_clients *clients)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < clients->capacity; i++) {
        const struct cg_http_peer *peer = &clients->peers[i];
        if (peer->used && !peer->closing && peer->deadline_ns < next) {
            next = peer->deadline_ns;
        }
    }
    return next;
}
