/*
 * gateway.h - the composition root: makes the stages from a configuration and joins them.
 *
 * An ordered table of stages is started downwards and stopped upwards from wherever it got to; this
 * is the only place that knows all of them. Called from the main thread only, but for a reload.
 */
#ifndef CELLGATE_GATEWAY_H
#define CELLGATE_GATEWAY_H

#include "cellgate/error.h"
#include "http/reloads.h"
#include "run/config.h"
#include "run/inherited.h"
#include "run/sandbox.h"

struct cg_gateway;

/* Where a configuration comes from, to read it again: cg_config_load. Borrowed until stop. */
struct cg_gateway_source {
    const char *path;
    const char *const *settings;
    size_t settings_count;
    struct cg_inherited *inherited; /* sockets that were passed to us: what is used is taken */
};

/* Starts everything; on return each configured cell's socket listens and /readyz says 200. The
 * configuration is the gateway's then; the sandbox is borrowed until stop, and entered. On failure
 * all that was started is stopped again. */
CG_MUST_USE bool cg_gateway_start(const struct cg_gateway_source *source, struct cg_config *config,
                                  struct cg_sandbox *sandbox, struct cg_gateway **ret_gateway,
                                  struct cg_error *err);

/*
 * Reads the configuration again and changes what it changes; blocks until that is done. Whatever is
 * wrong is found before anything has changed, or is undone: then it is REFUSED. Logs it, and notes
 * it for the pages. Any thread.
 */
enum cg_reload_outcome cg_gateway_reload(struct cg_gateway *gateway, struct cg_buf *ret_report,
                                         struct cg_buf *ret_problems);
/* The same on a thread of the gateway's, which calls `done` afterwards; returns at once. Asked for
 * while one is under way, there is another after it. */
void cg_gateway_ask_reload(struct cg_gateway *gateway, void (*done)(void));
/*
 * Whether every thread that guests depend on (the acceptor, the ingress threads, the spool's
 * committer) has turned since the call before, and makes each turn once more. False: *ret_stuck
 * names one that has not. Main thread.
 */
bool cg_gateway_turns(struct cg_gateway *gateway, const char **ret_stuck);
/* How long exporters may catch up, as configured now. */
uint64_t cg_gateway_drain_ns(struct cg_gateway *gateway);

/* Log files were rotated: exporters reopen theirs before the next batch. */
void cg_gateway_reopen(struct cg_gateway *gateway);

/* Stops accepting, appends what the sockets hold, and gives the exporters until the monotonic
 * deadline to catch up, or until `is_over` (asked ten times a second) says that it is enough; says
 * in the log what is left behind (it stays in a spool on disk). */
void cg_gateway_drain(struct cg_gateway *gateway, uint64_t deadline_ns, bool (*is_over)(void));

/* Stops everything and frees. After a drain nothing that was read is lost. */
void cg_gateway_stop(struct cg_gateway *gateway);

#endif
