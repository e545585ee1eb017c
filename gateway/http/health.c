#include "http/health.h"

#include "cellgate/limits.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

static const char *phase_name(int phase)
{
    static const char *const names[] = {
        [CG_PHASE_STARTING] = "starting",
        [CG_PHASE_READY] = "ready",
        [CG_PHASE_DRAINING] = "draining",
    };
    return names[phase];
}

static bool registrations_kept(const struct cg_gateway_view *view)
{
    return view->registrations == NULL || cg_registrations_writable(view->registrations);
}

static bool is_ready(const struct cg_gateway_view *view, const struct cg_spool_status *spool)
{
    return atomic_load(&view->phase) == CG_PHASE_READY && spool->appendable &&
           registrations_kept(view);
}

static bool in_trouble(const struct cg_delivery_status *exporter)
{
    return exporter->stalled || exporter->state == CG_DELIVERY_BACKOFF ||
           exporter->state == CG_DELIVERY_HOLDING;
}

void cg_health_live(const struct cg_gateway_view *view, struct cg_http_answer *answer)
{
    (void)view;
    cg_buf_append_str(&answer->body, "ok\n");
}

static void check_line(struct cg_buf *out, char mark, const char *name, const char *words)
{
    cg_buf_printf(out, "[%c] %s: %s\n", mark, name, words);
}

/* "?" marks what does not make the gateway unready. */
static void exporter_line(const struct cg_delivery_status *exporter, struct cg_buf *out)
{
    char name[CG_EXPORTER_NAME_BYTES_MAX + sizeof("exporter ")];
    (void)snprintf(name, sizeof(name), "exporter %s", exporter->name);
    if (!in_trouble(exporter)) {
        check_line(out, '+', name, "ok");
        return;
    }
    char error[2 * CG_VERDICT_DETAIL_MAX];
    (void)cg_text_escape(cg_bytes_str(exporter->last_error), error, sizeof(error));
    char words[sizeof(error) + 128];
    (void)snprintf(words, sizeof(words), "%s%s, %llu events wait: %s",
                   exporter->stalled ? "stalled, " : "", cg_delivery_state_name(exporter->state),
                   (unsigned long long)exporter->backlog.events, error);
    check_line(out, '?', name, words);
}

/* Says beforehand when there will be no room any more, which is no reason yet to send no guests. */
static void spool_line(const struct cg_spool_status *spool, struct cg_buf *out)
{
    enum { SOON_S = 3600, NEARLY_PARTS = 10 };
    char words[128];
    if (!spool->appendable) {
        check_line(out, '-', "spool", spool->last_error);
    } else if (spool->seconds_until_full < SOON_S) {
        (void)snprintf(words, sizeof(words), "full in about %.0f s: an exporter is behind",
                       spool->seconds_until_full);
        check_line(out, '?', "spool", words);
    } else if (spool->held_bytes >= spool->bytes_max - spool->bytes_max / NEARLY_PARTS) {
        (void)snprintf(words, sizeof(words), "%llu of %llu bytes wait for exporters",
                       (unsigned long long)spool->held_bytes, (unsigned long long)spool->bytes_max);
        check_line(out, '?', "spool", words);
    } else {
        check_line(out, '+', "spool", "ok");
    }
}

static void registrations_line(const struct cg_gateway_view *view, struct cg_buf *out)
{
    uint64_t unbound = cg_metric_get(CG_SERIES_registrations_unbound);
    if (!registrations_kept(view)) {
        check_line(out, '-', "registrations", "cannot be kept");
    } else if (unbound > 0) {
        char words[80];
        (void)snprintf(words, sizeof(words), "%llu could not be bound at the start, see the log",
                       (unsigned long long)unbound);
        check_line(out, '?', "registrations", words);
    } else {
        check_line(out, '+', "registrations", "ok");
    }
}

static bool helper_ended(const struct cg_gateway_view *view)
{
    return view->sandbox != NULL && cg_sandbox_helper(view->sandbox) == CG_HELPER_ENDED;
}

