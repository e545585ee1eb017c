#include "gateway.h"

#include "cellgate/clock.h"
#include "cellgate/limits.h"
#include "cellgate/log.h"
#include "delivery/delivery.h"
#include "event/envelope.h"
#include "event/keys.h"
#include "http/control.h"
#include "http/public.h"
#include "ingress/ingress.h"
#include "probes/probes.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INGRESS_THREADS_DEFAULT_MAX = 4,
    DRAIN_TURN_MS = 100,
    CONNECTION_DRAIN_MS = 2000,        /* docs/contract.md section 1 */
    HTTP_REQUEST_TIMEOUT_MS = 5000,    /* section 6 */
    HTTP_CONNECTIONS_MAX = 256,        /* section 6 */
    HTTP_CONNECTIONS_PER_ADDRESS = 16, /* section 6 */
    CONTROL_CONNECTIONS_MAX = 512,
    FORGET_MS = 2000, /* section 6: reading at the end of a run */
    RETRY_END_MS = 1000,
};

struct cg_gateway {
    const struct cg_config *config;
    const struct cg_clock *clock;
    size_t stages_started;

    struct cg_signing_key *key;
    struct cg_envelope *envelope;
    struct cg_spool *spool;
    struct cg_registry *registry;
    struct cg_registrations *registrations;
    struct cg_delivery **deliveries;
    size_t deliveries_count;
    struct cg_gateway_view view;
    struct cg_public *http;
    struct cg_ingress *ingress;
    struct cg_probes *probes;
    struct cg_enrolment *enrolment;
    struct cg_control *control;
};

/* Makes a directory of the gateway's own; one that is there already is fine. */
static bool make_directory(const char *path, struct cg_error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return cg_error_errno(err, errno, "make directory %s", path);
    }
    return true;
}

/* Joins the state directory and a name into `ret_path` (PATH_MAX bytes). */
static bool state_path(const struct cg_gateway *gateway, const char *name, const char *suffix,
                       char *ret_path, struct cg_error *err)
{
    const char *dir = gateway->config->state_dir;
    int len = snprintf(ret_path, PATH_MAX, "%s/%s%s", dir, name, suffix);
    if (len < 0 || len >= PATH_MAX) {
        return cg_error_set(err, "state_dir: the path %s/%s%s is too long", dir, name, suffix);
    }
    return true;
}

/* --- the stages, in the order of their start --- */

static bool start_state(struct cg_gateway *gateway, struct cg_error *err)
{
    if (gateway->config->state_dir == NULL) {
        return true;
    }
    char dead_letters[PATH_MAX];
    return make_directory(gateway->config->state_dir, err) &&
           state_path(gateway, "dead-letters", "", dead_letters, err) &&
           make_directory(dead_letters, err);
}

static void stop_state(struct cg_gateway *gateway)
{
    (void)gateway;
}

static bool start_registrations(struct cg_gateway *gateway, struct cg_error *err)
{
    char path[PATH_MAX];
    bool kept = gateway->config->state_dir != NULL;
    if (kept && !state_path(gateway, "registrations", "", path, err)) {
        return false;
    }
    struct cg_registrations_found found = {0};
    if (!cg_registrations_open(kept ? path : NULL, gateway->clock, &gateway->registrations, &found,
                               err)) {
        return false;
    }
    bool damaged = found.damaged_records != 0 || found.torn_bytes != 0;
    CG_LOG(damaged ? CG_LOG_WARNING : CG_LOG_INFO, "registrations_open",
           CG_F_STR("path", kept ? path : "(memory)"),
           CG_F_U64("registrations", found.registrations), CG_F_U64("ended_runs", found.ended_runs),
           CG_F_U64("sockets", found.sockets), CG_F_U64("damaged_records", found.damaged_records),
           CG_F_U64("torn_bytes", found.torn_bytes));
    gateway->view.registrations = gateway->registrations;
    return true;
}

static void stop_registrations(struct cg_gateway *gateway)
{
    cg_registrations_close(gateway->registrations);
}

