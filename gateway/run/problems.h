/*
 * problems.h - what is wrong with a configuration, all of it, each with its place.
 *
 * Problems are collected in any order and written in the order of their places. At most
 * CG_PROBLEMS_MAX are kept; the rest are counted. What they quote of the file is escaped. One
 * thread.
 */
#ifndef CELLGATE_PROBLEMS_H
#define CELLGATE_PROBLEMS_H

#include "cellgate/buf.h"
#include "cellgate/error.h"

enum { CG_PROBLEMS_MAX = 100 };

/* Where something stands. `source` is borrowed: the file's name, or "--set spool.dir". */
struct cg_place {
    const char *source;
    size_t line, column; /* from 1 (a whole file is at 1:1); 0: the source says it all */
};

struct cg_problem {
    struct cg_place place;
    size_t ordinal; /* among all, for a stable order */
    char text[CG_ERROR_TEXT_MAX];
};

struct cg_problems {
    struct cg_problem *items;
    size_t count; /* of all found; items holds at most CG_PROBLEMS_MAX of them */
};

void cg_problems_init(struct cg_problems *problems);
void cg_problems_fini(struct cg_problems *problems);

void cg_problems_add(struct cg_problems *problems, struct cg_place place, const char *format, ...)
    CG_PRINTF(3, 4);

/* Writes one line for each ("file:12:5: text"), the file in its order, then the command line. What
 * is not shown is counted in a last line, at the last place shown. */
void cg_problems_write(struct cg_problems *problems, struct cg_buf *out);

#define cg_auto_problems __attribute__((cleanup(cg_problems_fini)))

#endif
