#include "base/loop.h"

#include "cellgate/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool cg_loop_init(struct cg_loop *loop, struct cg_error *err)
{
    struct cg_loop made = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                           .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    /* The wake-up is told from all others by its missing data. */
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (made.epoll_fd < 0 || made.wake_fd < 0 ||
        epoll_ctl(made.epoll_fd, EPOLL_CTL_ADD, made.wake_fd, &event) != 0) {
        int errnum = errno;
        cg_loop_fini(&made);
        return cg_error_errno(err, errnum, "make an event loop");
    }
    *loop = made;
    return true;
}

void cg_loop_fini(struct cg_loop *loop)
{
    if (loop->epoll_fd >= 0) {
        (void)close(loop->epoll_fd);
    }
    if (loop->wake_fd >= 0) {
        (void)close(loop->wake_fd);
    }
    loop->epoll_fd = loop->wake_fd = -1;
}

bool cg_loop_add(struct cg_loop *loop, int fd, void *data, struct cg_error *err)
{
    CG_ASSERT(data != NULL);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return cg_error_errno(err, errno, "watch a descriptor");
    }
    return true;
}

void cg_loop_remove(struct cg_loop *loop, int fd)
{
    CG_ASSERT(epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0);
}

/* Rounded up, so that the moment has come when the wait returns. */
static int timeout_ms(uint64_t now_ns, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        return -1;
    }
    if (deadline_ns <= now_ns) {
        return 0;
    }
    uint64_t ms = (deadline_ns - now_ns - 1) / CG_NS_PER_MS + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static bool take_wake(struct cg_loop *loop)
{
    uint64_t count;
    return read(loop->wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

void cg_loop_wait(struct cg_loop *loop, uint64_t now_ns, uint64_t deadline_ns,
                  struct cg_loop_ready *ret_ready)
{
    struct epoll_event events[CG_LOOP_READY_MAX];
    int timeout = timeout_ms(now_ns, deadline_ns);
    int count;
    do {
        count = epoll_wait(loop->epoll_fd, events, CG_LOOP_READY_MAX, timeout);
    } while (count < 0 && errno == EINTR);
    CG_ASSERT(count >= 0);
    ret_ready->woken = false;
    ret_ready->count = 0;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL) {
            ret_ready->woken = take_wake(loop);
        } else {
            ret_ready->data[ret_ready->count++] = events[i].data.ptr;
        }
    }
}

void cg_loop_pause(struct cg_loop *loop, uint64_t now_ns, uint64_t deadline_ns,
                   struct cg_loop_ready *ret_ready)
{
    struct pollfd wake = {.fd = loop->wake_fd, .events = POLLIN};
    int timeout = timeout_ms(now_ns, deadline_ns);
    int count;
    do {
        count = poll(&wake, 1, timeout);
    } while (count < 0 && errno == EINTR);
    CG_ASSERT(count >= 0);
    ret_ready->count = 0;
    ret_ready->woken = count > 0 && take_wake(loop);
}

void cg_loop_wake(struct cg_loop *loop)
{
    /* Fails only when the counter is at its end, and then the wake-up is pending anyway. */
    const uint64_t one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof(one));
    CG_ASSERT(written == (ssize_t)sizeof(one) || errno == EAGAIN);
}
