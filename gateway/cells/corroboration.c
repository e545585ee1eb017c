#include "cells/corroboration.h"

#include "cellgate/clock.h"
#include "cells/life_drops.h"

#include <stdlib.h>

/* The groups of `observed`, and the facts in each, both in the order of their names. */
static const struct observed {
    const char *group;
    const char *name;
    enum cg_fact fact;
} observed[] = {
    {"cgroup", "cpuUsageUsec", CG_FACT_CGROUP_CPU_USEC},
    {"cgroup", "memoryMaxEvents", CG_FACT_CGROUP_MEMORY_MAX_EVENTS},
    {"cgroup", "oomKills", CG_FACT_CGROUP_OOM_KILLS},
    {"cgroup", "pidsMaxEvents", CG_FACT_CGROUP_PIDS_MAX_EVENTS},
    {"fcMetrics", "netRxBytes", CG_FACT_FC_NET_RX_BYTES},
    {"fcMetrics", "netRxPackets", CG_FACT_FC_NET_RX_PACKETS},
    {"fcMetrics", "netTxBytes", CG_FACT_FC_NET_TX_BYTES},
    {"fcMetrics", "netTxPackets", CG_FACT_FC_NET_TX_PACKETS},
    {"fcMetrics", "vsockRxBytes", CG_FACT_FC_VSOCK_RX_BYTES},
    {"fcMetrics", "vsockRxPackets", CG_FACT_FC_VSOCK_RX_PACKETS},
    {"fcMetrics", "vsockTxBytes", CG_FACT_FC_VSOCK_TX_BYTES},
    {"fcMetrics", "vsockTxPackets", CG_FACT_FC_VSOCK_TX_PACKETS},
    {"gateway", NULL, 0},
    {"nftables", "bytes", CG_FACT_NFT_BYTES},
    {"nftables", "packets", CG_FACT_NFT_PACKETS},
    {"tapLink", "bytesFromGuest", CG_FACT_TAP_BYTES_FROM_GUEST},
    {"tapLink", "bytesToGuest", CG_FACT_TAP_BYTES_TO_GUEST},
    {"tapLink", "packetsFromGuest", CG_FACT_TAP_PACKETS_FROM_GUEST},
    {"tapLink", "packetsToGuest", CG_FACT_TAP_PACKETS_TO_GUEST},
};
enum { OBSERVED = sizeof(observed) / sizeof(observed[0]) };

static const struct cg_bytes connects = CG_BYTES("net.connect_attempted");
static const struct cg_bytes spawns = CG_BYTES("process.spawned");

/* --- writing --- */

static void append_str(struct cg_life_event *event, const char *text)
{
    cg_life_event_append(event, cg_bytes_str(text));
}

static void append_key(struct cg_life_event *event, struct cg_bytes key)
{
    if (event->text[event->text_len - 1] != '{') {
        append_str(event, ",");
    }
    append_str(event, "\"");
    cg_life_event_append(event, key);
    append_str(event, "\":");
}

static void append_member(struct cg_life_event *event, const char *key, uint64_t value)
{
    append_key(event, cg_bytes_str(key));
    cg_life_event_append_u64(event, value);
}

/* 1284 as "1,284". */
static void append_grouped(struct cg_life_event *event, uint64_t value)
{
    char digits[32];
    char *at = digits + sizeof(digits);
    unsigned count = 0;
    do {
        if (count > 0 && count % 3 == 0) {
            *--at = ',';
        }
        *--at = (char)('0' + value % 10);
        value /= 10;
        count++;
    } while (value > 0);
    cg_life_event_append(event, cg_bytes(at, (size_t)(digits + sizeof(digits) - at)));
}

/* --- declared --- */

static int compare_sources(const void *a, const void *b)
{
    const struct cg_witness_source *left = *(struct cg_witness_source *const *)a;
    const struct cg_witness_source *right = *(struct cg_witness_source *const *)b;
    size_t shorter = left->len < right->len ? left->len : right->len;
    int order = memcmp(left->name, right->name, shorter);
    return order != 0 ? order : (left->len > right->len) - (left->len < right->len);
}

