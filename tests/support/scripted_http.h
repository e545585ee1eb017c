/*
 * scripted_http.h - a tiny HTTP/1.1 server for C tests: it takes connections in order and answers
 * each request with the next bytes of a script.
 *
 * One thread of its own, 127.0.0.1, a port of the kernel's choice. Requests need a Content-Length.
 * What it received may be read once scripted_http_stop has returned.
 */
#ifndef TESTS_SUPPORT_SCRIPTED_HTTP_H
#define TESTS_SUPPORT_SCRIPTED_HTTP_H

#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRIPTED_REQUESTS_MAX = 16, SCRIPTED_REQUEST_BYTES_MAX = 4 * 1024 * 1024 };

struct scripted_answer {
    const char *bytes;   /* NULL: none, hold the connection until stop */
    size_t repeat;       /* `bytes` this many times more */
    bool close_after;    /* close the connection behind it */
    bool before_request; /* do not wait for a request */
    bool reset;          /* close with a reset instead of an end */
};

struct scripted_request {
    char *data; /* terminated behind its len bytes */
    size_t len;
    const char *body;
    size_t body_len;
};

struct scripted_http {
    uint16_t port;
    const struct scripted_answer *answers;
    size_t answer_count;
    struct scripted_request requests[SCRIPTED_REQUESTS_MAX];
    size_t request_count;
    size_t connection_count;
    int listener;
    int stop_fd;
    pthread_t thread;
};

/* False once the test wants to stop. */
static bool scripted_wait(struct scripted_http *server, int fd, short what)
{
    struct pollfd fds[] = {{.fd = fd, .events = what}, {.fd = server->stop_fd, .events = POLLIN}};
    ck_assert_int_gt(poll(fds, 2, -1), 0);
    return (fds[1].revents & POLLIN) == 0;
}

/* True with a whole request, false at the connection's end or the test's. */
static bool scripted_read(struct scripted_http *server, int fd)
{
    ck_assert_uint_lt(server->request_count, SCRIPTED_REQUESTS_MAX);
    struct scripted_request *request = &server->requests[server->request_count];
    size_t need = 0;
    free(request->data);
    *request = (struct scripted_request){.data = malloc(SCRIPTED_REQUEST_BYTES_MAX + 1)};
    ck_assert_ptr_nonnull(request->data);
    while (need == 0 || request->len < need) {
        if (!scripted_wait(server, fd, POLLIN)) {
            return false;
        }
        ssize_t got =
            recv(fd, request->data + request->len, SCRIPTED_REQUEST_BYTES_MAX - request->len, 0);
        if (got <= 0) {
            return false;
        }
        request->len += (size_t)got;
        request->data[request->len] = '\0';
        char *end = strstr(request->data, "\r\n\r\n");
        if (need == 0 && end != NULL) {
            const char *length = strcasestr(request->data, "content-length:");
            ck_assert_ptr_nonnull(length);
            request->body = end + 4;
            request->body_len = strtoul(length + 15, NULL, 10);
            need = (size_t)(request->body - request->data) + request->body_len;
        }
    }
    server->request_count++;
    return true;
}

static bool scripted_send(struct scripted_http *server, int fd,
                          const struct scripted_answer *answer)
{
    size_t len = strlen(answer->bytes);
    for (size_t i = 0; i <= answer->repeat; i++) {
        for (size_t done = 0; done < len;) {
            if (!scripted_wait(server, fd, POLLOUT)) {
                return false;
            }
            ssize_t sent = send(fd, answer->bytes + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent <= 0) {
                return false; /* the client had enough */
            }
            done += (size_t)sent;
        }
    }
    return true;
}

static void scripted_close(int fd, bool reset)
{
    if (reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    (void)close(fd);
}

static void *scripted_serve(void *context)
{
    struct scripted_http *server = context;
    int fd = -1;
    size_t at = 0;
    while (at < server->answer_count) {
        const struct scripted_answer *answer = &server->answers[at];
        if (fd < 0) {
            if (!scripted_wait(server, server->listener, POLLIN)) {
                return NULL;
            }
            fd = accept(server->listener, NULL, NULL);
            ck_assert_int_ge(fd, 0);
            server->connection_count++;
        }
        if (!answer->before_request && !scripted_read(server, fd)) {
            (void)close(fd);
            fd = -1;
            if (!scripted_wait(server, server->listener, POLLIN)) {
                return NULL;
            }
            continue;
        }
        at++;
        if (answer->bytes == NULL) {
            (void)scripted_wait(server, -1, 0);
        } else if (!scripted_send(server, fd, answer) || answer->close_after) {
            scripted_close(fd, answer->reset);
            fd = -1;
        }
    }
    (void)scripted_wait(server, -1, 0);
    if (fd >= 0) {
        (void)close(fd);
    }
    return NULL;
}

static void scripted_http_start(struct scripted_http *server, const struct scripted_answer *answers,
                                size_t count)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    *server = (struct scripted_http){.answers = answers, .answer_count = count};
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(server->listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(server->listener, 16), 0);
    ck_assert_int_eq(getsockname(server->listener, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(address.sin_port);
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    ck_assert_int_ge(server->stop_fd, 0);
    ck_assert_int_eq(pthread_create(&server->thread, NULL, scripted_serve, server), 0);
}

static void scripted_http_stop(struct scripted_http *server)
{
    (void)eventfd_write(server->stop_fd, 1);
    ck_assert_int_eq(pthread_join(server->thread, NULL), 0);
    (void)close(server->stop_fd);
    (void)close(server->listener);
}

static void scripted_http_free(struct scripted_http *server)
{
    for (size_t i = 0; i < SCRIPTED_REQUESTS_MAX; i++) {
        free(server->requests[i].data);
    }
}

#endif
