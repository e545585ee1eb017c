/*
 * probe_tap_link.c - what the host sees of a VM's network interface, by rtnetlink.
 *
 * One socket for each network namespace, over which interfaces are asked for by name and which the
 * kernel uses to announce changes: an interface whose operstate or carrier has changed is read at
 * once. The kernel answers a request before the call that sends it returns, so nothing waits. In
 * the gateway's own namespace sysfs is the fallback where no such socket can be had.
 */
#include "probes/link_message.h"
#include "probes/netns.h"
#include "probes/paths.h"

#include "base/list.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    NAMESPACES_MAX = 4096,
    MESSAGES_MAX = 64,         /* taken off a socket at once */
    MESSAGE_BYTES_MAX = 16384, /* of one; an interface with many addresses of queues has some */
    SYSFS_BYTES_MAX = 64,
};

struct taps {
    struct cg_probe_host *host;
    struct cg_list namespaces;
    unsigned namespaces_count;
    char buffer[MESSAGE_BYTES_MAX];
};

struct namespace
{
    struct cg_list in_all;
    struct taps *all;
    const char *path; /* "" for the gateway's own; of the tap that made it, copied */
    struct cg_netns_id id;
    int fd;
    uint32_t sequence;
    unsigned users;
    struct cg_list members;
    struct cg_probe_source source;
    char text[];
};

struct tap {
    struct taps *all;
    struct cg_probe_instance *instance;
    const char *name, *netns; /* netns NULL: the gateway's own */
    struct namespace *namespace;
    struct cg_list in_namespace;
    /* What a hurried reading is compared with. */
    int index;
    uint8_t operstate;
    bool carrier;
    bool seen;
};

/* --- announcements --- */

static void hear(struct namespace *namespace, const struct cg_link *link)
{
    for (struct cg_list *at = namespace->members.next; at != &namespace->members; at = at->next) {
        struct tap *tap = CG_LIST_ENTRY(at, struct tap, in_namespace);
        if (strcmp(tap->name, link->name) == 0) {
            cg_probe_hurry(tap->instance);
        }
    }
}

/* Takes what the socket holds. True if the answer to `wanted` (0: none) was among it. */
static bool receive(struct namespace *namespace, uint32_t wanted, enum cg_link_kind *ret_kind,
                    struct cg_link *ret_link, int *ret_errnum)
{
    char *buffer = namespace->all->buffer;
    for (unsigned i = 0; i < MESSAGES_MAX; i++) {
        ssize_t got = recv(namespace->fd, buffer, MESSAGE_BYTES_MAX, MSG_DONTWAIT);
        if (got < 0 && errno == ENOBUFS) {
            continue; /* announcements were lost: the intervals still read */
        }
        if (got <= 0) {
            return false;
        }
        struct cg_bytes bytes = cg_bytes(buffer, (size_t)got);
        while (bytes.len > 0) {
            uint32_t sequence = 0;
            struct cg_link link;
            enum cg_link_kind kind = cg_link_message_take(&bytes, &sequence, &link, ret_errnum);
            if (kind == CG_LINK_BAD) {
                break;
            }
            if (wanted != 0 && sequence == wanted) {
                *ret_kind = kind;
                *ret_link = link;
                return true;
            }
            if (sequence == 0 && (kind == CG_LINK_NEW || kind == CG_LINK_GONE)) {
                hear(namespace, &link);
            }
        }
    }
    return false;
}

static void serve(void *context)
{
    enum cg_link_kind kind;
    struct cg_link link;
    int errnum = 0;
    (void)receive(context, 0, &kind, &link, &errnum);
}

/* --- namespaces --- */

static void release(struct tap *tap)
{
    struct namespace *namespace = tap->namespace;
    if (namespace == NULL) {
        return;
    }
    cg_list_remove(&tap->in_namespace);
    tap->namespace = NULL;
    if (--namespace->users == 0) {
        cg_probe_host_remove(namespace->all->host, namespace->fd);
        (void)close(namespace->fd);
        cg_list_remove(&namespace->in_all);
        namespace->all->namespaces_count--;
        free(namespace);
    }
}

