#include "event/canonical.h"

#include "event/json_write.h"

#include <math.h>
#include <stdlib.h>

/* What of a number is read that is no integer anyway. */
enum { CUT_NUMBER_BYTES_MAX = 64 };

static const struct attribute_rule {
    struct cg_bytes name;
    bool required;
    bool any_type;
} rules[CG_ATTRIBUTE_COUNT] = {
    [CG_ATTRIBUTE_SPECVERSION] = {.name = CG_BYTES("specversion"), .required = true},
    [CG_ATTRIBUTE_ID] = {.name = CG_BYTES("id"), .required = true},
    [CG_ATTRIBUTE_SOURCE] = {.name = CG_BYTES("source"), .required = true},
    [CG_ATTRIBUTE_TYPE] = {.name = CG_BYTES("type"), .required = true},
    [CG_ATTRIBUTE_DATACONTENTTYPE] = {.name = CG_BYTES("datacontenttype")},
    [CG_ATTRIBUTE_DATA] = {.name = CG_BYTES("data"), .any_type = true},
    [CG_ATTRIBUTE_TIME] = {.name = CG_BYTES("time")},
    [CG_ATTRIBUTE_TRACEPARENT] = {.name = CG_BYTES("traceparent")},
};

/* A container that is being rendered. */
struct frame {
    uint32_t container;
    uint32_t next;  /* an array's next element; an object's next place in the list of its keys */
    uint32_t end;   /* likewise */
    uint32_t first; /* where `next` began; keys are dropped from the list down to here */
};

struct renderer {
    struct cg_canonical *canonical;
    const struct cg_json *json;
    struct cg_buf *out;
    uint64_t *cut; /* counts numbers made integers; NULL: they are refused */
    uint32_t depth;
    struct frame frames[CG_JSON_LEVELS_MAX];
};

void cg_canonical_fini(struct cg_canonical *canonical)
{
    cg_json_order_fini(&canonical->order);
}

static enum cg_attribute attribute_named(const struct cg_json *json, uint32_t key)
{
    enum cg_attribute which = 0;
    while (which < CG_ATTRIBUTE_COUNT && !cg_json_is(json, key, rules[which].name)) {
        which++;
    }
    return which;
}

static bool check_types(const struct cg_json *json, const struct cg_attributes *attributes,
                        struct cg_error *err)
{
    for (size_t i = 0; i < CG_ATTRIBUTE_COUNT; i++) {
        uint32_t node = attributes->node[i];
        if (node == 0 && rules[i].required) {
            return cg_error_set(err, "the event has no %s", rules[i].name.data);
        }
        if (node != 0 && !rules[i].any_type && cg_json_type(json, node) != CG_JSON_STRING) {
            return cg_error_set(err, "the event's %s is no text", rules[i].name.data);
        }
    }
    return true;
}

bool cg_canonical_inspect(struct cg_canonical *canonical, const struct cg_json *json, uint32_t node,
                          struct cg_attributes *ret_attributes, struct cg_error *err)
{
    if (cg_json_type(json, node) != CG_JSON_OBJECT) {
        return cg_error_set(err, "the event is no JSON object");
    }
    uint32_t repeated = 0;
    if (!cg_json_repeated(json, node, &canonical->order, &repeated)) {
        return cg_error_set(err, "no memory");
    }
    if (repeated != 0) {
        return cg_error_set(err, "a member of the event is repeated");
    }
    struct cg_attributes found = {0};
    for (uint32_t key = node + 1; key < json->nodes[node].next; key = json->nodes[key + 1].next) {
        enum cg_attribute which = attribute_named(json, key);
        if (which == CG_ATTRIBUTE_COUNT) {
            found.unknown = found.unknown == 0 ? key : found.unknown;
        } else if (cg_json_type(json, key + 1) != CG_JSON_NULL) {
            found.node[which] = key + 1;
        }
    }
    if (!check_types(json, &found, err)) {
        return false;
    }
    *ret_attributes = found;
    return true;
}

