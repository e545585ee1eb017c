/*
 * nft_rules.h - the counters of a ruleset's rules, table by table. Pure but for memory.
 *
 * Counters come from nfnetlink (nft_message.h), what a rule says from libnftables' JSON
 * (libnftables-json(5)). A row is a rule that has a counter: {bytes, chain, family, handle,
 * packets, ruleRepr, table}; ruleRepr is what the rule says but for its counters, at most
 * CG_NFT_REPR_BYTES_MAX of it. A rule never changes under its handle, and handles only grow, so
 * each rule's text is read once.
 */
#ifndef CELLGATE_NFT_RULES_H
#define CELLGATE_NFT_RULES_H

#include "cellgate/buf.h"
#include "event/canonical.h"
#include "probes/nft_message.h"

enum {
    CG_NFT_TEXT_BYTES_MAX = 16 << 20,
    CG_NFT_NODES_MAX = 1 << 20,
    CG_NFT_LEVELS_MAX = 64,
    CG_NFT_TABLES_MAX = 1 << 16,
    CG_NFT_NAME_BYTES_MAX = 256,
    CG_NFT_REPR_BYTES_MAX = 512,
    CG_NFT_ROWS_BYTES_MAX = 32768, /* of one table; its further rows are only summed up */
};

/* What one rule says. */
struct cg_nft_repr {
    uint64_t handle;
    char *text;
};

/* What the rules of one table say, in the order of their handles. */
struct cg_nft_reprs {
    struct cg_nft_repr *items;
    size_t count;
    uint64_t known_to; /* rules up to this handle have been looked for */
};

struct cg_nft_table {
    const char *family;
    char *name;
    uint64_t handle;
    uint64_t packets, bytes; /* of all its rows */
    uint64_t rules;          /* that have a counter */
    uint64_t omitted;        /* of them: not in `rows` */
    uint64_t last_handle;    /* of them */
    struct cg_buf rows;      /* objects with commas between them, in the ruleset's order */
    struct cg_nft_reprs reprs;
};

struct cg_nft_ruleset {
    struct cg_nft_table *tables; /* sorted by family and name, once finished */
    size_t count, cap;
};

/* Zeroed is an empty ruleset. */
void cg_nft_ruleset_fini(struct cg_nft_ruleset *ruleset);

/* A message of the dump of tables. What is known of the same table's rules moves over from `before`
 * (NULL: nothing). False: no memory, or too many tables. */
CG_MUST_USE bool cg_nft_ruleset_add_table(struct cg_nft_ruleset *ruleset,
                                          const struct cg_nft_message *message,
                                          struct cg_nft_ruleset *before);
/* All tables are there. */
void cg_nft_ruleset_finish(struct cg_nft_ruleset *ruleset);
/* A message of the dump of rules, after that; a rule of a table that is not there is passed over.
 */
void cg_nft_ruleset_add_rule(struct cg_nft_ruleset *ruleset, const struct cg_nft_message *message);
/* Forgets the rows, for another dump of the same tables' rules. */
void cg_nft_ruleset_clear_rows(struct cg_nft_ruleset *ruleset);
/* Replaces what `known` knows by the tables of `ruleset` without rows, which get its texts. False:
 * no memory. */
CG_MUST_USE bool cg_nft_ruleset_keep_reprs(struct cg_nft_ruleset *known,
                                           struct cg_nft_ruleset *ruleset);
/* NULL: there is no such table. */
struct cg_nft_table *cg_nft_ruleset_find(const struct cg_nft_ruleset *ruleset, const char *family,
                                         struct cg_bytes name);

/* Appends the command that has libnftables list the table: JSON, in which no name is anything but a
 * name. Returns !out->failed. */
bool cg_nft_list_command(const struct cg_nft_table *table, struct cg_buf *out);
/* Reads libnftables' answer: what the table's rules say. False: it is none, or too large, or there
 * is no memory; the error says which. */
CG_MUST_USE bool cg_nft_reprs_read(struct cg_bytes text, struct cg_nft_table *table,
                                   struct cg_error *err);

#endif