void cg_health_ready(const struct cg_gateway_view *view, bool verbose,
                     struct cg_http_answer *answer)
{
    struct cg_spool_status spool;
    cg_spool_status(view->spool, &spool);
    int phase = atomic_load(&view->phase);
    bool ready = is_ready(view, &spool);
    answer->status = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    if (verbose) {
        check_line(&answer->body, phase == CG_PHASE_READY ? '+' : '-', "gateway",
                   phase_name(phase));
        spool_line(&spool, &answer->body);
        registrations_line(view, &answer->body);
        if (helper_ended(view)) {
            check_line(&answer->body, '?', "sandbox",
                       "the privileged helper has ended: some sockets cannot be made");
        }
        for (size_t i = 0; i < view->deliveries_count; i++) {
            struct cg_delivery_status exporter;
            cg_delivery_status(view->deliveries[i], &exporter);
            exporter_line(&exporter, &answer->body);
        }
    }
    cg_buf_append_str(&answer->body, ready ? "ready\n" : "not ready\n");
}

/* --- the report; cJSON holds numbers as doubles, so counts go in as text --- */

static void add_count(cJSON *object, const char *key, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    (void)cJSON_AddRawToObject(object, key, text);
}

static void add_time(cJSON *object, const char *key, uint64_t realtime_ns)
{
    if (realtime_ns == 0) {
        (void)cJSON_AddNullToObject(object, key);
        return;
    }
    char text[CG_TIME_TEXT_LEN + 1] = {0};
    cg_time_format(realtime_ns, text);
    (void)cJSON_AddStringToObject(object, key, text);
}

/* What a peer may have put into a text is escaped, and so valid UTF-8. */
static void add_untrusted(cJSON *object, const char *key, const char *text)
{
    char escaped[4 * CG_ERROR_TEXT_MAX];
    if (text[0] == '\0') {
        (void)cJSON_AddNullToObject(object, key);
        return;
    }
    (void)cg_text_escape(cg_bytes_str(text), escaped, sizeof(escaped));
    (void)cJSON_AddStringToObject(object, key, escaped);
}

static void add_spool(cJSON *report, const struct cg_spool_status *spool)
{
    cJSON *object = cJSON_AddObjectToObject(report, "spool");
    (void)cJSON_AddBoolToObject(object, "appendable", spool->appendable);
    add_count(object, "bytes", spool->bytes);
    add_count(object, "bytes_max", spool->bytes_max);
    add_count(object, "segments", spool->segments);
    add_count(object, "next_index", spool->next_index);
    if (isinf(spool->seconds_until_full)) {
        (void)cJSON_AddNullToObject(object, "seconds_until_full");
    } else {
        (void)cJSON_AddNumberToObject(object, "seconds_until_full", spool->seconds_until_full);
    }
    add_untrusted(object, "last_error", spool->appendable ? "" : spool->last_error);
}

static void add_cells(const struct cg_gateway_view *view, cJSON *report)
{
    uint64_t by_state[CG_CELL_STATE_COUNT];
    cg_registry_count_states(view->registry, cg_clock_monotonic(view->clock), by_state);
    cJSON *object = cJSON_AddObjectToObject(report, "cells");
    for (unsigned state = 0; state < CG_CELL_STATE_COUNT; state++) {
        add_count(object, cg_cell_state_name((enum cg_cell_state)state), by_state[state]);
    }
}

static void add_sandbox(const struct cg_gateway_view *view, cJSON *report)
{
    if (view->sandbox == NULL) {
        return;
    }
    cJSON *object = cJSON_AddObjectToObject(report, "sandbox");
    for (unsigned part = 0; part < CG_SANDBOX_PARTS; part++) {
        (void)cJSON_AddBoolToObject(object, cg_sandbox_part_name((enum cg_sandbox_part)part),
                                    view->sandbox->in_force[part]);
    }
    (void)cJSON_AddStringToObject(object, "helper",
                                  cg_helper_state_name(cg_sandbox_helper(view->sandbox)));
}

