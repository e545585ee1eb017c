/*
 * privileged.h - the helper process that keeps the few rights the gateway gives up.
 *
 * A child of the gateway, forked before there are threads and before any key is read. It makes and
 * removes guests' sockets in directories and for owners beyond the gateway's rights, beneath the
 * configured roots, and opens the files that the configuration names; nothing else. It holds three
 * capabilities (CHOWN, FOWNER, DAC_OVERRIDE), is confined by seccomp and Landlock itself, and ends
 * with the gateway. What it is asked is judged by privileged_message.h.
 */
#ifndef CELLGATE_PRIVILEGED_H
#define CELLGATE_PRIVILEGED_H

#include "ingress/socket_file.h"
#include "run/privileged_message.h"

#include <stdatomic.h>

struct cg_privileged;

/* How the helper is to be confined, and how it is: bits. */
enum { CG_CONFINED_SECCOMP = 1 << 0, CG_CONFINED_LANDLOCK = 1 << 1 };

/* --- the gateway's side; any thread, one request at a time --- */

/*
 * Starts the helper. It is confined as `wanted` says where the kernel can; without `strict` also
 * less. In the child *ret_is_helper is true on return, once the gateway is gone: whoever called is
 * to free what it has and to end the process by returning. The policy is copied but for what it
 * points at, which is borrowed.
 */
CG_MUST_USE bool cg_privileged_start(const struct cg_privileged_policy *policy, unsigned wanted,
                                     bool strict, struct cg_privileged **ret_helper,
                                     bool *ret_is_helper, struct cg_error *err);
/* Starts the thread that sees the helper end, logs it and clears *alive. */
CG_MUST_USE bool cg_privileged_watch(struct cg_privileged *helper, atomic_bool *alive,
                                     struct cg_error *err);
/* Lets the helper end, and waits for that. NULL is fine. */
void cg_privileged_stop(struct cg_privileged *helper);

pid_t cg_privileged_pid(const struct cg_privileged *helper);
/* CG_CONFINED_* that are in force. */
unsigned cg_privileged_confined(const struct cg_privileged *helper);

/* Steps that are taken by the gateway where it may, and by the helper where it must be. */
struct cg_socket_files cg_privileged_socket_files(struct cg_privileged *helper);
/* A cg_secret_file_opener; the context is the helper. */
int cg_privileged_open_file(void *helper, const char *path);

/* --- the helper's side --- */

/* Answers requests until the other end is closed. */
void cg_privileged_serve(int socket, const struct cg_privileged_policy *policy);

#endif
