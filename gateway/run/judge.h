/*
 * judge.h - what a reload may not change, said at its place in the new file. Pure.
 *
 * docs/contract.md section 8. Keys that are not live, and what is registered of a run that goes on:
 * a cell may come, vanish (its run ends), or begin another run.
 */
#ifndef CELLGATE_JUDGE_H
#define CELLGATE_JUDGE_H

#include "run/node.h"
#include "run/problems.h"
#include "run/schema.h"

/* Reports every problem of `file`, which is good in itself, for a gateway that runs with `running`.
 */
void cg_judge_reload(const struct cg_config *running, const struct cg_schema_file *file,
                     const struct cg_node *root, struct cg_place whole,
                     struct cg_problems *problems);

/* The specifications of a configuration's cells, sorted by cell id; the caller frees it. NULL
 * without memory, and for no cells. */
const struct cg_cell_spec **cg_judge_sort_cells(const struct cg_config *config);
/* The one of that id, or NULL. */
const struct cg_cell_spec *cg_judge_find_cell(const struct cg_cell_spec *const *sorted,
                                              size_t count, const char *cell_id);

#endif
