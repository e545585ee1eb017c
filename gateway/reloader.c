/*
 * reloader.c - the thread that reloads when a signal asks for it.
 *
 * Main has to keep the watchdog and to take further signals, however long a reload takes.
 */
#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "gateway_state.h"

#include <stdlib.h>

struct cg_reloader {
    struct cg_gateway *gateway;
    pthread_t thread;
    pthread_mutex_t lock; /* covers all below */
    pthread_cond_t asked_for;
    bool asked, stopping;
    void (*done)(void);
};

static bool await_wish(struct cg_reloader *reloader, void (**ret_done)(void))
{
    (void)pthread_mutex_lock(&reloader->lock);
    while (!reloader->asked && !reloader->stopping) {
        (void)pthread_cond_wait(&reloader->asked_for, &reloader->lock);
    }
    bool wished = !reloader->stopping;
    reloader->asked = false;
    *ret_done = reloader->done;
    (void)pthread_mutex_unlock(&reloader->lock);
    return wished;
}

static void *reload_when_asked(void *context)
{
    struct cg_reloader *reloader = context;
    void (*done)(void);
    while (await_wish(reloader, &done)) {
        cg_auto_buf struct cg_buf report;
        cg_auto_buf struct cg_buf problems;
        cg_buf_init(&report, CG_RELOAD_REPORT_BYTES_MAX);
        cg_buf_init(&problems, CG_RELOAD_PROBLEMS_BYTES_MAX);
        (void)cg_gateway_reload(reloader->gateway, &report, &problems);
        done();
    }
    return NULL;
}

bool cg_reloader_start(struct cg_gateway *gateway, struct cg_error *err)
{
    struct cg_reloader *reloader = calloc(1, sizeof(*reloader));
    if (reloader == NULL) {
        return cg_error_set(err, "out of memory");
    }
    reloader->gateway = gateway;
    (void)pthread_mutex_init(&reloader->lock, NULL);
    (void)pthread_cond_init(&reloader->asked_for, NULL);
    int errnum = cg_thread_start(&reloader->thread, "reload", reload_when_asked, reloader);
    if (errnum != 0) {
        free(reloader);
        return cg_error_errno(err, errnum, "start the reloading thread");
    }
    gateway->reloader = reloader;
    return true;
}

void cg_reloader_stop(struct cg_gateway *gateway)
{
    struct cg_reloader *reloader = cg_steal_ptr(gateway->reloader);
    if (reloader == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&reloader->lock);
    reloader->stopping = true;
    (void)pthread_cond_signal(&reloader->asked_for);
    (void)pthread_mutex_unlock(&reloader->lock);
    (void)pthread_join(reloader->thread, NULL);
    (void)pthread_cond_destroy(&reloader->asked_for);
    (void)pthread_mutex_destroy(&reloader->lock);
    free(reloader);
}

void cg_gateway_ask_reload(struct cg_gateway *gateway, void (*done)(void))
{
    struct cg_reloader *reloader = gateway->reloader;
    (void)pthread_mutex_lock(&reloader->lock);
    reloader->asked = true;
    reloader->done = done;
    (void)pthread_cond_signal(&reloader->asked_for);
    (void)pthread_mutex_unlock(&reloader->lock);
}
