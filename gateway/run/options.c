#include "run/options.h"

#include "cellgate/log.h"
#include "run/value.h"

#include <inttypes.h>
#include <stdio.h>

const struct cg_option *cg_option_find(const struct cg_option *options, struct cg_bytes key)
{
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        if (cg_bytes_equal(cg_bytes_str(option->key), key)) {
            return option;
        }
    }
    return NULL;
}

size_t cg_option_userinfo(struct cg_bytes text, size_t *ret_end)
{
    const char *scheme = text.len == 0 ? NULL : memmem(text.data, text.len, "://", 3);
    if (scheme == NULL) {
        return 0;
    }
    /* The last '@', wherever: a password may hold '/' and '@' that ought to have been escaped. */
    size_t start = (size_t)(scheme - text.data) + 3;
    const char *at = memrchr(text.data + start, '@', text.len - start);
    if (at == NULL) {
        return 0;
    }
    *ret_end = (size_t)(at - text.data);
    return start;
}

void cg_option_quote(struct cg_bytes text, char *ret_text)
{
    size_t end;
    if (cg_option_userinfo(text, &end) > 0) {
        text = cg_bytes(text.data + end + 1, text.len - end - 1);
    }
    (void)cg_text_escape(text, ret_text, CG_QUOTED_BYTES_MAX);
}

/* --- what was expected, for people --- */

static void describe_bounds(const struct cg_option *option, struct cg_buf *out,
                            void (*write)(uint64_t value, struct cg_buf *out))
{
    if (option->min > 0 || option->max > 0) {
        (void)cg_buf_append_str(out, option->max > 0 ? " from " : " of at least ");
        write(option->min, out);
    }
    if (option->max > 0) {
        (void)cg_buf_append_str(out, " to ");
        write(option->max, out);
    }
}

static void write_integer(uint64_t value, struct cg_buf *out)
{
    (void)cg_buf_append_u64(out, value);
}

static void describe_names(const struct cg_option *option, struct cg_buf *out)
{
    (void)cg_buf_append_str(out, "one of ");
    for (const struct cg_option_name *name = option->names; name->name != NULL; name++) {
        (void)cg_buf_printf(out, "%s%s", name == option->names ? "" : ", ", name->name);
    }
}

static void describe_text(const struct cg_option *option, struct cg_buf *out)
{
    (void)cg_buf_append_str(out, "a text");
    if (option->max > 0) {
        (void)cg_buf_printf(out, " of %" PRIu64 " to %" PRIu64 " bytes", option->min, option->max);
    } else if (option->min > 0) {
        (void)cg_buf_append_str(out, ", not empty");
    }
}

void cg_option_describe(const struct cg_option *option, struct cg_buf *out)
{
    switch (option->type) {
    case CG_OPTION_STRING:
        describe_text(option, out);
        break;
    case CG_OPTION_PATH:
        (void)cg_buf_append_str(out, "a path");
        break;
    case CG_OPTION_BOOL:
        (void)cg_buf_append_str(out, "true or false");
        break;
    case CG_OPTION_INTEGER:
        (void)cg_buf_append_str(out, "a whole number");
        describe_bounds(option, out, write_integer);
        break;
    case CG_OPTION_DURATION:
        (void)cg_buf_append_str(out, "a duration");
        describe_bounds(option, out, cg_value_write_duration);
        (void)cg_buf_append_str(out, " (200ms, 10s, 5m, 1h)");
        break;
    case CG_OPTION_SIZE:
        (void)cg_buf_append_str(out, "a size");
        describe_bounds(option, out, cg_value_write_size);
        (void)cg_buf_append_str(out, " (512, 64KiB, 1MiB)");
        break;
    case CG_OPTION_ENUM:
        describe_names(option, out);
        break;
    case CG_OPTION_FILE_MODE:
        (void)cg_buf_append_str(out, "a file mode (\"0660\")");
        break;
    case CG_OPTION_STRINGS:
        (void)cg_buf_append_str(out, "a list of texts, or one text");
        break;
    case CG_OPTION_PAIRS:
        (void)cg_buf_append_str(out, "a map of texts to texts");
        break;
    case CG_OPTION_RANGE:
        (void)cg_buf_append_str(out, "a list of two whole numbers");
        break;
    case CG_OPTION_SECTION:
        (void)cg_buf_append_str(out, "a map");
        break;
    case CG_OPTION_SECTIONS:
        (void)cg_buf_append_str(out, "a list of maps");
        break;
    }
}

static const char *kind_name(const struct cg_node *node)
{
    switch (node->kind) {
    case CG_NODE_LIST:
        return "a list";
    case CG_NODE_MAP:
        return "a map";
    case CG_NODE_TEXT:
        break;
    }
    return "a text";
}

