#include "http/enrolment.h"

#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"
#include "http/vmm_watch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* A cell that a thread is busy with; others who want the same cell wait. On that thread's stack. */
struct busy {
    struct busy *next;
    const char *cell_id;
};

struct cg_enrolment {
    struct cg_enrolment_config config;
    struct cg_vmm_watcher *watcher;
    pthread_t mender;
    bool mending; /* that thread is there */

    pthread_mutex_t lock; /* covers all below */
    pthread_cond_t changed;
    struct busy *busy;
    bool closed;
};

/* --- one at a time of each cell --- */

static bool is_busy(const struct cg_enrolment *enrolment, const char *cell_id)
{
    for (const struct busy *at = enrolment->busy; at != NULL; at = at->next) {
        if (strcmp(at->cell_id, cell_id) == 0) {
            return true;
        }
    }
    return false;
}

/* False once the enrolment is closed. */
static bool begin(struct cg_enrolment *enrolment, struct busy *mine)
{
    (void)pthread_mutex_lock(&enrolment->lock);
    while (!enrolment->closed && is_busy(enrolment, mine->cell_id)) {
        (void)pthread_cond_wait(&enrolment->changed, &enrolment->lock);
    }
    bool open = !enrolment->closed;
    if (open) {
        mine->next = enrolment->busy;
        enrolment->busy = mine;
    }
    (void)pthread_mutex_unlock(&enrolment->lock);
    return open;
}

static void end(struct cg_enrolment *enrolment, const struct busy *mine)
{
    (void)pthread_mutex_lock(&enrolment->lock);
    struct busy **at = &enrolment->busy;
    while (*at != mine) {
        at = &(*at)->next;
    }
    *at = mine->next;
    (void)pthread_cond_broadcast(&enrolment->changed);
    (void)pthread_mutex_unlock(&enrolment->lock);
}

/* --- results --- */

static void answer(struct cg_enrol_result *result, enum cg_enrol_outcome outcome,
                   const char *member)
{
    result->outcome = outcome;
    (void)snprintf(result->member, sizeof(result->member), "%s", member);
}

/* An error that begins with the member it is about, and a colon. */
static void answer_by_detail(struct cg_enrol_result *result, enum cg_enrol_outcome outcome)
{
    char member[sizeof(result->member)];
    size_t len = strcspn(result->detail.text, ":");
    (void)snprintf(member, sizeof(member), "%.*s", (int)len, result->detail.text);
    answer(result, outcome, member);
}

static void answer_not_listening(struct cg_enrol_result *result, enum cg_listening_outcome outcome)
{
    static const struct {
        enum cg_enrol_outcome outcome;
        const char *member;
    } answers[] = {
        [CG_LISTENING_DONE] = {CG_ENROL_CREATED, ""},
        [CG_LISTENING_FORBIDDEN] = {CG_ENROL_FORBIDDEN, "vsock_uds_base"},
        [CG_LISTENING_BAD_PATH] = {CG_ENROL_INVALID, "vsock_uds_base"},
        [CG_LISTENING_TAKEN] = {CG_ENROL_CONFLICT, "vsock_uds_base"},
        [CG_LISTENING_NOT_KEPT] = {CG_ENROL_NOT_KEPT, ""},
        [CG_LISTENING_FAILED] = {CG_ENROL_FAILED, ""},
    };
    answer(result, answers[outcome].outcome, answers[outcome].member);
}

/* --- PUT --- */

static bool in_range(const struct cg_range *range, uint64_t value)
{
    return range->present && value >= range->first && value <= range->last;
}

static bool is_allowed(const struct cg_enrolment_config *config, const struct cg_cell_spec *spec,
                       struct cg_enrol_result *result)
{
    if (config->roots.count == 0) {
        answer(result, CG_ENROL_FORBIDDEN, "vsock_uds_base");
        return cg_error_set(&result->detail, "ingress.roots is not configured");
    }
    if (spec->owner.present && !(in_range(&config->owner_uids, spec->owner.first) &&
                                 in_range(&config->owner_gids, spec->owner.last))) {
        answer(result, CG_ENROL_FORBIDDEN, "owner");
        return cg_error_set(&result->detail, "not within ingress.owners");
    }
    if (spec->probes != NULL &&
        !cg_probe_spec_within(spec->probes, config->probe_roots, &result->detail)) {
        answer(result, CG_ENROL_FORBIDDEN, "probes");
        return false;
    }
    return true;
}

