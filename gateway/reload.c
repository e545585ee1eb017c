/*
 * reload.c - a gateway that runs takes up another configuration. docs/contract.md section 6.
 *
 * In this order, so that a refusal changes nothing: the file is read and judged, the key is loaded,
 * new cells are bound, exporters are started and restarted (which can be undone). Then, when
 * nothing can fail any more: the ingress threads change, the new cells listen, exporters that are
 * not there any more stop, the runs of cells that vanished end.
 */
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "event/json_write.h"
#include "gateway_state.h"
#include "run/files.h"
#include "run/judge.h"

#include <stdlib.h>

enum { PROBLEMS_LOGGED_MAX = 20 };

/* A cell that the new configuration has and the old one had not. */
struct new_cell {
    const struct cg_cell_spec *spec;
    bool later; /* its id or its path is that of a cell that ends: it can only be bound then */
    struct cg_cell *cell;
    struct cg_listening listening;
};

enum change { KEPT, ADDED, RESTARTED, REMOVED, CHANGES };

struct reload {
    struct cg_gateway *gateway;
    struct cg_config *config; /* the new one */
    struct cg_buf *problems;

    struct cg_signing_key *key; /* NULL: the same */
    struct cg_ingress_change *ingress;

    struct new_cell *fresh; /* room for all cells of the new configuration */
    size_t fresh_count;
    const struct cg_cell_spec **ending; /* of the old one; room for all */
    size_t ending_count;

    const char *names[CHANGES][CG_EXPORTERS_MAX]; /* of exporters, for the report */
    size_t counts[CHANGES];
    struct cg_running before[CG_EXPORTERS_MAX]; /* exporters that were restarted, to undo it */
    size_t before_count;
};

/* --- problems --- */

static bool problem_at(const struct reload *reload, size_t line, size_t column, const char *text)
{
    (void)cg_buf_printf(reload->problems, "%s:%zu:%zu: %s\n", reload->gateway->source.path,
                        line == 0 ? 1 : line, column == 0 ? 1 : column, text);
    return false;
}

static bool cell_problem(const struct reload *reload, const struct cg_cell_spec *spec,
                         struct cg_error *err)
{
    (void)cg_error_context(err, "cell %s", spec->cell_id);
    return problem_at(reload, 0, 0, err->text);
}

/* --- what can fail: the key --- */

static bool prepare_key(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    const struct cg_config *config = reload->config;
    struct cg_signing_key *key = NULL;
    struct cg_error err = {0};
    if (!cg_gateway_load_key(config, &key, &err)) {
        (void)cg_error_context(&err, "signing");
        return problem_at(reload, config->signing.line, config->signing.column, err.text);
    }
    if (!cg_signing_key_may_follow(gateway->key, key)) {
        cg_signing_key_free(key);
        return problem_at(reload, config->signing.line, config->signing.column,
                          "signing: another key under the same kid, which verifiers could not "
                          "follow; give it a kid of its own");
    }
    if (cg_signing_key_equal(gateway->key, key)) {
        cg_signing_key_free(key);
    } else {
        reload->key = key;
    }
    const struct cg_ingress_settings settings = {
        .frames_per_second = config->ingress.frames_per_second,
        .frames_burst = config->ingress.frames_burst,
        .frame_deadline_ns = config->ingress.frame_deadline_ns,
        .boot_grace_ns = config->keepalive.boot_grace_ns,
        .keepalive_once = config->keepalive.once,
    };
    return cg_ingress_change_new(gateway->ingress, &settings, reload->key, &reload->ingress,
                                 &err) ||
           problem_at(reload, config->signing.line, config->signing.column, err.text);
}

/* --- what can fail: cells --- */

static int compare_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Whether a path is one of those, sorted. */
static bool has_path(const char *const *paths, size_t count, const char *path)
{
    return count > 0 && bsearch(&path, paths, count, sizeof(path), compare_text) != NULL;
}

/* One that could not be bound in a reload before is not there. */
static bool is_registered(struct cg_gateway *gateway, const struct cg_cell_spec *spec)
{
    struct cg_cell *cell = cg_registry_find(gateway->registry, cg_bytes_str(spec->cell_id));
    bool registered = cell != NULL && cell->configured;
    if (cell != NULL) {
        cg_cell_unref(cell);
    }
    return registered;
}

