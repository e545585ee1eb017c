#include "run/checks.h"

#include "cellgate/limits.h"
#include "run/listen_address.h"
#include "run/options.h"
#include "run/value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/un.h>

enum { CELL_SHARE_PART = 16, CELL_SHARE_MIN = 1 << 20 }; /* docs/contract.md section 7 */

struct checking {
    struct cg_config *config;
    const struct cg_node *root;
    struct cg_place whole;
    struct cg_problems *problems;
};

/* Where section.key stands, or the nearest to it that is there. */
static const struct cg_node *find(const struct checking *checking, const char *section,
                                  const char *key)
{
    const struct cg_node *found = checking->root;
    if (found != NULL && found->kind == CG_NODE_MAP && section != NULL) {
        found = cg_node_member(found, cg_bytes_str(section));
    }
    return found == NULL || found->kind != CG_NODE_MAP ? NULL
                                                       : cg_node_member(found, cg_bytes_str(key));
}

static struct cg_place place_of(const struct checking *checking, const char *section,
                                const char *key)
{
    const struct cg_node *node = find(checking, section, key);
    return node == NULL ? checking->whole : node->place;
}

static void check_absolute(const struct checking *checking, const char *section, const char *key,
                           const char *path)
{
    if (path != NULL && path[0] != '/') {
        cg_problems_add(checking->problems, place_of(checking, section, key),
                        "%s: must be an absolute path", key);
    }
}

/* --- cells --- */

/* A cell and where it stands, for sorting. */
struct placed_cell {
    const struct cg_cell_spec *spec;
    const struct cg_node *node;
    size_t ordinal;
};

static int compare_text(const char *a, const char *b)
{
    return strcmp(a == NULL ? "" : a, b == NULL ? "" : b);
}

static int compare_ordinals(const struct placed_cell *a, const struct placed_cell *b)
{
    return (a->ordinal > b->ordinal) - (a->ordinal < b->ordinal);
}

static int by_id(const void *left, const void *right)
{
    const struct placed_cell *a = left;
    const struct placed_cell *b = right;
    int order = compare_text(a->spec->cell_id, b->spec->cell_id);
    return order != 0 ? order : compare_ordinals(a, b);
}

static int by_path(const void *left, const void *right)
{
    const struct placed_cell *a = left;
    const struct placed_cell *b = right;
    int order = compare_text(a->spec->vsock_uds_base, b->spec->vsock_uds_base);
    return order != 0 ? order : compare_ordinals(a, b);
}

static const char *id_of(const struct cg_cell_spec *spec)
{
    return spec->cell_id;
}

static const char *path_of(const struct cg_cell_spec *spec)
{
    return spec->vsock_uds_base;
}

static void report_repeated(const struct checking *checking, struct placed_cell *cells,
                            size_t count, const char *key,
                            const char *(*value_of)(const struct cg_cell_spec *spec),
                            int (*compare)(const void *left, const void *right))
{
    qsort(cells, count, sizeof(*cells), compare);
    for (size_t i = 1; i < count; i++) {
        const char *value = value_of(cells[i].spec);
        const char *before = value_of(cells[i - 1].spec);
        if (value == NULL || before == NULL || strcmp(value, before) != 0) {
            continue;
        }
        const struct cg_node *member = cg_node_member(cells[i].node, cg_bytes_str(key));
        char quoted[CG_QUOTED_BYTES_MAX];
        cg_option_quote(cg_bytes_str(value), quoted);
        cg_problems_add(checking->problems, member == NULL ? cells[i].node->place : member->place,
                        "%s: '%s' belongs to another cell already", key, quoted);
    }
}

static bool is_whole(const struct cg_cell_spec *spec)
{
    for (size_t i = 0; i < spec->labels.count; i++) {
        if (spec->labels.items[i].value == NULL) {
            return false;
        }
    }
    return spec->cell_id != NULL && spec->run_id != NULL && spec->spec_signature_hash != NULL &&
           spec->vsock_uds_base != NULL;
}

