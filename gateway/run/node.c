#include "run/node.h"

#include "base/utf8.h"
#include "cellgate/log.h"
#include "run/surrogates.h"

#include <stdlib.h>
#include <yaml.h>

struct cg_node *cg_node_new(struct cg_config_memory *memory, enum cg_node_kind kind,
                            struct cg_place place)
{
    struct cg_node *node = cg_config_memory_alloc(memory, sizeof(*node));
    if (node != NULL) {
        node->kind = kind;
        node->place = place;
        node->text = CG_BYTES("");
    }
    return node;
}

void cg_node_append(struct cg_node *parent, struct cg_node *child)
{
    if (parent->last == NULL) {
        parent->first = child;
    } else {
        parent->last->next = child;
    }
    parent->last = child;
    parent->count++;
}

struct cg_node *cg_node_member(const struct cg_node *map, struct cg_bytes key)
{
    struct cg_node *found = NULL;
    for (struct cg_node *member = map->first; member != NULL; member = member->next) {
        if (member->key != NULL && cg_bytes_equal(member->key->text, key)) {
            found = member;
        }
    }
    return found;
}

bool cg_node_is_null(const struct cg_node *node)
{
    return node->kind == CG_NODE_TEXT && node->plain &&
           (node->text.len == 0 || cg_bytes_equal(node->text, CG_BYTES("~")) ||
            cg_bytes_equal(node->text, CG_BYTES("null")));
}

struct cg_place cg_node_place(const struct cg_node *node)
{
    return node->key != NULL ? node->key->place : node->place;
}

/* --- from libyaml's events to nodes --- */

struct builder {
    struct cg_config_memory *memory;
    struct cg_problems *problems;
    const char *source;
    bool with_lines;
    struct cg_node *root;
    struct cg_node *open[CG_NODE_DEPTH_MAX]; /* containers not yet ended */
    struct cg_node *keys[CG_NODE_DEPTH_MAX]; /* of an open map: the key that waits for its value */
    size_t depth;
    size_t nodes;
    size_t documents;
};

static struct cg_place place_of(const struct builder *builder, yaml_mark_t mark)
{
    struct cg_place place = {.source = builder->source};
    if (builder->with_lines) {
        place.line = mark.line + 1;
        place.column = mark.column + 1;
    }
    return place;
}

static bool refuse(const struct builder *builder, yaml_mark_t mark, const char *why)
{
    cg_problems_add(builder->problems, place_of(builder, mark), "%s", why);
    return false;
}

static bool add_node(struct builder *builder, struct cg_node *node)
{
    if (builder->depth == 0) {
        builder->root = node;
        return true;
    }
    struct cg_node *parent = builder->open[builder->depth - 1];
    struct cg_node **key = &builder->keys[builder->depth - 1];
    if (parent->kind == CG_NODE_MAP) {
        if (*key == NULL) {
            if (node->kind != CG_NODE_TEXT) {
                cg_problems_add(builder->problems, node->place, "a key must be a plain text");
                return false;
            }
            if (node->plain && cg_bytes_equal(node->text, CG_BYTES("<<"))) {
                cg_problems_add(builder->problems, node->place,
                                "merge keys ('<<') are not supported");
                return false;
            }
            *key = node;
            return true;
        }
        node->key = *key;
        *key = NULL;
    }
    cg_node_append(parent, node);
    return true;
}

static struct cg_node *make_node(struct builder *builder, enum cg_node_kind kind, yaml_mark_t mark)
{
    if (++builder->nodes > CG_NODES_MAX) {
        (void)refuse(builder, mark, "too many values");
        return NULL;
    }
    struct cg_node *node = cg_node_new(builder->memory, kind, place_of(builder, mark));
    if (node == NULL) {
        (void)refuse(builder, mark, "out of memory");
    }
    return node;
}

static bool add_text(struct builder *builder, const yaml_event_t *event)
{
    struct cg_bytes text = cg_bytes(event->data.scalar.value, event->data.scalar.length);
    if (memchr(text.data, '\0', text.len) != NULL) {
        return refuse(builder, event->start_mark, "a text must not contain NUL");
    }
    struct cg_node *node = make_node(builder, CG_NODE_TEXT, event->start_mark);
    if (node == NULL) {
        return false;
    }
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->text.data = cg_config_memory_copy(builder->memory, text);
    node->text.len = text.len;
    if (node->text.data == NULL) {
        return refuse(builder, event->start_mark, "out of memory");
    }
    return add_node(builder, node);
}