static struct namespace *find(struct taps *all, const char *path, const struct cg_netns_id *id)
{
    for (struct cg_list *at = all->namespaces.next; at != &all->namespaces; at = at->next) {
        struct namespace *namespace = CG_LIST_ENTRY(at, struct namespace, in_all);
        if (strcmp(namespace->path, path) == 0 && namespace->id.inode == id->inode &&
            namespace->id.device == id->device) {
            return namespace;
        }
    }
    return NULL;
}

/* A socket in the namespace that hears of its interfaces. */
static enum cg_probe_outcome open_link_socket(int netns_fd, int *ret_fd, struct cg_error *err)
{
    cg_auto_close int fd = -1;
    enum cg_probe_outcome outcome = cg_netns_netlink(netns_fd, NETLINK_ROUTE, &fd, err);
    if (outcome != CG_PROBE_READ) {
        return outcome;
    }
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        int errnum = errno;
        (void)cg_error_errno(err, errnum, "listen for interfaces");
        return cg_probe_outcome_of(errnum);
    }
    *ret_fd = cg_steal_fd(&fd);
    return CG_PROBE_READ;
}

static enum cg_probe_outcome make(struct taps *all, const char *path, int netns_fd,
                                  const struct cg_netns_id *id, struct namespace **ret_namespace,
                                  struct cg_error *err)
{
    if (all->namespaces_count >= NAMESPACES_MAX) {
        (void)cg_error_set(err, "there are %d network namespaces already", NAMESPACES_MAX);
        return CG_PROBE_UNREADABLE;
    }
    cg_auto_close int fd = -1;
    enum cg_probe_outcome outcome = open_link_socket(netns_fd, &fd, err);
    if (outcome != CG_PROBE_READ) {
        return outcome;
    }
    size_t path_len = strlen(path) + 1;
    struct namespace *namespace = calloc(1, sizeof(*namespace) + path_len);
    if (namespace == NULL) {
        (void)cg_error_set(err, "out of memory");
        return CG_PROBE_UNREADABLE;
    }
    namespace->all = all;
    namespace->path = memcpy(namespace->text, path, path_len);
    namespace->id = *id;
    namespace->source = (struct cg_probe_source){serve, namespace};
    cg_list_init(&namespace->in_all);
    cg_list_init(&namespace->members);
    if (!cg_probe_host_add(all->host, fd, &namespace->source, err)) {
        free(namespace);
        return CG_PROBE_UNREADABLE;
    }
    namespace->fd = cg_steal_fd(&fd);
    cg_list_append(&all->namespaces, &namespace->in_all);
    all->namespaces_count++;
    *ret_namespace = namespace;
    return CG_PROBE_READ;
}

/* Sees to it that the tap has the namespace that its path names now. */
static enum cg_probe_outcome find_namespace(struct tap *tap, struct cg_error *err)
{
    struct cg_netns_id id = {0};
    cg_auto_close int fd = -1;
    const char *path = tap->netns == NULL ? "" : tap->netns;
    if (tap->netns != NULL) {
        enum cg_probe_outcome outcome =
            cg_netns_open(tap->all->host->policy, tap->netns, &fd, &id, err);
        if (outcome != CG_PROBE_READ) {
            release(tap);
            return outcome;
        }
    }
    struct namespace *namespace = tap->namespace;
    if (namespace != NULL && namespace->id.inode == id.inode && namespace->id.device == id.device) {
        return CG_PROBE_READ;
    }
    release(tap);
    namespace = find(tap->all, path, &id);
    if (namespace == NULL) {
        enum cg_probe_outcome outcome = make(tap->all, path, fd, &id, &namespace, err);
        if (outcome != CG_PROBE_READ) {
            return outcome;
        }
    }
    namespace->users++;
    cg_list_append(&namespace->members, &tap->in_namespace);
    tap->namespace = namespace;
    return CG_PROBE_READ;
}

/* --- reading --- */

