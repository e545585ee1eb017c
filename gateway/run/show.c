#include "run/show.h"

#include "run/value.h"

#include <inttypes.h>

/* --- as YAML --- */

struct showing {
    cg_show_more *more;
    struct cg_buf *out;
};

static void put_members(const struct showing *showing, const struct cg_option *options,
                        const void *owner, unsigned indent, bool dash);

static void put_indent(unsigned indent, struct cg_buf *out)
{
    for (unsigned i = 0; i < indent; i++) {
        (void)cg_buf_append_char(out, ' ');
    }
}

static void put_text(const char *text, bool secret, struct cg_buf *out)
{
    if (text == NULL) {
        (void)cg_buf_append_str(out, "null");
        return;
    }
    if (secret) {
        (void)cg_buf_append_str(out, "\"(hidden)\"");
        return;
    }
    struct cg_bytes whole = cg_bytes_str(text);
    size_t end;
    size_t start = cg_option_userinfo(whole, &end);
    if (start == 0) {
        cg_value_write_text(whole, out);
        return;
    }
    cg_auto_buf struct cg_buf masked;
    cg_buf_init(&masked, SIZE_MAX);
    (void)cg_buf_append(&masked, cg_bytes(text, start));
    (void)cg_buf_append_str(&masked, "(hidden)");
    (void)cg_buf_append(&masked, cg_bytes(text + end, whole.len - end));
    cg_value_write_text(cg_buf_bytes(&masked), out);
    out->failed = out->failed || masked.failed;
}

static void put_strings(const struct cg_strings *strings, bool secret, struct cg_buf *out)
{
    (void)cg_buf_append_char(out, '[');
    for (size_t i = 0; i < strings->count; i++) {
        (void)cg_buf_append_str(out, i == 0 ? "" : ", ");
        put_text(strings->items[i], secret, out);
    }
    (void)cg_buf_append_char(out, ']');
}

static void put_pairs(const struct cg_pairs *pairs, bool secret, struct cg_buf *out)
{
    (void)cg_buf_append_char(out, '{');
    for (size_t i = 0; i < pairs->count; i++) {
        (void)cg_buf_append_str(out, i == 0 ? "" : ", ");
        cg_value_write_text(cg_bytes_str(pairs->items[i].key), out);
        (void)cg_buf_append_str(out, ": ");
        put_text(pairs->items[i].value, secret, out);
    }
    (void)cg_buf_append_char(out, '}');
}

static void put_range(const struct cg_range *range, struct cg_buf *out)
{
    if (range->present) {
        (void)cg_buf_printf(out, "[%" PRIu64 ", %" PRIu64 "]", range->first, range->last);
    } else {
        (void)cg_buf_append_str(out, "null");
    }
}

static void put_name(const struct cg_option_name *names, int value, struct cg_buf *out)
{
    while (names->name != NULL && names->value != value) {
        names++;
    }
    (void)cg_buf_append_str(out, names->name == NULL ? "null" : names->name);
}

static void put_number(const struct cg_option *option, uint64_t value, struct cg_buf *out)
{
    if (value == 0 && option->fallback == NULL && !option->required) {
        (void)cg_buf_append_str(out, "null");
    } else if (option->type == CG_OPTION_DURATION) {
        cg_value_write_duration(value, out);
    } else if (option->type == CG_OPTION_SIZE) {
        cg_value_write_size(value, out);
    } else if (option->type == CG_OPTION_FILE_MODE) {
        (void)cg_buf_printf(out, "\"0%03" PRIo64 "\"", value);
    } else {
        (void)cg_buf_append_u64(out, value);
    }
}

static void put_sections(const struct showing *showing, const struct cg_option *option,
                         const struct cg_sections *sections, unsigned indent)
{
    (void)cg_buf_append_str(showing->out, sections->count == 0 ? " []\n" : "\n");
    char *element = sections->items;
    for (size_t i = 0; i < sections->count; i++, element += option->element_size) {
        struct cg_option_part own;
        put_members(showing, option->fields, element, indent + 4, true);
        if (showing->more != NULL && showing->more(option, element, &own)) {
            put_members(showing, own.options, own.target, indent + 4, false);
        }
    }
}