/* Which of the old cells end, with their paths, sorted. */
static bool find_ending(struct reload *reload, const char ***ret_paths)
{
    const struct cg_config *before = reload->gateway->current;
    const struct cg_cell_spec *specs = before->ingress.cells.items;
    size_t count = before->ingress.cells.count;
    cg_auto_free const struct cg_cell_spec **sorted = cg_judge_sort_cells(reload->config);
    cg_auto_free const char **paths = calloc(count + 1, sizeof(*paths));
    reload->ending = calloc(count + 1, sizeof(*reload->ending));
    if (paths == NULL || reload->ending == NULL ||
        (sorted == NULL && reload->config->ingress.cells.count > 0)) {
        return problem_at(reload, 0, 0, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        const struct cg_cell_spec *after =
            cg_judge_find_cell(sorted, reload->config->ingress.cells.count, specs[i].cell_id);
        if ((after == NULL || strcmp(after->run_id, specs[i].run_id) != 0) &&
            is_registered(reload->gateway, &specs[i])) {
            paths[reload->ending_count] = specs[i].vsock_uds_base;
            reload->ending[reload->ending_count++] = &specs[i];
        }
    }
    qsort(paths, reload->ending_count, sizeof(*paths), compare_text);
    *ret_paths = cg_steal_ptr(paths);
    return true;
}

/* Which cells are new. */
static bool find_fresh(struct reload *reload, const char *const *ending_paths)
{
    const struct cg_config *before = reload->gateway->current;
    const struct cg_cell_spec *specs = reload->config->ingress.cells.items;
    size_t count = reload->config->ingress.cells.count;
    cg_auto_free const struct cg_cell_spec **sorted = cg_judge_sort_cells(before);
    reload->fresh = calloc(count + 1, sizeof(*reload->fresh));
    if (reload->fresh == NULL || (sorted == NULL && before->ingress.cells.count > 0)) {
        return problem_at(reload, 0, 0, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        const struct cg_cell_spec *old =
            cg_judge_find_cell(sorted, before->ingress.cells.count, specs[i].cell_id);
        old = old != NULL && is_registered(reload->gateway, old) ? old : NULL;
        if (old != NULL && strcmp(old->run_id, specs[i].run_id) == 0) {
            continue;
        }
        reload->fresh[reload->fresh_count++] = (struct new_cell){
            .spec = &specs[i],
            .later = old != NULL ||
                     has_path(ending_paths, reload->ending_count, specs[i].vsock_uds_base),
            .listening = {.fd = -1},
        };
    }
    return true;
}

/* Bound, and not yet listened for. */
static bool bind_cell(struct cg_gateway *gateway, struct new_cell *fresh, struct cg_error *err)
{
    if (!cg_registry_add(gateway->registry, fresh->spec, cg_clock_monotonic(gateway->clock),
                         &fresh->cell, err)) {
        return false;
    }
    if (cg_ingress_bind(gateway->ingress, fresh->cell, NULL, &fresh->listening, err) !=
        CG_LISTENING_DONE) {
        cg_registry_remove(gateway->registry, fresh->cell);
        fresh->cell = NULL;
        return false;
    }
    return true;
}

static bool prepare_cells(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    cg_auto_free const char **ending_paths = NULL;
    if (!find_ending(reload, &ending_paths) || !find_fresh(reload, ending_paths)) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < reload->fresh_count; i++) {
        struct new_cell *fresh = &reload->fresh[i];
        struct cg_error err = {0};
        if (cg_registrations_ended(gateway->registrations, fresh->spec->cell_id,
                                   fresh->spec->run_id)) {
            (void)cg_error_set(&err, "run_id: run %s of the cell has ended before",
                               fresh->spec->run_id);
            good = cell_problem(reload, fresh->spec, &err);
        } else if (!fresh->later && !bind_cell(gateway, fresh, &err)) {
            good = cell_problem(reload, fresh->spec, &err);
        }
    }
    return good;
}

static void undo_cells(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    for (size_t i = 0; i < reload->fresh_count; i++) {
        struct new_cell *fresh = &reload->fresh[i];
        if (fresh->cell != NULL) {
            cg_ingress_unbind(gateway->ingress, fresh->cell, &fresh->listening);
            cg_registry_remove(gateway->registry, fresh->cell);
        }
    }
}

/* --- what can fail: exporters --- */

static void note_exporter(struct reload *reload, enum change change, const char *name)
{
    reload->names[change][reload->counts[change]++] = name;
}

static struct cg_running *find_running(struct cg_gateway *gateway, const char *name)
{
    for (size_t i = 0; i < gateway->exporters_count; i++) {
        if (strcmp(gateway->exporters[i].config->name, name) == 0) {
            return &gateway->exporters[i];
        }
    }
    return NULL;
}

static bool exporter_problem(const struct reload *reload, const struct cg_exporter_config *config,
                             const char *text)
{
    return problem_at(reload, config->line, config->column, text);
}

static bool add_exporters(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    for (size_t i = 0; i < reload->config->exporters_count; i++) {
        const struct cg_exporter_config *config = &reload->config->exporters[i];
        struct cg_error err = {0};
        if (find_running(gateway, config->name) != NULL) {
            continue;
        }
        if (gateway->exporters_count >= CG_EXPORTERS_MAX) {
            return exporter_problem(reload, config,
                                    "too many exporters, with those that it replaces; remove "
                                    "these in a reload before");
        }
        if (!cg_running_start(gateway, config, reload->config,
                              &gateway->exporters[gateway->exporters_count], &err)) {
            cg_spool_reader_forget(gateway->spool, config->name);
            return exporter_problem(reload, config, err.text);
        }
        gateway->exporters_count++;
        note_exporter(reload, ADDED, config->name);
    }
    return true;
}

/* Stops it where it is, and starts it as `config` says, from there. */
static bool restart(struct cg_gateway *gateway, struct cg_running *running,
                    const struct cg_exporter_config *config, struct cg_config *owner,
                    struct cg_error *err)
{
    struct cg_running stopping = *running;
    running->delivery = NULL;
    cg_running_publish(gateway);
    if (stopping.delivery != NULL) {
        cg_running_stop(&stopping);
    }
    bool started = cg_running_start(gateway, config, owner, running, err);
    cg_running_publish(gateway);
    return started;
}

static bool restart_exporters(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    for (size_t i = 0; i < reload->config->exporters_count; i++) {
        const struct cg_exporter_config *config = &reload->config->exporters[i];
        struct cg_running *running = find_running(gateway, config->name);
        if (running->owner == reload->config) {
            continue; /* added just now */
        }
        if (running->delivery != NULL && cg_config_exporter_equal(running->config, config)) {
            note_exporter(reload, KEPT, config->name);
            continue;
        }
        struct cg_error err = {0};
        reload->before[reload->before_count++] = *running;
        if (!restart(gateway, running, config, reload->config, &err)) {
            return exporter_problem(reload, config, err.text);
        }
        note_exporter(reload, RESTARTED, config->name);
    }
    return true;
}

/* Returns whether all is as it was. */
static bool undo_exporters(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    bool undone = true;
    while (gateway->exporters_count > 0 && reload->counts[ADDED] > 0) {
        struct cg_running added = gateway->exporters[--gateway->exporters_count];
        reload->counts[ADDED]--;
        cg_running_publish(gateway);
        cg_running_stop(&added);
        cg_spool_reader_forget(gateway->spool, added.config->name);
    }
    for (size_t i = 0; i < reload->before_count; i++) {
        const struct cg_running *before = &reload->before[i];
        struct cg_running *running = find_running(gateway, before->config->name);
        struct cg_error err = {0};
        if (!restart(gateway, running, before->config, before->owner, &err)) {
            running->config = before->config; /* the next reload starts it */
            running->owner = before->owner;
            (void)problem_at(reload, 0, 0, err.text);
            undone = false;
        }
    }
    return undone;
}

/* --- what cannot fail --- */

/* The order of the file is that of the pages. */
static void remove_exporters(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    struct cg_running removed[CG_EXPORTERS_MAX];
    struct cg_running kept[CG_EXPORTERS_MAX];
    size_t removed_count = 0;
    for (size_t i = 0; i < reload->config->exporters_count; i++) {
        struct cg_running *running = find_running(gateway, reload->config->exporters[i].name);
        kept[i] = *running;
        running->config = &reload->config->exporters[i]; /* not to be removed: see below */
        running->owner = NULL;
    }
    for (size_t i = 0; i < gateway->exporters_count; i++) {
        if (gateway->exporters[i].owner != NULL) {
            removed[removed_count++] = gateway->exporters[i];
        }
    }
    memcpy(gateway->exporters, kept, reload->config->exporters_count * sizeof(kept[0]));
    gateway->exporters_count = reload->config->exporters_count;
    cg_running_publish(gateway);
    for (size_t i = 0; i < removed_count; i++) {
        note_exporter(reload, REMOVED, removed[i].config->name);
        cg_running_stop(&removed[i]);
        cg_spool_reader_forget(gateway->spool, removed[i].config->name);
    }
}

/* Those that go on keep their connections, unless their files were replaced: certificates, keys. */
static void refresh_exporters(struct reload *reload)
{
    for (size_t i = 0; i < reload->counts[KEPT]; i++) {
        struct cg_running *running = find_running(reload->gateway, reload->names[KEPT][i]);
        uint64_t mark = cg_files_mark(running->config);
        if (mark != running->files_mark) {
            running->files_mark = mark;
            cg_delivery_reopen(running->delivery);
        }
    }
}

static bool listen_for(struct reload *reload, struct new_cell *fresh)
{
    struct cg_gateway *gateway = reload->gateway;
    struct cg_error err = {0};
    bool listens = (fresh->cell != NULL || bind_cell(gateway, fresh, &err));
    if (listens && !cg_ingress_adopt(gateway->ingress, fresh->cell, &fresh->listening, &err)) {
        cg_registry_remove(gateway->registry, fresh->cell);
        listens = false;
    }
    fresh->cell = NULL;
    return listens || cell_problem(reload, fresh->spec, &err);
}

/* What a DELETE would do. */
static bool end_run(struct reload *reload, const struct cg_cell_spec *spec)
{
    struct cg_enrol_result result;
    cg_enrol_withdraw(reload->gateway->enrolment, spec->cell_id, &result);
    CG_LOG(CG_LOG_INFO, "run_withdrawn", CG_F_STR("cell", spec->cell_id),
           CG_F_STR("run", spec->run_id), CG_F_STR("detail", result.detail.text));
    return result.outcome == CG_ENROL_REMOVED || cell_problem(reload, spec, &result.detail);
}

static bool change_cells(struct reload *reload)
{
    bool good = true;
    for (size_t i = 0; i < reload->fresh_count; i++) {
        good = (reload->fresh[i].later || listen_for(reload, &reload->fresh[i])) && good;
    }
    for (size_t i = 0; i < reload->ending_count; i++) {
        good = end_run(reload, reload->ending[i]) && good;
    }
    for (size_t i = 0; i < reload->fresh_count; i++) {
        good = (!reload->fresh[i].later || listen_for(reload, &reload->fresh[i])) && good;
    }
    return good;
}

static void change_key(struct reload *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    cg_registry_set_window(gateway->registry, reload->config->keepalive.window_ns);
    cg_ingress_change_apply(gateway->ingress, cg_steal_ptr(reload->ingress));
    if (reload->key != NULL) {
        cg_signing_key_free(gateway->key);
        gateway->key = cg_steal_ptr(reload->key);
        CG_LOG(CG_LOG_INFO, "signing",
               CG_F_STR("mode", cg_signing_mode_name(cg_signing_key_mode(gateway->key))),
               CG_F_BYTES("kid", cg_signing_key_kid(gateway->key)));
    }
}

/* Frees the configurations that nobody borrows from any more. */
static void free_configs(struct cg_gateway *gateway)
{
    size_t kept = 0;
    for (size_t i = 0; i < gateway->configs_count; i++) {
        struct cg_config *config = gateway->configs[i];
        bool borrowed = config == gateway->config || config == gateway->current;
        for (size_t k = 0; k < gateway->exporters_count && !borrowed; k++) {
            borrowed = gateway->exporters[k].owner == config;
        }
        if (borrowed) {
            gateway->configs[kept++] = config;
        } else {
            cg_config_free(config);
        }
    }
    gateway->configs_count = kept;
}

/* --- the whole --- */

static void append_names(const struct reload *reload, enum change change, const char *key,
                         struct cg_buf *out)
{
    (void)cg_buf_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < reload->counts[change]; i++) {
        (void)cg_buf_append_str(out, i == 0 ? "" : ",");
        cg_json_append_string(out, cg_bytes_str(reload->names[change][i]));
    }
    (void)cg_buf_append_char(out, ']');
}

