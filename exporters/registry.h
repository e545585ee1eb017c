/*
 * registry.h - the exporters that are built in. Constant; any thread.
 */
#ifndef CELLGATE_EXPORTERS_REGISTRY_H
#define CELLGATE_EXPORTERS_REGISTRY_H

#include "cellgate/exporter.h"

/* Ends with NULL. */
extern const struct cg_exporter_ops *const cg_exporters[];

/* NULL for an unknown type. */
const struct cg_exporter_ops *cg_exporter_find(const char *type);

#endif
