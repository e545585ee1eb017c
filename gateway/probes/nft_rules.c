#include "probes/nft_rules.h"

#include "base/utf8.h"
#include "event/json_write.h"

#include <stdlib.h>

enum { ROW_BYTES_MAX = 8192 };

/* As a terminated string; NULL: no memory. The bytes hold no NUL. */
static char *copy_of(struct cg_bytes text)
{
    char *copy = malloc(text.len + 1);
    if (copy != NULL) {
        memcpy(copy, text.data, text.len);
        copy[text.len] = '\0';
    }
    return copy;
}

/* --- tables --- */

static void free_reprs(struct cg_nft_reprs *reprs)
{
    for (size_t i = 0; i < reprs->count; i++) {
        free(reprs->items[i].text);
    }
    free(reprs->items);
    *reprs = (struct cg_nft_reprs){0};
}

void cg_nft_ruleset_fini(struct cg_nft_ruleset *ruleset)
{
    for (size_t i = 0; i < ruleset->count; i++) {
        free(ruleset->tables[i].name);
        cg_buf_fini(&ruleset->tables[i].rows);
        free_reprs(&ruleset->tables[i].reprs);
    }
    free(ruleset->tables);
    *ruleset = (struct cg_nft_ruleset){0};
}

static int compare_names(const char *family, struct cg_bytes name, const struct cg_nft_table *table)
{
    int order = strcmp(family, table->family);
    struct cg_bytes other = cg_bytes_str(table->name);
    if (order == 0) {
        order = memcmp(name.data, other.data, name.len < other.len ? name.len : other.len);
    }
    return order != 0 ? order : (name.len > other.len) - (name.len < other.len);
}

static int compare_tables(const void *a, const void *b)
{
    const struct cg_nft_table *left = a;
    return compare_names(left->family, cg_bytes_str(left->name), b);
}

