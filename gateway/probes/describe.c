/* describe.c - a cell's probes as JSON, for the pages. */
#include "event/json_write.h"
#include "probes/watch.h"

static void append_time(struct cg_buf *out, uint64_t realtime_ns)
{
    char text[CG_TIME_TEXT_LEN];
    cg_time_format(realtime_ns, text);
    cg_buf_append_char(out, '"');
    cg_buf_append(out, cg_bytes(text, sizeof(text)));
    cg_buf_append_char(out, '"');
}

static void append_age(struct cg_buf *out, uint64_t realtime_ns, uint64_t now_ns)
{
    cg_buf_append_str(out, ",\"age_ms\":");
    cg_buf_append_u64(out, now_ns > realtime_ns ? (now_ns - realtime_ns) / CG_NS_PER_MS : 0);
}

static void append_reading(struct cg_buf *out, const struct cg_probe_status *status,
                           uint64_t now_ns)
{
    cg_buf_append_str(out, ",\"last_reading\":");
    if (status->read_ns == 0) {
        cg_buf_append_str(out, "null");
        return;
    }
    cg_buf_append_str(out, "{\"at\":");
    append_time(out, status->read_ns);
    append_age(out, status->read_ns, now_ns);
    cg_buf_append_str(out, ",\"output\":");
    cg_buf_append(out, status->output.len == 0 ? CG_BYTES("null") : status->output);
    cg_buf_append_char(out, '}');
}

static void append_error(struct cg_buf *out, const struct cg_probe_status *status, uint64_t now_ns)
{
    cg_buf_append_str(out, ",\"last_error\":");
    if (status->failed_ns == 0) {
        cg_buf_append_str(out, "null");
        return;
    }
    cg_buf_append_str(out, "{\"at\":");
    append_time(out, status->failed_ns);
    append_age(out, status->failed_ns, now_ns);
    cg_buf_printf(out, ",\"reason\":\"%s\",\"detail\":", cg_probe_reason(status->failed));
    cg_json_append_string(out, cg_bytes_str(status->detail));
    cg_buf_append_char(out, '}');
}

static void append_instance(struct cg_buf *out, const struct cg_probe_instance *instance,
                            uint64_t interval_ns, uint64_t now_ns)
{
    const struct cg_probe_status *status = &instance->status;
    cg_buf_printf(out, "{\"probe\":\"%s\",\"interval_ms\":", cg_probe_name(instance->ops->probe));
    cg_buf_append_u64(out, interval_ns / CG_NS_PER_MS);
    cg_buf_append_str(out, ",\"readings\":");
    cg_buf_append_u64(out, status->readings);
    cg_buf_append_str(out, ",\"errors\":");
    cg_buf_append_u64(out, status->errors);
    cg_buf_append_str(out, ",\"failing\":");
    cg_buf_append_str(out, status->failing == CG_PROBE_READ ? "false" : "true");
    append_reading(out, status, now_ns);
    append_error(out, status, now_ns);
    cg_buf_append_char(out, '}');
}

void cg_probes_describe(struct cg_probes *probes, const struct cg_cell *cell, struct cg_buf *out)
{
    uint64_t now_ns = cg_clock_realtime(probes->host.clock);
    bool any = false;
    cg_buf_append_char(out, '[');
    (void)pthread_mutex_lock(&probes->lock);
    const struct cg_probe_watch *watch = cell->probe_watch;
    for (unsigned i = 0; watch != NULL && i < CG_PROBE_COUNT; i++) {
        if (watch->instances[i].ops == NULL) {
            continue;
        }
        cg_buf_append_str(out, any ? "," : "");
        append_instance(out, &watch->instances[i], watch->spec.interval_ns[i], now_ns);
        any = true;
    }
    (void)pthread_mutex_unlock(&probes->lock);
    cg_buf_append_char(out, ']');
}
