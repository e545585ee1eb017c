#include "base/sandbox_status.h"

const char *cg_sandbox_part_name(enum cg_sandbox_part part)
{
    static const char *const names[CG_SANDBOX_PARTS] = {
        [CG_SANDBOX_USER] = "user",       [CG_SANDBOX_CAPABILITIES] = "capabilities",
        [CG_SANDBOX_DUMPS] = "dumps",     [CG_SANDBOX_LANDLOCK] = "landlock",
        [CG_SANDBOX_SECCOMP] = "seccomp",
    };
    return names[part];
}

const char *cg_helper_state_name(enum cg_helper_state state)
{
    static const char *const names[] = {
        [CG_HELPER_NONE] = "none",
        [CG_HELPER_RUNNING] = "running",
        [CG_HELPER_ENDED] = "ended",
    };
    return names[state];
}

enum cg_helper_state cg_sandbox_helper(const struct cg_sandbox_status *status)
{
    return !status->has_helper                  ? CG_HELPER_NONE
           : atomic_load(&status->helper_alive) ? CG_HELPER_RUNNING
                                                : CG_HELPER_ENDED;
}
