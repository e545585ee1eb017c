/* schema_probes.c - the keys of the host probes: for all cells, and of one. */
#include "cellgate/clock.h"
#include "run/schema.h"

#define PROBES(member) offsetof(struct cg_schema_file, gateway.probes.member)
#define OWN(member)    offsetof(struct cg_probe_spec, member)
#define TABLE_END                                                                                  \
    {                                                                                              \
        .key = NULL                                                                                \
    }

#define INTERVAL_MIN  (CG_PROBE_INTERVAL_MS_MIN * CG_NS_PER_MS)
#define INTERVAL_MAX  (CG_PROBE_INTERVAL_MS_MAX * CG_NS_PER_MS)
#define DURATION_HOUR (3600 * CG_NS_PER_S)
enum { ROOTS_MAX = 64, PACKETS_MAX = 1000 * 1000 * 1000 };

#define ENABLED(probe)                                                                             \
    {                                                                                              \
        .key = "enabled", .type = CG_OPTION_BOOL, .offset = PROBES(enabled[probe]),                \
        .fallback = "true", .help = "Whether there is this probe at all."                          \
    }
#define INTERVAL(place, otherwise)                                                                 \
    {                                                                                              \
        .key = "interval", .type = CG_OPTION_DURATION, .offset = place, .min = INTERVAL_MIN,       \
        .max = INTERVAL_MAX, .help = "How often it reads; without it, " otherwise "."              \
    }
/* In `defaults`, {cell_id} stands for the cell's id. */
#define TEXT(name, what, place, words)                                                             \
    {                                                                                              \
        .key = name, .type = what, .offset = place, .help = words                                  \
    }

static const struct cg_option cgroup_options[] = {
    ENABLED(CG_PROBE_CGROUP),
    INTERVAL(PROBES(defaults.interval_ns[CG_PROBE_CGROUP]), "probes.interval"),
    TEXT("path", CG_OPTION_PATH, PROBES(defaults.text[CG_PROBE_CGROUP_PATH]),
         "The VMM's cgroup (v2) of cells that name none, with {cell_id} for the cell's id."),
    TABLE_END,
};

static const struct cg_option fc_metrics_options[] = {
    ENABLED(CG_PROBE_FC_METRICS),
    INTERVAL(PROBES(defaults.interval_ns[CG_PROBE_FC_METRICS]), "probes.interval"),
    TEXT("path", CG_OPTION_PATH, PROBES(defaults.text[CG_PROBE_FC_PATH]),
         "The file or FIFO of Firecracker's metrics (metrics_path), likewise."),
    TEXT("api_socket", CG_OPTION_PATH, PROBES(defaults.text[CG_PROBE_FC_API_SOCKET]),
         "Firecracker's API socket, likewise."),
    {.key = "flush",
     .type = CG_OPTION_BOOL,
     .offset = PROBES(defaults.flush),
     .fallback = "false",
     .help = "Ask for a document at each reading, over api_socket."},
    TABLE_END,
};

static const struct cg_option nftables_options[] = {
    {.key = "enabled",
     .type = CG_OPTION_BOOL,
     .offset = PROBES(enabled[CG_PROBE_NFTABLES]),
     .fallback = "false",
     .help = "Whether there is this probe at all; for it the gateway keeps CAP_NET_ADMIN."},
    INTERVAL(PROBES(defaults.interval_ns[CG_PROBE_NFTABLES]), "probes.interval"),
    TEXT("family", CG_OPTION_STRING, PROBES(defaults.text[CG_PROBE_NFT_FAMILY]),
         "The family of the table: inet (also without it), ip, ip6, arp, bridge or netdev."),
    TEXT("table", CG_OPTION_STRING, PROBES(defaults.text[CG_PROBE_NFT_TABLE]),
         "The cell's table, with {cell_id} for the cell's id."),
    TEXT("netns", CG_OPTION_PATH, PROBES(defaults.text[CG_PROBE_NFT_NETNS]),
         "The network namespace of the table, likewise; without it, the gateway's own."),
    TABLE_END,
};

static const struct cg_option tap_link_options[] = {
    ENABLED(CG_PROBE_TAP_LINK),
    INTERVAL(PROBES(defaults.interval_ns[CG_PROBE_TAP_LINK]), "probes.interval"),
    TEXT("interface", CG_OPTION_STRING, PROBES(defaults.text[CG_PROBE_TAP_INTERFACE]),
         "The VM's interface on the host, with {cell_id} for the cell's id."),
    TEXT("netns", CG_OPTION_PATH, PROBES(defaults.text[CG_PROBE_TAP_NETNS]),
         "The network namespace of the interface, likewise; without it, the gateway's own."),
    TABLE_END,
};

static const struct cg_option corroboration_options[] = {
    {.key = "enabled",
     .type = CG_OPTION_BOOL,
     .offset = PROBES(corroboration.enabled),
     .fallback = "true",
     .help = "Whether cells with probes have events of what their guests declared beside what the "
             "host saw."},
    {.key = "interval",
     .type = CG_OPTION_DURATION,
     .offset = PROBES(corroboration.interval_ns),
     .min = INTERVAL_MIN,
     .max = INTERVAL_MAX,
     .fallback = "60s",
     .help = "How often; and once at the end of each run."},
    {.key = "packets_min",
     .type = CG_OPTION_INTEGER,
     .offset = PROBES(corroboration.packets_min),
     .min = 1,
     .max = PACKETS_MAX,
     .fallback = "100",
     .help = "Packets that a guest sends before network_undeclared is a finding: a booting guest "
             "sends some of itself."},
    {.key = "cpu_min",
     .type = CG_OPTION_DURATION,
     .offset = PROBES(corroboration.cpu_min_ns),
     .min = CG_NS_PER_MS,
     .max = INTERVAL_MAX,
     .fallback = "60s",
     .help = "CPU time of the VMM before cpu_undeclared and mute_but_busy are findings: booting "
             "takes some."},
    TABLE_END,
};

