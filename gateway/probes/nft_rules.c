#include "probes/nft_rules.h"

#include "base/utf8.h"
#include "event/json_write.h"

#include <stdlib.h>

enum { NAME_BYTES_MAX = 512, ROW_BYTES_MAX = 8192 };

struct reading {
    struct cg_json json;
    struct cg_canonical canonical;
    struct cg_nft_ruleset ruleset;
    struct cg_buf text; /* what is being put together */
    struct cg_buf row;
    struct cg_nft_table *latest; /* rules come table by table */
};

/* --- tables --- */

static int compare_tables(const void *a, const void *b)
{
    const struct cg_nft_table *left = a;
    const struct cg_nft_table *right = b;
    int order = strcmp(left->family, right->family);
    return order != 0 ? order : strcmp(left->name, right->name);
}

/* A terminated copy of a text member; NULL: there is none, or no memory. */
static char *copy_member(struct reading *reading, uint32_t object, struct cg_bytes name)
{
    const struct cg_json *json = &reading->json;
    uint32_t node = cg_json_find(json, object, name);
    if (node == 0 || cg_json_type(json, node) != CG_JSON_STRING || json->nodes[node].has_nul ||
        json->nodes[node].len > NAME_BYTES_MAX) {
        return NULL;
    }
    cg_buf_clear(&reading->text);
    return cg_json_decode(json, node, &reading->text) && cg_buf_str(&reading->text) != NULL
               ? strdup(cg_buf_str(&reading->text))
               : NULL;
}

static bool add_table(struct reading *reading, uint32_t object)
{
    struct cg_nft_ruleset *ruleset = &reading->ruleset;
    if (ruleset->count == ruleset->cap) {
        size_t cap = ruleset->cap == 0 ? 16 : ruleset->cap * 2;
        void *grown = realloc(ruleset->tables, cap * sizeof(*ruleset->tables));
        if (grown == NULL) {
            return false;
        }
        ruleset->tables = grown;
        ruleset->cap = cap;
    }
    struct cg_nft_table table = {.family = copy_member(reading, object, CG_BYTES("family")),
                                 .name = copy_member(reading, object, CG_BYTES("name"))};
    cg_buf_init(&table.rows, CG_NFT_ROWS_BYTES_MAX);
    if (table.family == NULL || table.name == NULL) {
        free(table.family);
        free(table.name);
        return false;
    }
    ruleset->tables[ruleset->count++] = table;
    return true;
}

static bool is_of(const struct cg_json *json, uint32_t rule, const struct cg_nft_table *table)
{
    uint32_t family = cg_json_find(json, rule, CG_BYTES("family"));
    uint32_t name = cg_json_find(json, rule, CG_BYTES("table"));
    return family != 0 && name != 0 && cg_json_is(json, family, cg_bytes_str(table->family)) &&
           cg_json_is(json, name, cg_bytes_str(table->name));
}

/* The table of a rule, which stands before it in the ruleset. */
static struct cg_nft_table *table_of(struct reading *reading, uint32_t rule)
{
    if (reading->latest != NULL && is_of(&reading->json, rule, reading->latest)) {
        return reading->latest;
    }
    for (size_t i = 0; i < reading->ruleset.count; i++) {
        struct cg_nft_table *table = &reading->ruleset.tables[i];
        if (is_of(&reading->json, rule, table)) {
            reading->latest = table;
            return table;
        }
    }
    return NULL;
}

/* --- rules --- */

static bool is_counter(const struct cg_json *json, uint32_t statement, uint64_t *ret_packets,
                       uint64_t *ret_bytes)
{
    uint32_t counter = cg_json_find(json, statement, CG_BYTES("counter"));
    uint32_t packets = counter == 0 ? 0 : cg_json_find(json, counter, CG_BYTES("packets"));
    uint32_t bytes = counter == 0 ? 0 : cg_json_find(json, counter, CG_BYTES("bytes"));
    return packets != 0 && bytes != 0 && cg_json_u64(json, packets, ret_packets) &&
           cg_json_u64(json, bytes, ret_bytes);
}

/* What the rule says, without its counters; and what those count. False: it has none. */
static bool read_statements(struct reading *reading, uint32_t expr, uint64_t *ret_packets,
                            uint64_t *ret_bytes)
{
    const struct cg_json *json = &reading->json;
    bool counted = false;
    cg_buf_clear(&reading->text);
    cg_buf_append_char(&reading->text, '[');
    for (uint32_t statement = expr + 1; statement < json->nodes[expr].next;
         statement = json->nodes[statement].next) {
        uint64_t packets = 0;
        uint64_t bytes = 0;
        if (is_counter(json, statement, &packets, &bytes)) {
            *ret_packets += packets;
            *ret_bytes += bytes;
            counted = true;
            continue;
        }
        uint64_t cut = 0;
        if (reading->text.len > 1) {
            cg_buf_append_char(&reading->text, ',');
        }
        if (reading->text.len <= CG_NFT_REPR_BYTES_MAX &&
            !cg_canonical_render_cut(&reading->canonical, json, statement, &cut, &reading->text)) {
            break; /* too long to be shown whole anyway */
        }
    }
    cg_buf_append_char(&reading->text, ']');
    return counted;
}

/* The representation that is in `text`, cut at a character's boundary. */
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

static void append_text_member(struct reading *reading, uint32_t rule, const char *key,
                               struct cg_bytes name)
{
    uint32_t node = cg_json_find(&reading->json, rule, name);
    cg_buf_printf(&reading->row, "\"%s\":\"", key);
    if (node != 0 && cg_json_type(&reading->json, node) == CG_JSON_STRING) {
        (void)cg_canonical_append_text(&reading->json, node, &reading->row);
    }
    cg_buf_append_str(&reading->row, "\",");
}