static cJSON *exporter_report(const struct cg_delivery_status *status)
{
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(object, "name", status->name);
    (void)cJSON_AddStringToObject(object, "type", status->type);
    (void)cJSON_AddStringToObject(object, "state", cg_delivery_state_name(status->state));
    (void)cJSON_AddBoolToObject(object, "up", status->up);
    add_count(object, "delivered_events", status->delivered_events);
    add_count(object, "dead_lettered_events", status->dead_lettered_events);
    add_count(object, "rejected_events", status->rejected_events);
    add_count(object, "filtered_events", status->filtered_events);
    (void)cJSON_AddBoolToObject(object, "stalled", status->stalled);
    add_count(object, "backlog_events", status->backlog.events);
    add_count(object, "backlog_bytes", status->backlog.bytes);
    add_count(object, "dropped_events", status->backlog.dropped_events);
    add_time(object, "oldest_event_time", status->backlog.oldest_received_ns);
    add_untrusted(object, "last_error", status->last_error);
    add_time(object, "last_error_time", status->last_error_realtime_ns);
    return object;
}

/* Returns whether any is in trouble. */
static bool add_exporters(const struct cg_gateway_view *view, cJSON *report)
{
    bool trouble = false;
    cJSON *array = cJSON_AddArrayToObject(report, "exporters");
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_delivery_status status;
        cg_delivery_status(view->deliveries[i], &status);
        (void)cJSON_AddItemToArray(array, exporter_report(&status));
        trouble = trouble || in_trouble(&status);
    }
    return trouble;
}

/* Returns whether the last one was refused: what runs is not what the file says. */
static bool add_reload(const struct cg_gateway_view *view, cJSON *report)
{
    struct cg_reload_state state = {.any = false};
    if (view->reloads != NULL) {
        cg_reloads_state(view->reloads, &state);
    }
    if (!state.any) {
        (void)cJSON_AddNullToObject(report, "last_reload");
        return false;
    }
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, 8 * (size_t)CG_RELOAD_PROBLEMS_BYTES_MAX);
    cg_reloads_append_problems(cg_buf_bytes(&state.problems), &problems);
    cg_buf_fini(&state.problems);
    cJSON *object = cJSON_AddObjectToObject(report, "last_reload");
    add_time(object, "time", state.realtime_ns);
    (void)cJSON_AddBoolToObject(object, "success", state.outcome == CG_RELOAD_DONE);
    const char *text = cg_buf_str(&problems);
    (void)cJSON_AddRawToObject(object, "problems", text == NULL ? "[]" : text);
    return state.outcome != CG_RELOAD_DONE;
}

/* Prints and frees it. */
static void answer_json(cJSON *report, struct cg_http_answer *answer)
{
    char *text = cJSON_Print(report);
    cJSON_Delete(report);
    answer->content_type = "application/json";
    if (text == NULL) {
        answer->body.failed = true;
        return;
    }
    cg_buf_append_str(&answer->body, text);
    cg_buf_append_char(&answer->body, '\n');
    cJSON_free(text);
}

/* null where none is kept. */
static void add_dead_letters(cJSON *object, const struct cg_delivery_status *status)
{
    if (!status->dead_letters.kept) {
        (void)cJSON_AddNullToObject(object, "dead_letters");
        return;
    }
    cJSON *letters = cJSON_AddObjectToObject(object, "dead_letters");
    add_count(letters, "letters", status->dead_letters.letters);
    add_count(letters, "replaying", status->dead_letters.replaying);
    add_count(letters, "bytes", status->dead_letters.bytes);
    add_count(letters, "bytes_max", status->dead_letters.bytes_max);
}

/* More than the health report has: what the exporter has been answered, and when it tries again. */
static cJSON *exporter_details(const struct cg_gateway_view *view,
                               const struct cg_delivery_status *status)
{
    cJSON *object = exporter_report(status);
    cJSON *requests = cJSON_AddObjectToObject(object, "requests");
    for (unsigned outcome = 0; outcome < CG_OUTCOME_COUNT; outcome++) {
        add_count(requests, cg_outcome_name((enum cg_outcome)outcome), status->requests[outcome]);
    }
    add_count(object, "expired_events", status->expired_events);
    add_count(object, "replayed_events", status->replayed_events);
    add_count(object, "rebuilds", status->rebuilds);
    add_dead_letters(object, status);
    if (status->backlog.quota_bytes == 0) {
        (void)cJSON_AddNullToObject(object, "quota_bytes");
    } else {
        add_count(object, "quota_bytes", status->backlog.quota_bytes);
    }
    uint64_t now_ns = cg_clock_monotonic(view->clock);
    if (status->retry_at_ns == 0) {
        (void)cJSON_AddNullToObject(object, "retry_in_ms");
    } else {
        add_count(object, "retry_in_ms",
                  status->retry_at_ns > now_ns ? (status->retry_at_ns - now_ns) / CG_NS_PER_MS : 0);
    }
    add_time(object, "certificate_expiry_time", status->certificate_expiry_s * CG_NS_PER_S);
    return object;
}