/* Binds, keeps and watches a cell that the registry has. */
static void put_added(struct cg_enrolment *enrolment, const struct cg_enrol_request *request,
                      struct cg_cell *cell, struct cg_enrol_result *result)
{
    struct cg_kept_registration kept = {.spec = request->spec, .vmm_pid = request->vmm_pid};
    if (request->vmm_pid != 0 && !cg_vmm_watch_new(enrolment->watcher, cell, &cell->vmm_watch,
                                                   &kept.vmm_start_ticks, &result->detail)) {
        cg_registry_remove(enrolment->config.registry, cell);
        answer(result, CG_ENROL_INVALID, "vmm_pid");
        return;
    }
    enum cg_listening_outcome outcome =
        cg_ingress_enrol(enrolment->config.ingress, cell, &kept, &result->detail);
    if (outcome != CG_LISTENING_DONE) {
        cg_registrations_gone(enrolment->config.registrations, request->spec.cell_id,
                              request->spec.run_id);
        cg_vmm_watch_drop(enrolment->watcher, cg_steal_ptr(cell->vmm_watch));
        cg_registry_remove(enrolment->config.registry, cell);
        answer_not_listening(result, outcome);
        return;
    }
    cg_vmm_watch_start(enrolment->watcher, cell->vmm_watch);
    answer(result, CG_ENROL_CREATED, "");
}

static void put(struct cg_enrolment *enrolment, const struct cg_enrol_request *request,
                struct cg_enrol_result *result)
{
    const struct cg_enrolment_config *config = &enrolment->config;
    struct cg_cell *cell = NULL;
    enum cg_registry_outcome outcome =
        cg_registry_enrol(config->registry, &request->spec, request->vmm_pid,
                          cg_clock_monotonic(config->clock), &cell, &result->detail);
    switch (outcome) {
    case CG_REGISTRY_ADDED:
        if (cg_registrations_ended(config->registrations, request->spec.cell_id,
                                   request->spec.run_id)) {
            cg_registry_remove(config->registry, cell);
            (void)cg_error_set(&result->detail, "run_id: this run of the cell has ended before");
            answer_by_detail(result, CG_ENROL_CONFLICT);
        } else if (!is_allowed(config, &request->spec, result)) {
            cg_registry_remove(config->registry, cell);
        } else {
            put_added(enrolment, request, cell, result);
        }
        break;
    case CG_REGISTRY_EXISTS:
        answer(result, CG_ENROL_EXISTS, "");
        break;
    case CG_REGISTRY_CONFLICT:
        answer_by_detail(result, CG_ENROL_CONFLICT);
        return;
    case CG_REGISTRY_INVALID:
        answer_by_detail(result, CG_ENROL_INVALID);
        return;
    case CG_REGISTRY_FAILED:
        answer(result, CG_ENROL_FAILED, "");
        return;
    }
    cg_cell_unref(cell);
}

static void answer_closed(struct cg_enrol_result *result)
{
    (void)cg_error_set(&result->detail, "the gateway is stopping");
    answer(result, CG_ENROL_FAILED, "");
}

void cg_enrol_put(struct cg_enrolment *enrolment, const struct cg_enrol_request *request,
                  struct cg_enrol_result *ret_result)
{
    *ret_result = (struct cg_enrol_result){0};
    struct busy mine = {.cell_id = request->spec.cell_id};
    if (!begin(enrolment, &mine)) {
        answer_closed(ret_result);
        return;
    }
    put(enrolment, request, ret_result);
    end(enrolment, &mine);
}

/* --- DELETE --- */

