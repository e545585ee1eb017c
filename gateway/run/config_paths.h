/*
 * config_paths.h - which files a configuration names, by the option tables. Pure.
 */
#ifndef CELLGATE_CONFIG_PATHS_H
#define CELLGATE_CONFIG_PATHS_H

#include "run/config.h"

/* `written`: files are made at that path, and beside it; otherwise it is read. */
typedef void cg_config_path_visitor(void *context, const char *path, bool written);

/* Visits every path of the configuration that is given, an exporter's own too; the directories of
 * the spool and of the state are not among them, nor are the cells' sockets. */
void cg_config_paths(const struct cg_config *config, cg_config_path_visitor *visit, void *context);

#endif
