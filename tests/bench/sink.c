/*
 * sink.c - a destination that costs as little as possible: HTTP/1.1 on 127.0.0.1, answers 200.
 *
 *     sink [--exact|--latency|--otlp]   prints {"port": N} at once, and totals as JSON at SIGTERM
 *
 * One thread, epoll, keep-alive, requests with a Content-Length only. Events are counted from the
 * bodies, not from what the sender says of them. An event the gateway made begins with its
 * specversion, and a quotation mark inside a JSON string is always escaped, so that
 * `},{"specversion":` can stand only between two events of an array: counting those is exact for
 * this sender, and a search instead of a parse. --exact counts the objects at the array's top
 * level, whatever they hold, at about a tenth of the speed. --otlp counts the log records of OTLP
 * requests in protobuf, which may be compressed.
 */
#include "bench/otlp_count.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum {
    CONNECTIONS_MAX = 64,
    READ_BYTES = 1024 * 1024,
    REQUEST_BYTES_MAX = 64 * 1024 * 1024,
    LATENCIES_MAX = 1 << 20,
};

struct connection {
    int fd;
    char *data;
    size_t len, cap;
    size_t need; /* whole request, once its head is there; 0 before */
    size_t head; /* bytes of the head */
    enum { PLAIN, GZIP, ZSTD } encoding;
};

static struct {
    uint64_t requests, events, bytes, unpacked_bytes, refused;
    bool exact, latency, otlp;
} totals;

static struct {
    uint64_t ns[LATENCIES_MAX];
    size_t count;
} latencies;

static void note_latencies(const char *data, size_t len)
{
    static const char key[] = "\"guestMonotonicNs\":";
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    const char *end = data + len;
    const char *at = data;
    while (latencies.count < LATENCIES_MAX &&
           (at = memmem(at, (size_t)(end - at), key, sizeof(key) - 1)) != NULL) {
        at += sizeof(key) - 1;
        latencies.ns[latencies.count++] = now_ns - strtoull(at, NULL, 10);
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(unsigned percent)
{
    return latencies.count == 0
               ? 0
               : (double)latencies.ns[(latencies.count - 1) * percent / 100] / 1000;
}

static uint64_t count_between(const char *data, size_t len)
{
    static const char between[] = "},{\"specversion\":";
    uint64_t count = 0;
    const char *at = data;
    const char *end = data + len;
    while ((at = memmem(at, (size_t)(end - at), between, sizeof(between) - 1)) != NULL) {
        count++;
        at += sizeof(between) - 1;
    }
    return count;
}

/* Objects at depth 1 of an array, or the one object that the body is. */
static uint64_t count_objects(const char *data, size_t len)
{
    uint64_t count = 0;
    int depth = 0;
    bool in_string = false;
    int wanted = len > 0 && data[0] == '[' ? 1 : 0;
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            count += c == '{' && depth == wanted ? 1 : 0;
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return count;
}

static uint64_t count_events(const char *data, size_t len)
{
    if (totals.exact) {
        return count_objects(data, len);
    }
    if (len < 3 || (data[0] == '[' && data[1] != '{')) {
        return 0;
    }
    return data[0] == '[' ? 1 + count_between(data, len) : 1;
}

/* The body as it was before compression, in memory that the next call uses again. Empty for what
 * cannot be unpacked. */
static size_t unpack(const struct connection *connection, const char *body, size_t len,
                     const char **ret_unpacked)
{
    static char unpacked[REQUEST_BYTES_MAX];
    *ret_unpacked = unpacked;
    if (connection->encoding == ZSTD) {
        size_t got = ZSTD_decompress(unpacked, sizeof(unpacked), body, len);
        return ZSTD_isError(got) ? 0 : got;
    }
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)body,
                       .avail_in = (unsigned)len,
                       .next_out = (unsigned char *)unpacked,
                       .avail_out = sizeof(unpacked)};
    if (inflateInit2(&stream, 15 + 16) != Z_OK) {
        return 0;
    }
    bool whole = inflate(&stream, Z_FINISH) == Z_STREAM_END;
    (void)inflateEnd(&stream);
    return whole ? stream.total_out : 0;
}

static void count_otlp(const struct connection *connection)
{
    const char *body = connection->data + connection->head;
    size_t len = connection->need - connection->head;
    if (connection->encoding != PLAIN) {
        len = unpack(connection, body, len, &body);
    }
    uint64_t count = otlp_count_records(body, len);
    totals.unpacked_bytes += len;
    totals.events += count == UINT64_MAX ? 0 : count;
}