/* The end of a run that is kept as ended: its last events, and then nothing of it. */
static void forget(struct cg_enrolment *enrolment, struct cg_cell *cell,
                   struct cg_run_totals *ret_totals)
{
    const struct cg_enrolment_config *config = &enrolment->config;
    char run_id[CG_ID_BYTES_MAX + 1];
    char cell_id[CG_ID_BYTES_MAX + 1];
    (void)snprintf(run_id, sizeof(run_id), "%.*s", CG_BYTES_ARG(cell->identity.run_id));
    (void)snprintf(cell_id, sizeof(cell_id), "%.*s", CG_BYTES_ARG(cell->identity.cell_id));
    cg_vmm_watch_drop(enrolment->watcher, cg_steal_ptr(cell->vmm_watch));
    struct cg_error err = {0};
    if (!cg_ingress_forget(config->ingress, cell,
                           cg_clock_monotonic(config->clock) + config->forget_timeout_ns,
                           ret_totals, &err)) {
        CG_LOG(CG_LOG_WARNING, "run_end_delayed", CG_F_STR("cell", cell_id),
               CG_F_STR("run", run_id), CG_F_STR("detail", err.text));
    }
    cg_registrations_gone(config->registrations, cell_id, run_id);
    cg_registry_remove(config->registry, cell);
}

/* A registration that could not be bound again after a restart has no cell, but is kept. */
static void remove_unbound(struct cg_enrolment *enrolment, const char *cell_id,
                           struct cg_enrol_result *result)
{
    char run_id[CG_ID_BYTES_MAX + 1];
    cg_registrations_run_of(enrolment->config.registrations, cell_id, run_id);
    if (run_id[0] == '\0') {
        (void)cg_error_set(&result->detail, "there is no cell %s", cell_id);
        answer(result, CG_ENROL_NOT_FOUND, "");
    } else if (!cg_registrations_end(enrolment->config.registrations, cell_id, run_id,
                                     &result->detail)) {
        answer(result, CG_ENROL_NOT_KEPT, "");
    } else {
        cg_registrations_gone(enrolment->config.registrations, cell_id, run_id);
        answer(result, CG_ENROL_REMOVED, "");
    }
}

/* `run_id`: only if it is this run; NULL: whatever it is. `configured`: only of the file's. */
static void remove_cell(struct cg_enrolment *enrolment, const char *cell_id, const char *run_id,
                        bool configured, struct cg_enrol_result *result)
{
    const struct cg_enrolment_config *config = &enrolment->config;
    struct cg_cell *cell = cg_registry_find(config->registry, cg_bytes_str(cell_id));
    if (cell == NULL) {
        remove_unbound(enrolment, cell_id, result);
        return;
    }
    CG_ASSERT(cell->configured || !configured);
    char its_run[CG_ID_BYTES_MAX + 1];
    (void)snprintf(its_run, sizeof(its_run), "%.*s", CG_BYTES_ARG(cell->identity.run_id));
    if (cell->configured && !configured) {
        (void)cg_error_set(&result->detail, "cell_id: %s is a cell of the configuration file",
                           cell_id);
        answer_by_detail(result, CG_ENROL_CONFLICT);
    } else if (run_id != NULL && strcmp(run_id, its_run) != 0) {
        (void)cg_error_set(&result->detail, "that run is over already");
        answer(result, CG_ENROL_NOT_FOUND, "");
    } else if (!cg_registrations_end(config->registrations, cell_id, its_run, &result->detail)) {
        answer(result, CG_ENROL_NOT_KEPT, "");
    } else {
        forget(enrolment, cell, &result->totals);
        answer(result, CG_ENROL_REMOVED, "");
    }
    cg_cell_unref(cell);
}

static void delete_run(struct cg_enrolment *enrolment, const char *cell_id, const char *run_id,
                       bool configured, struct cg_enrol_result *ret_result)
{
    *ret_result = (struct cg_enrol_result){0};
    struct busy mine = {.cell_id = cell_id};
    if (!begin(enrolment, &mine)) {
        answer_closed(ret_result);
        return;
    }
    remove_cell(enrolment, cell_id, run_id, configured, ret_result);
    end(enrolment, &mine);
}

