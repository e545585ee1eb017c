/*
 * handover.h - the sockets that a gateway before this one has left: found, matched, taken, closed.
 *
 * docs/contract.md section 1. A set is opened at the start from whatever descriptors came back from
 * the store. Listening for a cell asks it first; what nobody has asked for by the end of the start
 * is closed. Until then one thread at a time.
 */
#ifndef CELLGATE_HANDOVER_H
#define CELLGATE_HANDOVER_H

#include "ingress/handover_table.h"

struct cg_handover;

/* The cookie of a socket; 0 if it is none. */
uint64_t cg_handover_cookie(int fd);

/* A descriptor of memory with the table in it, which nobody can change any more. */
CG_MUST_USE bool cg_handover_keep_table(struct cg_bytes table, int *ret_fd, struct cg_error *err);

/* Takes all descriptors, among which one is the table's. On failure they are closed. */
CG_MUST_USE bool cg_handover_open(const int *fds, size_t count, struct cg_handover **ret_handover,
                                  struct cg_error *err);

/* What there is of a cell that listened at this path; NULL: nothing. Valid until close. */
const struct cg_handover_cell *cg_handover_find(const struct cg_handover *handover,
                                                const char *vsock_uds_base);
/* Whether the socket file with this identity is one whose socket is here. */
bool cg_handover_holds(const struct cg_handover *handover, uint64_t device, uint64_t inode);
/* The socket of that cookie; -1 if it did not come, or was taken. */
int cg_handover_take(struct cg_handover *handover, uint64_t cookie);

/* Calls `visit` for each cell whose listening socket nobody has taken. */
void cg_handover_visit_unused(struct cg_handover *handover,
                              void (*visit)(void *context, const struct cg_handover_cell *cell),
                              void *context);
/* Closes what nobody has taken; returns how many sockets. NULL is fine. */
size_t cg_handover_close(struct cg_handover *handover);

#endif
