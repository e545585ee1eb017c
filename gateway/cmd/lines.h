/*
 * lines.h - the lines of a file or stream, however long the whole is.
 *
 * A line is borrowed until the next call. Memory is bounded by `bytes_max`: a longer line is
 * skipped, and said to be. One thread.
 */
#ifndef CELLGATE_LINES_H
#define CELLGATE_LINES_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"

#include <stdint.h>

enum cg_lines_outcome {
    CG_LINES_LINE,     /* here it is, without its newline */
    CG_LINES_TOO_LONG, /* more than bytes_max; not here */
    CG_LINES_END,
    CG_LINES_FAILED, /* reading failed, errno says why; or no memory (ENOMEM) */
};

struct cg_lines {
    int fd; /* borrowed */
    size_t bytes_max;
    struct cg_buf held; /* read, from `start` on not yet taken */
    size_t start;       /* of the line last given */
    size_t next;        /* of the line to be given */
    bool ended;
    uint64_t number;     /* of the line last given, from 1 */
    uint64_t bytes_read; /* so far */
};

void cg_lines_init(struct cg_lines *lines, int fd, size_t bytes_max);
void cg_lines_fini(struct cg_lines *lines);

enum cg_lines_outcome cg_lines_next(struct cg_lines *lines, struct cg_bytes *ret_line);

/* All from the line last given to the end of the stream, if that is no more than bytes_max. Takes
 * nothing: the next line is still the one behind the line last given. */
enum cg_lines_outcome cg_lines_peek_rest(struct cg_lines *lines, struct cg_bytes *ret_rest);
/* Takes all of that. */
void cg_lines_take_rest(struct cg_lines *lines);
/* Makes the line last given the next one again. */
void cg_lines_give_back(struct cg_lines *lines);

/* Nothing but spaces, tabs and carriage returns? */
bool cg_line_is_blank(struct cg_bytes line);

#endif
