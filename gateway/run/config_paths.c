#include "run/config_paths.h"

#include "run/options.h"
#include "run/schema.h"

#include <string.h>

struct walk {
    cg_config_path_visitor *visit;
    void *context;
    const struct cg_config *config;
};

/* A section's members lie behind the section's own offset. */
static void walk_table(const struct walk *walk, const struct cg_option *options, const void *target)
{
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        const char *member = (const char *)target + option->offset;
        if (option->type == CG_OPTION_SECTION) {
            walk_table(walk, option->fields, cg_option_section(option, target));
        } else if (option->type == CG_OPTION_PATH) {
            const char *path = *(const char *const *)(const void *)member;
            if (path != NULL && path != walk->config->spool.dir) {
                walk->visit(walk->context, path, option->written);
            }
        }
    }
}

void cg_config_paths(const struct cg_config *config, cg_config_path_visitor *visit, void *context)
{
    const struct walk walk = {visit, context, config};
    for (const struct cg_option *option = cg_schema; option->key != NULL; option++) {
        if (option->type == CG_OPTION_SECTION) {
            walk_table(&walk, option->fields, cg_option_section(option, config));
        }
    }
    for (size_t i = 0; i < config->exporters_count; i++) {
        const struct cg_exporter_config *exporter = &config->exporters[i];
        walk_table(&walk, exporter->ops->options, exporter->own);
    }
}
