#include "http/metrics.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cellgate/metrics.h"
#include "http/process.h"

#include <math.h>
#include <openssl/crypto.h>
#include <stdio.h>

static void family(struct cg_buf *out, enum cg_metric_family id)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct cg_metric_family_info *info = &cg_metric_families[id];
    cg_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", info->name, info->help, info->name,
                  types[info->type]);
}

static void sample_u64(struct cg_buf *out, enum cg_metric_family id, const char *labels,
                       uint64_t value)
{
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    cg_buf_printf(out, "%s%s%s%s %llu\n", cg_metric_families[id].name, open, labels, close,
                  (unsigned long long)value);
}

static void sample_double(struct cg_buf *out, enum cg_metric_family id, const char *labels,
                          double value)
{
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    cg_buf_printf(out, "%s%s%s%s ", cg_metric_families[id].name, open, labels, close);
    if (isinf(value)) {
        cg_buf_append_str(out, "+Inf\n");
    } else {
        cg_buf_printf(out, "%.9g\n", value);
    }
}

static void histogram(struct cg_buf *out, enum cg_metric_family id, const char *labels,
                      const struct cg_histogram *durations)
{
    const char *name = cg_metric_families[id].name;
    const char *comma = labels[0] == '\0' ? "" : ",";
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    uint64_t count = 0;
    for (unsigned i = 0; i <= CG_HISTOGRAM_BUCKETS; i++) {
        count += atomic_load_explicit(&durations->buckets[i], memory_order_relaxed);
        cg_buf_printf(out, "%s_bucket{%s%sle=\"", name, labels, comma);
        if (i < CG_HISTOGRAM_BUCKETS) {
            cg_buf_printf(out, "%g", cg_histogram_bounds_s[i]);
        } else {
            cg_buf_append_str(out, "+Inf");
        }
        cg_buf_printf(out, "\"} %llu\n", (unsigned long long)count);
    }
    uint64_t sum_ns = atomic_load_explicit(&durations->sum_ns, memory_order_relaxed);
    cg_buf_printf(out, "%s_sum%s%s%s %.9g\n", name, open, labels, close, (double)sum_ns / 1e9);
    cg_buf_printf(out, "%s_count%s%s%s %llu\n", name, open, labels, close,
                  (unsigned long long)count);
}

/* Families whose series are all in metrics.def. */
static void counters(struct cg_buf *out)
{
    enum cg_metric_family current = CG_FAMILY_COUNT;
    for (unsigned i = 0; i < CG_SERIES_COUNT; i++) {
        const struct cg_metric_series_info *series = &cg_metric_series[i];
        if (series->family != current) {
            current = series->family;
            family(out, current);
        }
        sample_u64(out, current, series->labels, cg_metric_get((enum cg_metric_series)i));
    }
}

static void cells(const struct cg_gateway_view *view, struct cg_buf *out)
{
    uint64_t by_state[CG_CELL_STATE_COUNT];
    cg_registry_count_states(view->registry, cg_clock_monotonic(view->clock), by_state);
    family(out, CG_FAMILY_cells);
    for (unsigned state = 0; state < CG_CELL_STATE_COUNT; state++) {
        char label[64];
        (void)snprintf(label, sizeof(label), "state=\"%s\"",
                       cg_cell_state_name((enum cg_cell_state)state));
        sample_u64(out, CG_FAMILY_cells, label, by_state[state]);
    }
    const struct cg_ingress *ingress = atomic_load(&view->ingress);
    family(out, CG_FAMILY_connections);
    sample_u64(out, CG_FAMILY_connections, "",
               ingress == NULL ? 0 : cg_ingress_connections(ingress));
}

