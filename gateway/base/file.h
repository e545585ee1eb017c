/*
 * file.h - what programs that append lines to a file need. Any thread; blocks on the disk.
 */
#ifndef CELLGATE_FILE_H
#define CELLGATE_FILE_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <sys/types.h>

/* Writes all of it, through signals and short writes. After a failure part of it may be there. For
 * descriptors that block. */
CG_MUST_USE bool cg_file_write_all(int fd, struct cg_bytes bytes, struct cg_error *err);

/*
 * Where the last whole line of a file of `size` bytes ends: behind its last '\n', or 0 without one.
 * Fails if what follows, an unfinished line, is longer than line_bytes_max (which bounds the
 * reading), and if the file has become shorter meanwhile.
 */
CG_MUST_USE bool cg_file_lines_end(int fd, off_t size, off_t line_bytes_max, off_t *ret_end,
                                   struct cg_error *err);

/* Syncs the directory that holds `path`: the name of a file that was made or renamed is on disk
 * when its directory is. */
CG_MUST_USE bool cg_file_sync_directory(const char *path, struct cg_error *err);

#endif