static enum cg_probe_outcome ask(struct tap *tap, struct cg_link *ret_link, struct cg_error *err)
{
    struct namespace *namespace = tap->namespace;
    enum cg_link_kind kind = CG_LINK_BAD;
    int errnum = 0;
    char request[CG_LINK_REQUEST_BYTES_MAX];
    namespace->sequence = namespace->sequence == UINT32_MAX ? 1 : namespace->sequence + 1;
    size_t len = cg_link_request(tap->name, namespace->sequence, request);
    if (send(namespace->fd, request, len, MSG_DONTWAIT) != (ssize_t)len) {
        (void)cg_error_errno(err, errno, "ask for %s", tap->name);
        return CG_PROBE_UNREADABLE;
    }
    if (!receive(namespace, namespace->sequence, &kind, ret_link, &errnum)) {
        (void)cg_error_set(err, "the kernel does not answer for %s", tap->name);
        return CG_PROBE_TIMEOUT;
    }
    if (kind == CG_LINK_ERROR) {
        (void)cg_error_errno(err, errnum, "interface %s", tap->name);
        return cg_probe_outcome_of(errnum);
    }
    if (kind != CG_LINK_NEW || !ret_link->has_stats) {
        (void)cg_error_set(err, "the kernel's answer for %s has no counters", tap->name);
        return CG_PROBE_MALFORMED;
    }
    return CG_PROBE_READ;
}

static void write_counters(const struct rtnl_link_stats64 *stats, struct cg_probe_sink *sink)
{
    struct cg_output *output = &sink->output;
    cg_output_u64(output, "rxBytes", stats->rx_bytes);
    cg_output_u64(output, "rxDropped", stats->rx_dropped);
    cg_output_u64(output, "rxErrors", stats->rx_errors);
    cg_output_u64(output, "rxPackets", stats->rx_packets);
    cg_output_u64(output, "txBytes", stats->tx_bytes);
    cg_output_u64(output, "txDropped", stats->tx_dropped);
    cg_output_u64(output, "txErrors", stats->tx_errors);
    cg_output_u64(output, "txPackets", stats->tx_packets);
    /* What the host receives on a TAP is what the guest sent. */
    cg_facts_set(&sink->facts, CG_FACT_TAP_BYTES_FROM_GUEST, stats->rx_bytes);
    cg_facts_set(&sink->facts, CG_FACT_TAP_BYTES_TO_GUEST, stats->tx_bytes);
    cg_facts_set(&sink->facts, CG_FACT_TAP_PACKETS_FROM_GUEST, stats->rx_packets);
    cg_facts_set(&sink->facts, CG_FACT_TAP_PACKETS_TO_GUEST, stats->tx_packets);
}

static uint64_t read_sysfs(int dir_fd, const char *name)
{
    char bytes[SYSFS_BYTES_MAX];
    size_t len = 0;
    uint64_t value = 0;
    if (cg_probe_read_file(dir_fd, name, bytes, sizeof(bytes), &len, NULL) == CG_PROBE_READ) {
        for (size_t i = 0; i < len && bytes[i] >= '0' && bytes[i] <= '9'; i++) {
            value = value * 10 + (uint64_t)(bytes[i] - '0');
        }
    }
    return value;
}

/* The name has no slash in it, and is not `..`. */
static enum cg_probe_outcome ask_sysfs(const struct tap *tap, struct cg_link *ret_link,
                                       struct cg_error *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/sys/class/net/%s", tap->name);
    cg_auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int errnum = errno;
        (void)cg_error_errno(err, errnum, "open %s", path);
        return cg_probe_outcome_of(errnum);
    }
    struct cg_link link = {.has_stats = true, .operstate = IF_OPER_UNKNOWN};
    char state[SYSFS_BYTES_MAX];
    size_t len = 0;
    if (cg_probe_read_file(fd, "operstate", state, sizeof(state), &len, err) == CG_PROBE_READ) {
        for (unsigned i = 0; i <= IF_OPER_UP; i++) {
            const char *name = cg_link_operstate_name((uint8_t)i);
            bool same = len == strlen(name) + 1 && memcmp(state, name, len - 1) == 0;
            link.operstate = same ? (uint8_t)i : link.operstate;
        }
    }
    link.index = (int)read_sysfs(fd, "ifindex");
    link.carrier = read_sysfs(fd, "carrier") != 0;
    link.stats.rx_bytes = read_sysfs(fd, "statistics/rx_bytes");
    link.stats.rx_dropped = read_sysfs(fd, "statistics/rx_dropped");
    link.stats.rx_errors = read_sysfs(fd, "statistics/rx_errors");
    link.stats.rx_packets = read_sysfs(fd, "statistics/rx_packets");
    link.stats.tx_bytes = read_sysfs(fd, "statistics/tx_bytes");
    link.stats.tx_dropped = read_sysfs(fd, "statistics/tx_dropped");
    link.stats.tx_errors = read_sysfs(fd, "statistics/tx_errors");
    link.stats.tx_packets = read_sysfs(fd, "statistics/tx_packets");
    *ret_link = link;
    return CG_PROBE_READ;
}

