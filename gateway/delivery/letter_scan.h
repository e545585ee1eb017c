/*
 * letter_scan.h - the lines of a file of dead letters, one after the other, each with its place.
 *
 * Reads ahead in large pieces with pread, so the descriptor's own position does not matter and many
 * may scan one file. Memory is bounded: a line that is longer than any letter is passed over and
 * told of as FOREIGN, as is one that does not begin like a letter; nothing of either is ours to
 * remove. What follows the last newline is no line. One thread at a time.
 */
#ifndef CELLGATE_LETTER_SCAN_H
#define CELLGATE_LETTER_SCAN_H

#include "cellgate/buf.h"
#include "delivery/letter.h"

#include <sys/types.h>

enum cg_letter_line {
    CG_LETTER_LINE,         /* a letter */
    CG_LETTER_LINE_FOREIGN, /* something else, which only has a place and a length */
    CG_LETTER_LINE_END,
    CG_LETTER_LINE_FAILED, /* see err */
};

struct cg_letter_scan {
    int fd;         /* borrowed */
    off_t end;      /* of the file, as it was when the scan began */
    off_t read_to;  /* so far it is in `held`, or was */
    off_t at;       /* where the next line begins */
    size_t held_at; /* the same in `held` */
    struct cg_buf held;

    /* The line that was found. */
    off_t offset, len; /* newline included */
    struct cg_bytes line;
    enum cg_letter_state state;
    struct cg_bytes id;
};

/* Scans from `start`, the beginning of a line, to `end`. */
void cg_letter_scan_init(struct cg_letter_scan *scan, int fd, off_t start, off_t end);
void cg_letter_scan_fini(struct cg_letter_scan *scan);
/* Finds the next line; its bytes are borrowed until the next call. */
CG_MUST_USE enum cg_letter_line cg_letter_scan_next(struct cg_letter_scan *scan,
                                                    struct cg_error *err);

#define cg_auto_letter_scan __attribute__((cleanup(cg_letter_scan_fini)))

#endif
