/*
 * dead_letter_files.h - what `cellgate dead-letter` does without a running gateway: the same
 * questions and wishes as docs/control.md has, answered from the files of a state directory.
 *
 * Reading needs no lock. Changing takes the lock of the exporter's file for a moment, and is
 * refused while a running gateway has it. What is marked to be replayed is sent when the gateway is
 * started.
 */
#ifndef CELLGATE_CMD_DEAD_LETTER_FILES_H
#define CELLGATE_CMD_DEAD_LETTER_FILES_H

#include "cellgate/buf.h"
#include "delivery/dead_letters.h"

/* Each appends the JSON that the control API would answer with. */
CG_MUST_USE bool cg_letter_files_counts(const char *state_dir, struct cg_buf *out,
                                        struct cg_error *err);
CG_MUST_USE bool cg_letter_files_list(const char *state_dir, const char *exporter, uint64_t after,
                                      uint64_t limit, struct cg_buf *out, struct cg_error *err);
/* Nothing there is an error, too. */
CG_MUST_USE bool cg_letter_files_one(const char *state_dir, const char *exporter, const char *id,
                                     struct cg_buf *out, struct cg_error *err);
CG_MUST_USE bool cg_letter_files_mark(const char *state_dir, const char *exporter,
                                      const struct cg_letter_ids *ids, enum cg_letter_state state,
                                      struct cg_buf *out, struct cg_error *err);

#endif
