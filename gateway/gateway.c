#include "gateway.h"

#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cellgate/log.h"
#include "gateway_state.h"
#include "spool_log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INGRESS_THREADS_DEFAULT_MAX = 4,
    CONNECTION_DRAIN_MS = 2000,        /* docs/contract.md section 1 */
    HTTP_REQUEST_TIMEOUT_MS = 5000,    /* section 6 */
    HTTP_CONNECTIONS_MAX = 256,        /* section 6 */
    HTTP_CONNECTIONS_PER_ADDRESS = 16, /* section 6 */
    CONTROL_CONNECTIONS_MAX = 512,
    FORGET_MS = 2000, /* section 6: reading at the end of a run */
    RETRY_END_MS = 1000,
};

/* Makes a directory of the gateway's own; one that is there already is fine. */
static bool make_directory(const struct cg_gateway *gateway, const char *path, struct cg_error *err)
{
    if (mkdir(path, 0700) == 0) {
        return cg_sandbox_own(gateway->sandbox, path, err);
    }
    return errno == EEXIST || cg_error_errno(err, errno, "make directory %s", path);
}

bool cg_gateway_state_path(const struct cg_gateway *gateway, const char *name, const char *suffix,
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
    const struct cg_config *config = gateway->config;
    if (config->spool.dir != NULL && !make_directory(gateway, config->spool.dir, err)) {
        return false;
    }
    if (config->state_dir == NULL) {
        return true;
    }
    char dead_letters[PATH_MAX];
    return make_directory(gateway, config->state_dir, err) &&
           cg_gateway_state_path(gateway, "dead-letters", "", dead_letters, err) &&
           make_directory(gateway, dead_letters, err);
}

static void stop_state(struct cg_gateway *gateway)
{
    (void)gateway;
}

