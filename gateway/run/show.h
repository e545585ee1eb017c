/*
 * show.h - typed structs and their tables, for people: as YAML, and as a reference. Pure.
 */
#ifndef CELLGATE_SHOW_H
#define CELLGATE_SHOW_H

#include "cellgate/buf.h"
#include "run/options.h"

/* A further part for `element` of the list `option`; false for none. */
typedef bool cg_show_more(const struct cg_option *option, const void *element,
                          struct cg_option_part *ret_part);

/* Writes a struct as YAML. Secrets are hidden, absent values are null. `more` may be NULL. */
void cg_show_yaml(const struct cg_option_part *part, cg_show_more *more, struct cg_buf *out);

/* Writes a Markdown table of all keys that are not sections (`sections` false), or of all keys,
 * those of sections as "section.key"; `live`: a reload may change every one. */
void cg_show_reference(const struct cg_option *options, bool sections, bool live,
                       struct cg_buf *out);

#endif
