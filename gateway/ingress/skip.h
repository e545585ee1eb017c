/*
 * skip.h - the value of a key that is not a field: parsed fully, and forgotten. Pure, no heap, no
 * recursion. docs/contract.md section 2.1, rules 8 and 9.
 */
#ifndef CELLGATE_SKIP_H
#define CELLGATE_SKIP_H

#include "ingress/cursor.h"

/* Moves past one value, or refuses it. */
enum cg_refusal cg_skip_value(struct cg_cursor *cursor);

#endif
