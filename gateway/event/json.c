#include "event/json.h"

#include "base/utf8.h"

#include <stdlib.h>

enum { NODES_FIRST = 64 };

/* What may stand next. */
enum state {
    AT_VALUE,
    AT_FIRST_ELEMENT, /* or the end of the array */
    AT_FIRST_KEY,     /* or the end of the object */
    AT_KEY,
    AT_COLON,
    BEHIND_VALUE,
    AT_END,
    REFUSED,
};

struct reader {
    struct cg_json *json;
    const char *data;
    size_t len;
    size_t at;
    const char *problem; /* what is refused at `at` */
    uint32_t level;
    uint32_t open[CG_JSON_LEVELS_MAX]; /* the containers that are open, outermost first */
};

void cg_json_init(struct cg_json *json, struct cg_json_limits limits)
{
    CG_ASSERT(limits.bytes_max <= UINT32_MAX && limits.levels_max <= CG_JSON_LEVELS_MAX);
    *json = (struct cg_json){.limits = limits};
}

void cg_json_fini(struct cg_json *json)
{
    free(json->nodes);
    cg_json_init(json, json->limits);
}

bool cg_json_refuse(const struct cg_json *json, size_t at, const char *what, struct cg_error *err)
{
    size_t line = 1;
    size_t line_start = 0;
    for (size_t i = 0; i < at; i++) {
        if (json->text.data[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    }
    size_t column = at - line_start + 1;
    return line == 1 ? cg_error_set(err, "column %zu: %s", column, what)
                     : cg_error_set(err, "line %zu, column %zu: %s", line, column, what);
}

static enum state refuse(struct reader *reader, size_t at, const char *problem)
{
    reader->at = at;
    reader->problem = problem;
    return REFUSED;
}

/* The text ends where it must go on. */
static enum state refuse_cut(struct reader *reader)
{
    reader->json->cut = true;
    return refuse(reader, reader->len, "the text ends too early");
}

static struct cg_json_node *add_node(struct reader *reader, enum cg_json_type type, size_t start,
                                     size_t len)
{
    struct cg_json *json = reader->json;
    if (json->count == json->cap) {
        uint32_t most = json->limits.nodes_max;
        uint32_t cap = json->cap == 0 ? NODES_FIRST : json->cap > most / 2 ? most : json->cap * 2;
        cap = cap > most ? most : cap;
        struct cg_json_node *nodes = NULL;
        if (json->count < most) {
            nodes = reallocarray(json->nodes, cap, sizeof(*nodes));
        }
        if (nodes == NULL) {
            (void)refuse(reader, start, "more values than can be taken");
            return NULL;
        }
        json->nodes = nodes;
        json->cap = cap;
    }
    struct cg_json_node *node = &json->nodes[json->count++];
    *node = (struct cg_json_node){
        .start = (uint32_t)start, .len = (uint32_t)len, .next = json->count, .type = (uint8_t)type};
    return node;
}

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->len) {
        char c = reader->data[reader->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
            break;
        }
        reader->at++;
    }
}

static bool digit_at(const struct reader *reader, size_t at)
{
    return at < reader->len && reader->data[at] >= '0' && reader->data[at] <= '9';
}

static size_t skip_digits(const struct reader *reader, size_t at)
{
    while (digit_at(reader, at)) {
        at++;
    }
    return at;
}

static enum state refuse_number(struct reader *reader, size_t at, const char *problem)
{
    return at == reader->len ? refuse_cut(reader) : refuse(reader, at, problem);
}

static enum state read_number(struct reader *reader)
{
    size_t start = reader->at;
    size_t at = start + (reader->data[start] == '-');
    if (!digit_at(reader, at)) {
        return refuse_number(reader, at, "a digit must follow the sign");
    }
    if (reader->data[at] == '0' && digit_at(reader, at + 1)) {
        return refuse(reader, at, "a number must not begin with 0");
    }
    at = skip_digits(reader, at);
    if (at < reader->len && reader->data[at] == '.') {
        if (!digit_at(reader, ++at)) {
            return refuse_number(reader, at, "a digit must follow the decimal point");
        }
        at = skip_digits(reader, at);
    }
    if (at < reader->len && (reader->data[at] | 0x20) == 'e') {
        at++;
        at += at < reader->len && (reader->data[at] == '+' || reader->data[at] == '-');
        if (!digit_at(reader, at)) {
            return refuse_number(reader, at, "a digit must stand in the exponent");
        }
        at = skip_digits(reader, at);
    }
    reader->at = at;
    return add_node(reader, CG_JSON_NUMBER, start, at - start) == NULL ? REFUSED : BEHIND_VALUE;
}