static void write_declared(const struct cg_witness *witness, struct cg_life_event *event)
{
    struct cg_witness_source *sorted[CG_WITNESS_SOURCES_MAX];
    memcpy(sorted, witness->sources, sizeof(sorted));
    qsort(sorted, witness->sources_count, sizeof(struct cg_witness_source *), compare_sources);
    cg_life_event_open(event, CG_BYTES("declared"));
    append_str(event, "{\"bySource\":{");
    for (unsigned i = 0; i < witness->sources_count; i++) {
        append_key(event, cg_bytes(sorted[i]->name, sorted[i]->len));
        cg_life_event_append_u64(event, sorted[i]->count);
    }
    append_str(event, "}");
    append_member(event, "events", witness->declared);
    append_member(event, "otherSources", witness->declared_other);
    append_str(event, "}");
    cg_life_event_close(event);
}

/* --- observed --- */

static void write_totals(const struct cg_corroboration_totals *totals, struct cg_life_event *event)
{
    append_member(event, "connections", totals->connections);
    append_member(event, "drops", totals->drops);
    append_member(event, "frameBytes", totals->frame_bytes);
    append_member(event, "frames", totals->frames);
    append_member(event, "framesRejected", totals->frames_rejected);
    append_member(event, "silences", totals->silences);
}

static void write_observed(const struct cg_witness *witness,
                           const struct cg_corroboration_totals *totals,
                           struct cg_life_event *event)
{
    const char *group = NULL;
    cg_life_event_open(event, CG_BYTES("observed"));
    append_str(event, "{");
    for (size_t i = 0; i < OBSERVED; i++) {
        const struct observed *row = &observed[i];
        if (row->name != NULL && !cg_witness_knows(witness, row->fact)) {
            continue;
        }
        if (group == NULL || strcmp(group, row->group) != 0) {
            append_str(event, group == NULL ? "" : "}");
            append_key(event, cg_bytes_str(row->group));
            append_str(event, "{");
            group = row->group;
        }
        if (row->name == NULL) {
            write_totals(totals, event);
        } else {
            append_member(event, row->name, witness->total[row->fact]);
        }
    }
    append_str(event, "}}");
    cg_life_event_close(event);
}

/* --- findings --- */

/* Two figures side by side; `what` says what the host's is, with `unit` behind the figure. */
struct finding {
    const char *rule;
    const char *name; /* of what was declared */
    const char *unit;
    uint64_t declared, observed, threshold;
};

static void write_finding(const struct finding *finding, struct cg_life_event *event)
{
    bool first = event->text[event->text_len - 1] == '[';
    append_str(event, first ? "{" : ",{");
    append_member(event, "declared", finding->declared);
    append_member(event, "observed", finding->observed);
    append_key(event, CG_BYTES("rule"));
    append_str(event, "\"");
    append_str(event, finding->rule);
    append_str(event, "\"");
    append_key(event, CG_BYTES("text"));
    append_str(event, "\"declared ");
    append_str(event, finding->name);
    append_str(event, " = ");
    append_grouped(event, finding->declared);
    append_str(event, ", host saw ");
    append_grouped(event, finding->observed);
    append_str(event, " ");
    append_str(event, finding->unit);
    append_str(event, "\"");
    append_member(event, "threshold", finding->threshold);
    append_str(event, "}");
}

/* Packets that the guest sent, by the witness that sees them best; false if none does. */
static bool packets_out(const struct cg_witness *witness, uint64_t *ret_packets)
{
    static const enum cg_fact facts[] = {CG_FACT_TAP_PACKETS_FROM_GUEST, CG_FACT_FC_NET_TX_PACKETS};
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        if (cg_witness_knows(witness, facts[i])) {
            *ret_packets = witness->total[facts[i]];
            return true;
        }
    }
    return false;
}

