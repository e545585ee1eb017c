#include "exporters/interrupt.h"

#include "cellgate/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum {
    SIGNAL = SIGURG,
    AGAIN_MS = 20,
};

struct cg_interrupt {
    timer_t timer;
    atomic_bool cancelled;
    sigset_t before; /* the mask outside a section */
};

static void do_nothing(int number)
{
    (void)number;
}

static void install_handler(void)
{
    struct sigaction action = {.sa_handler = do_nothing}; /* no SA_RESTART: that is the point */
    CG_ASSERT(sigaction(SIGNAL, &action, NULL) == 0);
}

bool cg_interrupt_new(struct cg_interrupt **ret_interrupt, struct cg_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, install_handler);

    struct cg_interrupt *interrupt = calloc(1, sizeof(*interrupt));
    if (interrupt == NULL) {
        return cg_error_set(err, "no memory for a timer");
    }
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL};
    event.sigev_notify_thread_id = gettid();
    if (timer_create(CLOCK_MONOTONIC, &event, &interrupt->timer) != 0) {
        (void)cg_error_errno(err, errno, "timer");
        free(interrupt);
        return false;
    }
    *ret_interrupt = interrupt;
    return true;
}

void cg_interrupt_free(struct cg_interrupt *interrupt)
{
    if (interrupt != NULL) {
        (void)timer_delete(interrupt->timer);
        free(interrupt);
    }
}

/* Once after first_ns, then every AGAIN_MS; 0 stops it. */
static void set_timer(struct cg_interrupt *interrupt, uint64_t first_ns)
{
    struct itimerspec times = {
        .it_value = {.tv_sec = (time_t)(first_ns / CG_NS_PER_S),
                     .tv_nsec = (long)(first_ns % CG_NS_PER_S)},
        .it_interval = {.tv_nsec = AGAIN_MS * (long)CG_NS_PER_MS},
    };
    (void)timer_settime(interrupt->timer, 0, &times, NULL);
}

static void set_blocked(struct cg_interrupt *interrupt, bool blocked)
{
    if (blocked) {
        (void)pthread_sigmask(SIG_SETMASK, &interrupt->before, NULL);
        return;
    }
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGNAL);
    (void)pthread_sigmask(SIG_UNBLOCK, &signals, &interrupt->before);
}

bool cg_interrupt_begin(struct cg_interrupt *interrupt, uint64_t timeout_ns)
{
    CG_ASSERT(timeout_ns > 0);
    set_timer(interrupt, timeout_ns);
    /* Looked at behind set_timer: a cancel that came before it was overwritten by it, one that
     * comes behind overwrites it. */
    if (atomic_load(&interrupt->cancelled)) {
        set_timer(interrupt, 0);
        return false;
    }
    set_blocked(interrupt, false);
    return true;
}

void cg_interrupt_end(struct cg_interrupt *interrupt)
{
    set_blocked(interrupt, true);
    set_timer(interrupt, 0);
}

void cg_interrupt_cancel(struct cg_interrupt *interrupt)
{
    atomic_store(&interrupt->cancelled, true);
    set_timer(interrupt, CG_NS_PER_MS);
}