bool cg_canonical_append_text(const struct cg_json *json, uint32_t node, struct cg_buf *out)
{
    struct cg_bytes raw = cg_json_raw(json, node);
    if (!json->nodes[node].escaped) {
        return cg_buf_append(out, raw); /* what stands there unescaped needs no escape */
    }
    cg_auto_buf struct cg_buf said;
    cg_buf_init(&said, raw.len);
    if (!cg_json_decode(json, node, &said)) {
        out->failed = true;
        return false;
    }
    struct cg_bytes text = cg_buf_bytes(&said);
    size_t len = cg_json_escaped_len(text);
    if (!cg_buf_reserve(out, len)) {
        return false;
    }
    out->len += cg_json_escape(text, out->data + out->len);
    return true;
}

static void append_string(const struct cg_json *json, uint32_t node, struct cg_buf *out)
{
    (void)cg_buf_append_char(out, '"');
    (void)cg_canonical_append_text(json, node, out);
    (void)cg_buf_append_char(out, '"');
}

static bool append_number(const struct cg_json *json, uint32_t node, struct cg_buf *out,
                          struct cg_error *err)
{
    uint64_t positive;
    int64_t negative;
    if (!cg_json_u64(json, node, &positive) && !cg_json_i64(json, node, &negative)) {
        return cg_json_refuse(json, json->nodes[node].start,
                              "a number that is no plain integer from -2^63 to 2^64-1", err);
    }
    (void)cg_buf_append(out, cg_json_raw(json, node));
    return true;
}

/* The integer nearest to 0 on the way there, or the end of the range that the number is beyond. */
static bool append_cut_number(const struct cg_json *json, uint32_t node, struct cg_buf *out,
                              uint64_t *cut)
{
    uint64_t positive = 0;
    int64_t negative = 0;
    if (cg_json_u64(json, node, &positive) || cg_json_i64(json, node, &negative)) {
        return cg_buf_append(out, cg_json_raw(json, node));
    }
    (*cut)++;
    char text[CUT_NUMBER_BYTES_MAX];
    struct cg_bytes raw = cg_json_raw(json, node);
    size_t len = raw.len < sizeof(text) ? raw.len : sizeof(text) - 1;
    memcpy(text, raw.data, len);
    text[len] = '\0';
    long double value = truncl(strtold(text, NULL));
    if (value >= 18446744073709551615.0L) {
        return cg_buf_append_u64(out, UINT64_MAX);
    }
    if (value <= -9223372036854775808.0L) {
        return cg_buf_append_str(out, "-9223372036854775808");
    }
    if (value < 0) {
        cg_buf_append_char(out, '-');
    }
    return cg_buf_append_u64(out, (uint64_t)(value < 0 ? -value : value));
}

static bool enter(struct renderer *renderer, uint32_t node, struct cg_error *err)
{
    const struct cg_json_node *container = &renderer->json->nodes[node];
    struct cg_json_order *order = &renderer->canonical->order;
    struct frame frame = {.container = node, .next = node + 1, .end = container->next};
    if (container->type == CG_JSON_OBJECT) {
        frame.next = order->count;
        if (!cg_json_order_push(order, renderer->json, node)) {
            return cg_error_set(err, "no memory");
        }
        frame.end = order->count;
    }
    frame.first = frame.next;
    (void)cg_buf_append_char(renderer->out, container->type == CG_JSON_OBJECT ? '{' : '[');
    /* The reader has bounded the levels. */
    renderer->frames[renderer->depth++] = frame;
    return true;
}

static void leave(struct renderer *renderer)
{
    const struct frame *frame = &renderer->frames[--renderer->depth];
    bool object = cg_json_type(renderer->json, frame->container) == CG_JSON_OBJECT;
    if (object) {
        renderer->canonical->order.count = frame->first;
    }
    (void)cg_buf_append_char(renderer->out, object ? '}' : ']');
}

