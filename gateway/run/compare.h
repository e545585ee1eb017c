/*
 * compare.h - in which keys two configurations differ, by the tables that filled them. Pure.
 *
 * A key is compared by its value and not by how it was written: a default that is spelled out is no
 * difference, nor is the order of the keys. Lists are ordered.
 */
#ifndef CELLGATE_COMPARE_H
#define CELLGATE_COMPARE_H

#include "cellgate/option.h"

enum { CG_COMPARE_PATH_BYTES_MAX = 128, CG_COMPARE_DEPTH_MAX = 4 };

/* A key that differs: its way from the top ("ingress", "owners", "uids"), and its option. */
struct cg_difference {
    const char *keys[CG_COMPARE_DEPTH_MAX];
    unsigned depth;
    const struct cg_option *option;
    bool live; /* the option, or a section that it is in, may change while the gateway runs */
};

typedef void (*cg_compare_visit)(void *context, const struct cg_difference *difference);

/* Calls `visit` for each key in which the structs `a` and `b` of this table differ, those of
 * sections one by one, lists of sections as one. */
void cg_compare(const struct cg_option *options, const void *a, const void *b,
                cg_compare_visit visit, void *context);

/* Whether they differ in nothing. */
bool cg_compare_equal(const struct cg_option *options, const void *a, const void *b);

/* "ingress.owners.uids" */
void cg_difference_path(const struct cg_difference *difference,
                        char ret_path[CG_COMPARE_PATH_BYTES_MAX]);

#endif
