/*
 * schema.h - the keys of the configuration file, as tables. docs/contract.md section 8.
 *
 * Only keys that have an effect stand here; an exporter's own keys stand in its ops. Constant.
 */
#ifndef CELLGATE_SCHEMA_H
#define CELLGATE_SCHEMA_H

#include "cellgate/option.h"
#include "run/config.h"

/* What the tables fill. */
struct cg_schema_file {
    struct cg_config gateway;     /* but for its exporters */
    struct cg_sections exporters; /* struct cg_exporter_config */
};

/* All keys: struct cg_schema_file. */
extern const struct cg_option cg_schema[];
/* Among them the keys that every exporter has: struct cg_exporter_config. An exporter's `own` is
 * filled by its ops->options. */
extern const struct cg_option cg_schema_exporter[];
/* The keys of the section sandbox: struct cg_schema_file. */
extern const struct cg_option cg_schema_sandbox[];
/* And the keys of a cell: struct cg_cell_spec. */
extern const struct cg_option *const cg_schema_cell;

/* --- schema_probes.c --- */

/* The section `probes`: struct cg_schema_file. */
extern const struct cg_option cg_schema_probes[];
/* A cell's member `probes`: struct cg_probe_spec. */
extern const struct cg_option cg_schema_cell_probes[];

#endif
