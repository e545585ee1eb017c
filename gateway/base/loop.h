/*
 * loop.h - waiting for descriptors, a wake-up from other threads, or a moment: epoll and eventfd.
 *
 * A loop belongs to the thread that waits; cg_loop_add, cg_loop_remove and cg_loop_wake may be
 * called from any thread. Moments are monotonic nanoseconds by the clock of the caller. Interest is
 * always level-triggered, and epoll serves ready descriptors in turn, so none starves.
 */
#ifndef CELLGATE_LOOP_H
#define CELLGATE_LOOP_H

#include "cellgate/error.h"

#include <stdint.h>

enum { CG_LOOP_READY_MAX = 64 };

struct cg_loop {
    int epoll_fd;
    int wake_fd;
};

/* What a wait found. */
struct cg_loop_ready {
    bool woken;                    /* cg_loop_wake was called since the last wait */
    unsigned count;                /* descriptors that can be read, or have ended */
    void *data[CG_LOOP_READY_MAX]; /* as given to cg_loop_add */
};

CG_MUST_USE bool cg_loop_init(struct cg_loop *loop, struct cg_error *err);
void cg_loop_fini(struct cg_loop *loop);

/* Reports `data`, which is not NULL, when `fd` can be read. */
CG_MUST_USE bool cg_loop_add(struct cg_loop *loop, int fd, void *data, struct cg_error *err);
/* `fd` was added before and is still open. */
void cg_loop_remove(struct cg_loop *loop, int fd);

/* Waits until something is ready, a wake-up, or `deadline_ns` (UINT64_MAX: none); `now_ns` is the
 * present on the same clock. A deadline in the past only looks. */
void cg_loop_wait(struct cg_loop *loop, uint64_t now_ns, uint64_t deadline_ns,
                  struct cg_loop_ready *ret_ready);
/* As cg_loop_wait, but leaves the descriptors aside. */
void cg_loop_pause(struct cg_loop *loop, uint64_t now_ns, uint64_t deadline_ns,
                   struct cg_loop_ready *ret_ready);

/* Makes the wait in progress, or the next one, return. */
void cg_loop_wake(struct cg_loop *loop);

#endif