static bool start_signing(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_key_request request = {
        .mode = gateway->config->signing.mode,
        .kid = gateway->config->signing.kid,
        .key_file = gateway->config->signing.key_file,
    };
    const char *warning = NULL;
    if (!cg_signing_key_load(&request, getenv, &gateway->key, &warning, err)) {
        return false;
    }
    if (warning != NULL) {
        CG_LOG(CG_LOG_WARNING, "signing_key_weak", CG_F_STR("reason", warning));
    }
    CG_LOG(CG_LOG_INFO, "signing",
           CG_F_STR("mode", cg_signing_mode_name(cg_signing_key_mode(gateway->key))),
           CG_F_BYTES("kid", cg_signing_key_kid(gateway->key)));
    return true;
}

static void stop_signing(struct cg_gateway *gateway)
{
    cg_signing_key_free(gateway->key);
}

static bool start_envelope(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    return cg_envelope_new(cg_bytes_str(config->event.source),
                           cg_bytes_str(config->event.type_prefix), cg_bytes_str(config->node),
                           &gateway->envelope, err);
}

static void stop_envelope(struct cg_gateway *gateway)
{
    cg_envelope_free(gateway->envelope);
}

static bool start_spool(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    const struct cg_spool_config spool = {
        .dir = config->spool.dir,
        .bytes_max = config->spool.bytes_max,
        .sync = config->spool.sync,
        .sync_interval_ns = config->spool.sync_interval_ns,
        .when_full = (enum cg_spool_when_full)config->spool.when_full,
        .clock = gateway->clock,
    };
    struct cg_spool_recovery recovery = {0};
    if (!cg_spool_open(&spool, &gateway->spool, &recovery, err)) {
        return false;
    }
    bool damaged = recovery.torn_bytes != 0 || recovery.damaged_segments != 0;
    CG_LOG(damaged ? CG_LOG_WARNING : CG_LOG_INFO, "spool_open",
           CG_F_STR("dir", spool.dir == NULL ? "(memory)" : spool.dir),
           CG_F_U64("first_index", recovery.first_index),
           CG_F_U64("next_index", recovery.next_index), CG_F_U64("torn_bytes", recovery.torn_bytes),
           CG_F_U64("damaged_segments", recovery.damaged_segments));
    return true;
}

static void stop_spool(struct cg_gateway *gateway)
{
    cg_spool_close(gateway->spool);
}

