#include "exporters/resolve.h"

#include "cellgate/cleanup.h"

#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* Shared by the one who asks and the thread that waits for the resolver; the last one frees it. */
struct question {
    _Atomic int owners;
    _Atomic int answer; /* of getaddrinfo */
    int done_fd;        /* eventfd, readable once answer is set */
    char host[];
};

static void leave(struct question *question)
{
    if (atomic_fetch_sub(&question->owners, 1) == 1) {
        (void)close(question->done_fd);
        free(question);
    }
}

static void *ask(void *argument)
{
    struct question *question = argument;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int answer = getaddrinfo(question->host, NULL, &hints, &list);
    if (answer == 0) {
        freeaddrinfo(list);
    }
    atomic_store(&question->answer, answer);
    (void)eventfd_write(question->done_fd, 1);
    leave(question);
    return NULL;
}

static struct question *new_question(const char *host)
{
    size_t size = strlen(host) + 1;
    struct question *question = calloc(1, sizeof(*question) + size);
    if (question == NULL) {
        return NULL;
    }
    question->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (question->done_fd < 0) {
        free(question);
        return NULL;
    }
    memcpy(question->host, host, size);
    question->answer = EAI_AGAIN;
    question->owners = 1;
    return question;
}

enum cg_resolved cg_resolve(const char *host, int cancel_fd, int timeout_ms)
{
    struct question *question = new_question(host);
    if (question == NULL) {
        return CG_RESOLVED_NOT_NOW;
    }
    atomic_fetch_add(&question->owners, 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, ask, question) != 0) {
        leave(question);
        leave(question);
        return CG_RESOLVED_NOT_NOW;
    }
    (void)pthread_detach(thread);

    struct pollfd fds[] = {{.fd = question->done_fd, .events = POLLIN},
                           {.fd = cancel_fd, .events = POLLIN}};
    (void)poll(fds, 2, timeout_ms);
    int answer = atomic_load(&question->answer);
    leave(question);
    if (answer == EAI_NONAME || answer == EAI_NODATA) {
        return CG_RESOLVED_UNKNOWN;
    }
    return answer == 0 ? CG_RESOLVED_KNOWN : CG_RESOLVED_NOT_NOW;
}

bool cg_resolve_is_unknown(const char *host, int cancel_fd, int timeout_ms)
{
    return cg_resolve(host, cancel_fd, timeout_ms) == CG_RESOLVED_UNKNOWN;
}