static void unexpected(struct cg_options_reader *reader, const struct cg_option *option,
                       const struct cg_node *node)
{
    cg_auto_buf struct cg_buf expected;
    cg_buf_init(&expected, CG_ERROR_TEXT_MAX);
    cg_option_describe(option, &expected);
    if (cg_buf_str(&expected) == NULL) {
        cg_buf_clear(&expected);
        (void)cg_buf_append_str(&expected, "something else");
    }
    const char *text = cg_buf_str(&expected);
    if (node->kind != CG_NODE_TEXT || option->secret) {
        cg_problems_add(reader->problems, node->place, "%s: expected %s%s%s", option->key,
                        text == NULL ? "" : text, option->secret ? "" : ", not ",
                        option->secret ? "" : kind_name(node));
        return;
    }
    char quoted[CG_QUOTED_BYTES_MAX];
    cg_option_quote(node->text, quoted);
    cg_problems_add(reader->problems, node->place, "%s: expected %s, not '%s'", option->key,
                    text == NULL ? "" : text, quoted);
}

/* --- scalars --- */

static bool within(const struct cg_option *option, uint64_t value)
{
    return value >= option->min && (option->max == 0 || value <= option->max);
}

static bool parse_number(const struct cg_option *option, struct cg_bytes text, uint64_t *ret_value)
{
    uint64_t value = 0;
    bool parsed = false;
    switch (option->type) {
    case CG_OPTION_INTEGER:
    case CG_OPTION_RANGE:
        parsed = cg_value_integer(text, &value);
        break;
    case CG_OPTION_DURATION:
        parsed = cg_value_duration(text, &value);
        break;
    case CG_OPTION_SIZE:
        parsed = cg_value_size(text, &value);
        break;
    case CG_OPTION_FILE_MODE:
        parsed = cg_value_file_mode(text, &value);
        break;
    default:
        break;
    }
    if (!parsed || !within(option, value)) {
        return false;
    }
    *ret_value = value;
    return true;
}

static bool read_scalar(struct cg_options_reader *reader, const struct cg_option *option,
                        struct cg_bytes text, void *target)
{
    switch (option->type) {
    case CG_OPTION_PATH:
        if (text.len == 0) {
            return false;
        }
        *(const char **)target = cg_config_memory_copy(reader->memory, text);
        return true;
    case CG_OPTION_STRING:
        if (!within(option, text.len)) {
            return false;
        }
        *(const char **)target = cg_config_memory_copy(reader->memory, text);
        return true;
    case CG_OPTION_BOOL:
        return cg_value_bool(text, target);
    case CG_OPTION_ENUM:
        return cg_value_name(text, option->names, target);
    default:
        return parse_number(option, text, target);
    }
}

/* --- lists and maps of texts --- */

static const char *copy_element(struct cg_options_reader *reader, const struct cg_option *option,
                                const struct cg_node *node)
{
    if (node->kind != CG_NODE_TEXT || (node->plain && node->text.len == 0)) {
        cg_problems_add(reader->problems, node->place, "%s: expected a text here, not %s",
                        option->key, node->kind == CG_NODE_TEXT ? "nothing" : kind_name(node));
        return NULL;
    }
    return cg_config_memory_copy(reader->memory, node->text);
}

static bool count_within(struct cg_options_reader *reader, const struct cg_option *option,
                         const struct cg_node *node, size_t count)
{
    if (count < option->min) {
        cg_problems_add(reader->problems, node->place, "%s: at least %" PRIu64 " needed",
                        option->key, option->min);
        return false;
    }
    if (option->max > 0 && count > option->max) {
        cg_problems_add(reader->problems, node->place, "%s: at most %" PRIu64 " allowed, not %zu",
                        option->key, option->max, count);
        return false;
    }
    return true;
}

static void read_strings(struct cg_options_reader *reader, const struct cg_option *option,
                         const struct cg_node *node, struct cg_strings *target)
{
    size_t count = node->kind == CG_NODE_TEXT ? 1 : node->count;
    if (!count_within(reader, option, node, count)) {
        return;
    }
    const char **items = cg_config_memory_array(reader->memory, count, sizeof(*items));
    if (items == NULL) {
        return;
    }
    const struct cg_node *element = node->kind == CG_NODE_TEXT ? node : node->first;
    for (size_t i = 0; i < count; i++, element = element->next) {
        items[i] = copy_element(reader, option, element);
    }
    *target = (struct cg_strings){.items = items, .count = count};
}

