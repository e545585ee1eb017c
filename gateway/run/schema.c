#include "run/schema.h"

#include "cellgate/clock.h"
#include "cellgate/limits.h"
#include "event/envelope.h"

#define GATEWAY(member) offsetof(struct cg_schema_file, gateway.member)
#define CELL(member)    offsetof(struct cg_cell_spec, member)
#define TABLE_END                                                                                  \
    {                                                                                              \
        .key = NULL                                                                                \
    }

/* The members of a section stand in the same struct as the section's owner, so a section itself
 * has the offset 0. */

enum {
    INGRESS_THREADS_MAX = 64,
    CONNECTIONS_PER_CELL_MAX = 1024,
    FRAMES_PER_SECOND_MAX = 100 * 1000 * 1000,
    CELLS_MAX = 100 * 1000,
    LIST_MAX = 64,
};

#define KIB           UINT64_C(1024)
#define MIB           (1024 * KIB)
#define GIB           (1024 * MIB)
#define DURATION_HOUR (3600 * CG_NS_PER_S)
#define DURATION_DAY  (24 * DURATION_HOUR)

/* --- ingress --- */

static const struct cg_option cell_options[] = {
    {.key = "cell_id",
     .type = CG_OPTION_STRING,
     .offset = CELL(cell_id),
     .required = true,
     .help = "The cell's id: 1 to 128 of A-Z a-z 0-9 . _ : - and unique here."},
    {.key = "run_id",
     .type = CG_OPTION_STRING,
     .offset = CELL(run_id),
     .required = true,
     .help = "The id of this run of the cell, written alike. Sequence numbers count per run."},
    {.key = "spec_signature_hash",
     .type = CG_OPTION_STRING,
     .offset = CELL(spec_signature_hash),
     .required = true,
     .help = "The hash of the signed specification that the cell was started from; goes on each of "
             "its events."},
    {.key = "vsock_uds_base",
     .type = CG_OPTION_STRING,
     .offset = CELL(vsock_uds_base),
     .required = true,
     .help = "The VMM's Unix socket for vsock, an absolute path; the gateway listens beside it, on "
             "this path with _9001 behind it."},
    {.key = "keepalive",
     .type = CG_OPTION_DURATION,
     .offset = CELL(keepalive_window_ns),
     .min = CG_NS_PER_MS,
     .max = DURATION_DAY,
     .help = "How long this cell may go without a frame before it counts as idle or silent; "
             "without it, keepalive.window."},
    {.key = "owner",
     .type = CG_OPTION_RANGE,
     .offset = CELL(owner),
     .max = UINT32_MAX - 1,
     .help = "[user id, group id] of the socket file; without it, the gateway's own."},
    {.key = "mode",
     .type = CG_OPTION_FILE_MODE,
     .offset = CELL(socket_mode),
     .min = 1,
     .help = "Permissions of the socket file; without it, \"0600\"."},
    {.key = "labels",
     .type = CG_OPTION_PAIRS,
     .offset = CELL(labels),
     .max = CG_LABELS_MAX,
     .help = "Up to 16 texts that appear as host.labels on each of the cell's events."},
    {.key = "traceparent",
     .type = CG_OPTION_STRING,
     .offset = CELL(traceparent),
     .help = "A W3C trace context that goes on each of the cell's events."},
    {.key = "probes",
     .type = CG_OPTION_SECTION,
     .offset = CELL(probes),
     .fields = cg_schema_cell_probes,
     .element_size = sizeof(struct cg_probe_spec),
     .help = "Where the host probes look for this cell; what is not said here, the section probes "
             "says for all."},
    TABLE_END,
};

const struct cg_option *const cg_schema_cell = cell_options;

static const struct cg_option owners_options[] = {
    {.key = "uids",
     .type = CG_OPTION_RANGE,
     .offset = GATEWAY(ingress.owners.uids),
     .max = UINT32_MAX - 1,
     .help = "[first, last] of the user ids."},
    {.key = "gids",
     .type = CG_OPTION_RANGE,
     .offset = GATEWAY(ingress.owners.gids),
     .max = UINT32_MAX - 1,
     .help = "[first, last] of the group ids."},
    TABLE_END,
};

