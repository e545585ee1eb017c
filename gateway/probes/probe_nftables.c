/*
 * probe_nftables.c - what the firewall counts of a cell: the rules of its table.
 *
 * The counters of a namespace are read all at once, and a reading that is younger than a cell's
 * interval serves that cell too. Its moment is that reading's.
 */
#include "probes/ruleset.h"

#include "cellgate/cleanup.h"

#include <stdio.h>
#include <stdlib.h>

struct nftables {
    struct cg_rulesets *rulesets;
    const char *family, *table, *netns;
    struct cg_ruleset_user user;
    uint64_t not_before_ns; /* an earlier reading of the ruleset does not do */
};

static void write_table(const struct nftables *nftables, const struct cg_nft_table *table,
                        const struct cg_probe_turn *turn, struct cg_probe_sink *sink)
{
    struct cg_output *output = &sink->output;
    cg_output_u64(output, "bytes", table->bytes);
    cg_output_u64(output, "packets", table->packets);
    cg_output_open(output, CG_BYTES("rows"));
    cg_buf_append_char(&output->text, '[');
    cg_buf_append(&output->text, cg_buf_bytes(&table->rows));
    cg_buf_append_char(&output->text, ']');
    cg_output_close(output);
    if (table->omitted > 0) {
        cg_output_u64(output, "rowsOmitted", table->omitted);
    }
    cg_output_text(&sink->inputs, "family", cg_bytes_str(nftables->family));
    if (nftables->netns != NULL) {
        cg_output_text(&sink->inputs, "netns", cg_bytes_str(nftables->netns));
    }
    cg_output_text(&sink->inputs, "table", cg_bytes_str(nftables->table));
    cg_output_text(&sink->inputs, "trigger", cg_bytes_str(cg_probe_why_name(turn->why)));
}

static enum cg_probe_outcome tell(struct nftables *nftables, const struct cg_ruleset_answer *answer,
                                  const struct cg_probe_turn *turn, struct cg_probe_sink *sink,
                                  struct cg_error *err)
{
    if (answer->rules == NULL) {
        (void)cg_error_set(err, "%s", answer->detail);
        return answer->outcome;
    }
    const struct cg_nft_table *table =
        cg_nft_ruleset_find(answer->rules, nftables->family, cg_bytes_str(nftables->table));
    if (table == NULL) {
        (void)cg_error_set(err, "there is no table %s %s", nftables->family, nftables->table);
        return CG_PROBE_MISSING;
    }
    cg_facts_set(&sink->facts, CG_FACT_NFT_BYTES, table->bytes);
    cg_facts_set(&sink->facts, CG_FACT_NFT_PACKETS, table->packets);
    if (turn->why != CG_PROBE_BASE) {
        write_table(nftables, table, turn, sink);
        sink->read_ns = answer->read_ns;
        cg_probe_emit(sink);
    }
    return CG_PROBE_READ;
}

static enum cg_probe_outcome read_table(void *state, const struct cg_probe_turn *turn,
                                        struct cg_probe_sink *sink, struct cg_error *err)
{
    struct nftables *nftables = state;
    struct cg_ruleset_answer answer = {0};
    if (turn->stage == CG_PROBE_FIRST) {
        enum cg_probe_outcome outcome =
            cg_ruleset_use(nftables->rulesets, &nftables->user, nftables->netns, err);
        if (outcome != CG_PROBE_READ) {
            return outcome;
        }
        uint64_t age_ns = turn->why == CG_PROBE_TICK ? turn->interval_ns - 1 : 0;
        nftables->not_before_ns = turn->now_ns > age_ns ? turn->now_ns - age_ns : 1;
    }
    if (nftables->user.ruleset == NULL) {
        return CG_PROBE_LATER;
    }
    cg_ruleset_get(nftables->user.ruleset, &answer);
    if (answer.begun_ns >= nftables->not_before_ns) {
        return tell(nftables, &answer, turn, sink, err);
    }
    if (turn->stage == CG_PROBE_LATE) {
        (void)cg_error_set(err, "the ruleset is not read in time");
        return CG_PROBE_TIMEOUT;
    }
    cg_ruleset_request(nftables->user.ruleset, nftables->not_before_ns);
    return CG_PROBE_LATER;
}

/* --- life --- */

static void *attach(void *shared, struct cg_probe_instance *instance,
                    const struct cg_probe_spec *spec)
{
    struct nftables *nftables = calloc(1, sizeof(*nftables));
    if (nftables == NULL) {
        return NULL;
    }
    const char *family = spec->text[CG_PROBE_NFT_FAMILY];
    nftables->rulesets = shared;
    nftables->family = family == NULL ? "inet" : family;
    nftables->table = spec->text[CG_PROBE_NFT_TABLE];
    nftables->netns = spec->text[CG_PROBE_NFT_NETNS];
    nftables->user.instance = instance;
    cg_list_init(&nftables->user.in_ruleset);
    return nftables;
}

static void detach(void *state)
{
    struct nftables *nftables = state;
    cg_ruleset_leave(&nftables->user);
    free(nftables);
}

static bool start(struct cg_probe_host *host, void **ret_shared, struct cg_error *err)
{
    struct cg_rulesets *rulesets = NULL;
    if (!cg_rulesets_start(host, &rulesets, err)) {
        return false;
    }
    *ret_shared = rulesets;
    return true;
}

static void stop(void *shared)
{
    cg_rulesets_stop(shared);
}

const struct cg_probe_ops cg_probe_nftables = {
    .probe = CG_PROBE_NFTABLES,
    .readings = CG_SERIES_probe_readings_nftables,
    .errors = CG_SERIES_probe_errors_nftables_missing,
    .start = start,
    .stop = stop,
    .attach = attach,
    .detach = detach,
    .read = read_table,
};
