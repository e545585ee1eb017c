/*
 * vmm_watch.h - a thread that learns of the end of processes, and ends the runs that go with them.
 *
 * docs/contract.md section 6, `vmm_pid`. A process is held by a pidfd, so its number may be used
 * again without harm; over a restart of the gateway the time at which it started tells it from a
 * later one. A run that cannot be ended (the journal does not take it) is tried again.
 */
#ifndef CELLGATE_VMM_WATCH_H
#define CELLGATE_VMM_WATCH_H

#include "cellgate/clock.h"
#include "cells/registry.h"

struct cg_vmm_watcher;
struct cg_vmm_watch;

/* On the watcher's thread. False: not now, and it is called again after the interval. */
typedef bool cg_vmm_ended(void *context, const char *cell_id, const char *run_id);

CG_MUST_USE bool cg_vmm_watcher_start(const struct cg_clock *clock, uint64_t retry_interval_ns,
                                      cg_vmm_ended *ended, void *context,
                                      struct cg_vmm_watcher **ret_watcher, struct cg_error *err);
/* Frees what is still watched, too. NULL is fine. */
void cg_vmm_watcher_stop(struct cg_vmm_watcher *watcher);

/* Any thread: takes hold of the cell's vmm_pid. Fails if there is no such process. */
CG_MUST_USE bool cg_vmm_watch_new(struct cg_vmm_watcher *watcher, const struct cg_cell *cell,
                                  struct cg_vmm_watch **ret_watch, uint64_t *ret_start_ticks,
                                  struct cg_error *err);
/* Any thread, once: from now on the end of the process is told. NULL is fine. */
void cg_vmm_watch_start(struct cg_vmm_watcher *watcher, struct cg_vmm_watch *watch);
/* Any thread, from `ended` too: nothing is told that has not begun to be. NULL is fine. */
void cg_vmm_watch_drop(struct cg_vmm_watcher *watcher, struct cg_vmm_watch *watch);

#endif