static void read_pairs(struct cg_options_reader *reader, const struct cg_option *option,
                       const struct cg_node *node, struct cg_pairs *target)
{
    if (!count_within(reader, option, node, node->count)) {
        return;
    }
    struct cg_pair *items = cg_config_memory_array(reader->memory, node->count, sizeof(*items));
    if (items == NULL) {
        return;
    }
    size_t i = 0;
    for (const struct cg_node *member = node->first; member != NULL; member = member->next, i++) {
        if (cg_node_member(node, member->key->text) != member) {
            char quoted[CG_QUOTED_BYTES_MAX];
            cg_option_quote(member->key->text, quoted);
            cg_problems_add(reader->problems, member->key->place, "%s: duplicate key '%s'",
                            option->key, quoted);
            continue;
        }
        items[i].key = cg_config_memory_copy(reader->memory, member->key->text);
        items[i].value = copy_element(reader, option, member);
    }
    *target = (struct cg_pairs){.items = items, .count = node->count};
}

static void read_range(struct cg_options_reader *reader, const struct cg_option *option,
                       const struct cg_node *node, struct cg_range *target)
{
    struct cg_range range = {.present = true};
    const struct cg_node *first = node->first;
    if (node->count != 2 || first->kind != CG_NODE_TEXT || first->next->kind != CG_NODE_TEXT ||
        !parse_number(option, first->text, &range.first) ||
        !parse_number(option, first->next->text, &range.last)) {
        cg_problems_add(reader->problems, node->place,
                        "%s: expected two whole numbers in brackets, as in [1000, 1000]",
                        option->key);
        return;
    }
    *target = range;
}

static void read_sections(struct cg_options_reader *reader, const struct cg_option *option,
                          const struct cg_node *node, struct cg_sections *target)
{
    if (!count_within(reader, option, node, node->count)) {
        return;
    }
    char *items = cg_config_memory_array(reader->memory, node->count, option->element_size);
    if (items == NULL) {
        return;
    }
    char *item = items;
    for (const struct cg_node *element = node->first; element != NULL; element = element->next) {
        struct cg_option_part parts[CG_OPTION_PARTS_MAX] = {{option->fields, item}};
        size_t count = 1;
        if (element->kind != CG_NODE_MAP) {
            cg_problems_add(reader->problems, element->place, "%s: expected a map here, not %s",
                            option->key, kind_name(element));
        } else {
            if (reader->more != NULL && reader->more(reader, option, element, item, &parts[1])) {
                count++;
            }
            cg_options_read(reader, element, element->place, parts, count);
        }
        item += option->element_size;
    }
    *target = (struct cg_sections){.items = items, .count = node->count};
}

/* --- a key --- */

static bool kind_fits(enum cg_option_type type, enum cg_node_kind kind)
{
    switch (type) {
    case CG_OPTION_STRINGS:
        return kind != CG_NODE_MAP;
    case CG_OPTION_RANGE:
    case CG_OPTION_SECTIONS:
        return kind == CG_NODE_LIST;
    case CG_OPTION_PAIRS:
    case CG_OPTION_SECTION:
        return kind == CG_NODE_MAP;
    default:
        return kind == CG_NODE_TEXT;
    }
}

static void read_section(struct cg_options_reader *reader, const struct cg_option *option,
                         const struct cg_node *node, void *target)
{
    struct cg_option_part part = {option->fields, target};
    if (option->element_size > 0) {
        part.target = cg_config_memory_alloc(reader->memory, option->element_size);
        *(void **)target = part.target;
    }
    if (part.target != NULL) {
        cg_options_read(reader, node, cg_node_place(node), &part, 1);
    }
}

const void *cg_option_section(const struct cg_option *option, const void *owner)
{
    static const union {
        max_align_t aligned;
        char bytes[CG_OPTION_SECTION_BYTES_MAX];
    } nothing;
    const char *member = (const char *)owner + option->offset;
    if (option->element_size == 0) {
        return member;
    }
    CG_ASSERT(option->element_size <= sizeof(nothing));
    const void *section = *(const void *const *)(const void *)member;
    return section == NULL ? &nothing : section;
}

static void read_value(struct cg_options_reader *reader, const struct cg_option *option,
                       const struct cg_node *node, void *target)
{
    if (!kind_fits(option->type, node->kind)) {
        unexpected(reader, option, node);
        return;
    }
    switch (option->type) {
    case CG_OPTION_STRINGS:
        read_strings(reader, option, node, target);
        return;
    case CG_OPTION_PAIRS:
        read_pairs(reader, option, node, target);
        return;
    case CG_OPTION_RANGE:
        read_range(reader, option, node, target);
        return;
    case CG_OPTION_SECTION:
        read_section(reader, option, node, target);
        return;
    case CG_OPTION_SECTIONS:
        read_sections(reader, option, node, target);
        return;
    default:
        if (!read_scalar(reader, option, node->text, target)) {
            unexpected(reader, option, node);
        }
    }
}

