/*
 * nft_message.h - what nfnetlink says of tables and rules. Pure.
 *
 * include/uapi/linux/netfilter/nf_tables.h. libnftables reads a whole ruleset in a time that grows
 * with the square of its tables; the kernel itself says all rules in one dump. So counters come
 * from here, and only what a rule says comes from libnftables, once (nft_rules.h).
 */
#ifndef CELLGATE_NFT_MESSAGE_H
#define CELLGATE_NFT_MESSAGE_H

#include "cellgate/bytes.h"

#include <stdint.h>

enum cg_nft_kind {
    CG_NFT_NONE, /* nothing of interest */
    CG_NFT_TABLE,
    CG_NFT_RULE,
    CG_NFT_DONE,  /* the end of a dump */
    CG_NFT_ERROR, /* `errnum` */
    CG_NFT_BAD,   /* no message */
};

struct cg_nft_message {
    uint32_t sequence;     /* of the request */
    bool interrupted;      /* the ruleset has changed during the dump */
    uint8_t family;        /* NFPROTO_… */
    struct cg_bytes table; /* names: within the message, without their ends */
    struct cg_bytes chain;
    uint64_t handle;
    bool counted; /* a rule that has a counter */
    uint64_t packets, bytes;
    int errnum;
};

/* Takes the first message off `*bytes`. */
enum cg_nft_kind cg_nft_message_take(struct cg_bytes *bytes, struct cg_nft_message *ret_message);

/* A request for all tables, or all rules; returns its length. */
enum { CG_NFT_REQUEST_BYTES = 20 };
void cg_nft_request(bool rules, uint32_t sequence, char ret_bytes[CG_NFT_REQUEST_BYTES]);

/* "inet" …, as libnftables calls a family; NULL for others. */
const char *cg_nft_family_name(uint8_t family);

#endif
