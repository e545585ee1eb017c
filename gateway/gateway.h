/*
 * gateway.h - the composition root: makes the stages from a configuration and joins them.
 *
 * An ordered table of stages is started downwards and stopped upwards from wherever it got to; this
 * is the only place that knows all of them. Called from the main thread only.
 */
#ifndef CELLGATE_GATEWAY_H
#define CELLGATE_GATEWAY_H

#include "cellgate/error.h"
#include "run/config.h"
#include "run/sandbox.h"

struct cg_gateway;

/* Starts everything; on return each configured cell's socket listens and /readyz says 200. The
 * configuration and the sandbox are borrowed until stop; the sandbox is entered. On failure all
 * that was started is stopped again. */
CG_MUST_USE bool cg_gateway_start(const struct cg_config *config, struct cg_sandbox *sandbox,
                                  struct cg_gateway **ret_gateway, struct cg_error *err);

/* Log files were rotated: exporters reopen theirs before the next batch. */
void cg_gateway_reopen(struct cg_gateway *gateway);

/* Stops accepting, appends what the sockets hold, and gives the exporters until the monotonic
 * deadline to catch up, or until `is_over` (asked ten times a second) says that it is enough; says
 * in the log what is left behind (it stays in a spool on disk). */
void cg_gateway_drain(struct cg_gateway *gateway, uint64_t deadline_ns, bool (*is_over)(void));

/* Stops everything and frees. After a drain nothing that was read is lost. */
void cg_gateway_stop(struct cg_gateway *gateway);

#endif
