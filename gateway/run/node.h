/*
 * node.h - a YAML text as a tree that remembers where everything stood.
 *
 * Only what a configuration needs: maps, lists and plain texts. Anchors, aliases, merge keys, tags
 * and several documents are refused by name, and scalars stay text: what `0660`, `no` or `1:30`
 * mean is up to the key they belong to. JSON is read too, surrogate pairs in \u escapes included.
 * Sizes, depth and the number of nodes are bounded. One thread; pure but for memory.
 */
#ifndef CELLGATE_NODE_H
#define CELLGATE_NODE_H

#include "run/memory.h"
#include "run/problems.h"

enum {
    CG_CONFIG_BYTES_MAX = 16 * 1024 * 1024, /* 10,000 cells take about 3 MiB */
    CG_NODE_DEPTH_MAX = 32,
    CG_NODES_MAX = 1024 * 1024,
};

enum cg_node_kind { CG_NODE_TEXT, CG_NODE_LIST, CG_NODE_MAP };

struct cg_node {
    enum cg_node_kind kind;
    bool plain; /* a text without quotes, which may stand for null */
    struct cg_place place;
    struct cg_bytes text; /* terminated, without NUL */

    struct cg_node *key;   /* of a map's member: its key, a text */
    struct cg_node *first; /* of a list or map: its elements or members, in order */
    struct cg_node *last;
    struct cg_node *next; /* sibling */
    size_t count;
};

/*
 * Parses one document. *ret_root is NULL for a text without a document. `source` is borrowed by
 * the nodes' places, and `with_lines` says whether these carry positions. Problems are added to
 * `problems`; false if there was one.
 */
CG_MUST_USE bool cg_node_parse(struct cg_config_memory *memory, const char *source, bool with_lines,
                               struct cg_bytes text, struct cg_node **ret_root,
                               struct cg_problems *problems);

/* NULL without memory. */
struct cg_node *cg_node_new(struct cg_config_memory *memory, enum cg_node_kind kind,
                            struct cg_place place);
void cg_node_append(struct cg_node *parent, struct cg_node *child);
/* The last member with that key (keys that repeat are reported elsewhere), or NULL. */
struct cg_node *cg_node_member(const struct cg_node *map, struct cg_bytes key);
/* Whether it is `null`, `~` or nothing at all. */
bool cg_node_is_null(const struct cg_node *node);
/* Where to point at for a whole member: its key; otherwise where the node begins. */
struct cg_place cg_node_place(const struct cg_node *node);

#endif
