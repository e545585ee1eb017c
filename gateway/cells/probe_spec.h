/*
 * probe_spec.h - which host probes a cell has, and where they look. Pure but for memory.
 *
 * docs/contract.md section 6, the member `probes` of a registration, and docs/probes.md. A probe
 * reads what the host itself knows of a cell: its cgroup, its TAP, its firewall table, the metrics
 * of its VMM. What a registration does not say comes from the configuration's defaults, where
 * `{cell_id}` stands for the cell's id.
 *
 * One table (probe_spec.c) has the members of each probe; reading them from JSON, writing them to
 * the journal, checking and comparing all go over it.
 */
#ifndef CELLGATE_PROBE_SPEC_H
#define CELLGATE_PROBE_SPEC_H

#include "cellgate/buf.h"
#include "cellgate/error.h"
#include "cellgate/option.h"
#include "event/json.h"

/* In the order of their names, which is that of JSON members. */
enum cg_probe {
    CG_PROBE_CGROUP,
    CG_PROBE_FC_METRICS,
    CG_PROBE_NFTABLES,
    CG_PROBE_TAP_LINK,
    CG_PROBE_COUNT
};

enum cg_probe_text {
    CG_PROBE_CGROUP_PATH,
    CG_PROBE_FC_API_SOCKET,
    CG_PROBE_FC_PATH,
    CG_PROBE_NFT_FAMILY,
    CG_PROBE_NFT_NETNS,
    CG_PROBE_NFT_TABLE,
    CG_PROBE_TAP_INTERFACE,
    CG_PROBE_TAP_NETNS,
    CG_PROBE_TEXT_COUNT
};

enum {
    CG_PROBE_TABLE_BYTES_MAX = 63,     /* of an nftables table's name */
    CG_PROBE_INTERFACE_BYTES_MAX = 15, /* IFNAMSIZ without its end */
    CG_PROBE_INTERVAL_MS_MIN = 100,
    CG_PROBE_INTERVAL_MS_MAX = 86400000,
};

/* Borrowed texts; zeroed says nothing. */
struct cg_probe_spec {
    const char *text[CG_PROBE_TEXT_COUNT]; /* NULL: not said */
    uint64_t interval_ns[CG_PROBE_COUNT];  /* 0: not said */
    bool flush;                            /* fc_metrics: ask the VMM for each document */
};

/* What the configuration says for all cells. */
struct cg_probe_policy {
    struct cg_strings roots; /* that paths may lie beneath; none: anywhere, but no PUT */
    uint64_t interval_ns;    /* of probes that say none */
    uint64_t deadline_ns;    /* for an answer that somebody else gives */
    bool netns;              /* probes may enter network namespaces */
    bool enabled[CG_PROBE_COUNT];
    struct cg_probe_spec defaults; /* with {cell_id} in its texts */
    struct {
        bool enabled;
        uint64_t interval_ns;
        uint64_t packets_min; /* thresholds of its rules: cells/corroboration.h */
        uint64_t cpu_min_ns;
    } corroboration;
};

/* "cgroup", as in requests and metrics; and "host.cgroup", as in events. */
const char *cg_probe_name(enum cg_probe probe);
const char *cg_probe_source(enum cg_probe probe);
/* The text without which a probe has nothing to look at. */
enum cg_probe_text cg_probe_subject(enum cg_probe probe);

bool cg_probe_spec_is_empty(const struct cg_probe_spec *spec);
/* Whether the values are allowed; the error begins with "probes: ". */
CG_MUST_USE bool cg_probe_spec_check(const struct cg_probe_spec *spec, struct cg_error *err);
/* Whether all paths lie beneath the roots, of which there is at least one; the error says which
 * does not. For registrations: the configuration is its own judge. */
CG_MUST_USE bool cg_probe_spec_within(const struct cg_probe_spec *spec, struct cg_strings roots,
                                      struct cg_error *err);
bool cg_probe_spec_equal(const struct cg_probe_spec *a, const struct cg_probe_spec *b);

/* Appends it as a canonical JSON object. Returns !out->failed. */
bool cg_probe_spec_render(const struct cg_probe_spec *spec, struct cg_buf *out);
/*
 * Reads such an object, whose members may stand in any order but not twice. The texts go to
 * `texts`, which has room for them all, so that its memory does not move. The error names the
 * member ("cgroup.path must be a string").
 */
CG_MUST_USE bool cg_probe_spec_read(const struct cg_json *json, uint32_t object,
                                    struct cg_buf *texts, struct cg_probe_spec *ret_spec,
                                    struct cg_error *err);

/* --- copies --- */

/* How many bytes the texts take, their ends included. */
size_t cg_probe_spec_bytes(const struct cg_probe_spec *spec);
/* A copy whose texts lie at `memory`, which has room for cg_probe_spec_bytes. */
struct cg_probe_spec cg_probe_spec_place(const struct cg_probe_spec *spec, char *memory);

/*
 * What holds for a cell: its own words (NULL: none), else the defaults with the cell's id in them.
 * Appends the texts to `texts`, whose maximum must suffice for CG_PROBE_TEXT_COUNT paths; they are
 * valid as long as nothing more is appended. A probe that is switched off, or has no subject, has
 * no text. False: out of memory.
 */
CG_MUST_USE bool cg_probe_spec_resolve(const struct cg_probe_policy *policy,
                                       const struct cg_probe_spec *own, struct cg_bytes cell_id,
                                       struct cg_buf *texts, struct cg_probe_spec *ret_spec);

#endif