static void append_report(const struct reload *reload, bool other_key, struct cg_buf *out)
{
    const struct cg_signing_key *key = reload->gateway->key;
    (void)cg_buf_append_str(out, "{\"exporters\":{");
    append_names(reload, KEPT, "unchanged", out);
    (void)cg_buf_append_char(out, ',');
    append_names(reload, ADDED, "added", out);
    (void)cg_buf_append_char(out, ',');
    append_names(reload, RESTARTED, "restarted", out);
    (void)cg_buf_append_char(out, ',');
    append_names(reload, REMOVED, "removed", out);
    (void)cg_buf_printf(
        out, "},\"cells\":{\"added\":%zu,\"ended\":%zu},\"signing\":{\"mode\":\"%s\"",
        reload->fresh_count, reload->ending_count, cg_signing_mode_name(cg_signing_key_mode(key)));
    (void)cg_buf_append_str(out, ",\"kid\":");
    cg_json_append_string(out, cg_signing_key_kid(key));
    (void)cg_buf_printf(out, ",\"changed\":%s}}", other_key ? "true" : "false");
}

static void log_done(const struct reload *reload, enum cg_reload_outcome outcome)
{
    CG_LOG(outcome == CG_RELOAD_DONE ? CG_LOG_INFO : CG_LOG_ERROR,
           outcome == CG_RELOAD_DONE ? "reloaded" : "reload_failed",
           CG_F_U64("unchanged", reload->counts[KEPT]), CG_F_U64("added", reload->counts[ADDED]),
           CG_F_U64("restarted", reload->counts[RESTARTED]),
           CG_F_U64("removed", reload->counts[REMOVED]),
           CG_F_U64("cells_added", reload->fresh_count),
           CG_F_U64("cells_ended", reload->ending_count));
}