void cg_health_exporters(const struct cg_gateway_view *view, struct cg_http_answer *answer)
{
    cJSON *report = cJSON_CreateObject();
    cJSON *array = cJSON_AddArrayToObject(report, "exporters");
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_delivery_status status;
        cg_delivery_status(view->deliveries[i], &status);
        (void)cJSON_AddItemToArray(array, exporter_details(view, &status));
    }
    answer_json(report, answer);
}

void cg_health_report(const struct cg_gateway_view *view, struct cg_http_answer *answer)
{
    struct cg_spool_status spool;
    cg_spool_status(view->spool, &spool);
    int phase = atomic_load(&view->phase);
    bool ready = is_ready(view, &spool);
    cJSON *report = cJSON_CreateObject();
    cJSON *word = cJSON_AddStringToObject(report, "status", "");
    (void)cJSON_AddStringToObject(report, "version", view->version);
    (void)cJSON_AddStringToObject(report, "node", view->node);
    add_time(report, "started_at", view->started_realtime_ns);
    add_cells(view, report);
    add_spool(report, &spool);
    (void)cJSON_AddBoolToObject(report, "registrations_kept", registrations_kept(view));
    bool trouble = add_exporters(view, report);
    trouble = add_reload(view, report) || trouble;
    trouble = helper_ended(view) || trouble;
    add_sandbox(view, report);
    const char *status = phase != CG_PHASE_READY ? phase_name(phase)
                         : !ready                ? "failing"
                         : trouble               ? "degraded"
                                                 : "ok";
    (void)cJSON_SetValuestring(word, status);
    answer->status = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    answer_json(report, answer);
}

/* --- the front page --- */

void cg_health_index(const struct cg_gateway_view *view, struct cg_http_answer *answer)
{
    struct cg_buf *out = &answer->body;
    struct cg_spool_status spool;
    cg_spool_status(view->spool, &spool);
    uint64_t by_state[CG_CELL_STATE_COUNT];
    cg_registry_count_states(view->registry, cg_clock_monotonic(view->clock), by_state);
    cg_buf_printf(out, "cellgate %s on %s: %s\n\n", view->version, view->node,
                  phase_name(atomic_load(&view->phase)));
    cg_buf_append_str(out, "cells     ");
    for (unsigned state = 0; state < CG_CELL_STATE_COUNT; state++) {
        cg_buf_printf(out, " %s %llu", cg_cell_state_name((enum cg_cell_state)state),
                      (unsigned long long)by_state[state]);
    }
    cg_buf_printf(out, "\nspool      %llu of %llu bytes%s\n", (unsigned long long)spool.bytes,
                  (unsigned long long)spool.bytes_max,
                  spool.appendable ? "" : ", cannot be appended to");
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_delivery_status exporter;
        cg_delivery_status(view->deliveries[i], &exporter);
        cg_buf_printf(out, "exporter   %s (%s): %s, delivered %llu, waiting %llu\n", exporter.name,
                      exporter.type, cg_delivery_state_name(exporter.state),
                      (unsigned long long)exporter.delivered_events,
                      (unsigned long long)exporter.backlog.events);
    }
    cg_buf_append_str(out, "\n"
                           "/livez           the process turns\n"
                           "/readyz          guests are heard (?verbose: each check)\n"
                           "/healthz         all of it, JSON\n"
                           "/metrics         Prometheus\n"
                           "/v1/cells        the cells, JSON (?state= ?limit= ?after=)\n"
                           "/v1/cells/{id}   one of them\n"
                           "/v1/exporters    the exporters, JSON\n");
}