static unsigned ingress_threads(const struct cg_config *config)
{
    if (config->ingress.threads != 0) {
        return (unsigned)config->ingress.threads;
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    cores = cores < 1 ? 1 : cores;
    return cores > INGRESS_THREADS_DEFAULT_MAX ? INGRESS_THREADS_DEFAULT_MAX : (unsigned)cores;
}

static bool start_cells(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    return cg_registry_new(gateway->spool, ingress_threads(config), config->keepalive.window_ns,
                           &gateway->registry, err);
}

static void stop_cells(struct cg_gateway *gateway)
{
    cg_registry_free(gateway->registry);
}

/* The lesser of the operator's batch size and what the exporter can acknowledge at once. */
static uint64_t batch_events(const struct cg_exporter_config *exporter)
{
    uint64_t (*limit)(const void *config) = exporter->ops->batch_events_max;
    uint64_t max = limit == NULL ? 0 : limit(exporter->own);
    return max != 0 && max < exporter->batch_events ? max : exporter->batch_events;
}

static bool start_exporter(struct cg_gateway *gateway, const struct cg_exporter_config *exporter,
                           struct cg_error *err)
{
    char dead_letters[PATH_MAX] = "";
    char name[CG_EXPORTER_NAME_BYTES_MAX + sizeof("dead-letters/")];
    (void)snprintf(name, sizeof(name), "dead-letters/%s", exporter->name);
    bool kept = gateway->config->state_dir != NULL;
    if (kept && !state_path(gateway, name, ".jsonl", dead_letters, err)) {
        return false;
    }
    const struct cg_delivery_config delivery = {
        .name = exporter->name,
        .ops = exporter->ops,
        .exporter_config = exporter->own,
        .env = {.name = exporter->name, .node = gateway->config->node, .version = CELLGATE_VERSION},
        .batch_events = batch_events(exporter),
        .batch_bytes = exporter->batch_bytes,
        .linger_ns = exporter->linger_ns,
        .backoff_initial_ns = exporter->backoff_initial_ns,
        .backoff_max_ns = exporter->backoff_max_ns,
        .hold_initial_ns = exporter->hold_initial_ns,
        .hold_max_ns = exporter->hold_max_ns,
        .retry_after_max_ns = exporter->retry_after_max_ns,
        .suspect_after = exporter->suspect_after,
        .max_age_ns = exporter->max_age_ns,
        .watchdog_ns = exporter->watchdog_ns,
        .dead_letter_bytes_max = exporter->dead_letter_bytes_max,
        .filter = &exporter->filter,
        .dead_letter_path = kept ? dead_letters : NULL,
        .clock = gateway->clock,
    };
    struct cg_delivery **slot = &gateway->deliveries[gateway->deliveries_count];
    if (!cg_delivery_start(&delivery, gateway->spool, slot, err)) {
        return cg_error_context(err, "exporter %s", exporter->name);
    }
    gateway->deliveries_count++;
    return true;
}

static void stop_delivery(struct cg_gateway *gateway)
{
    for (size_t i = gateway->deliveries_count; i > 0; i--) {
        cg_delivery_stop(gateway->deliveries[i - 1]);
    }
    free(gateway->deliveries);
}

static bool start_delivery(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    gateway->deliveries = calloc(config->exporters_count + 1, sizeof(struct cg_delivery *));
    if (gateway->deliveries == NULL) {
        return cg_error_set(err, "out of memory");
    }
    for (size_t i = 0; i < config->exporters_count; i++) {
        if (!start_exporter(gateway, &config->exporters[i], err)) {
            stop_delivery(gateway);
            return false;
        }
    }
    return true;
}

static bool start_http(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_public_config public = {
        .listen = gateway->config->http.listen,
        .hosts = gateway->config->http.hosts,
        .request_timeout_ns = HTTP_REQUEST_TIMEOUT_MS * CG_NS_PER_MS,
        .connections_max = HTTP_CONNECTIONS_MAX,
        .connections_per_address_max = HTTP_CONNECTIONS_PER_ADDRESS,
    };
    gateway->view.node = gateway->config->node;
    gateway->view.version = CELLGATE_VERSION;
    gateway->view.started_realtime_ns = cg_clock_realtime(gateway->clock);
    gateway->view.registry = gateway->registry;
    gateway->view.spool = gateway->spool;
    gateway->view.deliveries = gateway->deliveries;
    gateway->view.deliveries_count = gateway->deliveries_count;
    gateway->view.clock = gateway->clock;
    if (!cg_public_start(&public, &gateway->view, &gateway->http, err)) {
        return false;
    }
    for (size_t i = 0; i < public.listen.count; i++) {
        CG_LOG(CG_LOG_INFO, "http_listening",
               CG_F_STR("address", cg_public_address(gateway->http, i)));
    }
    return true;
}

static void stop_http(struct cg_gateway *gateway)
{
    cg_public_stop(gateway->http);
    cg_probes_free(gateway->probes); /* which pages described until now */
}

static bool add_cells(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_cell_spec *specs = gateway->config->ingress.cells.items;
    for (size_t i = 0; i < gateway->config->ingress.cells.count; i++) {
        struct cg_cell *cell = NULL;
        if (!cg_registry_add(gateway->registry, &specs[i], cg_clock_monotonic(gateway->clock),
                             &cell, err) ||
            !cg_ingress_listen(gateway->ingress, cell, err)) {
            return cg_error_context(err, "cell %s", specs[i].cell_id);
        }
    }
    return true;
}

static void stop_ingress(struct cg_gateway *gateway)
{
    cg_ingress_stop(gateway->ingress);
}

static bool start_ingress(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    const struct cg_ingress_config ingress = {
        .threads = ingress_threads(config),
        .connections_max = (uint32_t)config->ingress.connections_max,
        .frames_per_second = config->ingress.frames_per_second,
        .frames_burst = config->ingress.frames_burst,
        .frame_deadline_ns = config->ingress.frame_deadline_ns,
        .partial_bytes_max = config->ingress.partial_bytes_max,
        .drain_timeout_ns = CONNECTION_DRAIN_MS * CG_NS_PER_MS,
        .boot_grace_ns = config->keepalive.boot_grace_ns,
        .keepalive_once = config->keepalive.once,
        .corroborate = config->probes.corroboration.enabled,
        .corroboration = {.packets_min = config->probes.corroboration.packets_min,
                          .cpu_min_ns = config->probes.corroboration.cpu_min_ns},
        .roots = config->ingress.roots,
        .peer_uids = config->ingress.peer_uids,
        .registrations = gateway->registrations,
        .clock = gateway->clock,
    };
    if (!cg_ingress_start(&ingress, gateway->envelope, gateway->key, gateway->spool,
                          &gateway->ingress, err)) {
        return false;
    }
    gateway->view.ingress = gateway->ingress;
    if (!add_cells(gateway, err)) {
        gateway->view.ingress = NULL;
        cg_ingress_drain(gateway->ingress, 0);
        stop_ingress(gateway);
        return false;
    }
    return true;
}

static bool start_probes(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_probes_config probes = {
        .policy = gateway->config->probes,
        .registry = gateway->registry,
        .ingress = gateway->ingress,
        .clock = gateway->clock,
    };
    if (!cg_probes_start(&probes, &gateway->probes, err)) {
        return false;
    }
    atomic_store(&gateway->view.probes, gateway->probes);
    return true;
}

static void stop_probes(struct cg_gateway *gateway)
{
    cg_probes_stop(gateway->probes);
}

static bool start_enrolment(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    const struct cg_enrolment_config enrolment = {
        .registry = gateway->registry,
        .ingress = gateway->ingress,
        .registrations = gateway->registrations,
        .roots = config->ingress.roots,
        .owner_uids = config->ingress.owners.uids,
        .owner_gids = config->ingress.owners.gids,
        .probe_roots = config->probes.roots,
        .forget_timeout_ns = FORGET_MS * CG_NS_PER_MS,
        .retry_interval_ns = RETRY_END_MS * CG_NS_PER_MS,
        .clock = gateway->clock,
    };
    if (!cg_enrolment_new(&enrolment, &gateway->enrolment, err)) {
        return false;
    }
    if (!cg_enrolment_restore(gateway->enrolment, err)) {
        cg_enrolment_free(gateway->enrolment);
        gateway->enrolment = NULL;
        return false;
    }
    return true;
}

static void stop_enrolment(struct cg_gateway *gateway)
{
    cg_enrolment_free(gateway->enrolment);
}

static bool start_control(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    const struct cg_control_config control = {
        .socket = config->control.socket,
        .mode = (mode_t)config->control.mode,
        .group = config->control.group,
        .request_timeout_ns = HTTP_REQUEST_TIMEOUT_MS * CG_NS_PER_MS,
        .connections_max = CONTROL_CONNECTIONS_MAX,
    };
    if (control.socket == NULL) {
        return true;
    }
    if (!cg_control_start(&control, &gateway->view, gateway->enrolment, &gateway->control, err)) {
        return false;
    }
    CG_LOG(CG_LOG_INFO, "control_listening", CG_F_STR("socket", control.socket));
    return true;
}

static void stop_control(struct cg_gateway *gateway)
{
    cg_control_stop(gateway->control);
    gateway->control = NULL;
}

/* A later stage may use an earlier one. HTTP stands before ingress, so that /livez answers while
 * thousands of sockets are made, and behind delivery, whose state it shows. Control comes last:
 * nobody registers a cell before those that were there are bound again. */
static const struct stage {
    const char *name;
    bool (*start)(struct cg_gateway *gateway, struct cg_error *err);
    void (*stop)(struct cg_gateway *gateway);
} stages[] = {
    {"state_dir", start_state, stop_state},
    {"journal", start_registrations, stop_registrations},
    {"signing", start_signing, stop_signing},
    {"event", start_envelope, stop_envelope},
    {"spool", start_spool, stop_spool},
    {"cells", start_cells, stop_cells},
    {"exporters", start_delivery, stop_delivery},
    {"http", start_http, stop_http},
    {"ingress", start_ingress, stop_ingress},
    {"probes", start_probes, stop_probes},
    {"registrations", start_enrolment, stop_enrolment},
    {"control", start_control, stop_control},
};

enum { STAGES = sizeof(stages) / sizeof(stages[0]) };

/* --- the gateway --- */

/* Before an end without draining: what was bound is not left behind. */
static void remove_sockets(struct cg_gateway *gateway)
{
    if (gateway->enrolment != NULL) {
        cg_enrolment_close(gateway->enrolment);
    }
    if (atomic_load(&gateway->view.ingress) != NULL) {
        cg_ingress_drain(gateway->ingress, 0);
    }
}

bool cg_gateway_start(const struct cg_config *config, struct cg_gateway **ret_gateway,
                      struct cg_error *err)
{
    struct cg_gateway *gateway = calloc(1, sizeof(*gateway));
    if (gateway == NULL) {
        return cg_error_set(err, "out of memory");
    }
    gateway->config = config;
    gateway->clock = &cg_clock_system;
    atomic_store(&gateway->view.phase, CG_PHASE_STARTING);
    for (size_t i = 0; i < STAGES; i++) {
        if (!stages[i].start(gateway, err)) {
            (void)cg_error_context(err, "%s", stages[i].name);
            remove_sockets(gateway);
            cg_gateway_stop(gateway);
            return false;
        }
        gateway->stages_started = i + 1;
    }
    atomic_store(&gateway->view.phase, CG_PHASE_READY);
    *ret_gateway = gateway;
    return true;
}

void cg_gateway_reopen(struct cg_gateway *gateway)
{
    for (size_t i = 0; i < gateway->deliveries_count; i++) {
        cg_delivery_reopen(gateway->deliveries[i]);
    }
}

/* Waits in short turns, to ask between them whether the waiting is over. */
static bool catch_up(struct cg_delivery *delivery, uint64_t deadline_ns, bool (*is_over)(void))
{
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    while (now_ns < deadline_ns && !is_over()) {
        uint64_t turn_ends_ns = now_ns + DRAIN_TURN_MS * CG_NS_PER_MS;
        if (cg_delivery_caught_up(delivery,
                                  turn_ends_ns < deadline_ns ? turn_ends_ns : deadline_ns)) {
            return true;
        }
        now_ns = cg_clock_monotonic(&cg_clock_system);
    }
    return cg_delivery_caught_up(delivery, now_ns);
}

void cg_gateway_drain(struct cg_gateway *gateway, uint64_t deadline_ns, bool (*is_over)(void))
{
    atomic_store(&gateway->view.phase, CG_PHASE_DRAINING);
    stop_control(gateway);
    cg_enrolment_close(gateway->enrolment);
    cg_probes_stop(gateway->probes);
    cg_ingress_drain(gateway->ingress, deadline_ns);
    for (size_t i = 0; i < gateway->deliveries_count; i++) {
        cg_delivery_flush(gateway->deliveries[i]);
    }
    for (size_t i = 0; i < gateway->deliveries_count; i++) {
        if (catch_up(gateway->deliveries[i], deadline_ns, is_over)) {
            continue;
        }
        struct cg_delivery_status status;
        cg_delivery_status(gateway->deliveries[i], &status);
        CG_LOG(CG_LOG_WARNING, "exporter_left_behind", CG_F_STR("exporter", status.name),
               CG_F_U64("events", status.backlog.events),
               CG_F_STR("kept", gateway->config->spool.dir == NULL ? "no" : "in the spool"),
               CG_F_STR("last_error", status.last_error));
    }
}

void cg_gateway_stop(struct cg_gateway *gateway)
{
    while (gateway->stages_started > 0) {
        stages[--gateway->stages_started].stop(gateway);
    }
    free(gateway);
}