static void add_row(struct reading *reading, uint32_t rule, struct cg_nft_table *table,
                    uint64_t packets, uint64_t bytes)
{
    struct cg_buf *row = &reading->row;
    uint64_t handle = 0;
    uint32_t node = cg_json_find(&reading->json, rule, CG_BYTES("handle"));
    bool numbered = node != 0 && cg_json_u64(&reading->json, node, &handle);
    handle = numbered ? handle : 0;
    cg_buf_clear(row);
    cg_buf_append_str(row, "{\"bytes\":");
    cg_buf_append_u64(row, bytes);
    cg_buf_append_char(row, ',');
    append_text_member(reading, rule, "chain", CG_BYTES("chain"));
    append_text_member(reading, rule, "family", CG_BYTES("family"));
    cg_buf_append_str(row, "\"handle\":");
    cg_buf_append_u64(row, handle);
    cg_buf_append_str(row, ",\"packets\":");
    cg_buf_append_u64(row, packets);
    cg_buf_append_str(row, ",\"ruleRepr\":");
    cg_json_append_string(row, cut_repr(reading));
    cg_buf_append_char(row, ',');
    append_text_member(reading, rule, "table", CG_BYTES("table"));
    row->len -= row->failed ? 0 : 1;
    cg_buf_append_char(row, '}');

    table->rules++;
    table->packets += packets;
    table->bytes += bytes;
    bool fits = !row->failed && table->omitted == 0 &&
                table->rows.len + row->len + 1 <= CG_NFT_ROWS_BYTES_MAX;
    if (fits && table->rows.len > 0) {
        cg_buf_append_char(&table->rows, ',');
    }
    table->omitted += fits && cg_buf_append(&table->rows, cg_buf_bytes(row)) ? 0 : 1;
}

static bool read_element(struct reading *reading, uint32_t element)
{
    const struct cg_json *json = &reading->json;
    uint32_t table = cg_json_find(json, element, CG_BYTES("table"));
    if (table != 0 && cg_json_type(json, table) == CG_JSON_OBJECT) {
        reading->latest = NULL; /* their memory may move */
        return add_table(reading, table);
    }
    uint32_t rule = cg_json_find(json, element, CG_BYTES("rule"));
    uint32_t expr = rule == 0 ? 0 : cg_json_find(json, rule, CG_BYTES("expr"));
    if (expr == 0 || cg_json_type(json, expr) != CG_JSON_ARRAY) {
        return true;
    }
    struct cg_nft_table *owner = table_of(reading, rule);
    uint64_t packets = 0;
    uint64_t bytes = 0;
    if (owner != NULL && read_statements(reading, expr, &packets, &bytes)) {
        add_row(reading, rule, owner, packets, bytes);
    }
    return true;
}

static bool read_all(struct reading *reading, struct cg_bytes text, struct cg_error *err)
{
    const struct cg_json *json = &reading->json;
    if (!cg_json_parse(&reading->json, text, err)) {
        return cg_error_context(err, "the ruleset");
    }
    uint32_t list = cg_json_find(json, 0, CG_BYTES("nftables"));
    if (list == 0 || cg_json_type(json, list) != CG_JSON_ARRAY) {
        return cg_error_set(err, "the ruleset is not in libnftables' form");
    }
    for (uint32_t element = list + 1; element < json->nodes[list].next;
         element = json->nodes[element].next) {
        if (!read_element(reading, element)) {
            return cg_error_set(err, "the ruleset has a table without a name, or no memory");
        }
    }
    return true;
}

bool cg_nft_ruleset_read(struct cg_bytes text, struct cg_nft_ruleset *ret_ruleset,
                         struct cg_error *err)
{
    struct reading reading = {0};
    cg_json_init(&reading.json, (struct cg_json_limits){.bytes_max = CG_NFT_TEXT_BYTES_MAX,
                                                        .nodes_max = CG_NFT_NODES_MAX,
                                                        .levels_max = CG_NFT_LEVELS_MAX});
    cg_buf_init(&reading.text, (size_t)CG_NFT_REPR_BYTES_MAX * 64);
    cg_buf_init(&reading.row, ROW_BYTES_MAX);
    bool good = read_all(&reading, text, err);
    cg_json_fini(&reading.json);
    cg_canonical_fini(&reading.canonical);
    cg_buf_fini(&reading.text);
    cg_buf_fini(&reading.row);
    if (!good) {
        cg_nft_ruleset_fini(&reading.ruleset);
        return false;
    }
    if (reading.ruleset.count > 0) {
        qsort(reading.ruleset.tables, reading.ruleset.count, sizeof(*reading.ruleset.tables),
              compare_tables);
    }
    *ret_ruleset = reading.ruleset;
    return true;
}

void cg_nft_ruleset_fini(struct cg_nft_ruleset *ruleset)
{
    for (size_t i = 0; i < ruleset->count; i++) {
        free(ruleset->tables[i].family);
        free(ruleset->tables[i].name);
        cg_buf_fini(&ruleset->tables[i].rows);
    }
    free(ruleset->tables);
    *ruleset = (struct cg_nft_ruleset){0};
}

const struct cg_nft_table *cg_nft_ruleset_find(const struct cg_nft_ruleset *ruleset,
                                               const char *family, const char *name)
{
    size_t low = 0;
    size_t high = ruleset->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct cg_nft_table *table = &ruleset->tables[middle];
        int order = strcmp(table->family, family);
        order = order != 0 ? order : strcmp(table->name, name);
        if (order == 0) {
            return table;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}