struct cg_nft_table *cg_nft_ruleset_find(const struct cg_nft_ruleset *ruleset, const char *family,
                                         struct cg_bytes name)
{
    size_t low = 0;
    size_t high = ruleset->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_names(family, name, &ruleset->tables[middle]);
        if (order == 0) {
            return &ruleset->tables[middle];
        }
        if (order > 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

bool cg_nft_ruleset_add_table(struct cg_nft_ruleset *ruleset, const struct cg_nft_message *message,
                              struct cg_nft_ruleset *before)
{
    const char *family = cg_nft_family_name(message->family);
    struct cg_bytes name = message->table;
    if (family == NULL || name.len == 0 || name.len > CG_NFT_NAME_BYTES_MAX ||
        !cg_utf8_valid(name)) {
        return true; /* nobody can ask for it */
    }
    if (ruleset->count == ruleset->cap) {
        size_t cap = ruleset->cap == 0 ? 16 : ruleset->cap * 2;
        void *grown = cap > CG_NFT_TABLES_MAX
                          ? NULL
                          : realloc(ruleset->tables, cap * sizeof(*ruleset->tables));
        if (grown == NULL) {
            return false;
        }
        ruleset->tables = grown;
        ruleset->cap = cap;
    }
    struct cg_nft_table table = {
        .family = family, .name = copy_of(name), .handle = message->handle};
    if (table.name == NULL) {
        return false;
    }
    cg_buf_init(&table.rows, CG_NFT_ROWS_BYTES_MAX);
    struct cg_nft_table *same = before == NULL ? NULL : cg_nft_ruleset_find(before, family, name);
    if (same != NULL && same->handle == table.handle) {
        table.reprs = same->reprs;
        same->reprs = (struct cg_nft_reprs){0};
    }
    ruleset->tables[ruleset->count++] = table;
    return true;
}

void cg_nft_ruleset_finish(struct cg_nft_ruleset *ruleset)
{
    if (ruleset->count > 0) {
        qsort(ruleset->tables, ruleset->count, sizeof(*ruleset->tables), compare_tables);
    }
}

void cg_nft_ruleset_clear_rows(struct cg_nft_ruleset *ruleset)
{
    for (size_t i = 0; i < ruleset->count; i++) {
        struct cg_nft_table *table = &ruleset->tables[i];
        table->packets = table->bytes = table->rules = table->omitted = 0;
        cg_buf_clear(&table->rows);
    }
}

bool cg_nft_ruleset_keep_reprs(struct cg_nft_ruleset *known, struct cg_nft_ruleset *ruleset)
{
    cg_nft_ruleset_fini(known);
    if (ruleset->count == 0) {
        return true;
    }
    known->tables = calloc(ruleset->count, sizeof(*known->tables));
    if (known->tables == NULL) {
        return false;
    }
    known->cap = ruleset->count;
    for (size_t i = 0; i < ruleset->count; i++) {
        struct cg_nft_table *from = &ruleset->tables[i];
        struct cg_nft_table table = {
            .family = from->family, .name = strdup(from->name), .handle = from->handle};
        if (table.name == NULL) {
            return false;
        }
        cg_buf_init(&table.rows, CG_NFT_ROWS_BYTES_MAX);
        table.reprs = from->reprs;
        from->reprs = (struct cg_nft_reprs){0};
        known->tables[known->count++] = table; /* in the same order */
    }
    return true;
}

/* --- rows --- */

static struct cg_bytes repr_of(const struct cg_nft_reprs *reprs, uint64_t handle)
{
    size_t low = 0;
    size_t high = reprs->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reprs->items[middle].handle == handle) {
            return cg_bytes_str(reprs->items[middle].text);
        }
        if (reprs->items[middle].handle < handle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return cg_bytes("", 0);
}

static void append_row(const struct cg_nft_table *table, const struct cg_nft_message *message,
                       struct cg_buf *row)
{
    struct cg_bytes chain = cg_utf8_valid(message->chain) ? message->chain : cg_bytes("", 0);
    cg_buf_append_str(row, "{\"bytes\":");
    cg_buf_append_u64(row, message->bytes);
    cg_buf_append_str(row, ",\"chain\":");
    cg_json_append_string(row, chain);
    cg_buf_append_str(row, ",\"family\":");
    cg_json_append_string(row, cg_bytes_str(table->family));
    cg_buf_append_str(row, ",\"handle\":");
    cg_buf_append_u64(row, message->handle);
    cg_buf_append_str(row, ",\"packets\":");
    cg_buf_append_u64(row, message->packets);
    cg_buf_append_str(row, ",\"ruleRepr\":");
    cg_json_append_string(row, repr_of(&table->reprs, message->handle));
    cg_buf_append_str(row, ",\"table\":");
    cg_json_append_string(row, cg_bytes_str(table->name));
    cg_buf_append_char(row, '}');
}

void cg_nft_ruleset_add_rule(struct cg_nft_ruleset *ruleset, const struct cg_nft_message *message)
{
    const char *family = cg_nft_family_name(message->family);
    struct cg_nft_table *table = family == NULL || !message->counted
                                     ? NULL
                                     : cg_nft_ruleset_find(ruleset, family, message->table);
    if (table == NULL) {
        return;
    }
    cg_auto_buf struct cg_buf row;
    cg_buf_init(&row, ROW_BYTES_MAX);
    append_row(table, message, &row);
    table->rules++;
    table->packets += message->packets;
    table->bytes += message->bytes;
    table->last_handle =
        message->handle > table->last_handle ? message->handle : table->last_handle;
    bool fits = !row.failed && table->omitted == 0 &&
                table->rows.len + row.len + 1 <= CG_NFT_ROWS_BYTES_MAX;
    if (fits && table->rows.len > 0) {
        cg_buf_append_char(&table->rows, ',');
    }
    table->omitted += fits && cg_buf_append(&table->rows, cg_buf_bytes(&row)) ? 0 : 1;
}

/* --- what rules say --- */

bool cg_nft_list_command(const struct cg_nft_table *table, struct cg_buf *out)
{
    cg_buf_append_str(out, "{\"nftables\":[{\"list\":{\"table\":{\"family\":");
    cg_json_append_string(out, cg_bytes_str(table->family));
    cg_buf_append_str(out, ",\"name\":");
    cg_json_append_string(out, cg_bytes_str(table->name));
    return cg_buf_append_str(out, "}}}]}");
}

struct reading {
    struct cg_json json;
    struct cg_canonical canonical;
    struct cg_buf text;
    struct cg_nft_reprs reprs;
    size_t cap;
};

/* What the rule says, without its counters. */
static void render_statements(struct reading *reading, uint32_t expr)
{
    const struct cg_json *json = &reading->json;
    cg_buf_clear(&reading->text);
    cg_buf_append_char(&reading->text, '[');
    for (uint32_t statement = expr + 1; statement < json->nodes[expr].next;
         statement = json->nodes[statement].next) {
        uint64_t cut = 0;
        if (cg_json_find(json, statement, CG_BYTES("counter")) != 0) {
            continue;
        }
        if (reading->text.len > 1) {
            cg_buf_append_char(&reading->text, ',');
        }
        if (reading->text.len > CG_NFT_REPR_BYTES_MAX ||
            !cg_canonical_render_cut(&reading->canonical, json, statement, &cut, &reading->text)) {
            break; /* too long to be shown whole anyway */
        }
    }
    cg_buf_append_char(&reading->text, ']');
}

/* What is in `text`, cut at a character's boundary. */
static struct cg_bytes cut_repr(const struct reading *reading)
{
    struct cg_bytes repr = cg_buf_bytes(&reading->text);
    if (repr.len > CG_NFT_REPR_BYTES_MAX) {
        repr.len = CG_NFT_REPR_BYTES_MAX;
        while (repr.len > 0 && ((unsigned char)repr.data[repr.len] & 0xc0) == 0x80) {
            repr.len--;
        }
    }
    return repr;
}

static bool add_repr(struct reading *reading, uint64_t handle)
{
    struct cg_nft_reprs *reprs = &reading->reprs;
    if (reprs->count == reading->cap) {
        size_t cap = reading->cap == 0 ? 16 : reading->cap * 2;
        void *grown = realloc(reprs->items, cap * sizeof(*reprs->items));
        if (grown == NULL) {
            return false;
        }
        reprs->items = grown;
        reading->cap = cap;
    }
    char *copy = copy_of(cut_repr(reading));
    if (copy != NULL) {
        reprs->items[reprs->count++] = (struct cg_nft_repr){handle, copy};
    }
    return copy != NULL;
}

static int compare_reprs(const void *a, const void *b)
{
    uint64_t left = ((const struct cg_nft_repr *)a)->handle;
    uint64_t right = ((const struct cg_nft_repr *)b)->handle;
    return (left > right) - (left < right);
}

static bool read_rules(struct reading *reading, uint32_t list, const struct cg_nft_table *table)
{
    const struct cg_json *json = &reading->json;
    for (uint32_t element = list + 1; element < json->nodes[list].next;
         element = json->nodes[element].next) {
        uint32_t rule = cg_json_find(json, element, CG_BYTES("rule"));
        uint32_t name = rule == 0 ? 0 : cg_json_find(json, rule, CG_BYTES("table"));
        uint32_t number = rule == 0 ? 0 : cg_json_find(json, rule, CG_BYTES("handle"));
        uint32_t expr = rule == 0 ? 0 : cg_json_find(json, rule, CG_BYTES("expr"));
        uint64_t handle = 0;
        if (name == 0 || number == 0 || expr == 0 || cg_json_type(json, expr) != CG_JSON_ARRAY ||
            !cg_json_is(json, name, cg_bytes_str(table->name)) ||
            !cg_json_u64(json, number, &handle)) {
            continue;
        }
        render_statements(reading, expr);
        if (!add_repr(reading, handle)) {
            return false;
        }
    }
    return true;
}

static bool read_all(struct reading *reading, struct cg_bytes text,
                     const struct cg_nft_table *table, struct cg_error *err)
{
    if (!cg_json_parse(&reading->json, text, err)) {
        return cg_error_context(err, "table %s", table->name);
    }
    uint32_t list = cg_json_find(&reading->json, 0, CG_BYTES("nftables"));
    if (list == 0 || cg_json_type(&reading->json, list) != CG_JSON_ARRAY) {
        return cg_error_set(err, "table %s is not in libnftables' form", table->name);
    }
    return read_rules(reading, list, table) || cg_error_set(err, "out of memory");
}

bool cg_nft_reprs_read(struct cg_bytes text, struct cg_nft_table *table, struct cg_error *err)
{
    struct reading reading = {0};
    cg_json_init(&reading.json, (struct cg_json_limits){.bytes_max = CG_NFT_TEXT_BYTES_MAX,
                                                        .nodes_max = CG_NFT_NODES_MAX,
                                                        .levels_max = CG_NFT_LEVELS_MAX});
    cg_buf_init(&reading.text, (size_t)CG_NFT_REPR_BYTES_MAX * 64);
    bool good = read_all(&reading, text, table, err);
    cg_json_fini(&reading.json);
    cg_canonical_fini(&reading.canonical);
    cg_buf_fini(&reading.text);
    if (!good) {
        free_reprs(&reading.reprs);
        return false;
    }
    if (reading.reprs.count > 0) {
        qsort(reading.reprs.items, reading.reprs.count, sizeof(*reading.reprs.items),
              compare_reprs);
    }
    reading.reprs.known_to = table->reprs.known_to;
    free_reprs(&table->reprs);
    table->reprs = reading.reprs;
    return true;
}
