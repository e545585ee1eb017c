/* reload_cells.c - the cells of a configuration that is reloaded come and go. */
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "reload_state.h"
#include "run/judge.h"

#include <stdlib.h>

static bool cell_problem(const struct cg_reload_work *reload, const struct cg_cell_spec *spec,
                         struct cg_error *err)
{
    (void)cg_error_context(err, "cell %s", spec->cell_id);
    return cg_reload_problem(reload, 0, 0, err->text);
}

/* --- what can fail --- */

static int compare_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Whether a path is one of those, sorted. */
static bool has_path(const char *const *paths, size_t count, const char *path)
{
    return paths != NULL && count > 0 &&
           bsearch(&path, paths, count, sizeof(path), compare_text) != NULL;
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
static bool find_ending(struct cg_reload_work *reload, const char ***ret_paths)
{
    const struct cg_config *before = reload->gateway->current;
    const struct cg_cell_spec *specs = before->ingress.cells.items;
    size_t count = before->ingress.cells.count;
    CG_ASSERT(specs != NULL || count == 0);
    cg_auto_free const struct cg_cell_spec **sorted = cg_judge_sort_cells(reload->config);
    cg_auto_free const char **paths = calloc(count + 1, sizeof(*paths));
    reload->ending = calloc(count + 1, sizeof(const struct cg_cell_spec *));
    if (paths == NULL || reload->ending == NULL ||
        (sorted == NULL && reload->config->ingress.cells.count > 0)) {
        return cg_reload_problem(reload, 0, 0, "out of memory");
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
static bool find_fresh(struct cg_reload_work *reload, const char *const *ending_paths)
{
    const struct cg_config *before = reload->gateway->current;
    const struct cg_cell_spec *specs = reload->config->ingress.cells.items;
    size_t count = reload->config->ingress.cells.count;
    CG_ASSERT(specs != NULL || count == 0);
    cg_auto_free const struct cg_cell_spec **sorted = cg_judge_sort_cells(before);
    reload->fresh = calloc(count + 1, sizeof(*reload->fresh));
    if (reload->fresh == NULL || (sorted == NULL && before->ingress.cells.count > 0)) {
        return cg_reload_problem(reload, 0, 0, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        const struct cg_cell_spec *old =
            cg_judge_find_cell(sorted, before->ingress.cells.count, specs[i].cell_id);
        old = old != NULL && is_registered(reload->gateway, old) ? old : NULL;
        if (old != NULL && strcmp(old->run_id, specs[i].run_id) == 0) {
            continue;
        }
        reload->fresh[reload->fresh_count++] = (struct cg_new_cell){
            .spec = &specs[i],
            .later = old != NULL ||
                     has_path(ending_paths, reload->ending_count, specs[i].vsock_uds_base),
            .listening = {.fd = -1},
        };
    }
    return true;
}

/* Bound, and not yet listened for. */
static bool bind_cell(struct cg_gateway *gateway, struct cg_new_cell *fresh, struct cg_error *err)
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

bool cg_reload_prepare_cells(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    cg_auto_free const char **ending_paths = NULL;
    if (!find_ending(reload, &ending_paths) || !find_fresh(reload, ending_paths)) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < reload->fresh_count; i++) {
        struct cg_new_cell *fresh = &reload->fresh[i];
        struct cg_error err = {0};
        CG_ASSERT(fresh->spec != NULL);
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

void cg_reload_undo_cells(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    for (size_t i = 0; i < reload->fresh_count; i++) {
        struct cg_new_cell *fresh = &reload->fresh[i];
        if (fresh->cell != NULL) {
            cg_ingress_unbind(gateway->ingress, fresh->cell, &fresh->listening);
            cg_registry_remove(gateway->registry, fresh->cell);
        }
    }
}

/* --- what is left --- */

static bool listen_for(struct cg_reload_work *reload, struct cg_new_cell *fresh)
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
static bool end_run(struct cg_reload_work *reload, const struct cg_cell_spec *spec)
{
    struct cg_enrol_result result;
    cg_enrol_withdraw(reload->gateway->enrolment, spec->cell_id, &result);
    CG_LOG(CG_LOG_INFO, "run_withdrawn", CG_F_STR("cell", spec->cell_id),
           CG_F_STR("run", spec->run_id), CG_F_STR("detail", result.detail.text));
    return result.outcome == CG_ENROL_REMOVED || cell_problem(reload, spec, &result.detail);
}

bool cg_reload_change_cells(struct cg_reload_work *reload)
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
