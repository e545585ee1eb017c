#include "cmd/cmd.h"

int cg_cmd_check(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return CG_EXIT_FAILED;
}
