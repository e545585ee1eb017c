/*
 * checks.h - what no single key can say: is the configuration, as a whole, one that can work?
 *
 * Runs on structs that the tables have filled, with the tree beside it for the places. Fills in
 * what follows from several keys (the spool's size, what `sync` means). No I/O.
 */
#ifndef CELLGATE_CHECKS_H
#define CELLGATE_CHECKS_H

#include "run/node.h"
#include "run/problems.h"
#include "run/schema.h"

/* Reports every problem. Members that the tables refused are absent and are passed over. */
void cg_checks_run(struct cg_schema_file *file, const struct cg_node *root, struct cg_place whole,
                   struct cg_problems *problems);

#endif
