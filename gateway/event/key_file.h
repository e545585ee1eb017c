/*
 * key_file.h - the text of a key file, in locked memory. docs/contract.md section 5.
 *
 * Opened without following a symlink, and refused unless it is a regular file of root or of the
 * gateway's own user that neither group nor others may read or write. A name without a slash is
 * looked up in `credentials_dir` (systemd's $CREDENTIALS_DIRECTORY) first, if there is one.
 */
#ifndef CELLGATE_KEY_FILE_H
#define CELLGATE_KEY_FILE_H

#include "cellgate/error.h"

enum { CG_KEY_TEXT_BYTES_MAX = 16384 };

/* Owned, in locked memory, as in the file with white space around it; not terminated. */
struct cg_key_text {
    char *data;
    size_t len;
};

CG_MUST_USE bool cg_key_file_read(const char *name, const char *credentials_dir,
                                  struct cg_key_text *ret_text, struct cg_error *err);
/* Wipes and frees; fine for {0}. */
void cg_key_text_fini(struct cg_key_text *text);

#define cg_auto_key_text __attribute__((cleanup(cg_key_text_fini)))

#endif