static void read_absent(struct cg_options_reader *reader, const struct cg_option *option,
                        struct cg_place place, void *target)
{
    if (option->required) {
        cg_problems_add(reader->problems, place, "missing key '%s'", option->key);
        return;
    }
    if (option->type == CG_OPTION_SECTION && option->element_size > 0) {
        return; /* NULL */
    }
    if (option->type == CG_OPTION_SECTION) {
        const struct cg_option_part part = {option->fields, target};
        cg_options_read(reader, NULL, place, &part, 1);
        return;
    }
    if (option->fallback == NULL) {
        return;
    }
    const struct cg_node fallback = {
        .kind = CG_NODE_TEXT, .place = place, .text = cg_bytes_str(option->fallback)};
    size_t problems_before = reader->problems->count;
    read_value(reader, option, &fallback, target);
    CG_ASSERT(reader->problems->count == problems_before); /* a default that its table refuses */
}

/* --- a map --- */

/* A key's number over all parts, or SIZE_MAX. */
static size_t find_key(const struct cg_option_part *parts, size_t parts_count, struct cg_bytes key)
{
    size_t before = 0;
    for (size_t i = 0; i < parts_count; i++) {
        for (const struct cg_option *option = parts[i].options;
             option != NULL && option->key != NULL; option++, before++) {
            if (cg_bytes_equal(cg_bytes_str(option->key), key)) {
                return before;
            }
        }
    }
    return SIZE_MAX;
}

static void report_unknown(struct cg_options_reader *reader, const struct cg_option_part *parts,
                           size_t parts_count, const struct cg_node *key)
{
    const char *nearest = NULL;
    unsigned nearest_distance = CG_DISTANCE_FAR;
    for (size_t i = 0; i < parts_count; i++) {
        if (parts[i].options == NULL) {
            return; /* whose keys they are is not known */
        }
        for (const struct cg_option *option = parts[i].options; option->key != NULL; option++) {
            unsigned distance;
            if (cg_value_resembles(key->text, cg_bytes_str(option->key), &distance) &&
                distance < nearest_distance) {
                nearest = option->key;
                nearest_distance = distance;
            }
        }
    }
    char quoted[CG_QUOTED_BYTES_MAX];
    cg_option_quote(key->text, quoted);
    if (nearest != NULL) {
        cg_problems_add(reader->problems, key->place, "unknown key '%s' (did you mean '%s'?)",
                        quoted, nearest);
    } else {
        cg_problems_add(reader->problems, key->place, "unknown key '%s'", quoted);
    }
}

static bool is_absent(struct cg_options_reader *reader, const struct cg_option *option,
                      const struct cg_node *node)
{
    if (node == NULL) {
        return true;
    }
    if (!cg_node_is_null(node)) {
        return false;
    }
    /* `dir:` with nothing behind it is more often an accident than a wish; a section whose members
     * are all commented out is not. */
    if (node->text.len == 0 && !option->required && option->type != CG_OPTION_SECTION &&
        option->type != CG_OPTION_SECTIONS) {
        cg_problems_add(reader->problems, cg_node_place(node),
                        "%s: nothing given (write null for the default)", option->key);
    }
    return true;
}

void cg_options_read(struct cg_options_reader *reader, const struct cg_node *map,
                     struct cg_place place, const struct cg_option_part *parts, size_t parts_count)
{
    const struct cg_node *given[CG_OPTIONS_PER_MAP_MAX] = {NULL};
    const struct cg_node *member = map == NULL ? NULL : map->first;
    for (; member != NULL; member = member->next) {
        size_t number = find_key(parts, parts_count, member->key->text);
        if (number == SIZE_MAX) {
            report_unknown(reader, parts, parts_count, member->key);
            continue;
        }
        CG_ASSERT(number < CG_OPTIONS_PER_MAP_MAX);
        if (given[number] != NULL) {
            cg_problems_add(reader->problems, member->key->place, "duplicate key '%s'",
                            member->key->text.data);
        }
        given[number] = member;
    }
    size_t number = 0;
    for (size_t i = 0; i < parts_count; i++) {
        for (const struct cg_option *option = parts[i].options;
             option != NULL && option->key != NULL; option++, number++) {
            CG_ASSERT(number < CG_OPTIONS_PER_MAP_MAX);
            void *target = (char *)parts[i].target + option->offset;
            if (is_absent(reader, option, given[number])) {
                read_absent(reader, option, place, target);
            } else {
                read_value(reader, option, given[number], target);
            }
        }
    }
}
