/*
 * files.h - have the files that an exporter's configuration names been replaced?
 *
 * By the tables: whatever is a path among an exporter's own keys, certificates and keys among them.
 * Looks at the files (stat) and opens none. Any thread.
 */
#ifndef CELLGATE_FILES_H
#define CELLGATE_FILES_H

#include "run/config.h"

/* A number for the files as they lie there now: device, inode, size and times of each. */
uint64_t cg_files_mark(const struct cg_exporter_config *exporter);

#endif
