#include "run/settings.h"

#include "base/utf8.h"
#include "run/options.h"
#include "run/value.h"

#include <stdio.h>

struct walk {
    struct cg_config_memory *memory;
    struct cg_problems *problems;
    struct cg_place place;
};

static bool refuse(const struct walk *walk, const char *why)
{
    cg_problems_add(walk->problems, walk->place, "%s", why);
    return false;
}

static struct cg_node *new_text(const struct walk *walk, struct cg_bytes text)
{
    struct cg_node *node = cg_node_new(walk->memory, CG_NODE_TEXT, walk->place);
    if (node != NULL) {
        node->text.data = cg_config_memory_copy(walk->memory, text);
        node->text.len = text.len;
    }
    return node == NULL || node->text.data == NULL ? NULL : node;
}

/* A null becomes an empty container of the kind that the path goes on in. */
static bool become(const struct walk *walk, struct cg_node *node, enum cg_node_kind kind)
{
    if (cg_node_is_null(node)) {
        node->kind = kind;
        node->place = walk->place;
        return true;
    }
    return node->kind == kind || refuse(walk, "the path goes through what is not a map or list");
}

/* The next component of a path, up to a dot; the rest stays in *path. */
static struct cg_bytes take_component(struct cg_bytes *path)
{
    const char *dot = memchr(path->data, '.', path->len);
    size_t len = dot == NULL ? path->len : (size_t)(dot - path->data);
    struct cg_bytes component = cg_bytes(path->data, len);
    size_t taken = dot == NULL ? len : len + 1;
    *path = cg_bytes(path->data + taken, path->len - taken);
    return component;
}

static struct cg_node *get_member(const struct walk *walk, struct cg_node *map, struct cg_bytes key)
{
    struct cg_node *member = cg_node_member(map, key);
    if (member != NULL) {
        return member;
    }
    member = cg_node_new(walk->memory, CG_NODE_TEXT, walk->place);
    struct cg_node *key_node = new_text(walk, key);
    if (member == NULL || key_node == NULL) {
        (void)refuse(walk, "out of memory");
        return NULL;
    }
    member->plain = true; /* null, until it gets a value */
    member->key = key_node;
    cg_node_append(map, member);
    return member;
}

/* Whether the path begins with this whole name (which may hold dots); takes it then. */
static bool take_name(struct cg_bytes *path, struct cg_bytes name)
{
    if (name.len == 0 || !cg_bytes_starts(*path, name) ||
        (path->len > name.len && path->data[name.len] != '.')) {
        return false;
    }
    size_t taken = path->len > name.len ? name.len + 1 : name.len;
    *path = cg_bytes(path->data + taken, path->len - taken);
    return true;
}

static struct cg_node *get_element(const struct walk *walk, struct cg_node *list,
                                   const char *name_key, struct cg_bytes *path)
{
    for (struct cg_node *element = list->first; element != NULL; element = element->next) {
        const struct cg_node *name =
            element->kind == CG_NODE_MAP ? cg_node_member(element, cg_bytes_str(name_key)) : NULL;
        if (name != NULL && name->kind == CG_NODE_TEXT && take_name(path, name->text)) {
            return element;
        }
    }
    struct cg_bytes component = take_component(path);
    uint64_t number;
    struct cg_node *numbered = cg_value_integer(component, &number) ? list->first : NULL;
    for (; numbered != NULL; numbered = numbered->next) {
        if (number-- == 0) {
            return numbered;
        }
    }
    struct cg_node *element = cg_node_new(walk->memory, CG_NODE_MAP, walk->place);
    struct cg_node *name =
        element == NULL ? NULL : get_member(walk, element, cg_bytes_str(name_key));
    struct cg_node *name_text = new_text(walk, component);
    if (name == NULL || name_text == NULL) {
        (void)refuse(walk, "out of memory");
        return NULL;
    }
    name->text = name_text->text;
    name->plain = false;
    cg_node_append(list, element);
    return element;
}

