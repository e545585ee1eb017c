#include "exporters/registry.h"

#include <string.h>

#define CG_EXPORTER(ops) extern const struct cg_exporter_ops ops;
#include "exporters/exporters.def"

const struct cg_exporter_ops *const cg_exporters[] = {
#define CG_EXPORTER(ops) &(ops),
#include "exporters/exporters.def"
    NULL,
};

const struct cg_exporter_ops *cg_exporter_find(const char *type)
{
    for (size_t i = 0; cg_exporters[i] != NULL; i++) {
        if (strcmp(cg_exporters[i]->type, type) == 0) {
            return cg_exporters[i];
        }
    }
    return NULL;
}
