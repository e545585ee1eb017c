#include "run/problems.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void cg_problems_init(struct cg_problems *problems)
{
    *problems = (struct cg_problems){.items = NULL};
}

void cg_problems_fini(struct cg_problems *problems)
{
    free(problems->items);
    cg_problems_init(problems);
}

void cg_problems_add(struct cg_problems *problems, struct cg_place place, const char *format, ...)
{
    size_t ordinal = problems->count;
    problems->count++; /* also without memory: a problem that cannot be shown is still one */
    if (ordinal >= CG_PROBLEMS_MAX) {
        return;
    }
    if (problems->items == NULL) {
        problems->items = calloc(CG_PROBLEMS_MAX, sizeof(*problems->items));
        if (problems->items == NULL) {
            return;
        }
    }
    struct cg_problem *problem = &problems->items[ordinal];
    problem->place = place;
    problem->ordinal = ordinal;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(problem->text, sizeof(problem->text), format, args);
    va_end(args);
}

/* What has a position comes from the file, what has none from the command line or from no place in
 * particular: the file's come first. */
static int compare(const void *left, const void *right)
{
    const struct cg_problem *a = left;
    const struct cg_problem *b = right;
    if ((a->place.line == 0) != (b->place.line == 0)) {
        return a->place.line == 0 ? 1 : -1;
    }
    if (a->place.line != b->place.line) {
        return a->place.line < b->place.line ? -1 : 1;
    }
    if (a->place.column != b->place.column) {
        return a->place.column < b->place.column ? -1 : 1;
    }
    return (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
}

static void write_place(const struct cg_place *place, struct cg_buf *out)
{
    (void)cg_buf_append_str(out, place->source);
    if (place->line > 0) {
        (void)cg_buf_printf(out, ":%zu:%zu", place->line, place->column);
    }
}

void cg_problems_write(struct cg_problems *problems, struct cg_buf *out)
{
    if (problems->count > 0 && problems->items == NULL) {
        (void)cg_buf_append_str(out, "out of memory\n");
        return;
    }
    size_t kept = problems->count < CG_PROBLEMS_MAX ? problems->count : CG_PROBLEMS_MAX;
    if (kept == 0) {
        return;
    }
    qsort(problems->items, kept, sizeof(*problems->items), compare);
    for (size_t i = 0; i < kept; i++) {
        write_place(&problems->items[i].place, out);
        (void)cg_buf_printf(out, ": %s\n", problems->items[i].text);
    }
    if (problems->count > kept) {
        write_place(&problems->items[kept - 1].place, out);
        (void)cg_buf_printf(out, ": and %zu more problems\n", problems->count - kept);
    }
}