static void put_scalar(const struct cg_option *option, const void *member, struct cg_buf *out)
{
    switch (option->type) {
    case CG_OPTION_STRING:
    case CG_OPTION_PATH:
        put_text(*(const char *const *)member, option->secret, out);
        break;
    case CG_OPTION_BOOL:
        (void)cg_buf_append_str(out, *(const bool *)member ? "true" : "false");
        break;
    case CG_OPTION_ENUM:
        put_name(option->names, *(const int *)member, out);
        break;
    case CG_OPTION_STRINGS:
        put_strings(member, option->secret, out);
        break;
    case CG_OPTION_PAIRS:
        put_pairs(member, option->secret, out);
        break;
    case CG_OPTION_RANGE:
        put_range(member, out);
        break;
    default:
        put_number(option, *(const uint64_t *)member, out);
        break;
    }
}

static void put_member(const struct showing *showing, const struct cg_option *option,
                       const void *owner, unsigned indent)
{
    const void *member = (const char *)owner + option->offset;
    (void)cg_buf_printf(showing->out, "%s:", option->key);
    if (option->type == CG_OPTION_SECTION) {
        (void)cg_buf_append_char(showing->out, '\n');
        put_members(showing, option->fields, cg_option_section(option, owner), indent + 2, false);
    } else if (option->type == CG_OPTION_SECTIONS) {
        put_sections(showing, option, member, indent);
    } else {
        (void)cg_buf_append_char(showing->out, ' ');
        put_scalar(option, member, showing->out);
        (void)cg_buf_append_char(showing->out, '\n');
    }
}

/* With `dash` the first member begins an element of a list. The recursion is as deep as the tables.
 */
static void put_members(const struct showing *showing, const struct cg_option *options,
                        const void *owner, unsigned indent, bool dash)
{
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        put_indent(dash ? indent - 2 : indent, showing->out);
        (void)cg_buf_append_str(showing->out, dash ? "- " : "");
        dash = false;
        put_member(showing, option, owner, indent);
    }
}

void cg_show_yaml(const struct cg_option_part *part, cg_show_more *more, struct cg_buf *out)
{
    const struct showing showing = {.more = more, .out = out};
    put_members(&showing, part->options, part->target, 0, false);
}

/* --- as a reference --- */

static void put_cell(const char *text, struct cg_buf *out)
{
    for (; *text != '\0'; text++) {
        (void)cg_buf_append_str(out, *text == '|' ? "\\" : "");
        (void)cg_buf_append_char(out, *text);
    }
}

static void put_row(const struct cg_option *option, const char *prefix, bool live,
                    struct cg_buf *out)
{
    (void)cg_buf_printf(out, "| `%s%s` | ", prefix, option->key);
    cg_option_describe(option, out);
    if (option->required) {
        (void)cg_buf_append_str(out, " | required | ");
    } else if (option->fallback != NULL) {
        (void)cg_buf_printf(out, " | `%s` | ", option->fallback);
    } else {
        (void)cg_buf_append_str(out, " | none | ");
    }
    put_cell(option->help, out);
    (void)cg_buf_append_str(out, live || option->live ? " *Live.* |\n" : " |\n");
}

static void put_rows(const struct cg_option *options, const char *prefix, bool sections, bool live,
                     struct cg_buf *out)
{
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        if (option->fields == NULL) {
            put_row(option, prefix, live, out);
            continue;
        }
        if (!sections) {
            continue;
        }
        cg_auto_buf struct cg_buf inner;
        cg_buf_init(&inner, CG_ERROR_TEXT_MAX);
        (void)cg_buf_printf(&inner, "%s%s%s.", prefix, option->key,
                            option->type == CG_OPTION_SECTIONS ? "[]" : "");
        const char *inner_prefix = cg_buf_str(&inner);
        CG_ASSERT(inner_prefix != NULL);
        put_rows(option->fields, inner_prefix, true, live || option->live, out);
    }
}

void cg_show_reference(const struct cg_option *options, bool sections, bool live,
                       struct cg_buf *out)
{
    (void)cg_buf_append_str(out, "| key | value | default | meaning |\n|---|---|---|---|\n");
    put_rows(options, "", sections, live, out);
    (void)cg_buf_append_char(out, '\n');
}
