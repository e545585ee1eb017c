#include "run/notify.h"

#include "cellgate/clock.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>

enum { NS_PER_US = 1000 };

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