static bool lies_beneath(const char *path, const char *root)
{
    size_t len = root == NULL ? 0 : strlen(root);
    while (len > 0 && root[len - 1] == '/') {
        len--;
    }
    return root != NULL && strncmp(path, root, len) == 0 && path[len] == '/';
}

static bool lies_beneath_any(const char *path, const struct cg_strings *roots)
{
    for (size_t i = 0; i < roots->count; i++) {
        if (lies_beneath(path, roots->items[i])) {
            return true;
        }
    }
    return roots->count == 0;
}

/* An error of a specification begins with the member's name, which says where to point. */
static struct cg_place place_of_error(const struct cg_node *cell, const struct cg_error *err)
{
    size_t len = strcspn(err->text, ":");
    const struct cg_node *member = cg_node_member(cell, cg_bytes(err->text, len));
    return member == NULL ? cell->place : member->place;
}

static void check_cell(const struct checking *checking, const struct cg_cell_spec *spec,
                       const struct cg_node *node)
{
    struct cg_error err;
    if (!is_whole(spec)) {
        return; /* reported already */
    }
    if (!cg_cell_spec_check(spec, &err)) {
        char quoted[CG_ERROR_TEXT_MAX];
        (void)cg_text_escape(cg_bytes_str(err.text), quoted, sizeof(quoted));
        cg_problems_add(checking->problems, place_of_error(node, &err), "%s", quoted);
        return;
    }
    if (!lies_beneath_any(spec->vsock_uds_base, &checking->config->ingress.roots)) {
        (void)cg_error_set(&err, "vsock_uds_base: lies beneath none of ingress.roots");
        cg_problems_add(checking->problems, place_of_error(node, &err), "%s", err.text);
    }
}

static void check_cells(const struct checking *checking)
{
    const struct cg_sections *cells = &checking->config->ingress.cells;
    const struct cg_node *list = find(checking, "ingress", "cells");
    if (cells->count == 0) {
        return;
    }
    CG_ASSERT(list != NULL && list->count == cells->count);
    struct placed_cell *placed = calloc(cells->count, sizeof(*placed));
    if (placed == NULL) {
        cg_problems_add(checking->problems, checking->whole, "out of memory");
        return;
    }
    const struct cg_cell_spec *specs = cells->items;
    const struct cg_node *node = list->first;
    for (size_t i = 0; i < cells->count; i++, node = node->next) {
        placed[i] = (struct placed_cell){.spec = &specs[i], .node = node, .ordinal = i};
        check_cell(checking, &specs[i], node);
    }
    report_repeated(checking, placed, cells->count, "cell_id", id_of, by_id);
    report_repeated(checking, placed, cells->count, "vsock_uds_base", path_of, by_path);
    free(placed);
}

/* --- exporters --- */

static bool is_exporter_name(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && strchr("._-", name[i]) == NULL) {
            return false;
        }
    }
    return len > 0 && len <= CG_EXPORTER_NAME_BYTES_MAX && name[0] != '.';
}

static void check_exporter_name(const struct checking *checking, size_t which,
                                const struct cg_node *node)
{
    const struct cg_exporter_config *exporters = checking->config->exporters;
    const char *name = exporters[which].name;
    const struct cg_node *member = cg_node_member(node, CG_BYTES("name"));
    if (name == NULL || member == NULL) {
        return;
    }
    char quoted[CG_QUOTED_BYTES_MAX];
    cg_option_quote(cg_bytes_str(name), quoted);
    if (!is_exporter_name(name)) {
        cg_problems_add(checking->problems, member->place,
                        "name: expected 1 to %d of A-Z a-z 0-9 . _ - (no dot in front), not '%s'",
                        CG_EXPORTER_NAME_BYTES_MAX, quoted);
        return;
    }
    for (size_t i = 0; i < which; i++) {
        if (compare_text(exporters[i].name, name) == 0) {
            cg_problems_add(checking->problems, member->place,
                            "name: '%s' is another exporter's already", quoted);
            return;
        }
    }
}

