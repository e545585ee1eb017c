/*
 * settings.h - `--set path=value` into the tree of the configuration file.
 *
 * A path is keys joined by dots; an element of a list is named by the value of its table's first
 * key (an exporter's name, a cell's id), or by its number from 0. What is not there is added. A
 * value that begins with a bracket or a quote is YAML, any other is the text itself. Problems cite
 * "--set path" and never the value. One thread.
 */
#ifndef CELLGATE_SETTINGS_H
#define CELLGATE_SETTINGS_H

#include "cellgate/option.h"
#include "run/node.h"

/* Applies one setting to `*root` (which may be NULL and is made then), walking `options` along. */
CG_MUST_USE bool cg_setting_apply(struct cg_config_memory *memory, const struct cg_option *options,
                                  const char *setting, struct cg_node **root,
                                  struct cg_problems *problems);

#endif
