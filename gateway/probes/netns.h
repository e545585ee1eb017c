/*
 * netns.h - what belongs to a network namespace: sockets that are made in it, threads that live in
 * it.
 *
 * A namespace is named by a path ("/run/netns/vm-17"), opened as any path of a probe, or is the
 * gateway's own. To enter another one takes CAP_SYS_ADMIN; a socket made there stays there, and
 * needs nothing afterwards.
 */
#ifndef CELLGATE_NETNS_H
#define CELLGATE_NETNS_H

#include "probes/probe.h"

#include <sys/types.h>

/* Which namespace a path names now: another one may take its place. */
struct cg_netns_id {
    dev_t device;
    ino_t inode;
};

static inline bool cg_netns_is_same(const struct cg_netns_id *a, const struct cg_netns_id *b)
{
    return a->device == b->device && a->inode == b->inode;
}

/* Opens the namespace at `path`, if the policy lets probes enter any. CG_PROBE_READ on success. */
CG_MUST_USE enum cg_probe_outcome cg_netns_open(const struct cg_probe_policy *policy,
                                                const char *path, int *ret_fd,
                                                struct cg_netns_id *ret_id, struct cg_error *err);

/* A netlink socket of that protocol in the namespace (-1: the gateway's own), made by a thread that
 * ends again: a thread that has entered another namespace is of no use for anything else. */
CG_MUST_USE enum cg_probe_outcome cg_netns_netlink(int netns_fd, int protocol, int *ret_fd,
                                                   struct cg_error *err);

#endif
