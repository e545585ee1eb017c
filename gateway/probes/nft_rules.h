/*
 * nft_rules.h - the counters of a ruleset's rules, table by table, out of libnftables' JSON. Pure
 * but for memory.
 *
 * libnftables-json(5). A row is a rule that has a counter: {bytes, chain, family, handle, packets,
 * ruleRepr, table}; ruleRepr is what the rule says but for its counters, as libnftables' JSON, at
 * most CG_NFT_REPR_BYTES_MAX of it. A ruleset may be large: it is read within named limits.
 */
#ifndef CELLGATE_NFT_RULES_H
#define CELLGATE_NFT_RULES_H

#include "cellgate/buf.h"
#include "event/canonical.h"

enum {
    CG_NFT_TEXT_BYTES_MAX = 16 << 20,
    CG_NFT_NODES_MAX = 1 << 20,
    CG_NFT_LEVELS_MAX = 64,
    CG_NFT_REPR_BYTES_MAX = 512,
    CG_NFT_ROWS_BYTES_MAX = 32768, /* of one table; its further rows are only summed up */
};

struct cg_nft_table {
    char *family, *name;
    uint64_t packets, bytes; /* of all its rows */
    uint64_t rules;          /* that have a counter */
    uint64_t omitted;        /* of them: not in `rows` */
    struct cg_buf rows;      /* objects with commas between them, in the ruleset's order */
};

struct cg_nft_ruleset {
    struct cg_nft_table *tables; /* sorted by family and name */
    size_t count, cap;
};

/* False: it is not libnftables' JSON, or too large, or there is no memory; the error says which. */
CG_MUST_USE bool cg_nft_ruleset_read(struct cg_bytes text, struct cg_nft_ruleset *ret_ruleset,
                                     struct cg_error *err);
/* Zeroed is fine. */
void cg_nft_ruleset_fini(struct cg_nft_ruleset *ruleset);
/* NULL: there is no such table. */
const struct cg_nft_table *cg_nft_ruleset_find(const struct cg_nft_ruleset *ruleset,
                                               const char *family, const char *name);

#endif
