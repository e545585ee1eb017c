/*
 * sockets_made.h - the record of the socket files that this gateway made.
 *
 * docs/contract.md section 1: a socket file that exists already is never removed, except one that
 * the gateway itself recorded before a crash, with the recorded device and inode. One line a
 * socket: checksum, device, inode, path; lines are appended, and a line cut by a crash is ignored.
 * Lines of sockets that are gone are dropped when the record is opened. Not synced: it is about
 * killed processes. One thread at a time.
 */
#ifndef CELLGATE_SOCKETS_MADE_H
#define CELLGATE_SOCKETS_MADE_H

#include "cellgate/error.h"

#include <sys/types.h>

enum { CG_SOCKETS_MADE_BYTES_MAX = 64 << 20 };

struct cg_sockets_made;

/* Reads the record at `path`, or starts one. Fails for what the operator must mend; damaged lines
 * are dropped. */
CG_MUST_USE bool cg_sockets_made_open(const char *path, struct cg_sockets_made **ret_made,
                                      struct cg_error *err);
/* NULL is fine. */
void cg_sockets_made_close(struct cg_sockets_made *made);

/* Whether an earlier gateway recorded a socket of this path, device and inode. */
bool cg_sockets_made_has(const struct cg_sockets_made *made, const char *path, dev_t device,
                         ino_t inode);
/* `path` has no line break. */
CG_MUST_USE bool cg_sockets_made_add(struct cg_sockets_made *made, const char *path, dev_t device,
                                     ino_t inode, struct cg_error *err);
/* All sockets are removed: the record becomes empty. */
CG_MUST_USE bool cg_sockets_made_clear(struct cg_sockets_made *made, struct cg_error *err);

#endif
