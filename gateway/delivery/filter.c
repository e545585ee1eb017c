#include "delivery/filter.h"

#include "base/glob.h"
#include "cellgate/limits.h"

enum { NODES_MAX = CG_EVENT_BYTES_MAX }; /* a node takes a byte at least */

static const struct {
    const char *name;
    enum cg_event_kind kind;
} kinds[] = {{"guest", CG_EVENT_GUEST}, {"gateway", CG_EVENT_GATEWAY}, {"probe", CG_EVENT_PROBE}};

/* The bit of a kind by its name; 0 if there is none. */
static uint32_t kind_bit(const char *name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return UINT32_C(1) << kinds[i].kind;
        }
    }
    return 0;
}

/* --- the rules --- */

static bool check_pattern(const char *key, const char *pattern, struct cg_error *err)
{
    size_t len = strlen(pattern);
    if (len == 0 || len > CG_FILTER_PATTERN_BYTES_MAX) {
        return cg_error_set(err, "%s: a pattern has 1 to %d bytes", key,
                            CG_FILTER_PATTERN_BYTES_MAX);
    }
    return true;
}

static bool check_patterns(const char *key, const struct cg_strings *patterns, struct cg_error *err)
{
    for (size_t i = 0; i < patterns->count; i++) {
        if (!check_pattern(key, patterns->items[i], err)) {
            return false;
        }
    }
    return true;
}

bool cg_filter_rules_check(const struct cg_filter_rules *rules, struct cg_error *err)
{
    for (size_t i = 0; i < rules->kinds.count; i++) {
        if (kind_bit(rules->kinds.items[i]) == 0) {
            return cg_error_set(err, "kinds: expected guest, gateway or probe, not '%s'",
                                rules->kinds.items[i]);
        }
    }
    for (size_t i = 0; i < rules->labels.count; i++) {
        if (strlen(rules->labels.items[i].key) == 0) {
            return cg_error_set(err, "labels: a key must not be empty");
        }
        if (!check_pattern("labels", rules->labels.items[i].value, err)) {
            return false;
        }
    }
    return check_patterns("types", &rules->types, err) &&
           check_patterns("not_types", &rules->not_types, err) &&
           check_patterns("cells", &rules->cells, err) &&
           check_patterns("not_cells", &rules->not_cells, err);
}

static bool has_conditions(const struct cg_filter_rules *rules)
{
    return rules->kinds.count + rules->types.count + rules->not_types.count + rules->cells.count +
               rules->not_cells.count + rules->labels.count >
           0;
}

void cg_filter_init(struct cg_filter *filter, const struct cg_filter_rules *rules)
{
    *filter = (struct cg_filter){0};
    cg_json_init(&filter->json, (struct cg_json_limits){.bytes_max = CG_EVENT_BYTES_MAX,
                                                        .nodes_max = NODES_MAX,
                                                        .levels_max = CG_JSON_LEVELS_MAX});
    cg_buf_init(&filter->text, CG_EVENT_BYTES_MAX);
    if (rules == NULL || !has_conditions(rules)) {
        return;
    }
    filter->rules = rules;
    for (size_t i = 0; i < rules->kinds.count; i++) {
        filter->kinds |= kind_bit(rules->kinds.items[i]);
    }
}

void cg_filter_fini(struct cg_filter *filter)
{
    cg_json_fini(&filter->json);
    cg_buf_fini(&filter->text);
}

/* --- an event --- */

static bool matches_any(const struct cg_strings *patterns, struct cg_bytes text)
{
    for (size_t i = 0; i < patterns->count; i++) {
        if (cg_glob_match(cg_bytes_str(patterns->items[i]), text)) {
            return true;
        }
    }
    return false;
}

static bool admits(const struct cg_strings *patterns, const struct cg_strings *not_patterns,
                   struct cg_bytes text)
{
    return (patterns->count == 0 || matches_any(patterns, text)) &&
           !matches_any(not_patterns, text);
}

static bool label_matches(struct cg_filter *filter, uint32_t labels, const struct cg_pair *wanted)
{
    struct cg_json *json = &filter->json;
    uint32_t value = cg_json_find(json, labels, cg_bytes_str(wanted->key));
    if (value == 0 || cg_json_type(json, value) != CG_JSON_STRING) {
        return false;
    }
    cg_buf_clear(&filter->text);
    return cg_json_decode(json, value, &filter->text) &&
           cg_glob_match(cg_bytes_str(wanted->value), cg_buf_bytes(&filter->text));
}

/* Where host.labels stands; 0 for an event without labels. */
static uint32_t find_labels(const struct cg_json *json)
{
    uint32_t data = cg_json_find(json, 0, CG_BYTES("data"));
    uint32_t inner = data == 0 ? 0 : cg_json_find(json, data, CG_BYTES("event"));
    if (inner != 0) {
        data = cg_json_find(json, inner, CG_BYTES("data"));
    }
    uint32_t host = data == 0 ? 0 : cg_json_find(json, data, CG_BYTES("host"));
    return host == 0 ? 0 : cg_json_find(json, host, CG_BYTES("labels"));
}

static bool judge_labels(struct cg_filter *filter, struct cg_bytes bytes, bool *ret_passes,
                         struct cg_error *err)
{
    const struct cg_pairs *wanted = &filter->rules->labels;
    if (!cg_json_parse(&filter->json, bytes, err)) {
        return cg_error_context(err, "filter: read an event's labels");
    }
    uint32_t labels = find_labels(&filter->json);
    bool passes = labels != 0;
    for (size_t i = 0; passes && i < wanted->count; i++) {
        passes = label_matches(filter, labels, &wanted->items[i]);
    }
    *ret_passes = passes;
    return true;
}

bool cg_filter_judge(struct cg_filter *filter, const struct cg_event *event, bool *ret_passes,
                     struct cg_error *err)
{
    const struct cg_filter_rules *rules = filter->rules;
    bool passes = rules == NULL ||
                  ((filter->kinds == 0 || (filter->kinds >> event->meta.kind & 1) != 0) &&
                   admits(&rules->types, &rules->not_types, cg_event_get(event, CG_TEXT_TYPE)) &&
                   admits(&rules->cells, &rules->not_cells, cg_event_get(event, CG_TEXT_CELL)));
    if (passes && rules != NULL && rules->labels.count > 0) {
        return judge_labels(filter, event->bytes, ret_passes, err);
    }
    *ret_passes = passes;
    return true;
}
