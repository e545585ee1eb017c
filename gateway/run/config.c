#include "run/config.h"

#include "base/secret_file.h"
#include "cellgate/cleanup.h"
#include "exporters/registry.h"
#include "run/checks.h"
#include "run/compare.h"
#include "run/judge.h"
#include "run/memory.h"
#include "run/node.h"
#include "run/options.h"
#include "run/schema.h"
#include "run/settings.h"
#include "run/show.h"
#include "run/value.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

/* --- an exporter's keys depend on its type --- */

static void report_type(struct cg_options_reader *reader, const struct cg_node *type)
{
    char quoted[CG_QUOTED_BYTES_MAX];
    cg_option_quote(type->text, quoted);
    const char *nearest = NULL;
    unsigned nearest_distance = CG_DISTANCE_FAR;
    cg_auto_buf struct cg_buf known;
    cg_buf_init(&known, CG_ERROR_TEXT_MAX / 2);
    for (size_t i = 0; cg_exporters[i] != NULL; i++) {
        const char *name = cg_exporters[i]->type;
        unsigned distance;
        if (cg_value_resembles(type->text, cg_bytes_str(name), &distance) &&
            distance < nearest_distance) {
            nearest = name;
            nearest_distance = distance;
        }
        (void)cg_buf_printf(&known, "%s%s", i == 0 ? "" : ", ", name);
    }
    const char *names = cg_buf_str(&known);
    if (nearest != NULL) {
        cg_problems_add(reader->problems, type->place,
                        "type: no exporter '%s' (did you mean '%s'?)", quoted, nearest);
    } else {
        cg_problems_add(reader->problems, type->place, "type: no exporter '%s', only %s", quoted,
                        names == NULL ? "others" : names);
    }
}

static bool read_own_keys(struct cg_options_reader *reader, const struct cg_option *option,
                          const struct cg_node *element, void *target,
                          struct cg_option_part *ret_part)
{
    if (option->fields != cg_schema_exporter) {
        return false;
    }
    struct cg_exporter_config *exporter = target;
    exporter->line = element->place.line;
    exporter->column = element->place.column;
    const struct cg_node *type = cg_node_member(element, CG_BYTES("type"));
    if (type != NULL && type->kind == CG_NODE_TEXT && !cg_node_is_null(type)) {
        exporter->ops = cg_exporter_find(type->text.data);
        if (exporter->ops == NULL) {
            report_type(reader, type);
        }
    }
    *ret_part = (struct cg_option_part){.options = NULL};
    if (exporter->ops != NULL) {
        exporter->own = cg_config_memory_alloc(reader->memory, exporter->ops->config_size);
        if (exporter->own != NULL) {
            *ret_part = (struct cg_option_part){exporter->ops->options, exporter->own};
        }
    }
    return true;
}

static bool show_own_keys(const struct cg_option *option, const void *element,
                          struct cg_option_part *ret_part)
{
    if (option->fields != cg_schema_exporter) {
        return false;
    }
    const struct cg_exporter_config *exporter = element;
    *ret_part = (struct cg_option_part){exporter->ops->options, exporter->own};
    return true;
}

static void finish_exporter(struct cg_exporter_config *exporter)
{
    if (exporter->ops == NULL) {
        return; /* reported */
    }
    if (exporter->batch_events == 0) {
        exporter->batch_events = exporter->ops->batch_events;
    }
    if (exporter->batch_bytes == 0) {
        exporter->batch_bytes = exporter->ops->batch_bytes;
    }
}

/* --- loading --- */

static void set_node_name(struct cg_config *config, struct cg_config_memory *memory)
{
    char name[HOST_NAME_MAX + 1] = "";
    if (config->node == NULL) {
        (void)gethostname(name, sizeof(name) - 1);
        config->node =
            cg_config_memory_copy(memory, cg_bytes_str(name[0] == '\0' ? "localhost" : name));
    }
}

/* --- comparing --- */

bool cg_config_exporter_equal(const struct cg_exporter_config *a,
                              const struct cg_exporter_config *b)
{
    return a->ops == b->ops && cg_compare_equal(cg_schema_exporter, a, b) &&
           cg_compare_equal(a->ops->options, a->own, b->own);
}

bool cg_config_cell_equal(const struct cg_cell_spec *a, const struct cg_cell_spec *b)
{
    return cg_compare_equal(cg_schema_cell, a, b);
}

/* --- all of it --- */

/* Where to point at when the key cannot be loaded. */
static void note_place(struct cg_config *config, const struct cg_node *root)
{
    const struct cg_node *signing = root != NULL && root->kind == CG_NODE_MAP
                                        ? cg_node_member(root, CG_BYTES("signing"))
                                        : NULL;
    if (signing != NULL) {
        config->signing.line = signing->place.line;
        config->signing.column = signing->place.column;
    }
}

static void read_tree(struct cg_schema_file *file, struct cg_config_memory *memory,
                      const struct cg_node *root, struct cg_place whole,
                      const struct cg_config *running, struct cg_problems *problems)
{
    struct cg_options_reader reader = {
        .memory = memory, .problems = problems, .more = read_own_keys};
    const struct cg_option_part part = {cg_schema, file};
    cg_options_read(&reader, root, whole, &part, 1);
    file->gateway.exporters = file->exporters.items;
    file->gateway.exporters_count = file->exporters.count;
    for (size_t i = 0; i < file->exporters.count; i++) {
        finish_exporter(&file->gateway.exporters[i]);
    }
    cg_checks_run(file, root, whole, problems);
    set_node_name(&file->gateway, memory);
    note_place(&file->gateway, root);
    if (running != NULL && problems->count == 0) {
        cg_judge_reload(running, file, root, whole, problems);
    }
    if (cg_config_memory_failed(memory)) {
        cg_problems_add(problems, whole, "out of memory");
    }
}

