/*
 * paths.h - opening what a probe looks at, and never anything else.
 *
 * Paths come from registrations, and what lies there may belong to a VMM that is compromised: each
 * is opened beneath one of the roots (openat2), without following a symbolic link anywhere, without
 * blocking. Without roots, which only the configuration's own cells can have, beneath "/".
 */
#ifndef CELLGATE_PROBE_PATHS_H
#define CELLGATE_PROBE_PATHS_H

#include "cellgate/option.h"
#include "probes/probe.h"

#include <sys/types.h>

/* `flags` beside O_CLOEXEC and, but for O_PATH, O_NONBLOCK and O_NOCTTY. On success the outcome is
 * CG_PROBE_READ, else the error says why. */
CG_MUST_USE enum cg_probe_outcome cg_probe_open(struct cg_strings roots, const char *path,
                                                int flags, int *ret_fd, struct cg_error *err);

/* What an errno of opening or reading means. */
enum cg_probe_outcome cg_probe_outcome_of(int errnum);

/*
 * Reads a regular file named `name` of a directory, from its beginning: at most `bytes_max` bytes,
 * which is an error if there are more. The same outcomes; CG_PROBE_NO_NEWS: there is no such file,
 * or the kernel does not offer what it says.
 */
CG_MUST_USE enum cg_probe_outcome cg_probe_read_file(int dir_fd, const char *name, char *ret_bytes,
                                                     size_t bytes_max, size_t *ret_len,
                                                     struct cg_error *err);

#endif
