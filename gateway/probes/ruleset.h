/*
 * ruleset.h - the rulesets of network namespaces, read by a thread that does nothing else.
 *
 * The counters of all rules come from one dump over netlink, what a rule says from libnftables,
 * once for each new rule; that takes a time that nothing bounds, and both belong to the namespace
 * that the thread is in. So one thread goes from namespace to namespace, reads those that were
 * asked for, and leaves what it found for all the cells that look at it.
 *
 * All functions are called on the probes' thread.
 */
#ifndef CELLGATE_RULESET_H
#define CELLGATE_RULESET_H

#include "base/list.h"
#include "probes/netns.h"
#include "probes/nft_rules.h"

enum { CG_RULESETS_MAX = 4096 };

struct cg_rulesets; /* all namespaces */
struct cg_ruleset;  /* one */

/* One that waits for an answer. */
struct cg_ruleset_user {
    struct cg_probe_instance *instance;
    struct cg_ruleset *ruleset; /* NULL: none */
    struct cg_list in_ruleset;
};

struct cg_ruleset_answer {
    const struct cg_nft_ruleset *rules; /* NULL: there is none yet, or the last reading failed */
    uint64_t begun_ns;                  /* monotonic */
    uint64_t read_ns;                   /* real time */
    enum cg_probe_outcome outcome;      /* of the last reading */
    const char *detail;
};

CG_MUST_USE bool cg_rulesets_start(struct cg_probe_host *host, struct cg_rulesets **ret_rulesets,
                                   struct cg_error *err);
/* Waits for the reading under way. No users are left. */
void cg_rulesets_stop(struct cg_rulesets *rulesets);

/* Sees to it that the user has the namespace that the path names now (NULL: the gateway's own). */
CG_MUST_USE enum cg_probe_outcome cg_ruleset_use(struct cg_rulesets *rulesets,
                                                 struct cg_ruleset_user *user, const char *path,
                                                 struct cg_error *err);
void cg_ruleset_leave(struct cg_ruleset_user *user);

/* What was last read. */
void cg_ruleset_get(const struct cg_ruleset *ruleset, struct cg_ruleset_answer *ret_answer);
/* Has it read again, unless a reading is under way that began at `not_before_ns` or later. All
 * users are told when it is there. */
void cg_ruleset_request(struct cg_ruleset *ruleset, uint64_t not_before_ns);

#endif
