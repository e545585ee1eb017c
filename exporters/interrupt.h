/*
 * interrupt.h - makes a library's blocking calls end: for libraries that know no cancel.
 *
 * A timer of the kernel sends the thread a signal (SIGURG, which nobody minds) whose handler does
 * nothing, so that system calls in progress return EINTR. It goes off at the deadline, or as soon
 * as another thread says so, and then again and again until the section is left: one signal could
 * come right before the call it is meant for. Outside a section the signal is blocked.
 *
 * new, begin, end and free belong to one thread, the one to be interrupted.
 */
#ifndef CELLGATE_EXPORTERS_INTERRUPT_H
#define CELLGATE_EXPORTERS_INTERRUPT_H

#include "cellgate/error.h"

#include <stdbool.h>
#include <stdint.h>

struct cg_interrupt;

/* For the calling thread. The first one installs the handler for the whole process. */
CG_MUST_USE bool cg_interrupt_new(struct cg_interrupt **ret_interrupt, struct cg_error *err);
void cg_interrupt_free(struct cg_interrupt *interrupt);

/* Enters a section of at most timeout_ns. False if cancelled already: then nothing is entered. */
CG_MUST_USE bool cg_interrupt_begin(struct cg_interrupt *interrupt, uint64_t timeout_ns);
void cg_interrupt_end(struct cg_interrupt *interrupt);

/* Any thread: ends the section in progress soon, and lets none begin again. */
void cg_interrupt_cancel(struct cg_interrupt *interrupt);

#endif
