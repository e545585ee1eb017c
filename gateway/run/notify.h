/*
 * notify.h - what is said to systemd, or to whoever else listens on $NOTIFY_SOCKET; sd_notify(3).
 *
 * Without the variable nothing is said. Any thread.
 */
#ifndef CELLGATE_NOTIFY_H
#define CELLGATE_NOTIFY_H

#include "cellgate/error.h"

#include <stdbool.h>
#include <stddef.h>
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

/* --- the descriptor store: FileDescriptorStoreMax= --- */

/* Whether somebody listens who may have a store; `told`: who has said so (FDSTORE, systemd 254). */
bool cg_notify_may_store(bool told);
/* Stores descriptors under a name, in messages of as many as one can carry. That they were sent
 * says nothing of whether they are kept: a full store drops them silently. */
CG_MUST_USE bool cg_notify_store(const int *fds, size_t count, const char *name,
                                 struct cg_error *err);
/* Removes what is stored under the name. */
void cg_notify_unstore(const char *name);
/* Waits until everything that was said has been heard. */
CG_MUST_USE bool cg_notify_barrier(uint64_t timeout_ns);

#endif
