#include "run/compare.h"

#include "cellgate/error.h"
#include "run/options.h"

#include <stdio.h>
#include <string.h>

struct comparing {
    cg_compare_visit visit;
    void *context;
};

static const void *member(const void *target, const struct cg_option *option)
{
    return (const char *)target + option->offset;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_strings(const struct cg_strings *a, const struct cg_strings *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = same_text(a->items[i], b->items[i]);
    }
    return same;
}

static bool same_pairs(const struct cg_pairs *a, const struct cg_pairs *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = same_text(a->items[i].key, b->items[i].key) &&
               same_text(a->items[i].value, b->items[i].value);
    }
    return same;
}

static bool same_range(const struct cg_range *a, const struct cg_range *b)
{
    return a->present == b->present &&
           (!a->present || (a->first == b->first && a->last == b->last));
}

static bool same_sections(const struct cg_option *option, const struct cg_sections *a,
                          const struct cg_sections *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = cg_compare_equal(option->fields, (const char *)a->items + i * option->element_size,
                                (const char *)b->items + i * option->element_size);
    }
    return same;
}

static bool same_value(const struct cg_option *option, const void *a, const void *b)
{
    switch (option->type) {
    case CG_OPTION_STRING:
    case CG_OPTION_PATH:
        return same_text(*(const char *const *)a, *(const char *const *)b);
    case CG_OPTION_BOOL:
        return *(const bool *)a == *(const bool *)b;
    case CG_OPTION_ENUM:
        return *(const int *)a == *(const int *)b;
    case CG_OPTION_INTEGER:
    case CG_OPTION_DURATION:
    case CG_OPTION_SIZE:
    case CG_OPTION_FILE_MODE:
        return *(const uint64_t *)a == *(const uint64_t *)b;
    case CG_OPTION_STRINGS:
        return same_strings(a, b);
    case CG_OPTION_PAIRS:
        return same_pairs(a, b);
    case CG_OPTION_RANGE:
        return same_range(a, b);
    case CG_OPTION_SECTIONS:
        return same_sections(option, a, b);
    case CG_OPTION_SECTION:
        break; /* its members are compared */
    }
    return true;
}

/* As deep as the tables. */
static void compare(const struct comparing *comparing, const struct cg_option *options,
                    const void *a, const void *b, const struct cg_difference *above)
{
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        struct cg_difference here = *above;
        CG_ASSERT(here.depth < CG_COMPARE_DEPTH_MAX);
        here.keys[here.depth++] = option->key;
        here.option = option;
        here.live = here.live || option->live;
        if (option->type == CG_OPTION_SECTION) {
            compare(comparing, option->fields, cg_option_section(option, a),
                    cg_option_section(option, b), &here);
        } else if (!same_value(option, member(a, option), member(b, option))) {
            comparing->visit(comparing->context, &here);
        }
    }
}

void cg_compare(const struct cg_option *options, const void *a, const void *b,
                cg_compare_visit visit, void *context)
{
    const struct comparing comparing = {.visit = visit, .context = context};
    const struct cg_difference top = {0};
    compare(&comparing, options, a, b, &top);
}

static void note_difference(void *context, const struct cg_difference *difference)
{
    (void)difference;
    *(bool *)context = true;
}

bool cg_compare_equal(const struct cg_option *options, const void *a, const void *b)
{
    bool differ = false;
    cg_compare(options, a, b, note_difference, &differ);
    return !differ;
}

void cg_difference_path(const struct cg_difference *difference,
                        char ret_path[CG_COMPARE_PATH_BYTES_MAX])
{
    size_t len = 0;
    for (unsigned i = 0; i < difference->depth; i++) {
        int more = snprintf(ret_path + len, CG_COMPARE_PATH_BYTES_MAX - len, "%s%s",
                            i == 0 ? "" : ".", difference->keys[i]);
        CG_ASSERT(more > 0 && (size_t)more < CG_COMPARE_PATH_BYTES_MAX - len);
        len += (size_t)more;
    }
}