/* All of it can be had: takes it. */
static enum cg_reload_outcome commit(struct reload *reload, struct cg_buf *ret_report)
{
    struct cg_gateway *gateway = reload->gateway;
    const struct cg_config *config = reload->config;
    bool other_key = reload->key != NULL;
    gateway->configs[gateway->configs_count++] = reload->config;
    cg_log_set_level((enum cg_log_level)config->log.level);
    cg_public_set_hosts(gateway->http, config->http.hosts);
    change_key(reload);
    bool good = change_cells(reload);
    remove_exporters(reload);
    refresh_exporters(reload);
    enum cg_reload_outcome outcome = good ? CG_RELOAD_DONE : CG_RELOAD_FAILED;
    append_report(reload, other_key, ret_report);
    log_done(reload, outcome);
    gateway->current = reload->config;
    free_configs(gateway);
    return outcome;
}

static enum cg_reload_outcome take_up(struct reload *reload, struct cg_buf *ret_report)
{
    bool good = prepare_key(reload) && prepare_cells(reload);
    bool undone = true;
    if (good) {
        good = add_exporters(reload) && restart_exporters(reload);
        undone = good || undo_exporters(reload);
    }
    enum cg_reload_outcome outcome = CG_RELOAD_REFUSED;
    if (good) {
        outcome = commit(reload, ret_report);
    } else {
        undo_cells(reload);
        cg_config_free(reload->config);
        outcome = undone ? CG_RELOAD_REFUSED : CG_RELOAD_FAILED;
    }
    cg_ingress_change_free(reload->ingress);
    cg_signing_key_free(reload->key);
    free(reload->fresh);
    free(reload->ending);
    return outcome;
}

