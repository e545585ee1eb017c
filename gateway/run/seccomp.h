/*
 * seccomp.h - the system calls that are let through; the rest fails, or ends the process.
 *
 * seccomp(2), by libseccomp. Three answers: what the gateway and its libraries use is let through,
 * with its arguments looked at where these make the difference (socket families, new threads but no
 * new processes, no memory that is both written and run); what no honest gateway ever tries
 * (running programs, tracing, mounting, loading code into the kernel, new namespaces) ends the
 * process; all else fails with EPERM and is noted in the kernel's audit log, so that a library's
 * new habit costs a feature and not the gateway.
 */
#ifndef CELLGATE_SECCOMP_H
#define CELLGATE_SECCOMP_H

#include "cellgate/error.h"

/* What a part of the gateway may need beyond the rest; bits. */
enum { CG_SECCOMP_NETWORK_NAMESPACES = 1 << 0 /* entering them */ };

/* For all threads of the gateway, those that are there too; `more`: bits of the above. Sets
 * no_new_privs. */
CG_MUST_USE bool cg_seccomp_gateway(unsigned more, struct cg_error *err);
/* For the privileged helper: files and Unix sockets, no network, no threads, no processes. */
CG_MUST_USE bool cg_seccomp_helper(struct cg_error *err);

#endif