static const struct cg_option ingress_options[] = {
    {.key = "threads",
     .type = CG_OPTION_INTEGER,
     .offset = GATEWAY(ingress.threads),
     .max = INGRESS_THREADS_MAX,
     .fallback = "0",
     .help = "Threads that read guests; a cell is always read by the same one. 0: one for each "
             "core, at most 4."},
    {.key = "max_connections",
     .type = CG_OPTION_INTEGER,
     .offset = GATEWAY(ingress.connections_max),
     .min = 1,
     .max = CONNECTIONS_PER_CELL_MAX,
     .fallback = "16",
     .help = "Connections that one cell may have at once; one more is closed and counted."},
    {.key = "frames_per_second",
     .type = CG_OPTION_INTEGER,
     .offset = GATEWAY(ingress.frames_per_second),
     .live = true,
     .max = FRAMES_PER_SECOND_MAX,
     .fallback = "2000",
     .help = "Rate at which one cell is read; what comes faster waits in the guest. 0: unlimited."},
    {.key = "frames_burst",
     .type = CG_OPTION_INTEGER,
     .offset = GATEWAY(ingress.frames_burst),
     .live = true,
     .min = 1,
     .max = FRAMES_PER_SECOND_MAX,
     .fallback = "20000",
     .help = "Frames that one cell may send at once, after a rest, before the rate holds it."},
    {.key = "frame_deadline",
     .type = CG_OPTION_DURATION,
     .offset = GATEWAY(ingress.frame_deadline_ns),
     .live = true,
     .min = 10 * CG_NS_PER_MS,
     .max = DURATION_HOUR,
     .fallback = "30s",
     .help = "A frame that was begun must be whole by then, or its connection is closed."},
    {.key = "max_partial_bytes",
     .type = CG_OPTION_SIZE,
     .offset = GATEWAY(ingress.partial_bytes_max),
     .min = MIB,
     .max = 4 * GIB,
     .fallback = "16MiB",
     .help = "Memory for all frames that are partly read, of all cells together."},
    {.key = "roots",
     .type = CG_OPTION_STRINGS,
     .offset = GATEWAY(ingress.roots),
     .max = LIST_MAX,
     .help = "Absolute directories that the cells' sockets must lie beneath; none: anywhere for "
             "the cells here, nowhere for those that are registered over the control socket."},
    {.key = "owners",
     .type = CG_OPTION_SECTION,
     .fields = owners_options,
     .help = "Whom a registration over the control socket may give its socket file to; without "
             "it, nobody but the gateway."},
    {.key = "peer_uids",
     .type = CG_OPTION_RANGE,
     .offset = GATEWAY(ingress.peer_uids),
     .max = UINT32_MAX - 1,
     .help = "[first, last] of the users whose processes may connect to cells' sockets, by what "
             "the kernel says of the peer; without it, whoever the file's permissions let."},
    {.key = "cells",
     .type = CG_OPTION_SECTIONS,
     .offset = GATEWAY(ingress.cells),
     .live = true,
     .max = CELLS_MAX,
     .fields = cell_options,
     .element_size = sizeof(struct cg_cell_spec),
     .help = "The cells to listen for from the start."},
    TABLE_END,
};

/* --- the gateway's other sections --- */

static const struct cg_option keepalive_options[] = {
    {.key = "window",
     .type = CG_OPTION_DURATION,
     .offset = GATEWAY(keepalive.window_ns),
     .min = CG_NS_PER_MS,
     .max = DURATION_DAY,
     .fallback = "10s",
     .help = "How long a cell may go without a frame before it counts as idle (connected) or "
             "silent (not connected)."},
    {.key = "boot_grace",
     .type = CG_OPTION_DURATION,
     .offset = GATEWAY(keepalive.boot_grace_ns),
     .max = DURATION_DAY,
     .fallback = "60s",
     .help = "How much longer than that a cell may take before it is first heard, because it "
             "boots."},
    {.key = "once",
     .type = CG_OPTION_BOOL,
     .offset = GATEWAY(keepalive.once),
     .fallback = "false",
     .help = "Report one silence a run, instead of one for each way of being silent (never "
             "connected, connected, closed)."},
    TABLE_END,
};

static const struct cg_option http_options[] = {
    {.key = "listen",
     .type = CG_OPTION_STRINGS,
     .offset = GATEWAY(http.listen),
     .min = 1,
     .max = LIST_MAX,
     .fallback = "127.0.0.1:9464",
     .help = "Where health and metrics are served: HOST:PORT, [V6]:PORT or unix:/path, one or "
             "several. Port 0 takes a free one."},
    {.key = "hosts",
     .type = CG_OPTION_STRINGS,
     .offset = GATEWAY(http.hosts),
     .live = true,
     .max = LIST_MAX,
     .help = "Names that requests may carry in Host, beside addresses and localhost."},
    TABLE_END,
};

