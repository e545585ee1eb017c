#include "run/files.h"

#include "run/options.h"

#include <sys/stat.h>

/* FNV-1a. */
static uint64_t mix(uint64_t mark, uint64_t value)
{
    for (unsigned i = 0; i < sizeof(value); i++) {
        mark = (mark ^ ((value >> (8 * i)) & 0xFF)) * UINT64_C(0x100000001b3);
    }
    return mark;
}

static uint64_t mix_file(uint64_t mark, const char *path)
{
    struct stat found;
    if (path == NULL || stat(path, &found) != 0) {
        return mix(mark, 0);
    }
    const uint64_t values[] = {
        (uint64_t)found.st_dev,          (uint64_t)found.st_ino,
        (uint64_t)found.st_size,         (uint64_t)found.st_mtim.tv_sec,
        (uint64_t)found.st_mtim.tv_nsec, (uint64_t)found.st_ctim.tv_sec,
        (uint64_t)found.st_ctim.tv_nsec,
    };
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        mark = mix(mark, values[i]);
    }
    return mark;
}

/* As deep as the tables. */
static uint64_t mix_options(uint64_t mark, const struct cg_option *options, const void *target)
{
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        const void *member = (const char *)target + option->offset;
        if (option->type == CG_OPTION_SECTION) {
            mark = mix_options(mark, option->fields, cg_option_section(option, target));
        } else if (option->type == CG_OPTION_PATH) {
            mark = mix_file(mark, *(const char *const *)member);
        }
    }
    return mark;
}

uint64_t cg_files_mark(const struct cg_exporter_config *exporter)
{
    return mix_options(UINT64_C(0xcbf29ce484222325), exporter->ops->options, exporter->own);
}
