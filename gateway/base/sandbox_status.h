/*
 * sandbox_status.h - which parts of the sandbox are in force, for whoever shows it.
 *
 * Set once, before there are threads, but for the helper, which may end at any time.
 */
#ifndef CELLGATE_SANDBOX_STATUS_H
#define CELLGATE_SANDBOX_STATUS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum cg_sandbox_part {
    CG_SANDBOX_USER,         /* not root */
    CG_SANDBOX_CAPABILITIES, /* none but what host probes need */
    CG_SANDBOX_DUMPS,        /* no core dumps */
    CG_SANDBOX_LANDLOCK,
    CG_SANDBOX_SECCOMP,
    CG_SANDBOX_PARTS
};

enum cg_helper_state { CG_HELPER_NONE, CG_HELPER_RUNNING, CG_HELPER_ENDED };

struct cg_sandbox_status {
    bool in_force[CG_SANDBOX_PARTS];
    uint64_t capabilities; /* that are kept */
    int landlock_abi;      /* 0: the kernel has none */
    bool has_helper;
    atomic_bool helper_alive;
};

/* "user", "capabilities", … as they appear in metrics and reports. */
const char *cg_sandbox_part_name(enum cg_sandbox_part part);
const char *cg_helper_state_name(enum cg_helper_state state);
enum cg_helper_state cg_sandbox_helper(const struct cg_sandbox_status *status);

#endif