static bool start_registrations(struct cg_gateway *gateway, struct cg_error *err)
{
    char path[PATH_MAX];
    bool kept = gateway->config->state_dir != NULL;
    if (kept && !cg_gateway_state_path(gateway, "registrations", "", path, err)) {
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

bool cg_gateway_load_key(const struct cg_config *config, struct cg_signing_key **ret_key,
                         struct cg_error *err)
{
    const struct cg_key_request request = {
        .mode = config->signing.mode,
        .kid = config->signing.kid,
        .key_file = config->signing.key_file,
    };
    const char *warning = NULL;
    if (!cg_signing_key_load(&request, getenv, ret_key, &warning, err)) {
        return false;
    }
    if (warning != NULL) {
        CG_LOG(CG_LOG_WARNING, "signing_key_weak", CG_F_STR("reason", warning));
    }
    return true;
}

static bool start_signing(struct cg_gateway *gateway, struct cg_error *err)
{
    if (!cg_gateway_load_key(gateway->config, &gateway->key, err)) {
        return false;
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

static bool start_sandbox(struct cg_gateway *gateway, struct cg_error *err)
{
    gateway->view.sandbox = cg_sandbox_status(gateway->sandbox);
    return cg_sandbox_enter(gateway->sandbox, err);
}

static void stop_sandbox(struct cg_gateway *gateway)
{
    (void)gateway; /* it holds to the end of the process */
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
        .cell_share_bytes = config->spool.cell_share_bytes,
        .reserve_bytes = config->spool.reserve_bytes == 0 ? CG_SPOOL_RESERVE_DEFAULT
                                                          : config->spool.reserve_bytes,
        .clock = gateway->clock,
        .notice = cg_spool_log_notice,
    };
    struct cg_spool_recovery recovery = {0};
    if (!cg_spool_open(&spool, &gateway->spool, &recovery, err)) {
        return false;
    }
    cg_spool_log_open(spool.dir, &recovery);
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

static bool start_http(struct cg_gateway *gateway, struct cg_error *err)
{
    int fds[CG_INHERITED_HTTP_MAX];
    const struct cg_public_config public = {
        .listen = gateway->config->http.listen,
        .inherited_fds = fds,
        .inherited_count = cg_inherited_take(gateway->source.inherited, CG_INHERITED_HTTP, fds,
                                             CG_INHERITED_HTTP_MAX),
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
    gateway->view.clock = gateway->clock;
    bool started = cg_public_start(&public, &gateway->view, &gateway->http, err);
    for (size_t i = 0; i < public.inherited_count; i++) {
        cg_cleanup_close(&fds[i]); /* those that were not taken */
    }
    if (!started) {
        return false;
    }
    for (size_t i = 0; i < cg_public_listeners(gateway->http); i++) {
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
        if (cg_registrations_ended(gateway->registrations, specs[i].cell_id, specs[i].run_id)) {
            (void)cg_error_set(err, "run_id: run %s of the cell has ended before", specs[i].run_id);
            return cg_error_context(err, "cell %s", specs[i].cell_id);
        }
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
        .files = cg_sandbox_socket_files(gateway->sandbox),
        .peer_uids = config->ingress.peer_uids,
        .spool_gives_up = cg_gateway_spool_gives_up(config),
        .registrations = gateway->registrations,
        .handover = cg_gateway_take_over(gateway),
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
    cg_spool_runs_settled(gateway->spool);
    cg_gateway_end_taking_over(gateway);
    return true;
}

static void stop_enrolment(struct cg_gateway *gateway)
{
    cg_enrolment_free(gateway->enrolment);
}

static enum cg_reload_outcome reload_for_control(void *context, struct cg_buf *ret_report,
                                                 struct cg_buf *ret_problems)
{
    return cg_gateway_reload(context, ret_report, ret_problems);
}

static bool start_control(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    cg_auto_close int fd = -1;
    const bool inherits =
        cg_inherited_take(gateway->source.inherited, CG_INHERITED_CONTROL, &fd, 1) > 0;
    const struct cg_control_config control = {
        .socket = config->control.socket,
        .inherited_fd = inherits ? &fd : NULL,
        .mode = (mode_t)config->control.mode,
        .group = config->control.group,
        .request_timeout_ns = HTTP_REQUEST_TIMEOUT_MS * CG_NS_PER_MS,
        .connections_max = CONTROL_CONNECTIONS_MAX,
        .reload = reload_for_control,
        .reload_context = gateway,
    };
    if (control.socket == NULL && !inherits) {
        return true;
    }
    if (config->state_dir == NULL) {
        return cg_error_set(err, "a socket was passed for it, which needs a state_dir");
    }
    if (!cg_control_start(&control, &gateway->view, gateway->enrolment, &gateway->control, err)) {
        return false;
    }
    CG_LOG(CG_LOG_INFO, "control_listening",
           CG_F_STR("address", cg_control_address(gateway->control)));
    return true;
}

void cg_gateway_stop_control(struct cg_gateway *gateway)
{
    cg_control_stop(gateway->control);
    gateway->control = NULL;
}

/* A later stage may use an earlier one. The sandbox is entered when keys are read and directories
 * made, and before the first thread, file of the gateway's own and socket. HTTP stands before
 * ingress, so that /livez answers while thousands of sockets are made, and behind delivery, whose
 * state it shows. Control comes last: nobody registers a cell, or reloads, before those that were
 * there are bound again. */
static const struct stage {
    const char *name;
    bool (*start)(struct cg_gateway *gateway, struct cg_error *err);
    void (*stop)(struct cg_gateway *gateway);
} stages[] = {
    {"state_dir", start_state, stop_state},
    {"signing", start_signing, stop_signing},
    {"sandbox", start_sandbox, stop_sandbox},
    {"journal", start_registrations, stop_registrations},
    {"event", start_envelope, stop_envelope},
    {"spool", start_spool, stop_spool},
    {"cells", start_cells, stop_cells},
    {"exporters", cg_running_start_all, cg_running_stop_all},
    {"http", start_http, stop_http},
    {"ingress", start_ingress, stop_ingress},
    {"probes", start_probes, stop_probes},
    {"registrations", start_enrolment, stop_enrolment},
    {"reloads", cg_reloader_start, cg_reloader_stop},
    {"control", start_control, cg_gateway_stop_control},
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

static struct cg_gateway *new_gateway(const struct cg_gateway_source *source,
                                      struct cg_config *config, struct cg_error *err)
{
    struct cg_gateway *gateway = calloc(1, sizeof(*gateway));
    if (gateway == NULL || !cg_reloads_new(&gateway->view.reloads, err)) {
        free(gateway);
        (void)cg_error_set(err, "out of memory");
        return NULL;
    }
    gateway->source = *source;
    gateway->config = gateway->current = config;
    gateway->clock = &cg_clock_system;
    gateway->view.deliveries = gateway->deliveries;
    gateway->view.deliveries_lock = &gateway->deliveries_lock;
    (void)pthread_rwlock_init(&gateway->deliveries_lock, NULL);
    (void)pthread_mutex_init(&gateway->reload_lock, NULL);
    atomic_store(&gateway->view.phase, CG_PHASE_STARTING);
    return gateway;
}

bool cg_gateway_start(const struct cg_gateway_source *source, struct cg_config *config,
                      struct cg_sandbox *sandbox, struct cg_gateway **ret_gateway,
                      struct cg_error *err)
{
    struct cg_gateway *gateway = new_gateway(source, config, err);
    if (gateway == NULL) {
        return false;
    }
    gateway->sandbox = sandbox;
    for (size_t i = 0; i < STAGES; i++) {
        if (!stages[i].start(gateway, err)) {
            (void)cg_error_context(err, "%s", stages[i].name);
            remove_sockets(gateway);
            cg_gateway_stop(gateway);
            return false;
        }
        gateway->stages_started = i + 1;
    }
    gateway->configs[gateway->configs_count++] = config;
    atomic_store(&gateway->view.phase, CG_PHASE_READY);
    *ret_gateway = gateway;
    return true;
}

void cg_gateway_reopen(struct cg_gateway *gateway)
{
    cg_view_lock(&gateway->view);
    for (size_t i = 0; i < gateway->view.deliveries_count; i++) {
        cg_delivery_reopen(gateway->deliveries[i]);
    }
    cg_view_unlock(&gateway->view);
}

void cg_gateway_stop(struct cg_gateway *gateway)
{
    while (gateway->stages_started > 0) {
        stages[--gateway->stages_started].stop(gateway);
    }
    for (size_t i = 0; i < gateway->configs_count; i++) {
        cg_config_free(gateway->configs[i]);
    }
    cg_reloads_free(gateway->view.reloads);
    (void)pthread_rwlock_destroy(&gateway->deliveries_lock);
    (void)pthread_mutex_destroy(&gateway->reload_lock);
    free(gateway);
}
