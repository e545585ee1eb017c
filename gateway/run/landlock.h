/*
 * landlock.h - which directories this process may use from now on.
 *
 * Linux's Landlock (landlock(7)), ABI 1 to the newest: what a kernel does not know yet is left out.
 * A rule is for the directory that a path means now, with all that lies beneath, also later; a file
 * that is replaced is another file, so rules are best made for directories. The restriction holds
 * for the calling thread and the threads and processes that it starts: call it before there are
 * others. It cannot be lifted. Does not restrict looking (stat, a walk along a path), nor changing
 * modes and owners.
 */
#ifndef CELLGATE_LANDLOCK_H
#define CELLGATE_LANDLOCK_H

#include "cellgate/error.h"

#include <stdint.h>

enum cg_landlock_access {
    CG_LANDLOCK_READ,    /* files and lists of files */
    CG_LANDLOCK_DEVICE,  /* read and write what is there */
    CG_LANDLOCK_SOCKETS, /* make and remove sockets and FIFOs, and read FIFOs */
    CG_LANDLOCK_WRITE,   /* all but devices and running programs */
};

struct cg_landlock {
    int fd;
    int abi;
};

/* The version that the kernel has; 0: none. */
int cg_landlock_abi(void);

/* Begins a ruleset that lets nothing through. `abstract`: abstract Unix sockets of other processes
 * stay within reach. */
CG_MUST_USE bool cg_landlock_init(struct cg_landlock *landlock, bool abstract,
                                  struct cg_error *err);
void cg_landlock_fini(struct cg_landlock *landlock);

/* Lets a path through; one that is not there, or may not be looked at, is none to let through. */
CG_MUST_USE bool cg_landlock_allow(const struct cg_landlock *landlock, const char *path,
                                   enum cg_landlock_access access, struct cg_error *err);

/* From here on nothing else. Needs no_new_privs. */
CG_MUST_USE bool cg_landlock_restrict(const struct cg_landlock *landlock, struct cg_error *err);

#endif
