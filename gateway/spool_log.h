/*
 * spool_log.h - the spool's notices as lines of the log.
 *
 * The spool tells through a callback and writes no log; this is the callback. Called by the
 * committer's thread, and while the spool is opened and closed, one at a time.
 */
#ifndef CELLGATE_SPOOL_LOG_H
#define CELLGATE_SPOOL_LOG_H

#include "spool/spool.h"

/* What was found when the spool was opened; `dir` is NULL in memory. */
void cg_spool_log_open(const char *dir, const struct cg_spool_recovery *recovery);
/* A struct cg_spool_config.notice; the context is not used. */
void cg_spool_log_notice(void *context, const struct cg_spool_notice *notice);

#endif