static void spool(const struct cg_gateway_view *view, struct cg_buf *out)
{
    struct cg_spool_status status;
    cg_spool_status(view->spool, &status);
    family(out, CG_FAMILY_spool_bytes);
    sample_u64(out, CG_FAMILY_spool_bytes, "", status.bytes);
    family(out, CG_FAMILY_spool_segments);
    sample_u64(out, CG_FAMILY_spool_segments, "", status.segments);
    family(out, CG_FAMILY_spool_seconds_until_full);
    sample_double(out, CG_FAMILY_spool_seconds_until_full, "", status.seconds_until_full);
    family(out, CG_FAMILY_spool_sync_duration);
    histogram(out, CG_FAMILY_spool_sync_duration, "", cg_spool_sync_durations(view->spool));
}

/* --- exporters: a family at a time, all exporters in it --- */

struct exporter_row {
    char label[CG_EXPORTER_NAME_BYTES_MAX + sizeof("exporter=\"\"")];
    struct cg_delivery_status status;
};

static void row_requests(struct cg_buf *out, const struct exporter_row *row)
{
    for (unsigned outcome = 0; outcome < CG_OUTCOME_COUNT; outcome++) {
        char labels[sizeof(row->label) + 64];
        (void)snprintf(labels, sizeof(labels), "%s,outcome=\"%s\"", row->label,
                       cg_outcome_name((enum cg_outcome)outcome));
        sample_u64(out, CG_FAMILY_exporter_requests, labels, row->status.requests[outcome]);
    }
}

static double oldest_age_s(const struct cg_gateway_view *view, const struct exporter_row *row)
{
    uint64_t oldest_ns = row->status.backlog.oldest_received_ns;
    uint64_t now_ns = cg_clock_realtime(view->clock);
    return oldest_ns == 0 || oldest_ns > now_ns ? 0 : (double)(now_ns - oldest_ns) / 1e9;
}

static void exporter_counters(const struct exporter_row *rows, size_t count, struct cg_buf *out)
{
    static const struct {
        enum cg_metric_family family;
        size_t offset; /* of a uint64_t in struct cg_delivery_status */
    } table[] = {
        {CG_FAMILY_exporter_delivered_events,
         offsetof(struct cg_delivery_status, delivered_events)},
        {CG_FAMILY_exporter_backlog_events, offsetof(struct cg_delivery_status, backlog.events)},
        {CG_FAMILY_exporter_backlog_bytes, offsetof(struct cg_delivery_status, backlog.bytes)},
        {CG_FAMILY_exporter_dead_lettered_events,
         offsetof(struct cg_delivery_status, dead_lettered_events)},
        {CG_FAMILY_exporter_expired_events, offsetof(struct cg_delivery_status, expired_events)},
        {CG_FAMILY_exporter_dead_letters,
         offsetof(struct cg_delivery_status, dead_letters.letters)},
        {CG_FAMILY_exporter_dead_letter_bytes,
         offsetof(struct cg_delivery_status, dead_letters.bytes)},
        {CG_FAMILY_exporter_replaying_events,
         offsetof(struct cg_delivery_status, dead_letters.replaying)},
        {CG_FAMILY_exporter_replayed_events, offsetof(struct cg_delivery_status, replayed_events)},
        {CG_FAMILY_exporter_rebuilds, offsetof(struct cg_delivery_status, rebuilds)},
        {CG_FAMILY_exporter_dropped_events,
         offsetof(struct cg_delivery_status, backlog.dropped_events)},
        {CG_FAMILY_exporter_rejected_events, offsetof(struct cg_delivery_status, rejected_events)},
        {CG_FAMILY_exporter_filtered_events, offsetof(struct cg_delivery_status, filtered_events)},
    };
    for (size_t t = 0; t < sizeof(table) / sizeof(table[0]); t++) {
        family(out, table[t].family);
        for (size_t i = 0; i < count; i++) {
            uint64_t value;
            memcpy(&value, (const char *)&rows[i].status + table[t].offset, sizeof(value));
            sample_u64(out, table[t].family, rows[i].label, value);
        }
    }
}

