/* envelope_gateway.c - the gateway's own events: the same shape, members merged in their places. */
#include "cellgate/clock.h"
#include "event/render.h"
#include "event/rendering.h"
#include "event/transport.h"

/* docs/contract.md section 4. */
static const struct cg_bytes names[CG_GATEWAY_EVENT_COUNT] = {
    [CG_GATEWAY_AGENT_SILENCED] = CG_BYTES("agent_silenced"),
    [CG_GATEWAY_AGENT_RESUMED] = CG_BYTES("agent_resumed"),
    [CG_GATEWAY_TELEMETRY_DROPPED] = CG_BYTES("telemetry.dropped"),
    [CG_GATEWAY_STREAM_OPENED] = CG_BYTES("stream_opened"),
    [CG_GATEWAY_STREAM_CLOSED] = CG_BYTES("stream_closed"),
    [CG_GATEWAY_PAUSED] = CG_BYTES("paused"),
    [CG_GATEWAY_UNPAUSED] = CG_BYTES("unpaused"),
    [CG_GATEWAY_RUN_ENDED] = CG_BYTES("run_ended"),
    [CG_GATEWAY_CORROBORATION] = CG_BYTES("corroboration"),
};

/* These are not about the guest alone: their types stand one level above the guest's. */
static bool is_above_guest(enum cg_gateway_event type)
{
    return type == CG_GATEWAY_RUN_ENDED || type == CG_GATEWAY_CORROBORATION;
}

static const struct cg_bytes guest_level = CG_BYTES("guest.");

static char *write_type(struct cg_rendering *rendering, char *at, enum cg_gateway_event type)
{
    size_t prefix_len = rendering->envelope->type_prefix_len;
    const char *from = at - prefix_len;
    if (is_above_guest(type) && prefix_len >= guest_level.len &&
        memcmp(at - guest_level.len, guest_level.data, guest_level.len) == 0) {
        at -= guest_level.len;
    }
    at = cg_render_bytes(at, names[type]);
    return cg_rendering_note(rendering, CG_TEXT_TYPE, from, at);
}

static int compare(struct cg_bytes a, struct cg_bytes b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* The members that come before `key`, each with a comma behind it. */
static char *write_members_before(char *at, struct cg_bytes key, const struct cg_member **next,
                                  const struct cg_member *end)
{
    while (*next < end && compare((*next)->key, key) < 0) {
        *at++ = '"';
        at = cg_render_bytes(at, (*next)->key);
        at = CG_RENDER_LITERAL(at, "\":");
        at = cg_render_bytes(at, (*next)->json);
        *at++ = ',';
        (*next)++;
    }
    return at;
}

static char *write_data(struct cg_rendering *rendering, char *at, const struct cg_member *members,
                        size_t count)
{
    static const struct cg_bytes behind_all = CG_BYTES("\x7f");
    const struct cg_run_identity *run = rendering->stamp->run;
    const struct cg_member *next = members;
    const struct cg_member *end = members + count;
    at = write_members_before(at, CG_BYTES("cellId"), &next, end);
    at = CG_RENDER_LITERAL(at, "\"cellId\":\"");
    char *cell = at;
    at = cg_rendering_note(rendering, CG_TEXT_CELL, cell, cg_render_bytes(at, run->cell_id));
    at = CG_RENDER_LITERAL(at, "\",");
    at = write_members_before(at, CG_BYTES("host"), &next, end);
    at = cg_rendering_host(rendering, at);
    at = write_members_before(at, CG_BYTES("provenance"), &next, end);
    at = CG_RENDER_LITERAL(at, "\"provenance\":\"observed\",");
    at = write_members_before(at, CG_BYTES("runId"), &next, end);
    at = CG_RENDER_LITERAL(at, "\"runId\":\"");
    at = cg_render_bytes(at, run->run_id);
    at = CG_RENDER_LITERAL(at, "\",");
    return write_members_before(at, behind_all, &next, end) - 1; /* no comma behind the last */
}

struct content {
    enum cg_gateway_event type;
    const struct cg_member *members;
    size_t count;
};

static char *write_event(struct cg_rendering *rendering, char *at, const struct content *content,
                         bool null_traceparent)
{
    at = cg_rendering_head(rendering, at);
    at = write_type(rendering, at, content->type);
    at = CG_RENDER_LITERAL(at, "\",\"datacontenttype\":\"application/json\",\"data\":{");
    at = write_data(rendering, at, content->members, content->count);
    return cg_rendering_close(rendering, at, null_traceparent);
}

/* The signed event in its transport event. Returns where it ends, or NULL. */
static char *write_signed(struct cg_rendering *rendering, struct cg_signer *signer,
                          const struct content *content, char *out)
{
    const struct cg_transport_attributes attributes = {
        .id_json = cg_bytes(rendering->uuid, CG_UUID_TEXT_LEN),
        .time_json = cg_bytes(rendering->time, CG_TIME_TEXT_LEN),
        .traceparent_json = rendering->stamp->run->traceparent_json,
    };
    char *at = cg_transport_open(out, attributes.id_json);
    at = cg_transport_open_envelope(at);
    const char *canonical = at;
    at = write_event(rendering, at, content, true);
    at = cg_transport_seal(at, canonical, signer);
    return at == NULL ? NULL : cg_transport_close(at, &attributes);
}

static bool fits(const struct cg_envelope *envelope, const struct cg_signer *signer,
                 const struct cg_run_identity *run, const struct content *content)
{
    size_t bytes = CG_EVENT_FIXED_BYTES_MAX + envelope->source_to_type.len +
                   envelope->node_to_run.len + cg_signer_kid_json(signer).len +
                   cg_rendering_run_bytes(run) + CG_RENDER_SLACK;
    for (size_t i = 0; i < content->count; i++) {
        bytes += content->members[i].key.len + sizeof("\"\":,") + content->members[i].json.len;
    }
    return bytes <= CG_EVENT_BYTES_MAX;
}

size_t cg_envelope_gateway(const struct cg_envelope *envelope, struct cg_signer *signer,
                           const struct cg_stamp *stamp, enum cg_gateway_event type,
                           const struct cg_member *members, size_t count,
                           enum cg_event_severity severity, const char uuid[CG_UUID_TEXT_LEN],
                           char *out, struct cg_event_meta *ret_meta)
{
    CG_ASSERT(type < CG_GATEWAY_EVENT_COUNT);
    const struct content content = {type, members, count};
    if (!fits(envelope, signer, stamp->run, &content)) {
        return 0;
    }
    struct cg_event_meta meta = {
        .sequence = stamp->sequence,
        .received_ns = stamp->received_ns,
        .connection = stamp->connection,
        .kind = CG_EVENT_GATEWAY,
        .severity = (uint8_t)severity,
    };
    struct cg_rendering rendering = {
        .envelope = envelope,
        .stamp = stamp,
        .start = out,
        .time = cg_rendering_time(stamp->received_ns),
        .uuid = uuid,
        .meta = &meta,
    };
    char *end = cg_signer_mode(signer) == CG_SIGNING_OFF
                    ? write_event(&rendering, out, &content, false)
                    : write_signed(&rendering, signer, &content, out);
    if (end == NULL) {
        return 0;
    }
    *ret_meta = meta;
    return (size_t)(end - out);
}
