/*
 * nft_reader.h - reads the ruleset of a network namespace, on the thread that reads rulesets.
 *
 * The counters come from one dump of all rules, which the kernel answers at once; a dump during
 * which the ruleset changed is no snapshot and is done again. What rules say comes from
 * libnftables, table by table, where there are rules that were never looked up, as far as there is
 * time; what is left over has an empty text until the next reading. The thread enters the namespace
 * and stays there until it is sent home.
 */
#ifndef CELLGATE_NFT_READER_H
#define CELLGATE_NFT_READER_H

#include "probes/netns.h"
#include "probes/nft_rules.h"

struct nft_ctx;

struct cg_nft_reader {
    const struct cg_clock *clock;
    int own_netns_fd;         /* the way back; -1: there is none */
    struct cg_netns_id place; /* the namespace it is in; zero: its own */
    struct nft_ctx *nft;      /* of that namespace; NULL: none yet */
};

/* One reading. */
struct cg_nft_result {
    struct cg_nft_ruleset rules;
    uint64_t begun_ns; /* monotonic */
    uint64_t read_ns;  /* real time */
    enum cg_probe_outcome outcome;
    struct cg_error err;
};

void cg_nft_reader_init(struct cg_nft_reader *reader, const struct cg_clock *clock);
/* On the reader's thread, at its end. */
void cg_nft_reader_leave(struct cg_nft_reader *reader);
void cg_nft_reader_fini(struct cg_nft_reader *reader);

/* Reads the namespace of `netns_fd` (-1: its own); `known` is what rules of it say, from reading to
 * reading. */
void cg_nft_reader_read(struct cg_nft_reader *reader, int netns_fd, const struct cg_netns_id *id,
                        struct cg_nft_ruleset *known, struct cg_nft_result *ret_result);
/* Back into its own namespace: nobody's is kept alive by a reader that has nothing to do there. */
void cg_nft_reader_go_home(struct cg_nft_reader *reader);

#endif