static void certificate_expiries(const struct exporter_row *rows, size_t count, struct cg_buf *out)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].status.certificate_expiry_s == 0) {
            continue;
        }
        if (!any) {
            family(out, CG_FAMILY_tls_certificate_expiry);
        }
        any = true;
        sample_u64(out, CG_FAMILY_tls_certificate_expiry, rows[i].label,
                   rows[i].status.certificate_expiry_s);
    }
}

static void exporters(const struct cg_gateway_view *view, struct cg_buf *out)
{
    size_t count = view->deliveries_count;
    cg_auto_free struct exporter_row *rows = calloc(count + 1, sizeof(*rows));
    if (rows == NULL) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        cg_delivery_status(view->deliveries[i], &rows[i].status);
        /* Names are of [A-Za-z0-9._-]: nothing to escape. */
        (void)snprintf(rows[i].label, sizeof(rows[i].label), "exporter=\"%s\"",
                       rows[i].status.name);
    }
    exporter_counters(rows, count, out);
    certificate_expiries(rows, count, out);
    family(out, CG_FAMILY_exporter_requests);
    for (size_t i = 0; i < count; i++) {
        row_requests(out, &rows[i]);
    }
    family(out, CG_FAMILY_exporter_oldest_event_age);
    for (size_t i = 0; i < count; i++) {
        sample_double(out, CG_FAMILY_exporter_oldest_event_age, rows[i].label,
                      oldest_age_s(view, &rows[i]));
    }
    family(out, CG_FAMILY_exporter_up);
    for (size_t i = 0; i < count; i++) {
        sample_u64(out, CG_FAMILY_exporter_up, rows[i].label, rows[i].status.up ? 1 : 0);
    }
    family(out, CG_FAMILY_exporter_stalled);
    for (size_t i = 0; i < count; i++) {
        sample_u64(out, CG_FAMILY_exporter_stalled, rows[i].label, rows[i].status.stalled ? 1 : 0);
    }
    family(out, CG_FAMILY_exporter_request_duration);
    for (size_t i = 0; i < count; i++) {
        histogram(out, CG_FAMILY_exporter_request_duration, rows[i].label,
                  cg_delivery_durations(view->deliveries[i]));
    }
}

static void build(const struct cg_gateway_view *view, struct cg_buf *out)
{
    char labels[256];
    (void)snprintf(labels, sizeof(labels), "version=\"%s\",openssl=\"%s\"", view->version,
                   OpenSSL_version(OPENSSL_VERSION_STRING));
    family(out, CG_FAMILY_build_info);
    sample_u64(out, CG_FAMILY_build_info, labels, 1);
    family(out, CG_FAMILY_config_last_reload_success);
    sample_u64(out, CG_FAMILY_config_last_reload_success, "",
               view->reloads == NULL || cg_reloads_good(view->reloads) ? 1 : 0);
}

static void sandbox(const struct cg_gateway_view *view, struct cg_buf *out)
{
    if (view->sandbox == NULL) {
        return;
    }
    family(out, CG_FAMILY_sandbox);
    for (unsigned part = 0; part < CG_SANDBOX_PARTS; part++) {
        char label[64];
        (void)snprintf(label, sizeof(label), "part=\"%s\"",
                       cg_sandbox_part_name((enum cg_sandbox_part)part));
        sample_u64(out, CG_FAMILY_sandbox, label, view->sandbox->in_force[part] ? 1 : 0);
    }
    if (view->sandbox->has_helper) {
        family(out, CG_FAMILY_helper_up);
        sample_u64(out, CG_FAMILY_helper_up, "",
                   cg_sandbox_helper(view->sandbox) == CG_HELPER_RUNNING ? 1 : 0);
    }
}

void cg_metrics_page(const struct cg_gateway_view *view, struct cg_buf *out)
{
    counters(out);
    cells(view, out);
    spool(view, out);
    exporters(view, out);
    sandbox(view, out);
    build(view, out);
    cg_process_metrics(out);
}