/* 0 while the head is not whole; -1 for a head without a usable Content-Length. */
static long read_head(struct connection *connection)
{
    char *end = memmem(connection->data, connection->len, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    connection->head = (size_t)(end - connection->data) + 4;
    end[2] = '\0';
    const char *length = strcasestr(connection->data, "\r\ncontent-length:");
    connection->encoding = strcasestr(connection->data, "\r\ncontent-encoding: gzip")   ? GZIP
                           : strcasestr(connection->data, "\r\ncontent-encoding: zstd") ? ZSTD
                                                                                        : PLAIN;
    end[2] = '\r';
    if (length == NULL) {
        return -1;
    }
    unsigned long body = strtoul(length + sizeof("\r\ncontent-length:") - 1, NULL, 10);
    if (body > REQUEST_BYTES_MAX) {
        return -1;
    }
    connection->need = connection->head + body;
    return 1;
}

/* Answers all whole requests; false when the connection is of no more use. */
static bool answer(struct connection *connection)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (;;) {
        if (connection->need == 0) {
            long head = read_head(connection);
            if (head <= 0) {
                return head == 0;
            }
        }
        if (connection->len < connection->need) {
            return true;
        }
        totals.requests++;
        totals.bytes += connection->need - connection->head;
        if (totals.otlp) {
            count_otlp(connection);
        } else {
            totals.events += count_events(connection->data + connection->head,
                                          connection->need - connection->head);
        }
        if (totals.latency) {
            note_latencies(connection->data + connection->head,
                           connection->need - connection->head);
        }
        if (send(connection->fd, ok, sizeof(ok) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(ok) - 1) {
            return false;
        }
        connection->len -= connection->need;
        memmove(connection->data, connection->data + connection->need, connection->len);
        connection->need = 0;
    }
}

static bool make_room(struct connection *connection)
{
    size_t wanted = connection->need > connection->len + READ_BYTES ? connection->need
                                                                    : connection->len + READ_BYTES;
    if (wanted <= connection->cap) {
        return true;
    }
    char *data = realloc(connection->data, wanted);
    if (data == NULL) {
        return false;
    }
    connection->data = data;
    connection->cap = wanted;
    return true;
}

static void serve(struct connection *connection, int epoll_fd)
{
    bool alive = make_room(connection);
    if (alive) {
        ssize_t got = recv(connection->fd, connection->data + connection->len,
                           connection->cap - connection->len, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        connection->len += got > 0 ? (size_t)got : 0;
        alive = got > 0 && answer(connection);
        totals.refused += got > 0 && !alive ? 1 : 0;
    }
    if (!alive) {
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
        (void)close(connection->fd);
        free(connection->data);
        *connection = (struct connection){.fd = -1};
    }
}

static void accept_one(int listener, int epoll_fd, struct connection *connections)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (connections[i].fd < 0) {
            connections[i] = (struct connection){.fd = fd};
            int one = 1;
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
            (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
            return;
        }
    }
    (void)close(fd);
}

static int listen_on_any_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        return -1;
    }
    printf("{\"port\": %u}\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    return fd;
}

static int watch_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static void print_totals(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    qsort(latencies.ns, latencies.count, sizeof(latencies.ns[0]), compare_u64);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\": %llu, \"events\": %llu, \"body_bytes\": %llu, \"refused\": %llu, "
           "\"unpacked_bytes\": %llu, "
           "\"cpu_seconds\": %.3f, \"latency_us\": {\"p50\": %.1f, \"p99\": %.1f}}\n",
           (unsigned long long)totals.requests, (unsigned long long)totals.events,
           (unsigned long long)totals.bytes, (unsigned long long)totals.refused,
           (unsigned long long)totals.unpacked_bytes, cpu, percentile_us(50), percentile_us(99));
}

int main(int argc, char **argv)
{
    totals.exact = argc > 1 && strcmp(argv[1], "--exact") == 0;
    totals.latency = argc > 1 && strcmp(argv[1], "--latency") == 0;
    totals.otlp = argc > 1 && strcmp(argv[1], "--otlp") == 0;
    static struct connection connections[CONNECTIONS_MAX];
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        connections[i].fd = -1;
    }
    int signals = watch_signals();
    int listener = listen_on_any_port();
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || listener < 0 || epoll_fd < 0) {
        perror("sink");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &signals};
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signals, &event);
    event.data.ptr = &listener;
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[32];
        int count = epoll_wait(epoll_fd, events, 32, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &signals) {
                print_totals();
                return 0;
            }
            if (events[i].data.ptr == &listener) {
                accept_one(listener, epoll_fd, connections);
            } else {
                serve(events[i].data.ptr, epoll_fd);
            }
        }
    }
}
