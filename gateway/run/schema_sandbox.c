/* schema_sandbox.c - the keys of the section `sandbox`. */
#include "run/schema.h"

#define GATEWAY(member) offsetof(struct cg_schema_file, gateway.member)

enum { PATHS_MAX = 64 };

static const struct cg_option_name part_names[] = {
    {"auto", CG_PART_AUTO}, {"on", CG_PART_ON}, {"off", CG_PART_OFF}, {NULL, 0}};

const struct cg_option cg_schema_sandbox[] = {
    {.key = "enable",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(sandbox.enable),
     .names = part_names,
     .fallback = "auto",
     .help = "auto: as much of it as the machine allows; on: refuse to start without a part that "
             "is missing; off: nothing of it."},
    {.key = "user",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(sandbox.user),
     .min = 1,
     .max = 64,
     .help = "The user that the gateway becomes if root starts it, a name or a number; without "
             "it, it stays who it is."},
    {.key = "group",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(sandbox.group),
     .min = 1,
     .max = 64,
     .help = "Its group; without it, the user's own."},
    {.key = "seccomp",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(sandbox.seccomp),
     .names = part_names,
     .fallback = "auto",
     .help = "The list of system calls that are let through, in the same words."},
    {.key = "landlock",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(sandbox.landlock),
     .names = part_names,
     .fallback = "auto",
     .help = "The list of directories that are let through, in the same words."},
    {.key = "read_paths",
     .type = CG_OPTION_STRINGS,
     .offset = GATEWAY(sandbox.read_paths),
     .max = PATHS_MAX,
     .help = "Further files and directories that may be read, absolute: what a later reload will "
             "name."},
    {.key = "write_paths",
     .type = CG_OPTION_STRINGS,
     .offset = GATEWAY(sandbox.write_paths),
     .max = PATHS_MAX,
     .help = "Further directories in which files may be made."},
    {.key = NULL},
};