static enum state read_word(struct reader *reader, const char *word, enum cg_json_type type)
{
    size_t start = reader->at;
    for (size_t i = 0; word[i] != '\0'; i++) {
        if (start + i == reader->len) {
            return refuse_cut(reader);
        }
        if (reader->data[start + i] != word[i]) {
            return refuse(reader, start, "no value begins like this");
        }
    }
    reader->at = start + strlen(word);
    return add_node(reader, type, start, strlen(word)) == NULL ? REFUSED : BEHIND_VALUE;
}

/* The four hexadecimal digits at `at`, or -1. */
static int hex_at(const struct reader *reader, size_t at)
{
    int value = 0;
    for (size_t i = at; i < at + 4; i++) {
        unsigned char c = i < reader->len ? (unsigned char)reader->data[i] : '\0';
        int lower = c | 0x20;
        if (c >= '0' && c <= '9') {
            value = value * 16 + (c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            value = value * 16 + (lower - 'a' + 10);
        } else {
            return -1;
        }
    }
    return value;
}

/* Checks the escape whose backslash is at `at`; returns its length, or 0 having refused it. */
static size_t check_escape(struct reader *reader, size_t at, bool *has_nul)
{
    if (at + 1 < reader->len && reader->data[at + 1] != 'u') {
        if (reader->data[at + 1] != '\0' && strchr("\"\\/bfnrt", reader->data[at + 1]) != NULL) {
            return 2;
        }
        (void)refuse(reader, at, "no such escape");
        return 0;
    }
    int unit = hex_at(reader, at + 2);
    if (unit < 0) {
        (void)(at + 6 > reader->len
                   ? refuse_cut(reader)
                   : refuse(reader, at, "four hexadecimal digits must follow \\u"));
        return 0;
    }
    *has_nul = *has_nul || unit == 0;
    if (unit < 0xd800 || unit > 0xdfff) {
        return 6;
    }
    bool paired =
        unit < 0xdc00 && at + 8 <= reader->len && memcmp(reader->data + at + 6, "\\u", 2) == 0;
    int low = paired ? hex_at(reader, at + 8) : -1;
    if (low < 0xdc00 || low > 0xdfff) {
        (void)refuse(reader, at, "half of a surrogate pair stands alone");
        return 0;
    }
    return 12;
}

/* The first byte from `at` on that is not UTF-8; the text up to `end` is known to have one. */
static size_t find_invalid_utf8(const struct reader *reader, size_t at, size_t end)
{
    while (at < end) {
        unsigned char lead = (unsigned char)reader->data[at];
        size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (len > end - at || !cg_utf8_valid(cg_bytes(reader->data + at, len))) {
            break;
        }
        at += len;
    }
    return at;
}

/* Reads the string whose quote is at reader->at. */
static bool read_string(struct reader *reader)
{
    size_t start = reader->at + 1;
    size_t at = start;
    bool escaped = false;
    bool has_nul = false;
    while (at < reader->len && reader->data[at] != '"') {
        if (reader->data[at] == '\\') {
            size_t len = check_escape(reader, at, &has_nul);
            if (len == 0) {
                return false;
            }
            escaped = true;
            at += len;
        } else if ((unsigned char)reader->data[at] < 0x20) {
            (void)refuse(reader, at, "a control character must be escaped");
            return false;
        } else {
            at++;
        }
    }
    if (at >= reader->len) {
        (void)refuse_cut(reader);
        return false;
    }
    if (!cg_utf8_valid(cg_bytes(reader->data + start, at - start))) {
        (void)refuse(reader, find_invalid_utf8(reader, start, at), "this is not UTF-8");
        return false;
    }
    struct cg_json_node *node = add_node(reader, CG_JSON_STRING, start, at - start);
    if (node == NULL) {
        return false;
    }
    node->escaped = escaped;
    node->has_nul = has_nul;
    reader->at = at + 1;
    return true;
}

static enum state open_container(struct reader *reader, enum cg_json_type type)
{
    if (reader->level == reader->json->limits.levels_max) {
        return refuse(reader, reader->at, "too many levels");
    }
    if (add_node(reader, type, reader->at, 0) == NULL) {
        return REFUSED;
    }
    reader->open[reader->level++] = reader->json->count - 1;
    reader->at++;
    return type == CG_JSON_ARRAY ? AT_FIRST_ELEMENT : AT_FIRST_KEY;
}

static struct cg_json_node *innermost(const struct reader *reader)
{
    return &reader->json->nodes[reader->open[reader->level - 1]];
}

static enum state close_container(struct reader *reader)
{
    struct cg_json_node *node = innermost(reader);
    reader->at++;
    node->len = (uint32_t)(reader->at - node->start);
    node->next = reader->json->count;
    reader->level--;
    return BEHIND_VALUE;
}

static enum state read_value(struct reader *reader)
{
    if (reader->level > 0) {
        innermost(reader)->count++;
    }
    switch (reader->data[reader->at]) {
    case '{':
        return open_container(reader, CG_JSON_OBJECT);
    case '[':
        return open_container(reader, CG_JSON_ARRAY);
    case '"':
        return read_string(reader) ? BEHIND_VALUE : REFUSED;
    case 't':
        return read_word(reader, "true", CG_JSON_TRUE);
    case 'f':
        return read_word(reader, "false", CG_JSON_FALSE);
    case 'n':
        return read_word(reader, "null", CG_JSON_NULL);
    default:
        if (reader->data[reader->at] != '-' && !digit_at(reader, reader->at)) {
            return refuse(reader, reader->at, "no value begins like this");
        }
        return read_number(reader);
    }
}

static enum state read_key(struct reader *reader)
{
    if (reader->data[reader->at] != '"') {
        return refuse(reader, reader->at, "a member's name must stand here");
    }
    return read_string(reader) ? AT_COLON : REFUSED;
}

/* What follows a value: a comma, the end of the container, or the end of the text. */
static enum state read_behind_value(struct reader *reader)
{
    bool in_object = innermost(reader)->type == CG_JSON_OBJECT;
    char c = reader->data[reader->at];
    if (c == ',') {
        reader->at++;
        return in_object ? AT_KEY : AT_VALUE;
    }
    if (c == (in_object ? '}' : ']')) {
        return close_container(reader);
    }
    return refuse(reader, reader->at,
                  in_object ? "a comma or } must stand here" : "a comma or ] must stand here");
}

static enum state step(struct reader *reader, enum state state)
{
    skip_space(reader);
    if (state == BEHIND_VALUE && reader->level == 0) {
        return reader->at == reader->len
                   ? AT_END
                   : refuse(reader, reader->at, "nothing may follow the value");
    }
    if (reader->at == reader->len) {
        return refuse_cut(reader);
    }
    char c = reader->data[reader->at];
    switch (state) {
    case AT_FIRST_ELEMENT:
        return c == ']' ? close_container(reader) : AT_VALUE;
    case AT_FIRST_KEY:
        return c == '}' ? close_container(reader) : AT_KEY;
    case AT_VALUE:
        return read_value(reader);
    case AT_KEY:
        return read_key(reader);
    case AT_COLON:
        if (c != ':') {
            return refuse(reader, reader->at, "a colon must stand here");
        }
        reader->at++;
        return AT_VALUE;
    case BEHIND_VALUE:
        return read_behind_value(reader);
    case AT_END:
    case REFUSED:
        break;
    }
    CG_ASSERT(!"a state that has no step");
    return REFUSED;
}

/* Refuses the text if any object in it has two members of one name. */
static bool check_unique(const struct cg_json *json, struct cg_error *err)
{
    struct cg_json_order scratch = {0};
    bool unique = true;
    for (uint32_t node = 0; node < json->count && unique; node++) {
        uint32_t repeated = 0;
        if (json->nodes[node].type != CG_JSON_OBJECT) {
            continue;
        }
        if (!cg_json_repeated(json, node, &scratch, &repeated)) {
            unique = cg_error_set(err, "no memory");
        } else if (repeated != 0) {
            unique =
                cg_json_refuse(json, json->nodes[repeated].start - 1, "a member is repeated", err);
        }
    }
    cg_json_order_fini(&scratch);
    return unique;
}

bool cg_json_parse(struct cg_json *json, struct cg_bytes text, struct cg_error *err)
{
    json->text = text;
    json->count = 0;
    json->cut = false;
    if (text.len > json->limits.bytes_max) {
        return cg_error_set(err, "%zu bytes are more than %zu", text.len, json->limits.bytes_max);
    }
    struct reader reader = {.json = json, .data = text.data, .len = text.len};
    enum state state = AT_VALUE;
    while (state != AT_END && state != REFUSED) {
        state = step(&reader, state);
    }
    if (state == REFUSED) {
        json->count = 0;
        return cg_json_refuse(json, reader.at, reader.problem, err);
    }
    if (json->limits.unique_members && !check_unique(json, err)) {
        json->count = 0;
        return false;
    }
    return true;
}