static void log_problems(struct cg_bytes problems)
{
    size_t lines = 0;
    while (problems.len > 0) {
        const char *end = memchr(problems.data, '\n', problems.len);
        size_t len = end == NULL ? problems.len : (size_t)(end - problems.data);
        if (lines++ < PROBLEMS_LOGGED_MAX) {
            CG_LOG(CG_LOG_ERROR, "reload_problem",
                   CG_F_BYTES("problem", cg_bytes(problems.data, len)));
        }
        size_t taken = end == NULL ? len : len + 1;
        problems = cg_bytes(problems.data + taken, problems.len - taken);
    }
    CG_LOG(CG_LOG_ERROR, "reload_refused", CG_F_U64("problems", lines));
}

enum cg_reload_outcome cg_gateway_reload(struct cg_gateway *gateway, struct cg_buf *ret_report,
                                         struct cg_buf *ret_problems)
{
    (void)pthread_mutex_lock(&gateway->reload_lock);
    const struct cg_gateway_source *source = &gateway->source;
    struct reload reload = {.gateway = gateway, .problems = ret_problems};
    enum cg_reload_outcome outcome = CG_RELOAD_REFUSED;
    if (cg_config_reload(source->path, source->settings, source->settings_count, gateway->current,
                         &reload.config, ret_problems)) {
        outcome = take_up(&reload, ret_report);
    }
    if (outcome != CG_RELOAD_DONE) {
        log_problems(cg_buf_bytes(ret_problems));
    }
    cg_reloads_note(gateway->view.reloads, outcome, cg_clock_realtime(gateway->clock),
                    cg_buf_bytes(ret_problems));
    (void)pthread_mutex_unlock(&gateway->reload_lock);
    return outcome;
}

uint64_t cg_gateway_drain_ns(struct cg_gateway *gateway)
{
    (void)pthread_mutex_lock(&gateway->reload_lock);
    uint64_t drain_ns = gateway->current->shutdown.drain_ns;
    (void)pthread_mutex_unlock(&gateway->reload_lock);
    return drain_ns;
}