/* The node that the path names; made where it is missing. */
static struct cg_node *find_target(const struct walk *walk, const struct cg_option *options,
                                   struct cg_node *root, struct cg_bytes path)
{
    struct cg_node *node = root;
    while (path.len > 0) {
        if (!become(walk, node, CG_NODE_MAP)) {
            return NULL;
        }
        struct cg_bytes component = take_component(&path);
        const struct cg_option *option =
            options == NULL ? NULL : cg_option_find(options, component);
        node = get_member(walk, node, component);
        if (node == NULL || path.len == 0) {
            return node;
        }
        options = option == NULL ? NULL : option->fields;
        if (option != NULL && option->type == CG_OPTION_SECTIONS) {
            if (!become(walk, node, CG_NODE_LIST)) {
                return NULL;
            }
            node = get_element(walk, node, options[0].key, &path);
            if (node == NULL) {
                return NULL;
            }
        } else if (option != NULL && option->type == CG_OPTION_PAIRS) {
            /* The keys of such a map may hold dots. */
            return become(walk, node, CG_NODE_MAP) ? get_member(walk, node, path) : NULL;
        }
    }
    return node;
}

/* The target keeps its place among its siblings. */
static void put_value(struct cg_node *target, const struct cg_node *value, struct cg_place place)
{
    struct cg_node *key = target->key;
    struct cg_node *next = target->next;
    *target = *value;
    target->key = key;
    target->next = next;
    target->place = place;
    if (key != NULL) {
        key->place = place;
    }
}

static bool path_is_well_formed(struct cg_bytes path)
{
    return path.len > 0 && path.data[0] != '.' && path.data[path.len - 1] != '.' &&
           memmem(path.data, path.len, "..", 2) == NULL;
}

/* Brackets and quotes begin YAML. Anything else is a text as it stands, so that `-`, `*` and `a: b`
 * need no quotes of YAML inside the quotes of a shell. */
static bool read_value(const struct walk *walk, struct cg_bytes text, struct cg_node **ret_value)
{
    if (text.len > 0 && strchr("[{\"'", text.data[0]) != NULL) {
        return cg_node_parse(walk->memory, walk->place.source, false, text, ret_value,
                             walk->problems);
    }
    if (!cg_utf8_valid(text)) {
        return refuse(walk, "not UTF-8");
    }
    struct cg_node *value = new_text(walk, text);
    if (value == NULL) {
        return refuse(walk, "out of memory");
    }
    value->plain = true;
    *ret_value = value;
    return true;
}

bool cg_setting_apply(struct cg_config_memory *memory, const struct cg_option *options,
                      const char *setting, struct cg_node **root, struct cg_problems *problems)
{
    struct walk walk = {.memory = memory, .problems = problems, .place = {.source = "--set"}};
    const char *equals = strchr(setting, '=');
    struct cg_bytes path = cg_bytes(setting, equals == NULL ? 0 : (size_t)(equals - setting));
    if (!path_is_well_formed(path)) {
        return refuse(&walk, "expected path.to.key=value");
    }
    char quoted[CG_QUOTED_BYTES_MAX];
    cg_option_quote(path, quoted);
    size_t source_bytes = sizeof("--set ") + strlen(quoted);
    char *source = cg_config_memory_alloc(memory, source_bytes);
    if (source == NULL) {
        return refuse(&walk, "out of memory");
    }
    (void)snprintf(source, source_bytes, "--set %s", quoted);
    walk.place.source = source;

    struct cg_node *value = NULL;
    if (!read_value(&walk, cg_bytes_str(equals + 1), &value)) {
        return false;
    }
    if (*root == NULL) {
        *root = cg_node_new(memory, CG_NODE_MAP, walk.place);
        if (*root == NULL) {
            return refuse(&walk, "out of memory");
        }
    }
    struct cg_node *target = find_target(&walk, options, *root, path);
    if (target == NULL) {
        return false; /* reported */
    }
    put_value(target, value, walk.place);
    return true;
}