static const struct cg_option control_options[] = {
    {.key = "socket",
     .type = CG_OPTION_PATH,
     .offset = GATEWAY(control.socket),
     .written = true,
     .help = "Absolute path of the Unix socket at which cells are registered "
             "(/run/cellgate/control.sock); needs state_dir. Without it there is no such socket."},
    {.key = "mode",
     .type = CG_OPTION_FILE_MODE,
     .offset = GATEWAY(control.mode),
     .min = 1,
     .fallback = "0660",
     .help = "Permissions of the socket: who may write to it may register and remove cells."},
    {.key = "group",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(control.group),
     .min = 1,
     .max = 64,
     .help = "Group of the socket, a name or a number; without it, the gateway's own."},
    TABLE_END,
};

static const struct cg_option event_options[] = {
    {.key = "source",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(event.source),
     .min = 1,
     .max = CG_EVENT_SOURCE_BYTES_MAX,
     .fallback = "/cellos-supervisor/host-telemetry",
     .help = "The CloudEvents source of the cells' events."},
    {.key = "type_prefix",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(event.type_prefix),
     .min = 1,
     .max = CG_EVENT_TYPE_PREFIX_BYTES_MAX,
     .fallback = "dev.cellos.events.cell.observability.v1.guest.",
     .help = "What the CloudEvents types of guests' declarations begin with."},
    TABLE_END,
};

static const struct cg_option signing_options[] = {
    {.key = "mode",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(signing.mode),
     .help = "off (or false), hmac-sha256 or ed25519. Without it, what the environment says "
             "(CELLOS_EVENT_SIGNING, CELLOS_HOST_TELEMETRY_SIGN_ALG), and else off."},
    {.key = "kid",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(signing.kid),
     .min = 1,
     .max = CG_KID_BYTES_MAX,
     .help = "The key's id, by which verifiers find its public half."},
    {.key = "key_file",
     .type = CG_OPTION_PATH,
     .offset = GATEWAY(signing.key_file),
     .help = "File with the key in base64url (`cellgate keygen` makes one), readable by its owner "
             "only; a bare name is looked up among systemd's credentials too."},
    TABLE_END,
};

static const struct cg_option_name when_full_names[] = {
    {"pause", CG_SPOOL_FULL_PAUSE}, {"drop_oldest", CG_SPOOL_FULL_DROP_OLDEST}, {NULL, 0}};

static const struct cg_option spool_options[] = {
    {.key = "dir",
     .type = CG_OPTION_PATH,
     .offset = GATEWAY(spool.dir),
     .help = "Absolute directory of the spool; without it, events wait in memory only."},
    {.key = "max_bytes",
     .type = CG_OPTION_SIZE,
     .offset = GATEWAY(spool.bytes_max),
     .min = MIB,
     .help = "What the spool may take. Without it, 1GiB with a directory and 64MiB without."},
    {.key = "sync",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(spool.sync_text),
     .fallback = "200ms",
     .help = "always, never, or the interval between group commits, which bounds what a power cut "
             "can take. A killed process loses nothing in any case."},
    {.key = "when_full",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(spool.when_full),
     .names = when_full_names,
     .fallback = "pause",
     .help = "pause: stop reading guests until there is room; drop_oldest: give up the oldest "
             "events that are not delivered, count them, and name them in telemetry.dropped."},
    {.key = "cell_share",
     .type = CG_OPTION_SIZE,
     .offset = GATEWAY(spool.cell_share_bytes),
     .min = 64 * KIB,
     .help = "What one cell may have in the spool undelivered; beyond it that cell alone is not "
             "read. Without it, the larger of 1MiB and a sixteenth of max_bytes with when_full: "
             "pause, and no limit with drop_oldest, where nobody waits."},
    {.key = "reserve_bytes",
     .type = CG_OPTION_SIZE,
     .offset = GATEWAY(spool.reserve_bytes),
     .min = KIB,
     .help = "Free space of the file system that is left to others: the spool stops growing there, "
             "and counts as full. Without it, a fiftieth of the file system, at most 256MiB."},
    TABLE_END,
};

