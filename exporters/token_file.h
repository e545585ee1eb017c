/*
 * token_file.h - a bearer token kept in a file, taken up again whenever the file changes.
 *
 * The file must be a regular file (not a symbolic link), not accessible by group or others, and
 * owned by root or by the user of the process. White space around the token is dropped; inside it
 * there may be visible ASCII only. The token is never part of an error's text, and its memory is
 * wiped. One thread at a time.
 */
#ifndef CELLGATE_EXPORTERS_TOKEN_FILE_H
#define CELLGATE_EXPORTERS_TOKEN_FILE_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <sys/stat.h>

enum { CG_TOKEN_BYTES_MAX = 16 * 1024 };

struct cg_token_file {
    const char *path; /* borrowed */
    struct stat seen; /* of the file that `token` was read from */
    size_t len;
    char token[CG_TOKEN_BYTES_MAX + 1]; /* terminated; empty before the first refresh */
};

/* Reads nothing yet. The struct is large: it belongs on the heap. */
void cg_token_file_init(struct cg_token_file *file, const char *path);
/* Wipes the token. */
void cg_token_file_fini(struct cg_token_file *file);

/* Makes `token` what the file says now; costs one stat(2) while it stays the same. On failure the
 * old token is wiped: the operator has taken it away. */
CG_MUST_USE bool cg_token_file_refresh(struct cg_token_file *file, struct cg_error *err);

#endif
