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
#include "reload_state.h"

#include <stdlib.h>

enum { PROBLEMS_LOGGED_MAX = 20 };

bool cg_gateway_spool_gives_up(const struct cg_config *config)
{
    bool gives_up = config->spool.when_full == CG_SPOOL_FULL_DROP_OLDEST;
    for (size_t i = 0; i < config->exporters_count; i++) {
        gives_up = gives_up || config->exporters[i].quota_bytes > 0;
    }
    return gives_up;
}

/* --- problems --- */

bool cg_reload_problem(const struct cg_reload_work *reload, size_t line, size_t column,
                       const char *text)
{
    (void)cg_buf_printf(reload->problems, "%s:%zu:%zu: %s\n", reload->gateway->source.path,
                        line == 0 ? 1 : line, column == 0 ? 1 : column, text);
    return false;
}

/* --- what can fail: the key --- */

static bool prepare_key(struct cg_reload_work *reload)
{
    struct cg_gateway *gateway = reload->gateway;
    const struct cg_config *config = reload->config;
    struct cg_signing_key *key = NULL;
    struct cg_error err = {0};
    if (!cg_gateway_load_key(config, &key, &err)) {
        (void)cg_error_context(&err, "signing");
        return cg_reload_problem(reload, config->signing.line, config->signing.column, err.text);
    }
    if (!cg_signing_key_may_follow(gateway->key, key)) {
        cg_signing_key_free(key);
        return cg_reload_problem(
            reload, config->signing.line, config->signing.column,
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
        .spool_gives_up = cg_gateway_spool_gives_up(config),
    };
    return cg_ingress_change_new(gateway->ingress, &settings, reload->key, &reload->ingress,
                                 &err) ||
           cg_reload_problem(reload, config->signing.line, config->signing.column, err.text);
}

/* --- what cannot fail --- */

static void change_key(struct cg_reload_work *reload)
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

static void append_names(const struct cg_reload_work *reload, enum cg_reload_change change,
                         const char *key, struct cg_buf *out)
{
    (void)cg_buf_printf(out, "\"%s\":[", key);
    for (size_t i = 0; i < reload->counts[change]; i++) {
        (void)cg_buf_append_str(out, i == 0 ? "" : ",");
        cg_json_append_string(out, cg_bytes_str(reload->names[change][i]));
    }
    (void)cg_buf_append_char(out, ']');
}

static void append_report(const struct cg_reload_work *reload, bool other_key, struct cg_buf *out)
{
    const struct cg_signing_key *key = reload->gateway->key;
    (void)cg_buf_append_str(out, "{\"exporters\":{");
    append_names(reload, CG_CHANGE_KEPT, "unchanged", out);
    (void)cg_buf_append_char(out, ',');
    append_names(reload, CG_CHANGE_ADDED, "added", out);
    (void)cg_buf_append_char(out, ',');
    append_names(reload, CG_CHANGE_RESTARTED, "restarted", out);
    (void)cg_buf_append_char(out, ',');
    append_names(reload, CG_CHANGE_REMOVED, "removed", out);
    (void)cg_buf_printf(
        out, "},\"cells\":{\"added\":%zu,\"ended\":%zu},\"signing\":{\"mode\":\"%s\"",
        reload->fresh_count, reload->ending_count, cg_signing_mode_name(cg_signing_key_mode(key)));
    (void)cg_buf_append_str(out, ",\"kid\":");
    cg_json_append_string(out, cg_signing_key_kid(key));
    (void)cg_buf_printf(out, ",\"changed\":%s}}", other_key ? "true" : "false");
}

static void log_done(const struct cg_reload_work *reload, enum cg_reload_outcome outcome)
{
    CG_LOG(outcome == CG_RELOAD_DONE ? CG_LOG_INFO : CG_LOG_ERROR,
           outcome == CG_RELOAD_DONE ? "reloaded" : "reload_failed",
           CG_F_U64("unchanged", reload->counts[CG_CHANGE_KEPT]),
           CG_F_U64("added", reload->counts[CG_CHANGE_ADDED]),
           CG_F_U64("restarted", reload->counts[CG_CHANGE_RESTARTED]),
           CG_F_U64("removed", reload->counts[CG_CHANGE_REMOVED]),
           CG_F_U64("cells_added", reload->fresh_count),
           CG_F_U64("cells_ended", reload->ending_count));
}

/* All of it can be had: takes it. */
static enum cg_reload_outcome commit(struct cg_reload_work *reload, struct cg_buf *ret_report)
{
    struct cg_gateway *gateway = reload->gateway;
    const struct cg_config *config = reload->config;
    bool other_key = reload->key != NULL;
    gateway->configs[gateway->configs_count++] = reload->config;
    cg_log_set_level((enum cg_log_level)config->log.level);
    cg_public_set_hosts(gateway->http, config->http.hosts);
    change_key(reload);
    bool good = cg_reload_change_cells(reload);
    cg_reload_remove_exporters(reload);
    cg_reload_refresh_exporters(reload);
    enum cg_reload_outcome outcome = good ? CG_RELOAD_DONE : CG_RELOAD_FAILED;
    append_report(reload, other_key, ret_report);
    log_done(reload, outcome);
    gateway->current = reload->config;
    free_configs(gateway);
    return outcome;
}

static enum cg_reload_outcome take_up(struct cg_reload_work *reload, struct cg_buf *ret_report)
{
    bool good = prepare_key(reload) && cg_reload_prepare_cells(reload);
    bool undone = true;
    if (good) {
        good = cg_reload_add_exporters(reload) && cg_reload_restart_exporters(reload);
        undone = good || cg_reload_undo_exporters(reload);
    }
    enum cg_reload_outcome outcome = CG_RELOAD_REFUSED;
    if (good) {
        outcome = commit(reload, ret_report);
    } else {
        cg_reload_undo_cells(reload);
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
    struct cg_reload_work reload = {.gateway = gateway, .problems = ret_problems};
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