static void judge_network(const struct cg_witness *witness,
                          const struct cg_corroboration_rules *rules, struct cg_life_event *event)
{
    struct finding finding = {.name = connects.data,
                              .unit = "packets out",
                              .declared = cg_witness_declared(witness, connects)};
    if (!packets_out(witness, &finding.observed)) {
        return;
    }
    if (finding.declared == 0 && finding.observed > 0 && finding.observed >= rules->packets_min) {
        finding.rule = "network_undeclared";
        finding.threshold = rules->packets_min;
        write_finding(&finding, event);
    } else if (finding.declared > 0 && finding.observed == 0) {
        finding.rule = "network_unseen";
        finding.threshold = 1;
        write_finding(&finding, event);
    }
}

static void judge_cgroup(const struct cg_witness *witness,
                         const struct cg_corroboration_rules *rules, struct cg_life_event *event)
{
    if (!cg_witness_knows(witness, CG_FACT_CGROUP_CPU_USEC)) {
        return;
    }
    const uint64_t usec_per_ms = CG_NS_PER_MS / CG_NS_PER_US;
    struct finding cpu = {.unit = "ms of CPU time",
                          .observed = witness->total[CG_FACT_CGROUP_CPU_USEC] / usec_per_ms,
                          .threshold = rules->cpu_min_ns / CG_NS_PER_MS};
    bool busy = cpu.observed > 0 && cpu.observed >= cpu.threshold;
    if (busy && witness->declared == 0) {
        cpu.rule = "mute_but_busy";
        cpu.name = "events";
        write_finding(&cpu, event);
    } else if (busy && cg_witness_declared(witness, spawns) == 0) {
        cpu.rule = "cpu_undeclared";
        cpu.name = spawns.data;
        write_finding(&cpu, event);
    }
    const struct finding oom = {.rule = "oom_killed",
                                .name = "events",
                                .unit = "OOM kills",
                                .declared = witness->declared,
                                .observed = witness->total[CG_FACT_CGROUP_OOM_KILLS],
                                .threshold = 1};
    if (oom.observed >= oom.threshold) {
        write_finding(&oom, event);
    }
}

static bool write_findings(const struct cg_witness *witness,
                           const struct cg_corroboration_totals *totals,
                           const struct cg_corroboration_rules *rules, struct cg_life_event *event)
{
    cg_life_event_open(event, CG_BYTES("findings"));
    append_str(event, "[");
    judge_network(witness, rules, event);
    judge_cgroup(witness, rules, event);
    const struct finding refused = {.rule = "frames_refused",
                                    .name = "events",
                                    .unit = "refused frames",
                                    .declared = witness->declared,
                                    .observed = totals->frames_rejected,
                                    .threshold = 1};
    if (refused.observed >= refused.threshold) {
        write_finding(&refused, event);
    }
    bool any = event->text[event->text_len - 1] != '[';
    append_str(event, "]");
    cg_life_event_close(event);
    return any;
}

bool cg_corroborate(const struct cg_witness *witness, const struct cg_corroboration_totals *totals,
                    const struct cg_corroboration_rules *rules, bool over,
                    struct cg_life_event *ret_event)
{
    char since[CG_TIME_TEXT_LEN + 1] = "";
    cg_time_format(witness->since_ns, since);
    ret_event->type = CG_GATEWAY_CORROBORATION;
    ret_event->connection = 0;
    ret_event->count = 0;
    ret_event->ranges = 0;
    ret_event->text_len = 0;
    write_declared(witness, ret_event);
    bool any = write_findings(witness, totals, rules, ret_event);
    write_observed(witness, totals, ret_event);
    cg_life_event_open(ret_event, CG_BYTES("runOver"));
    append_str(ret_event, over ? "true" : "false");
    cg_life_event_close(ret_event);
    cg_life_event_text(ret_event, CG_BYTES("since"), since);
    ret_event->severity = any ? CG_SEVERITY_WARN : CG_SEVERITY_INFO;
    return any;
}