void cg_enrol_delete(struct cg_enrolment *enrolment, const char *cell_id,
                     struct cg_enrol_result *ret_result)
{
    delete_run(enrolment, cell_id, NULL, false, ret_result);
}

void cg_enrol_withdraw(struct cg_enrolment *enrolment, const char *cell_id,
                       struct cg_enrol_result *ret_result)
{
    delete_run(enrolment, cell_id, NULL, true, ret_result);
}

/* Called by the watcher's thread; false: it failed, and is to be tried again. */
static bool vmm_ended(void *context, const char *cell_id, const char *run_id)
{
    struct cg_enrolment *enrolment = context;
    struct cg_enrol_result result;
    delete_run(enrolment, cell_id, run_id, false, &result);
    bool done = result.outcome == CG_ENROL_REMOVED || result.outcome == CG_ENROL_NOT_FOUND;
    CG_LOG(done ? CG_LOG_INFO : CG_LOG_WARNING, "vmm_ended", CG_F_STR("cell", cell_id),
           CG_F_STR("run", run_id), CG_F_STR("detail", result.detail.text));
    return done;
}

/* --- after a restart --- */

static void log_unbound(const struct cg_cell_spec *spec, const char *detail)
{
    CG_LOG(CG_LOG_ERROR, "registration_not_bound", CG_F_STR("cell", spec->cell_id),
           CG_F_STR("run", spec->run_id), CG_F_STR("detail", detail));
    cg_metric_add(CG_SERIES_registrations_unbound, 1);
}

/* The process that ends the run: it may have ended while no gateway ran. */
static bool restore_watch(struct cg_enrolment *enrolment, struct cg_cell *cell,
                          const struct cg_kept_registration *kept)
{
    uint64_t start_ticks = 0;
    if (kept->vmm_pid == 0) {
        return true;
    }
    return cg_vmm_watch_new(enrolment->watcher, cell, &cell->vmm_watch, &start_ticks, NULL) &&
           start_ticks == kept->vmm_start_ticks;
}

static void restore_added(struct cg_enrolment *enrolment, struct cg_cell *cell,
                          const struct cg_kept_registration *kept, bool ended)
{
    const struct cg_enrolment_config *config = &enrolment->config;
    struct cg_error err = {0};
    if (cg_ingress_enrol(config->ingress, cell, NULL, &err) != CG_LISTENING_DONE) {
        log_unbound(&kept->spec, err.text);
        cg_registry_remove(config->registry, cell);
        if (ended) {
            cg_registrations_gone(config->registrations, kept->spec.cell_id, kept->spec.run_id);
        }
        return;
    }
    if (!ended && restore_watch(enrolment, cell, kept)) {
        cg_vmm_watch_start(enrolment->watcher, cell->vmm_watch);
        return;
    }
    if (!ended &&
        !cg_registrations_end(config->registrations, kept->spec.cell_id, kept->spec.run_id, &err)) {
        CG_LOG(CG_LOG_ERROR, "run_end_not_kept", CG_F_STR("cell", kept->spec.cell_id),
               CG_F_STR("detail", err.text));
    }
    struct cg_run_totals totals;
    forget(enrolment, cell, &totals);
}

static void restore_one(void *context, const struct cg_kept_registration *kept, bool ended)
{
    struct cg_enrolment *enrolment = context;
    struct cg_cell *cell = NULL;
    struct cg_error err = {0};
    switch (cg_registry_enrol(enrolment->config.registry, &kept->spec, kept->vmm_pid,
                              cg_clock_monotonic(enrolment->config.clock), &cell, &err)) {
    case CG_REGISTRY_ADDED:
        restore_added(enrolment, cell, kept, ended);
        cg_cell_unref(cell);
        break;
    case CG_REGISTRY_EXISTS:
        cg_cell_unref(cell); /* the configuration says the same now */
        cg_registrations_gone(enrolment->config.registrations, kept->spec.cell_id,
                              kept->spec.run_id);
        break;
    case CG_REGISTRY_CONFLICT:
        CG_LOG(CG_LOG_WARNING, "registration_replaced", CG_F_STR("cell", kept->spec.cell_id),
               CG_F_STR("run", kept->spec.run_id), CG_F_STR("by", "the configuration file"),
               CG_F_STR("detail", err.text));
        cg_registrations_gone(enrolment->config.registrations, kept->spec.cell_id,
                              kept->spec.run_id);
        break;
    case CG_REGISTRY_INVALID:
    case CG_REGISTRY_FAILED:
        log_unbound(&kept->spec, err.text);
        break;
    }
}