static void check_filter(const struct checking *checking, const struct cg_exporter_config *exporter,
                         const struct cg_node *node, bool is_whole)
{
    struct cg_error err;
    const struct cg_node *filter = cg_node_member(node, CG_BYTES("filter"));
    if (is_whole && filter != NULL && !cg_filter_rules_check(&exporter->filter, &err)) {
        char quoted[CG_ERROR_TEXT_MAX];
        (void)cg_text_escape(cg_bytes_str(err.text), quoted, sizeof(quoted));
        cg_problems_add(checking->problems, place_of_error(filter, &err), "filter.%s", quoted);
    }
}

static void check_exporter(const struct checking *checking,
                           const struct cg_exporter_config *exporter, const struct cg_node *node,
                           bool own_is_whole)
{
    if (exporter->backoff_max_ns != 0 && exporter->backoff_max_ns < exporter->backoff_initial_ns) {
        cg_problems_add(checking->problems, node->place, "retry.max: less than retry.initial");
    }
    if (exporter->hold_max_ns != 0 && exporter->hold_max_ns < exporter->hold_initial_ns) {
        cg_problems_add(checking->problems, node->place,
                        "retry.hold_max: less than retry.hold_initial");
    }
    if (exporter->max_age_ns != 0 && checking->config->state_dir == NULL) {
        cg_problems_add(checking->problems, node->place,
                        "retry.max_age: needs state_dir, where what is too old is set aside");
    }
    struct cg_error err;
    check_filter(checking, exporter, node, own_is_whole);
    if (own_is_whole && exporter->ops != NULL && exporter->ops->validate != NULL &&
        !exporter->ops->validate(exporter->own, &err)) {
        char quoted[CG_ERROR_TEXT_MAX];
        (void)cg_text_escape(cg_bytes_str(err.text), quoted, sizeof(quoted));
        cg_problems_add(checking->problems, place_of_error(node, &err), "%s", quoted);
    }
}

static const char *own_text(const struct cg_exporter_config *exporter,
                            const struct cg_option *option)
{
    const char *text;
    memcpy(&text, (const char *)exporter->own + option->offset, sizeof(text));
    return text;
}

/* Two exporters that wrote to one file would spoil each other's lines. */
static void check_unique(const struct checking *checking, size_t which,
                         const struct cg_option *option, const struct cg_node *node)
{
    const struct cg_exporter_config *exporters = checking->config->exporters;
    const struct cg_node *member = cg_node_member(node, cg_bytes_str(option->key));
    const char *text = own_text(&exporters[which], option);
    for (size_t i = 0; i < which && text != NULL && member != NULL; i++) {
        if (exporters[i].ops == exporters[which].ops && exporters[i].own != NULL &&
            compare_text(own_text(&exporters[i], option), text) == 0) {
            char quoted[CG_QUOTED_BYTES_MAX];
            cg_option_quote(cg_bytes_str(text), quoted);
            cg_problems_add(checking->problems, member->place,
                            "%s: '%s' is another exporter's already", option->key, quoted);
            return;
        }
    }
}

static void check_own_keys(const struct checking *checking, size_t which,
                           const struct cg_node *node)
{
    const struct cg_exporter_config *exporter = &checking->config->exporters[which];
    if (exporter->ops == NULL || exporter->own == NULL) {
        return; /* reported already */
    }
    for (const struct cg_option *option = exporter->ops->options; option->key != NULL; option++) {
        if (option->unique) {
            CG_ASSERT(option->type == CG_OPTION_STRING || option->type == CG_OPTION_PATH);
            check_unique(checking, which, option, node);
        }
    }
}

/* "25%" of the spool, or a size. */
static bool quota_bytes(struct cg_bytes text, uint64_t bytes_max, uint64_t *ret_bytes)
{
    if (text.len > 0 && text.data[text.len - 1] == '%') {
        uint64_t percent;
        if (!cg_value_integer(cg_bytes(text.data, text.len - 1), &percent) || percent == 0 ||
            percent > 100) {
            return false;
        }
        *ret_bytes =
            percent == 100 ? 0 : bytes_max / 100 * percent + bytes_max % 100 * percent / 100;
        return true;
    }
    return cg_value_size(text, ret_bytes) && *ret_bytes > 0;
}

