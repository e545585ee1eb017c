/*
 * privileges.h - who the process is, and what it may: user, groups, capabilities, dumps.
 *
 * capabilities(7), prctl(2). Everything here is for the time before there are threads: capabilities
 * are each thread's own.
 */
#ifndef CELLGATE_PRIVILEGES_H
#define CELLGATE_PRIVILEGES_H

#include "cellgate/error.h"

#include <stdint.h>
#include <sys/types.h>

/* A user with a user's groups. */
struct cg_identity {
    uid_t uid;
    gid_t gid;
    const char *name; /* for initgroups; NULL: no groups but gid */
};

/* A bit for each capability, by its number. */
#define CG_CAPABILITY(number) (UINT64_C(1) << (number))

/* Capabilities in effect. */
uint64_t cg_capabilities(void);
/* Keeps those of `kept` that it has, and gives up all others for good. */
CG_MUST_USE bool cg_capabilities_keep(uint64_t kept, struct cg_error *err);

/* Finds a user, and a group (NULL: the user's own), by names or numbers. The name is borrowed. */
CG_MUST_USE bool cg_identity_find(const char *user, const char *group,
                                  struct cg_identity *ret_identity, struct cg_error *err);
/* The number of a group, by name or number. */
CG_MUST_USE bool cg_group_find(const char *group, gid_t *ret_gid, struct cg_error *err);
/* Becomes that user for good, in the user's groups and `also` ((gid_t)-1: none); keeps the
 * capabilities until cg_capabilities_keep. */
CG_MUST_USE bool cg_identity_become(const struct cg_identity *identity, gid_t also,
                                    struct cg_error *err);

/* No core dumps; no other process of the same user may look into the memory. */
CG_MUST_USE bool cg_dumps_forbid(struct cg_error *err);
/* No program that is run from here on gives more rights. */
CG_MUST_USE bool cg_privileges_forbid_new(struct cg_error *err);

#endif