bool cg_enrolment_restore(struct cg_enrolment *enrolment, struct cg_error *err)
{
    return cg_registrations_restore(enrolment->config.registrations, restore_one, enrolment, err);
}

/* --- registrations that cannot be written --- */

/* False once the enrolment is closed. */
static bool pause_until(struct cg_enrolment *enrolment, uint64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CG_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CG_NS_PER_S)};
    int status = 0;
    (void)pthread_mutex_lock(&enrolment->lock);
    while (!enrolment->closed && status == 0) {
        status = pthread_cond_timedwait(&enrolment->changed, &enrolment->lock, &until);
    }
    bool open = !enrolment->closed;
    (void)pthread_mutex_unlock(&enrolment->lock);
    return open;
}

/* Whoever asks for readiness before registering would else never see that there is room again. */
static void *mend(void *context)
{
    struct cg_enrolment *enrolment = context;
    struct cg_registrations *registrations = enrolment->config.registrations;
    const uint64_t interval_ns = enrolment->config.retry_interval_ns;
    while (pause_until(enrolment, cg_clock_monotonic(&cg_clock_system) + interval_ns)) {
        if (!cg_registrations_writable(registrations) &&
            cg_registrations_mend(registrations, NULL)) {
            CG_LOG(CG_LOG_INFO, "registrations_mended");
        }
    }
    return NULL;
}

static bool start_mending(struct cg_enrolment *enrolment, struct cg_error *err)
{
    int errnum = cg_thread_start(&enrolment->mender, "mender", mend, enrolment);
    enrolment->mending = errnum == 0;
    return enrolment->mending || cg_error_errno(err, errnum, "start the mender thread");
}

/* --- the enrolment --- */

bool cg_enrolment_new(const struct cg_enrolment_config *config, struct cg_enrolment **ret_enrolment,
                      struct cg_error *err)
{
    struct cg_enrolment *enrolment = calloc(1, sizeof(*enrolment));
    if (enrolment == NULL) {
        return cg_error_set(err, "out of memory for the enrolment");
    }
    enrolment->config = *config;
    (void)pthread_mutex_init(&enrolment->lock, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&enrolment->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (!cg_vmm_watcher_start(config->clock, config->retry_interval_ns, vmm_ended, enrolment,
                              &enrolment->watcher, err) ||
        !start_mending(enrolment, err)) {
        cg_enrolment_free(enrolment);
        return false;
    }
    *ret_enrolment = enrolment;
    return true;
}

void cg_enrolment_close(struct cg_enrolment *enrolment)
{
    (void)pthread_mutex_lock(&enrolment->lock);
    enrolment->closed = true;
    (void)pthread_cond_broadcast(&enrolment->changed);
    while (enrolment->busy != NULL) {
        (void)pthread_cond_wait(&enrolment->changed, &enrolment->lock);
    }
    (void)pthread_mutex_unlock(&enrolment->lock);
}

void cg_enrolment_free(struct cg_enrolment *enrolment)
{
    if (enrolment == NULL) {
        return;
    }
    cg_enrolment_close(enrolment);
    if (enrolment->mending) {
        (void)pthread_join(enrolment->mender, NULL);
    }
    cg_vmm_watcher_stop(enrolment->watcher);
    (void)pthread_cond_destroy(&enrolment->changed);
    (void)pthread_mutex_destroy(&enrolment->lock);
    free(enrolment);
}