static void check_quota(const struct checking *checking, struct cg_exporter_config *exporter,
                        const struct cg_node *node)
{
    if (exporter->quota_text == NULL) {
        return;
    }
    struct cg_bytes text = cg_bytes_str(exporter->quota_text);
    if (!quota_bytes(text, checking->config->spool.bytes_max, &exporter->quota_bytes)) {
        char quoted[CG_QUOTED_BYTES_MAX];
        const struct cg_node *member = cg_node_member(node, CG_BYTES("quota"));
        cg_option_quote(text, quoted);
        cg_problems_add(checking->problems, member == NULL ? node->place : member->place,
                        "quota: expected a part from 1%% to 100%% or a size like 256MiB, not '%s'",
                        quoted);
    }
}

static void check_exporters(const struct checking *checking, bool own_are_whole)
{
    const struct cg_config *config = checking->config;
    const struct cg_node *list = find(checking, NULL, "exporters");
    if (config->exporters_count == 0) {
        return;
    }
    CG_ASSERT(list != NULL && list->count == config->exporters_count);
    const struct cg_node *node = list->first;
    for (size_t i = 0; i < config->exporters_count; i++, node = node->next) {
        if (node->kind == CG_NODE_MAP) {
            check_exporter_name(checking, i, node);
            check_own_keys(checking, i, node);
            check_quota(checking, &checking->config->exporters[i], node);
            check_exporter(checking, &config->exporters[i], node, own_are_whole);
        }
    }
}

/* --- the rest --- */

static void check_listen(const struct checking *checking)
{
    const struct cg_strings *listen = &checking->config->http.listen;
    const struct cg_node *node = find(checking, "http", "listen");
    const struct cg_node *element = node != NULL && node->kind == CG_NODE_LIST ? node->first : node;
    for (size_t i = 0; i < listen->count; i++) {
        if (listen->items[i] != NULL && !cg_listen_address_check(listen->items[i])) {
            char quoted[CG_QUOTED_BYTES_MAX];
            cg_option_quote(cg_bytes_str(listen->items[i]), quoted);
            cg_problems_add(checking->problems, element == NULL ? checking->whole : element->place,
                            "listen: expected HOST:PORT, [V6]:PORT or unix:/path, not '%s'",
                            quoted);
        }
        element = element == NULL ? NULL : element->next;
    }
}

static void check_all_absolute(const struct checking *checking, const char *section,
                               const char *key, const struct cg_strings *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        check_absolute(checking, section, key, paths->items[i]);
    }
}

static void check_sandbox(const struct checking *checking)
{
    const struct cg_config *config = checking->config;
    check_all_absolute(checking, "sandbox", "read_paths", &config->sandbox.read_paths);
    check_all_absolute(checking, "sandbox", "write_paths", &config->sandbox.write_paths);
    if (config->sandbox.group != NULL && config->sandbox.user == NULL) {
        cg_problems_add(checking->problems, place_of(checking, "sandbox", "group"),
                        "group: goes with a user, and there is none");
    }
}