static bool begin_container(struct builder *builder, enum cg_node_kind kind,
                            const yaml_event_t *event)
{
    if (builder->depth == CG_NODE_DEPTH_MAX) {
        return refuse(builder, event->start_mark, "nested too deeply");
    }
    struct cg_node *node = make_node(builder, kind, event->start_mark);
    if (node == NULL || !add_node(builder, node)) {
        return false;
    }
    builder->keys[builder->depth] = NULL;
    builder->open[builder->depth++] = node;
    return true;
}

static bool has_tag_or_anchor(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.tag != NULL || event->data.scalar.anchor != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.tag != NULL || event->data.sequence_start.anchor != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.tag != NULL || event->data.mapping_start.anchor != NULL;
    default:
        return false;
    }
}

static bool take_event(struct builder *builder, const yaml_event_t *event)
{
    if (has_tag_or_anchor(event)) {
        return refuse(builder, event->start_mark, "anchors ('&') and tags ('!') are not supported");
    }
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return refuse(builder, event->start_mark, "aliases ('*') are not supported");
    case YAML_DOCUMENT_START_EVENT:
        if (++builder->documents > 1) {
            return refuse(builder, event->start_mark, "only one document may be in the file");
        }
        return true;
    case YAML_SCALAR_EVENT:
        return add_text(builder, event);
    case YAML_SEQUENCE_START_EVENT:
        return begin_container(builder, CG_NODE_LIST, event);
    case YAML_MAPPING_START_EVENT:
        return begin_container(builder, CG_NODE_MAP, event);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        builder->depth--;
        return true;
    default:
        return true;
    }
}

static bool syntax_error(const struct builder *builder, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        return refuse(builder, parser->mark, "out of memory");
    }
    /* Errors of the reader (control characters) come without a mark: it is where the text ends
     * that has been understood. */
    yaml_mark_t mark = parser->error == YAML_READER_ERROR ? parser->mark : parser->problem_mark;
    const char *problem = parser->problem != NULL ? parser->problem : "not understood";
    if (parser->context != NULL) {
        cg_problems_add(builder->problems, place_of(builder, mark), "not YAML: %s, %s",
                        parser->context, problem);
    } else {
        cg_problems_add(builder->problems, place_of(builder, mark), "not YAML: %s", problem);
    }
    return false;
}

static bool build(struct builder *builder, yaml_parser_t *parser)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            return syntax_error(builder, parser);
        }
        bool done = event.type == YAML_STREAM_END_EVENT;
        bool taken = take_event(builder, &event);
        yaml_event_delete(&event);
        if (done || !taken) {
            return taken;
        }
    }
}

bool cg_node_parse(struct cg_config_memory *memory, const char *source, bool with_lines,
                   struct cg_bytes text, struct cg_node **ret_root, struct cg_problems *problems)
{
    struct builder builder = {
        .memory = memory, .problems = problems, .source = source, .with_lines = with_lines};
    const struct cg_place whole = place_of(&builder, (yaml_mark_t){.index = 0});
    if (text.len > CG_CONFIG_BYTES_MAX) {
        cg_problems_add(problems, whole, "larger than %d bytes", CG_CONFIG_BYTES_MAX);
        return false;
    }
    if (!cg_utf8_valid(text)) {
        cg_problems_add(problems, whole, "not UTF-8");
        return false;
    }
    if (cg_bytes_starts(text, CG_BYTES("\xEF\xBB\xBF"))) {
        text = cg_bytes(text.data + 3, text.len - 3);
    }
    cg_auto_buf struct cg_buf joined;
    cg_buf_init(&joined, CG_CONFIG_BYTES_MAX);
    if (!cg_surrogates_join(text, &joined, &text)) {
        cg_problems_add(problems, whole, "out of memory");
        return false;
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        cg_problems_add(problems, whole, "out of memory");
        return false;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.len);
    bool built = build(&builder, &parser);
    yaml_parser_delete(&parser);
    if (built) {
        *ret_root = builder.root;
    }
    return built;
}
