#include "run/notify.h"

#include "cellgate/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

enum {
    NS_PER_US = 1000,
    DESCRIPTORS_PER_MESSAGE_MAX = 253, /* SCM_MAX_FD */
    STORE_TEXT_BYTES_MAX = 128,
};

void cg_notify_ready(void)
{
    (void)sd_notify(0, "READY=1");
}

void cg_notify_reloading(void)
{
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                     cg_clock_monotonic(&cg_clock_system) / NS_PER_US);
}

void cg_notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
}

void cg_notify_extend(uint64_t ns)
{
    (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, ns / NS_PER_US);
}

uint64_t cg_notify_watchdog_ns(void)
{
    uint64_t us = 0;
    return sd_watchdog_enabled(0, &us) > 0 ? us * NS_PER_US : 0;
}

void cg_notify_alive(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}

bool cg_notify_may_store(bool told)
{
    return getenv("NOTIFY_SOCKET") != NULL && (!told || getenv("FDSTORE") != NULL);
}

bool cg_notify_store(const int *fds, size_t count, const char *name, struct cg_error *err)
{
    /* Polled, a connection that its guest has ended would be dropped with what it still holds. */
    char text[STORE_TEXT_BYTES_MAX];
    (void)snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    for (size_t at = 0; at < count;) {
        size_t some =
            count - at < DESCRIPTORS_PER_MESSAGE_MAX ? count - at : DESCRIPTORS_PER_MESSAGE_MAX;
        int sent = sd_pid_notify_with_fds(0, 0, text, fds + at, (unsigned)some);
        if (sent <= 0) {
            return cg_error_errno(err, sent < 0 ? -sent : ENOTCONN, "send %zu descriptors", some);
        }
        at += some;
    }
    return true;
}

void cg_notify_unstore(const char *name)
{
    (void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

bool cg_notify_barrier(uint64_t timeout_ns)
{
    return sd_notify_barrier(0, timeout_ns / NS_PER_US) > 0;
}