static const struct cg_option_name handover_names[] = {
    {"off", CG_HANDOVER_OFF}, {"auto", CG_HANDOVER_AUTO}, {"on", CG_HANDOVER_ON}, {NULL, 0}};

static const struct cg_option shutdown_options[] = {
    {.key = "drain",
     .type = CG_OPTION_DURATION,
     .offset = GATEWAY(shutdown.drain_ns),
     .max = DURATION_HOUR,
     .fallback = "10s",
     .help = "How long exporters may catch up after SIGTERM."},
    {.key = "handover",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(shutdown.handover),
     .names = handover_names,
     .fallback = "auto",
     .help = "Leave guests' sockets and connections to the next start, in systemd's descriptor "
             "store: auto (if systemd says that the unit has one, as it does from version 254), on "
             "(try it), off."},
    TABLE_END,
};

static const struct cg_option_name level_names[] = {{"debug", CG_LOG_DEBUG},
                                                    {"info", CG_LOG_INFO},
                                                    {"warning", CG_LOG_WARNING},
                                                    {"error", CG_LOG_ERROR},
                                                    {NULL, 0}};
static const struct cg_option_name format_names[] = {
    {"logfmt", CG_LOG_LOGFMT}, {"json", CG_LOG_JSON}, {NULL, 0}};

static const struct cg_option log_options[] = {
    {.key = "level",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(log.level),
     .live = true,
     .names = level_names,
     .fallback = "info",
     .help = "The least of what is logged, to stderr."},
    {.key = "format",
     .type = CG_OPTION_ENUM,
     .offset = GATEWAY(log.format),
     .names = format_names,
     .fallback = "logfmt",
     .help = "key=value, or a JSON object a line."},
    TABLE_END,
};

/* --- all --- */

const struct cg_option cg_schema[] = {
    {.key = "node",
     .type = CG_OPTION_STRING,
     .offset = GATEWAY(node),
     .min = 1,
     .max = CG_NODE_BYTES_MAX,
     .help = "This host's name on each event; without it, the host name."},
    {.key = "state_dir",
     .type = CG_OPTION_PATH,
     .offset = GATEWAY(state_dir),
     .help = "Absolute directory for what must survive a restart, dead letters among it; without "
             "it, nothing is kept."},
    {.key = "ingress",
     .type = CG_OPTION_SECTION,
     .fields = ingress_options,
     .help = "The guests' side."},
    {.key = "keepalive",
     .type = CG_OPTION_SECTION,
     .fields = keepalive_options,
     .live = true,
     .help = "When a cell counts as silent."},
    {.key = "probes",
     .type = CG_OPTION_SECTION,
     .fields = cg_schema_probes,
     .help = "What the host itself reads of the cells; docs/probes.md."},
    {.key = "http",
     .type = CG_OPTION_SECTION,
     .fields = http_options,
     .help = "Health and metrics over HTTP."},
    {.key = "control",
     .type = CG_OPTION_SECTION,
     .fields = control_options,
     .help = "Cells in and out, over a Unix socket."},
    {.key = "event",
     .type = CG_OPTION_SECTION,
     .fields = event_options,
     .help = "What is the same on every event."},
    {.key = "signing",
     .type = CG_OPTION_SECTION,
     .fields = signing_options,
     .live = true,
     .help = "Signatures over the events."},
    {.key = "spool",
     .type = CG_OPTION_SECTION,
     .fields = spool_options,
     .help = "Where events wait until every exporter has delivered them."},
    {.key = "shutdown",
     .type = CG_OPTION_SECTION,
     .fields = shutdown_options,
     .live = true,
     .help = "How the gateway ends."},
    {.key = "sandbox",
     .type = CG_OPTION_SECTION,
     .fields = cg_schema_sandbox,
     .help = "What the gateway gives up before it reads a guest's first byte."},
    {.key = "log",
     .type = CG_OPTION_SECTION,
     .fields = log_options,
     .help = "The gateway's own words, on stderr."},
    {.key = "exporters",
     .type = CG_OPTION_SECTIONS,
     .offset = offsetof(struct cg_schema_file, exporters),
     .live = true,
     .min = 1,
     .max = CG_EXPORTERS_MAX,
     .required = true,
     .fields = cg_schema_exporter,
     .element_size = sizeof(struct cg_exporter_config),
     .help = "Where the events go: a list, in which each element has these keys and those of its "
             "type."},
    TABLE_END,
};
