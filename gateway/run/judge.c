#include "run/judge.h"

#include "cellgate/cleanup.h"
#include "run/compare.h"
#include "run/options.h"

#include <stdlib.h>
#include <string.h>

struct judging {
    const struct cg_node *root;
    struct cg_place whole;
    struct cg_problems *problems;
};

/* Where the key stands, or the whole file if it is not there any more. */
static struct cg_place place_of(const struct judging *judging,
                                const struct cg_difference *difference)
{
    const struct cg_node *node = judging->root;
    for (unsigned i = 0; i < difference->depth && node != NULL; i++) {
        node = node->kind == CG_NODE_MAP ? cg_node_member(node, cg_bytes_str(difference->keys[i]))
                                         : NULL;
    }
    return node == NULL ? judging->whole : node->place;
}

static void judge_key(void *context, const struct cg_difference *difference)
{
    const struct judging *judging = context;
    if (difference->live) {
        return;
    }
    char path[CG_COMPARE_PATH_BYTES_MAX];
    cg_difference_path(difference, path);
    cg_problems_add(judging->problems, place_of(judging, difference),
                    "%s: cannot change while the gateway runs; it takes a restart", path);
}

/* --- cells --- */

static int by_id(const void *left, const void *right)
{
    const struct cg_cell_spec *const *a = left;
    const struct cg_cell_spec *const *b = right;
    return strcmp((*a)->cell_id, (*b)->cell_id);
}

const struct cg_cell_spec **cg_judge_sort_cells(const struct cg_config *config)
{
    const struct cg_cell_spec *specs = config->ingress.cells.items;
    size_t count = config->ingress.cells.count;
    const struct cg_cell_spec **sorted =
        count == 0 ? NULL : calloc(count, sizeof(const struct cg_cell_spec *));
    if (sorted == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &specs[i];
    }
    qsort(sorted, count, sizeof(const struct cg_cell_spec *), by_id);
    return sorted;
}

const struct cg_cell_spec *cg_judge_find_cell(const struct cg_cell_spec *const *sorted,
                                              size_t count, const char *cell_id)
{
    const struct cg_cell_spec wanted = {.cell_id = cell_id};
    const struct cg_cell_spec *key = &wanted;
    const struct cg_cell_spec *const *found =
        sorted == NULL ? NULL
                       : bsearch(&key, sorted, count, sizeof(const struct cg_cell_spec *), by_id);
    return found == NULL ? NULL : *found;
}

static void note_member(void *context, const struct cg_difference *difference)
{
    const char **member = context;
    *member = *member == NULL ? difference->keys[0] : *member;
}

/* The same run, registered otherwise. */
static void judge_cell(const struct judging *judging, const struct cg_cell_spec *before,
                       const struct cg_cell_spec *after, const struct cg_node *node)
{
    const char *member = NULL;
    if (strcmp(before->run_id, after->run_id) != 0) {
        return;
    }
    cg_compare(cg_schema_cell, before, after, note_member, &member);
    if (member == NULL) {
        return;
    }
    char quoted[CG_QUOTED_BYTES_MAX];
    cg_option_quote(cg_bytes_str(after->cell_id), quoted);
    const struct cg_node *at =
        node->kind == CG_NODE_MAP ? cg_node_member(node, cg_bytes_str(member)) : NULL;
    cg_problems_add(judging->problems, at == NULL ? node->place : at->place,
                    "%s: cannot change while a run of cell '%s' goes on; it takes another run_id, "
                    "or a restart",
                    member, quoted);
}

static void judge_cells(const struct judging *judging, const struct cg_config *running,
                        const struct cg_config *config)
{
    const struct cg_node *ingress = judging->root == NULL || judging->root->kind != CG_NODE_MAP
                                        ? NULL
                                        : cg_node_member(judging->root, CG_BYTES("ingress"));
    const struct cg_node *list =
        ingress == NULL ? NULL : cg_node_member(ingress, CG_BYTES("cells"));
    const struct cg_cell_spec *specs = config->ingress.cells.items;
    size_t running_count = running->ingress.cells.count;
    if (list == NULL || running_count == 0 || config->ingress.cells.count == 0) {
        return;
    }
    cg_auto_free const struct cg_cell_spec **sorted = cg_judge_sort_cells(running);
    if (sorted == NULL) {
        cg_problems_add(judging->problems, judging->whole, "out of memory");
        return;
    }
    const struct cg_node *node = list->first;
    for (size_t i = 0; i < config->ingress.cells.count; i++, node = node->next) {
        const struct cg_cell_spec *before =
            cg_judge_find_cell(sorted, running_count, specs[i].cell_id);
        if (before != NULL) {
            judge_cell(judging, before, &specs[i], node);
        }
    }
}

void cg_judge_reload(const struct cg_config *running, const struct cg_schema_file *file,
                     const struct cg_node *root, struct cg_place whole,
                     struct cg_problems *problems)
{
    struct judging judging = {.root = root, .whole = whole, .problems = problems};
    /* A configuration is always the first member of what the tables fill. */
    cg_compare(cg_schema, running, file, judge_key, &judging);
    judge_cells(&judging, running, &file->gateway);
}
