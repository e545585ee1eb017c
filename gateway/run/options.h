/*
 * options.h - from a tree of nodes to typed structs, through the tables of cellgate/option.h.
 *
 * Everything that is wrong is reported, at its place, and reading goes on. A key that is absent, or
 * `null`, gets its fallback, which is read as if it stood in the file. One thread.
 */
#ifndef CELLGATE_OPTIONS_H
#define CELLGATE_OPTIONS_H

#include "cellgate/option.h"
#include "run/memory.h"
#include "run/node.h"
#include "run/problems.h"

/* A table, and the zeroed struct that it fills. A map may be described by several: an exporter has
 * the keys that all have, and its own. */
struct cg_option_part {
    const struct cg_option *options; /* NULL: any key is let through, unread */
    void *target;
};

enum { CG_OPTION_SECTION_BYTES_MAX = 256 }; /* of one that is a pointer */
enum { CG_OPTION_PARTS_MAX = 2, CG_OPTIONS_PER_MAP_MAX = 64 };

struct cg_options_reader {
    struct cg_config_memory *memory; /* what the structs point into */
    struct cg_problems *problems;
    /* Optional: a further part for `element` (filled at `target`) of the list `option`, by what the
     * element says itself; false for none. */
    bool (*more)(struct cg_options_reader *reader, const struct cg_option *option,
                 const struct cg_node *element, void *target, struct cg_option_part *ret_part);
};

/* Reads a map; `map` NULL (or a null) is one without members. `place` is where a missing key is
 * missed. */
void cg_options_read(struct cg_options_reader *reader, const struct cg_node *map,
                     struct cg_place place, const struct cg_option_part *parts, size_t parts_count);

/* The struct of a section within its owner's; zeros for one that is a pointer and NULL. Borrowed.
 */
const void *cg_option_section(const struct cg_option *option, const void *owner);

/* The entry of that key, or NULL. */
const struct cg_option *cg_option_find(const struct cg_option *options, struct cg_bytes key);
/* What may stand there, for people: "a whole number from 1 to 64". */
void cg_option_describe(const struct cg_option *option, struct cg_buf *out);
/* `text` for people: escaped, cut, and without the user information of a URL; `ret_text` has room
 * for CG_QUOTED_BYTES_MAX. */
enum { CG_QUOTED_BYTES_MAX = 128 };
void cg_option_quote(struct cg_bytes text, char *ret_text);
/* Where the user information of a URL starts (0: there is none) and, at its '@', ends. */
size_t cg_option_userinfo(struct cg_bytes text, size_t *ret_end);

#endif