static bool render_value(struct renderer *renderer, uint32_t node, struct cg_error *err)
{
    switch (cg_json_type(renderer->json, node)) {
    case CG_JSON_NULL:
    case CG_JSON_FALSE:
    case CG_JSON_TRUE:
        (void)cg_buf_append(renderer->out, cg_json_raw(renderer->json, node));
        return true;
    case CG_JSON_NUMBER:
        return renderer->cut == NULL
                   ? append_number(renderer->json, node, renderer->out, err)
                   : append_cut_number(renderer->json, node, renderer->out, renderer->cut);
    case CG_JSON_STRING:
        append_string(renderer->json, node, renderer->out);
        return true;
    case CG_JSON_ARRAY:
    case CG_JSON_OBJECT:
        return enter(renderer, node, err);
    }
    CG_ASSERT(!"a type that JSON does not have");
    return false;
}

/* Renders what comes next in the innermost container, or its end. */
static bool render_next(struct renderer *renderer, struct cg_error *err)
{
    const struct cg_json *json = renderer->json;
    struct frame *frame = &renderer->frames[renderer->depth - 1];
    const uint32_t *keys = renderer->canonical->order.keys;
    bool object = cg_json_type(json, frame->container) == CG_JSON_OBJECT;
    bool first = frame->next == frame->first;
    if (frame->next == frame->end) {
        leave(renderer);
        return true;
    }
    if (!first) {
        (void)cg_buf_append_char(renderer->out, ',');
    }
    if (!object) {
        uint32_t element = frame->next;
        frame->next = json->nodes[element].next;
        return render_value(renderer, element, err);
    }
    while (frame->next + 1 < frame->end &&
           cg_json_compare(json, keys[frame->next], keys[frame->next + 1]) == 0) {
        frame->next++;
    }
    uint32_t key = keys[frame->next++];
    append_string(json, key, renderer->out);
    (void)cg_buf_append_char(renderer->out, ':');
    return render_value(renderer, key + 1, err);
}

static bool render_tree(struct renderer *renderer, uint32_t node, struct cg_error *err)
{
    bool good = render_value(renderer, node, err);
    while (good && renderer->depth > 0) {
        good = render_next(renderer, err);
    }
    return good;
}

bool cg_canonical_render(struct cg_canonical *canonical, const struct cg_json *json,
                         const struct cg_attributes *attributes, struct cg_buf *out,
                         struct cg_error *err)
{
    struct renderer renderer;
    renderer.canonical = canonical;
    renderer.json = json;
    renderer.out = out;
    renderer.cut = NULL;
    renderer.depth = 0;
    canonical->order.count = 0;
    for (size_t i = 0; i < CG_ATTRIBUTE_COUNT; i++) {
        (void)cg_buf_append_char(out, i == 0 ? '{' : ',');
        (void)cg_json_append_string(out, rules[i].name);
        (void)cg_buf_append_char(out, ':');
        if (attributes->node[i] == 0) {
            (void)cg_buf_append_str(out, "null");
        } else if (!render_tree(&renderer, attributes->node[i], err)) {
            canonical->order.count = 0;
            return false;
        }
    }
    if (!cg_buf_append_char(out, '}')) {
        return cg_error_set(err, "no memory, or more bytes than an event may have");
    }
    return true;
}

bool cg_canonical_render_cut(struct cg_canonical *canonical, const struct cg_json *json,
                             uint32_t node, uint64_t *cut, struct cg_buf *out)
{
    struct renderer renderer;
    renderer.canonical = canonical;
    renderer.json = json;
    renderer.out = out;
    renderer.cut = cut;
    renderer.depth = 0;
    canonical->order.count = 0;
    bool good = render_tree(&renderer, node, NULL);
    canonical->order.count = 0;
    return good && !out->failed;
}