static void check_control(const struct checking *checking)
{
    const struct cg_config *config = checking->config;
    const char *socket = config->control.socket;
    struct cg_place place = place_of(checking, "control", "socket");
    if (socket == NULL) {
        return;
    }
    check_absolute(checking, "control", "socket", socket);
    if (strlen(socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        cg_problems_add(checking->problems, place, "socket: at most %zu bytes long",
                        sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
    }
    if (config->state_dir == NULL) {
        cg_problems_add(checking->problems, place,
                        "socket: needs a state_dir, for registrations survive a restart");
    }
}

static void check_ranges(const struct checking *checking)
{
    const struct cg_config *config = checking->config;
    const struct {
        const char *name, *key;
        const struct cg_range *range;
    } ranges[] = {
        {"uids", "owners", &config->ingress.owners.uids},
        {"gids", "owners", &config->ingress.owners.gids},
        {"peer_uids", "peer_uids", &config->ingress.peer_uids},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (ranges[i].range->present && ranges[i].range->first > ranges[i].range->last) {
            cg_problems_add(checking->problems, place_of(checking, "ingress", ranges[i].key),
                            "%s: the first is greater than the last", ranges[i].name);
        }
    }
}

static void check_signing(const struct checking *checking)
{
    static const struct {
        const char *written;
        const char *means;
    } modes[] = {{"off", "off"},          {"false", "off"},
                 {"no", "off"},           {"hmac-sha256", "hmac-sha256"},
                 {"hmac", "hmac-sha256"}, {"ed25519", "ed25519"}};
    const char **mode = &checking->config->signing.mode;
    if (*mode == NULL) {
        return;
    }
    const char *means = NULL;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        means = strcasecmp(*mode, modes[i].written) == 0 ? modes[i].means : means;
    }
    if (means == NULL) {
        char quoted[CG_QUOTED_BYTES_MAX];
        cg_option_quote(cg_bytes_str(*mode), quoted);
        cg_problems_add(checking->problems, place_of(checking, "signing", "mode"),
                        "mode: expected off, hmac-sha256 or ed25519, not '%s'", quoted);
        return;
    }
    *mode = means;
    if (strcmp(means, "off") == 0 && checking->config->signing.key_file != NULL) {
        cg_problems_add(checking->problems, place_of(checking, "signing", "key_file"),
                        "key_file: a key is given, and the mode is off");
    }
}

static void check_spool(const struct checking *checking)
{
    struct cg_config *config = checking->config;
    check_absolute(checking, "spool", "dir", config->spool.dir);
    if (config->spool.bytes_max == 0) {
        config->spool.bytes_max =
            config->spool.dir != NULL ? UINT64_C(1) << 30 : UINT64_C(64) << 20;
    }
    if (config->spool.cell_share_bytes == 0 && config->spool.when_full == CG_SPOOL_FULL_PAUSE) {
        uint64_t part = config->spool.bytes_max / CELL_SHARE_PART;
        config->spool.cell_share_bytes = part > CELL_SHARE_MIN ? part : CELL_SHARE_MIN;
    }
    struct cg_bytes sync = cg_bytes_str(config->spool.sync_text);
    config->spool.sync = CG_SPOOL_SYNC_INTERVAL;
    if (cg_bytes_equal(sync, CG_BYTES("always"))) {
        config->spool.sync = CG_SPOOL_SYNC_ALWAYS;
    } else if (cg_bytes_equal(sync, CG_BYTES("never"))) {
        config->spool.sync = CG_SPOOL_SYNC_NEVER;
    } else if (sync.data != NULL && (!cg_value_duration(sync, &config->spool.sync_interval_ns) ||
                                     config->spool.sync_interval_ns < CG_NS_PER_MS ||
                                     config->spool.sync_interval_ns > 3600 * CG_NS_PER_S)) {
        char quoted[CG_QUOTED_BYTES_MAX];
        cg_option_quote(sync, quoted);
        cg_problems_add(checking->problems, place_of(checking, "spool", "sync"),
                        "sync: expected always, never or a duration from 1ms to 1h, not '%s'",
                        quoted);
    }
}

void cg_checks_run(struct cg_schema_file *file, const struct cg_node *root, struct cg_place whole,
                   struct cg_problems *problems)
{
    const struct checking checking = {
        .config = &file->gateway, .root = root, .whole = whole, .problems = problems};
    /* An exporter's own check may rely on what its table promises. */
    bool tables_are_satisfied = problems->count == 0;
    check_absolute(&checking, NULL, "state_dir", file->gateway.state_dir);
    check_all_absolute(&checking, "ingress", "roots", &file->gateway.ingress.roots);
    check_sandbox(&checking);
    check_cells(&checking);
    check_listen(&checking);
    check_control(&checking);
    check_ranges(&checking);
    check_signing(&checking);
    check_spool(&checking);
    check_exporters(&checking, tables_are_satisfied);
}