const struct cg_option cg_schema_probes[] = {
    {.key = "roots",
     .type = CG_OPTION_STRINGS,
     .offset = PROBES(roots),
     .max = ROOTS_MAX,
     .help = "Absolute directories that everything a probe looks at must lie beneath; none: "
             "anywhere for the cells of this file, nowhere for those that are registered over the "
             "control socket."},
    {.key = "interval",
     .type = CG_OPTION_DURATION,
     .offset = PROBES(interval_ns),
     .min = INTERVAL_MIN,
     .max = INTERVAL_MAX,
     .fallback = "10s",
     .help = "How often a probe reads that says nothing else."},
    {.key = "deadline",
     .type = CG_OPTION_DURATION,
     .offset = PROBES(deadline_ns),
     .min = 10 * CG_NS_PER_MS,
     .max = 60 * CG_NS_PER_S,
     .fallback = "500ms",
     .help = "How long a VMM or the kernel may take to answer; the end of a run waits as long."},
    {.key = "netns",
     .type = CG_OPTION_BOOL,
     .offset = PROBES(netns),
     .fallback = "false",
     .help = "Whether probes may enter network namespaces other than the gateway's own, for which "
             "it keeps CAP_SYS_ADMIN."},
    {.key = "cgroup",
     .type = CG_OPTION_SECTION,
     .fields = cgroup_options,
     .help = "What the kernel counts of the VMM's cgroup."},
    {.key = "tap_link",
     .type = CG_OPTION_SECTION,
     .fields = tap_link_options,
     .help = "The VM's network interface on the host."},
    {.key = "nftables",
     .type = CG_OPTION_SECTION,
     .fields = nftables_options,
     .help = "The counters of the cell's firewall table."},
    {.key = "fc_metrics",
     .type = CG_OPTION_SECTION,
     .fields = fc_metrics_options,
     .help = "What Firecracker says of its VM."},
    {.key = "corroboration",
     .type = CG_OPTION_SECTION,
     .fields = corroboration_options,
     .help = "A guest's declarations beside what the host saw."},
    TABLE_END,
};

/* --- of one cell --- */

static const struct cg_option own_cgroup_options[] = {
    INTERVAL(OWN(interval_ns[CG_PROBE_CGROUP]), "probes.cgroup.interval"),
    TEXT("path", CG_OPTION_PATH, OWN(text[CG_PROBE_CGROUP_PATH]), "The VMM's cgroup (v2)."),
    TABLE_END,
};

static const struct cg_option own_fc_metrics_options[] = {
    INTERVAL(OWN(interval_ns[CG_PROBE_FC_METRICS]), "probes.fc_metrics.interval"),
    TEXT("path", CG_OPTION_PATH, OWN(text[CG_PROBE_FC_PATH]),
         "The file or FIFO of Firecracker's metrics."),
    TEXT("api_socket", CG_OPTION_PATH, OWN(text[CG_PROBE_FC_API_SOCKET]),
         "Firecracker's API socket."),
    {.key = "flush",
     .type = CG_OPTION_BOOL,
     .offset = OWN(flush),
     .help = "Ask for a document at each reading."},
    TABLE_END,
};

static const struct cg_option own_nftables_options[] = {
    INTERVAL(OWN(interval_ns[CG_PROBE_NFTABLES]), "probes.nftables.interval"),
    TEXT("family", CG_OPTION_STRING, OWN(text[CG_PROBE_NFT_FAMILY]), "The family of the table."),
    TEXT("table", CG_OPTION_STRING, OWN(text[CG_PROBE_NFT_TABLE]), "The cell's table."),
    TEXT("netns", CG_OPTION_PATH, OWN(text[CG_PROBE_NFT_NETNS]),
         "The network namespace of the table."),
    TABLE_END,
};

static const struct cg_option own_tap_link_options[] = {
    INTERVAL(OWN(interval_ns[CG_PROBE_TAP_LINK]), "probes.tap_link.interval"),
    TEXT("interface", CG_OPTION_STRING, OWN(text[CG_PROBE_TAP_INTERFACE]),
         "The VM's interface on the host."),
    TEXT("netns", CG_OPTION_PATH, OWN(text[CG_PROBE_TAP_NETNS]),
         "The network namespace of the interface."),
    TABLE_END,
};

const struct cg_option cg_schema_cell_probes[] = {
    {.key = "cgroup",
     .type = CG_OPTION_SECTION,
     .fields = own_cgroup_options,
     .help = "The VMM's cgroup."},
    {.key = "tap_link",
     .type = CG_OPTION_SECTION,
     .fields = own_tap_link_options,
     .help = "The VM's network interface."},
    {.key = "nftables",
     .type = CG_OPTION_SECTION,
     .fields = own_nftables_options,
     .help = "The cell's firewall table."},
    {.key = "fc_metrics",
     .type = CG_OPTION_SECTION,
     .fields = own_fc_metrics_options,
     .help = "Firecracker's metrics."},
    TABLE_END,
};