/* Whether the kernel's announcement is worth telling; remembers what it is now. */
static bool is_news(struct tap *tap, const struct cg_link *link)
{
    bool news = !tap->seen || link->index != tap->index || link->operstate != tap->operstate ||
                link->carrier != tap->carrier;
    tap->index = link->index;
    tap->operstate = link->operstate;
    tap->carrier = link->carrier;
    tap->seen = true;
    return news;
}

static enum cg_probe_outcome read_tap(void *state, const struct cg_probe_turn *turn,
                                      struct cg_probe_sink *sink, struct cg_error *err)
{
    struct tap *tap = state;
    struct cg_link link;
    enum cg_probe_outcome outcome = find_namespace(tap, err);
    bool by_sysfs = outcome != CG_PROBE_READ && tap->netns == NULL;
    if (by_sysfs) {
        outcome = ask_sysfs(tap, &link, err);
    } else if (outcome == CG_PROBE_READ) {
        outcome = ask(tap, &link, err);
    }
    if (outcome != CG_PROBE_READ) {
        tap->seen = false;
        return outcome;
    }
    bool news = is_news(tap, &link);
    write_counters(&link.stats, sink);
    if (turn->why == CG_PROBE_BASE) {
        return CG_PROBE_READ;
    }
    if (turn->why == CG_PROBE_HURRIED && !news) {
        return CG_PROBE_NO_NEWS;
    }
    cg_output_text(&sink->output, "carrier", link.carrier ? CG_BYTES("1") : CG_BYTES("0"));
    cg_output_text(&sink->output, "operstate",
                   cg_bytes_str(cg_link_operstate_name(link.operstate)));
    cg_output_text(&sink->inputs, "iface", cg_bytes_str(tap->name));
    if (tap->netns != NULL) {
        cg_output_text(&sink->inputs, "netns", cg_bytes_str(tap->netns));
    }
    cg_output_text(&sink->inputs, "source", by_sysfs ? CG_BYTES("sysfs") : CG_BYTES("rtnetlink"));
    cg_output_text(&sink->inputs, "trigger", cg_bytes_str(cg_probe_why_name(turn->why)));
    cg_probe_emit(sink);
    return CG_PROBE_READ;
}

/* --- life --- */

static void *attach(void *shared, struct cg_probe_instance *instance,
                    const struct cg_probe_spec *spec)
{
    struct tap *tap = calloc(1, sizeof(*tap));
    if (tap == NULL) {
        return NULL;
    }
    tap->all = shared;
    tap->instance = instance;
    tap->name = spec->text[CG_PROBE_TAP_INTERFACE];
    tap->netns = spec->text[CG_PROBE_TAP_NETNS];
    cg_list_init(&tap->in_namespace);
    return tap;
}

static void detach(void *state)
{
    release(state);
    free(state);
}

static bool start(struct cg_probe_host *host, void **ret_shared, struct cg_error *err)
{
    struct taps *all = malloc(sizeof(*all));
    if (all == NULL) {
        return cg_error_set(err, "out of memory for the tap_link probe");
    }
    all->host = host;
    all->namespaces_count = 0;
    cg_list_init(&all->namespaces);
    *ret_shared = all;
    return true;
}

static void stop(void *shared)
{
    free(shared);
}

const struct cg_probe_ops cg_probe_tap_link = {
    .probe = CG_PROBE_TAP_LINK,
    .readings = CG_SERIES_probe_readings_tap_link,
    .errors = CG_SERIES_probe_errors_tap_link_missing,
    .start = start,
    .stop = stop,
    .attach = attach,
    .detach = detach,
    .read = read_tap,
};
