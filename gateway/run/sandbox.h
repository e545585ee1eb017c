/*
 * sandbox.h - what the gateway gives up before it reads a guest's first byte.
 *
 * docs/operating.md, "Sandbox". In two steps, both before there are threads, since capabilities and
 * Landlock are each thread's own: `prepare` finds who the gateway will be and forks the privileged
 * helper (privileged.h), before a key is in memory; `enter`, once the keys are read and the
 * directories made, gives up user, capabilities, dumps, files and system calls. Main thread only.
 */
#ifndef CELLGATE_SANDBOX_H
#define CELLGATE_SANDBOX_H

#include "base/sandbox_status.h"
#include "ingress/socket_file.h"
#include "run/config.h"

struct cg_sandbox;

/*
 * `path` is the configuration file's ("-": none), which stays within reach for a reload. Both are
 * borrowed until the sandbox is freed. In the helper's process
 * *ret_is_helper is true on return, once the gateway is gone, and there is no sandbox: the process
 * is to end by returning to main.
 */
CG_MUST_USE bool cg_sandbox_prepare(const char *path, const struct cg_config *config,
                                    struct cg_sandbox **ret_sandbox, bool *ret_is_helper,
                                    struct cg_error *err);

/* Gives a file or directory that was just made to whom the gateway will be. */
CG_MUST_USE bool cg_sandbox_own(const struct cg_sandbox *sandbox, const char *path,
                                struct cg_error *err);

/* Gives up everything, says so in one line of the log, and watches the helper. */
CG_MUST_USE bool cg_sandbox_enter(struct cg_sandbox *sandbox, struct cg_error *err);

/* Who makes guests' sockets; borrowed. */
struct cg_socket_files cg_sandbox_socket_files(const struct cg_sandbox *sandbox);
const struct cg_sandbox_status *cg_sandbox_status(const struct cg_sandbox *sandbox);

/* Lets the helper end. NULL is fine. */
void cg_sandbox_free(struct cg_sandbox *sandbox);

#endif
