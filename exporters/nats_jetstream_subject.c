#include "exporters/nats_jetstream_subject.h"

static const struct placeholder {
    struct cg_bytes name;
    enum cg_event_text text;
    bool dots_part;
} placeholders[] = {
    {{"{cell_id}", 9}, CG_TEXT_CELL, false},
    {{"{run_id}", 8}, CG_TEXT_RUN, false},
    {{"{type}", 6}, CG_TEXT_TYPE, true},
};

static const struct placeholder *placeholder_at(struct cg_bytes rest)
{
    for (size_t i = 0; i < sizeof(placeholders) / sizeof(placeholders[0]); i++) {
        if (cg_bytes_starts(rest, placeholders[i].name)) {
            return &placeholders[i];
        }
    }
    return NULL;
}

static bool is_safe(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == ':';
}

bool cg_nats_template_check(const char *template, struct cg_error *err)
{
    struct cg_bytes rest = cg_bytes_str(template);
    bool token_is_empty = true;
    while (rest.len > 0) {
        const struct placeholder *placeholder = placeholder_at(rest);
        size_t taken = placeholder == NULL ? 1 : placeholder->name.len;
        if (placeholder == NULL && rest.data[0] == '{') {
            return cg_error_set(err, "a placeholder is {cell_id}, {run_id} or {type}");
        }
        if (placeholder == NULL && rest.data[0] != '.' && !is_safe(rest.data[0])) {
            return cg_error_set(err, "only letters, digits, '-', '_', ':', dots and placeholders");
        }
        bool is_dot = rest.data[0] == '.';
        if (is_dot && token_is_empty) {
            return cg_error_set(err, "an empty token (a dot needs something on both sides)");
        }
        token_is_empty = is_dot;
        rest = cg_bytes(rest.data + taken, rest.len - taken);
    }
    return !token_is_empty ||
           cg_error_set(err, "an empty token (a dot needs something on both sides)");
}

size_t cg_nats_template_fixed(const char *template)
{
    size_t fixed = 0;
    for (size_t i = 0; template[i] != '{'; i++) {
        if (template[i] == '\0') {
            return i;
        }
        if (template[i] == '.') {
            fixed = i;
        }
    }
    return fixed;
}

static void append_safe(struct cg_bytes text, bool dots_part, struct cg_buf *out)
{
    size_t len =
        text.len < CG_NATS_SUBJECT_PART_BYTES_MAX ? text.len : CG_NATS_SUBJECT_PART_BYTES_MAX;
    bool token_is_empty = true;
    for (size_t i = 0; i < len; i++) {
        char c = text.data[i];
        bool parts = dots_part && c == '.' && !token_is_empty && i + 1 < len;
        if (!parts && !is_safe(c)) {
            c = '_';
        }
        cg_buf_append_char(out, c);
        token_is_empty = parts;
    }
    if (len == 0) {
        cg_buf_append_char(out, '_');
    }
}

void cg_nats_subject_append(const char *template, const struct cg_event *event, struct cg_buf *out)
{
    struct cg_bytes rest = cg_bytes_str(template);
    while (rest.len > 0) {
        const struct placeholder *placeholder = placeholder_at(rest);
        if (placeholder == NULL) {
            cg_buf_append_char(out, rest.data[0]);
            rest = cg_bytes(rest.data + 1, rest.len - 1);
            continue;
        }
        append_safe(cg_event_get(event, placeholder->text), placeholder->dots_part, out);
        rest = cg_bytes(rest.data + placeholder->name.len, rest.len - placeholder->name.len);
    }
}
