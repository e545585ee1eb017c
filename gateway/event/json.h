/*
 * json.h - a strict JSON reader (RFC 8259) for what others wrote. Pure but for memory.
 *
 * A text becomes a flat array of nodes that point into it: no recursion, no copy, no conversion.
 * Numbers stay text, since a u64 is not a double. Refused, with line and column: trailing bytes,
 * 01, 1. and +1, control characters in strings, invalid UTF-8, lone surrogates, too many bytes,
 * nodes or levels, and on request members that repeat.
 *
 * A container is followed by its contents: an array by its elements, an object by key, value, key,
 * value and so on. A node says where the next one behind all its contents is:
 *
 *     for (uint32_t key = object + 1; key < json->nodes[object].next;
 *          key = json->nodes[key + 1].next) { … the value is key + 1 … }
 *
 * The text must outlive the nodes. One thread at a time; a reader is reused for text after text.
 */
#ifndef CELLGATE_JSON_H
#define CELLGATE_JSON_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdint.h>

enum { CG_JSON_LEVELS_MAX = 256 }; /* what a reader can be asked for */

enum cg_json_type {
    CG_JSON_NULL,
    CG_JSON_FALSE,
    CG_JSON_TRUE,
    CG_JSON_NUMBER,
    CG_JSON_STRING,
    CG_JSON_ARRAY,
    CG_JSON_OBJECT,
};

struct cg_json_node {
    uint32_t start; /* first byte of the token in the text; of a string, behind the quote */
    uint32_t len;   /* of the token; of a string, without the quotes; of a container, all of it */
    uint32_t next;  /* the node behind this one and its contents */
    uint32_t count; /* elements or members */
    uint8_t type;   /* enum cg_json_type */
    bool escaped;   /* a string that has a backslash in it */
    bool has_nul;   /* a string that decodes to something with U+0000 in it */
};

struct cg_json_limits {
    size_t bytes_max;    /* at most UINT32_MAX */
    uint32_t nodes_max;  /* keys count too */
    uint32_t levels_max; /* arrays and objects inside each other; at most CG_JSON_LEVELS_MAX */
    bool unique_members; /* refuse an object, anywhere, that has two members of one name */
};

struct cg_json {
    struct cg_json_limits limits;
    struct cg_bytes text;
    struct cg_json_node *nodes; /* node 0 is the whole */
    uint32_t count;
    uint32_t cap;
    bool cut; /* the last refusal was only because the text ended too early */
};

/* Sorted keys of objects, one list behind the other; see cg_json_order_push. Starts as {0}. */
struct cg_json_order {
    uint32_t *keys;
    uint32_t count;
    uint32_t cap;
};

/* Allocates nothing. */
void cg_json_init(struct cg_json *json, struct cg_json_limits limits);
void cg_json_fini(struct cg_json *json);

/* Reads `text`, forgetting what was read before. After a failure there are no nodes. */
CG_MUST_USE bool cg_json_parse(struct cg_json *json, struct cg_bytes text, struct cg_error *err);

static inline enum cg_json_type cg_json_type(const struct cg_json *json, uint32_t node)
{
    return (enum cg_json_type)json->nodes[node].type;
}

/* The token as it stands in the text; of a string, without the quotes. */
static inline struct cg_bytes cg_json_raw(const struct cg_json *json, uint32_t node)
{
    return cg_bytes(json->text.data + json->nodes[node].start, json->nodes[node].len);
}

/* The value of the last member of that name; 0 if there is none, or if `object` is no object. */
uint32_t cg_json_find(const struct cg_json *json, uint32_t object, struct cg_bytes name);

/* Is this a string that says `text`? */
bool cg_json_is(const struct cg_json *json, uint32_t node, struct cg_bytes text);
/* Orders two strings by the bytes of what they say: less than, equal to, greater than 0. */
int cg_json_compare(const struct cg_json *json, uint32_t a, uint32_t b);
/* Appends what a string says. Returns !out->failed. */
bool cg_json_decode(const struct cg_json *json, uint32_t node, struct cg_buf *out);

/* Exact, or false: a fraction, an exponent, -0 and what is out of range are not integers. */
CG_MUST_USE bool cg_json_u64(const struct cg_json *json, uint32_t node, uint64_t *ret_value);
CG_MUST_USE bool cg_json_i64(const struct cg_json *json, uint32_t node, int64_t *ret_value);

/* Appends the keys of `object` to the list: sorted by what they say, equal ones in their order in
 * the text. False if there is no memory. */
CG_MUST_USE bool cg_json_order_push(struct cg_json_order *order, const struct cg_json *json,
                                    uint32_t object);
void cg_json_order_fini(struct cg_json_order *order);

/* The first key of `object` that says what one before it said; 0 if none does. False if there is no
 * memory. */
CG_MUST_USE bool cg_json_repeated(const struct cg_json *json, uint32_t object,
                                  struct cg_json_order *scratch, uint32_t *ret_key);

/* Says in `err` what is wrong at that byte of the text: "line 2, column 17: …", in the first line
 * only the column, since most texts have but one. Returns false. */
bool cg_json_refuse(const struct cg_json *json, size_t at, const char *what, struct cg_error *err);

#endif
