/*
 * notify.h - what is said to systemd, or to whoever else listens on $NOTIFY_SOCKET; sd_notify(3).
 *
 * Without the variable nothing is said. Any thread.
 */
#ifndef CELLGATE_NOTIFY_H
#define CELLGATE_NOTIFY_H

#include "cellgate/error.h"

#include <stdint.h>

void cg_notify_ready(void);
/* A reload begins; cg_notify_ready ends it. */
void cg_notify_reloading(void);
void cg_notify_stopping(void);
/* The end takes so much longer from now. */
void cg_notify_extend(uint64_t ns);

/* How often at least the watchdog wants to hear of us; 0: it is not asked for. */
uint64_t cg_notify_watchdog_ns(void);
void cg_notify_alive(void);

#endif
