#include "exporters/otlp_json.h"

#include "event/json_write.h"

static void append_resource_text(struct cg_buf *out, const char *key, const char *value)
{
    cg_buf_printf(out, "{\"key\":\"%s\",\"value\":{\"stringValue\":", key);
    cg_json_append_string(out, cg_bytes_str(value));
    cg_buf_append_str(out, "}}");
}

bool cg_otlp_json_open(struct cg_buf *out, const char *instance_id, const char *node,
                       const char *version)
{
    cg_buf_append_str(out, "{\"resourceLogs\":[{\"resource\":{\"attributes\":[");
    append_resource_text(out, "service.name", "cellgate");
    cg_buf_append_char(out, ',');
    append_resource_text(out, "service.version", version);
    cg_buf_append_char(out, ',');
    append_resource_text(out, "service.instance.id", instance_id);
    cg_buf_append_char(out, ',');
    append_resource_text(out, "host.name", node);
    cg_buf_append_str(out, "]},\"scopeLogs\":[{\"scope\":{\"name\":\"cellgate\",\"version\":");
    cg_json_append_string(out, cg_bytes_str(version));
    return cg_buf_append_str(out, "},\"logRecords\":[");
}

/* `json` is as it stands in JSON, without quotes. */
static void append_text(struct cg_buf *out, const char *key, struct cg_bytes json)
{
    if (json.len > 0) {
        cg_buf_printf(out, ",{\"key\":\"%s\",\"value\":{\"stringValue\":\"", key);
        cg_buf_append(out, json);
        cg_buf_append_str(out, "\"}}");
    }
}

static void append_number(struct cg_buf *out, const char *key, uint64_t value)
{
    cg_buf_printf(out, ",{\"key\":\"%s\",\"value\":{\"intValue\":\"", key);
    cg_buf_append_u64(out, value);
    cg_buf_append_str(out, "\"}}");
}

static void append_attributes(struct cg_buf *out, const struct cg_event *event)
{
    cg_buf_append_str(out, "{\"key\":\"cloudevents.event_spec_version\","
                           "\"value\":{\"stringValue\":\"1.0\"}}");
    append_text(out, "cloudevents.event_id", cg_event_get(event, CG_TEXT_ID));
    append_text(out, "cloudevents.event_source", cg_event_get(event, CG_TEXT_SOURCE));
    append_text(out, "cloudevents.event_type", cg_event_get(event, CG_TEXT_TYPE));
    append_text(out, "cellos.cell.id", cg_event_get(event, CG_TEXT_CELL));
    append_text(out, "cellos.run.id", cg_event_get(event, CG_TEXT_RUN));
    append_text(out, "cellos.spec.signature_hash", cg_event_get(event, CG_TEXT_SPEC_HASH));
    append_number(out, "cellos.sequence", event->meta.sequence);
    append_text(out, "cellos.probe_source", cg_event_get(event, CG_TEXT_PROBE_SOURCE));
    if (event->meta.kind == CG_EVENT_GUEST) {
        append_number(out, "process.pid", event->meta.pid);
        append_text(out, "process.command", cg_event_get(event, CG_TEXT_COMM));
    }
}

bool cg_otlp_json_record(struct cg_buf *out, const struct cg_event *event)
{
    bool warns = event->meta.severity == CG_SEVERITY_WARN;
    cg_buf_append_str(out, "{\"timeUnixNano\":\"");
    cg_buf_append_u64(out, event->meta.received_ns);
    cg_buf_append_str(out, "\",\"observedTimeUnixNano\":\"");
    cg_buf_append_u64(out, event->meta.received_ns);
    cg_buf_append_str(out, warns ? "\",\"severityNumber\":13,\"severityText\":\"WARN\""
                                 : "\",\"severityNumber\":9,\"severityText\":\"INFO\"");
    cg_buf_append_str(out, ",\"body\":{\"stringValue\":");
    cg_json_append_string(out, event->bytes);
    cg_buf_append_str(out, "},\"attributes\":[");
    append_attributes(out, event);
    return cg_buf_append_str(out, "]}");
}

bool cg_otlp_json_close(struct cg_buf *out)
{
    return cg_buf_append_str(out, "]}]}]}");
}
