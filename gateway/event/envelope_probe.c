/* envelope_probe.c - readings of the host probes: flat data, without the host block. */
#include "cellgate/clock.h"
#include "event/json_write.h"
#include "event/render.h"
#include "event/rendering.h"
#include "event/transport.h"

static const struct cg_bytes source = CG_BYTES("cellos-host-telemetry/probes");

/* What a guest's type prefix ends in, and the host's does not. */
static const struct cg_bytes guest_level = CG_BYTES("v1.guest.");

/* Nothing else in such an event is long: an allowed run's labels are not in it. */
_Static_assert(CG_EVENT_FIXED_BYTES_MAX + CG_EVENT_TYPE_PREFIX_BYTES_MAX +
                       CG_NODE_BYTES_MAX * CG_JSON_ESCAPE_GROWTH +
                       CG_KID_BYTES_MAX * CG_JSON_ESCAPE_GROWTH + 4 * CG_ID_BYTES_MAX +
                       2 * CG_SPEC_HASH_BYTES_MAX + 4 * CG_TRACEPARENT_BYTES_MAX +
                       CG_PROBE_CONTENT_BYTES_MAX <=
                   CG_EVENT_BYTES_MAX,
               "a reading may be longer than its event");

static char *write_head(struct cg_rendering *rendering, char *at)
{
    at = CG_RENDER_LITERAL(at, "{\"specversion\":\"1.0\",\"id\":\"");
    memcpy(at, rendering->uuid, CG_UUID_TEXT_LEN);
    at = cg_rendering_note(rendering, CG_TEXT_ID, at, at + CG_UUID_TEXT_LEN);
    at = CG_RENDER_LITERAL(at, "\",\"source\":\"");
    at = cg_rendering_note(rendering, CG_TEXT_SOURCE, at, cg_render_bytes(at, source));
    return CG_RENDER_LITERAL(at, "\",\"type\":\"");
}

/* The prefix of guest types without `v1.guest.`, `host.v1.`, and the probe's name, which is its
 * source without `host.`. */
static char *write_type(struct cg_rendering *rendering, char *at, struct cg_bytes name)
{
    const struct cg_envelope *envelope = rendering->envelope;
    size_t len = envelope->type_prefix_len;
    struct cg_bytes prefix =
        cg_bytes(envelope->source_to_type.data + envelope->source_to_type.len - len, len);
    if (len >= guest_level.len &&
        memcmp(prefix.data + len - guest_level.len, guest_level.data, guest_level.len) == 0) {
        prefix.len -= guest_level.len;
    }
    const char *from = at;
    at = cg_render_bytes(at, prefix);
    at = CG_RENDER_LITERAL(at, "host.v1.");
    at = cg_render_bytes(at, name);
    return cg_rendering_note(rendering, CG_TEXT_TYPE, from, at);
}

static char *write_data(struct cg_rendering *rendering, char *at,
                        const struct cg_probe_content *content)
{
    const struct cg_stamp *stamp = rendering->stamp;
    const struct cg_run_identity *run = stamp->run;
    at = CG_RENDER_LITERAL(at, "\"cellId\":\"");
    at = cg_rendering_note(rendering, CG_TEXT_CELL, at, cg_render_bytes(at, run->cell_id));
    at = CG_RENDER_LITERAL(at, "\",\"hostReceivedAt\":\"");
    memcpy(at, rendering->time, CG_TIME_TEXT_LEN);
    at = CG_RENDER_LITERAL(at + CG_TIME_TEXT_LEN, "\",\"inputs\":");
    at = cg_render_bytes(at, content->inputs);
    *at++ = ',';
    /* The node and the key of the run stand together in the template, with the output between. */
    struct cg_bytes node = rendering->envelope->node_to_run;
    node.len -= sizeof("\"runId\":\"") - 1;
    at = cg_render_bytes(at, node);
    at = CG_RENDER_LITERAL(at, "\"output\":");
    at = cg_render_bytes(at, content->output);
    at = CG_RENDER_LITERAL(at, ",\"probeSource\":\"");
    at = cg_rendering_note(rendering, CG_TEXT_PROBE_SOURCE, at,
                           cg_render_bytes(at, content->source));
    at = CG_RENDER_LITERAL(at, "\",\"runId\":\"");
    at = cg_rendering_note(rendering, CG_TEXT_RUN, at, cg_render_bytes(at, run->run_id));
    at = CG_RENDER_LITERAL(at, "\",\"sequence\":");
    at = cg_render_u64(at, stamp->sequence);
    at = CG_RENDER_LITERAL(at, ",\"specSignatureHash\":\"");
    at = cg_rendering_note(rendering, CG_TEXT_SPEC_HASH, at,
                           cg_render_bytes(at, run->spec_hash_json));
    *at++ = '"';
    return at;
}

static char *write_event(struct cg_rendering *rendering, char *at,
                         const struct cg_probe_content *content, bool null_traceparent)
{
    static const struct cg_bytes host = CG_BYTES("host.");
    at = write_head(rendering, at);
    at = write_type(rendering, at,
                    cg_bytes(content->source.data + host.len, content->source.len - host.len));
    at = CG_RENDER_LITERAL(at, "\",\"datacontenttype\":\"application/json\",\"data\":{");
    at = write_data(rendering, at, content);
    return cg_rendering_close(rendering, at, null_traceparent);
}

/* The signed event in its transport event. Returns where it ends, or NULL. */
static char *write_signed(struct cg_rendering *rendering, struct cg_signer *signer,
                          const struct cg_probe_content *content, char *out)
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

size_t cg_envelope_probe(const struct cg_envelope *envelope, struct cg_signer *signer,
                         const struct cg_stamp *stamp, const struct cg_probe_content *content,
                         const char uuid[CG_UUID_TEXT_LEN], char *out,
                         struct cg_event_meta *ret_meta)
{
    size_t bytes = CG_EVENT_FIXED_BYTES_MAX + source.len + envelope->type_prefix_len +
                   envelope->node_to_run.len + cg_signer_kid_json(signer).len +
                   cg_rendering_run_bytes(stamp->run) - stamp->run->labels_json.len +
                   2 * content->source.len + content->inputs.len + content->output.len +
                   CG_RENDER_SLACK;
    if (bytes > CG_EVENT_BYTES_MAX) {
        return 0;
    }
    struct cg_event_meta meta = {
        .sequence = stamp->sequence,
        .received_ns = stamp->received_ns,
        .kind = CG_EVENT_PROBE,
        .severity = CG_SEVERITY_INFO,
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
                    ? write_event(&rendering, out, content, false)
                    : write_signed(&rendering, signer, content, out);
    if (end == NULL) {
        return 0;
    }
    *ret_meta = meta;
    return (size_t)(end - out);
}