/* The file's tree with the settings in it; it lives in `scratch`. */
static bool build_tree(struct cg_config_memory *scratch, const char *name, struct cg_bytes text,
                       const char *const *settings, size_t settings_count,
                       struct cg_node **ret_root, struct cg_problems *problems)
{
    struct cg_node *root = NULL;
    if (!cg_node_parse(scratch, name, true, text, &root, problems)) {
        return false;
    }
    if (root != NULL && root->kind != CG_NODE_MAP && !cg_node_is_null(root)) {
        cg_problems_add(problems, root->place, "expected a map of keys");
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < settings_count; i++) {
        good = cg_setting_apply(scratch, cg_schema, settings[i], &root, problems) && good;
    }
    if (good) {
        *ret_root = root;
    }
    return good;
}

static bool parse(const char *name, struct cg_bytes text, const char *const *settings,
                  size_t settings_count, const struct cg_config *running,
                  struct cg_config **ret_config, struct cg_buf *ret_problems)
{
    const struct cg_place whole = {.source = name, .line = 1, .column = 1};
    cg_auto_problems struct cg_problems problems;
    cg_problems_init(&problems);
    struct cg_config_memory *memory = cg_config_memory_new();
    struct cg_config_memory *scratch = cg_config_memory_new();
    struct cg_schema_file *file =
        memory == NULL ? NULL : cg_config_memory_alloc(memory, sizeof(*file));
    struct cg_node *root = NULL;
    if (file == NULL || scratch == NULL) {
        cg_problems_add(&problems, whole, "out of memory");
    } else if (build_tree(scratch, name, text, settings, settings_count, &root, &problems)) {
        read_tree(file, memory, root, whole, running, &problems);
    }
    cg_problems_write(&problems, ret_problems); /* before the places' sources go */
    cg_config_memory_free(scratch);
    if (problems.count > 0 || file == NULL) {
        cg_config_memory_free(memory);
        return false;
    }
    file->gateway.memory = memory;
    *ret_config = &file->gateway;
    return true;
}

bool cg_config_parse(const char *name, struct cg_bytes text, const char *const *settings,
                     size_t settings_count, struct cg_config **ret_config,
                     struct cg_buf *ret_problems)
{
    return parse(name, text, settings, settings_count, NULL, ret_config, ret_problems);
}

static bool read_file(const char *path, struct cg_buf *ret_text, struct cg_error *err)
{
    bool from_stdin = strcmp(path, "-") == 0;
    cg_auto_close int opened = from_stdin ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (!from_stdin && opened < 0 && errno == EACCES) {
        opened = cg_secret_file_open(path); /* by then it may be root's only */
    }
    int fd = from_stdin ? STDIN_FILENO : opened;
    if (fd < 0) {
        return cg_error_errno(err, errno, "cannot be opened");
    }
    enum { PIECE_BYTES = 64 * 1024 };
    for (;;) {
        if (!cg_buf_reserve(ret_text, PIECE_BYTES)) {
            return cg_error_set(err, "larger than %d bytes", CG_CONFIG_BYTES_MAX);
        }
        ssize_t got = read(fd, ret_text->data + ret_text->len, PIECE_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return cg_error_errno(err, errno, "cannot be read");
        }
        if (got == 0) {
            return true;
        }
        ret_text->len += (size_t)got;
    }
}

static bool load(const char *path, const char *const *settings, size_t settings_count,
                 const struct cg_config *running, struct cg_config **ret_config,
                 struct cg_buf *ret_problems)
{
    const char *name = strcmp(path, "-") == 0 ? "(stdin)" : path;
    struct cg_error err;
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, CG_CONFIG_BYTES_MAX + (size_t)128 * 1024);
    if (!read_file(path, &text, &err)) {
        (void)cg_buf_printf(ret_problems, "%s:1:1: %s\n", name, err.text);
        return false;
    }
    return parse(name, cg_buf_bytes(&text), settings, settings_count, running, ret_config,
                 ret_problems);
}

bool cg_config_load(const char *path, const char *const *settings, size_t settings_count,
                    struct cg_config **ret_config, struct cg_buf *ret_problems)
{
    return load(path, settings, settings_count, NULL, ret_config, ret_problems);
}

bool cg_config_reload(const char *path, const char *const *settings, size_t settings_count,
                      const struct cg_config *running, struct cg_config **ret_config,
                      struct cg_buf *ret_problems)
{
    if (strcmp(path, "-") == 0) {
        (void)cg_buf_append_str(ret_problems, "(stdin):1:1: what was read from standard input "
                                              "cannot be read again; it takes a restart\n");
        return false;
    }
    return load(path, settings, settings_count, running, ret_config, ret_problems);
}

void cg_config_free(struct cg_config *config)
{
    if (config != NULL) {
        cg_config_memory_free(config->memory); /* the struct itself is in it */
    }
}

/* --- for people --- */

void cg_config_print(const struct cg_config *config, struct cg_buf *out)
{
    /* A configuration is always the first member of what the tables fill. */
    const struct cg_option_part part = {cg_schema, (void *)(uintptr_t)config};
    cg_show_yaml(&part, show_own_keys, out);
}
