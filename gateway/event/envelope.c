#include "event/envelope.h"

#include "base/utf8.h"
#include "cellgate/clock.h"
#include "event/json_write.h"
#include "event/render.h"
#include "event/rendering.h"
#include "event/transport.h"

#include <stdlib.h>

enum {
    NODE_JSON_BYTES_MAX = CG_NODE_BYTES_MAX * CG_JSON_ESCAPE_GROWTH,
    KID_JSON_BYTES_MAX = CG_KID_BYTES_MAX * CG_JSON_ESCAPE_GROWTH,
    DECLARED_JSON_BYTES_MAX = CG_DECLARED_TEXT_BYTES_MAX * CG_JSON_ESCAPE_GROWTH,
    TYPE_SUFFIX_BYTES_MAX = 64, /* docs/contract.md section 4 */
};

/* The bound of an event is proved here, once: cg_envelope_run_fits holds the only variable term. */
_Static_assert(CG_EVENT_FIXED_BYTES_MAX + CG_EVENT_SOURCE_BYTES_MAX +
                       CG_EVENT_TYPE_PREFIX_BYTES_MAX + TYPE_SUFFIX_BYTES_MAX +
                       NODE_JSON_BYTES_MAX + KID_JSON_BYTES_MAX + 2 * DECLARED_JSON_BYTES_MAX +
                       CG_EVENT_RUN_BYTES_MAX + CG_RENDER_SLACK <=
                   CG_EVENT_BYTES_MAX,
               "a signed event may be longer than its maximum");

static bool type_prefix_is_plain(struct cg_bytes prefix)
{
    for (size_t i = 0; i < prefix.len; i++) {
        char c = prefix.data[i];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
}

static bool check_texts(struct cg_bytes source, struct cg_bytes type_prefix, struct cg_bytes node,
                        struct cg_error *err)
{
    if (!cg_utf8_valid(source) || cg_json_escaped_len(source) > CG_EVENT_SOURCE_BYTES_MAX) {
        return cg_error_set(err, "event source: longer than %d bytes, or not UTF-8",
                            CG_EVENT_SOURCE_BYTES_MAX);
    }
    if (type_prefix.len > CG_EVENT_TYPE_PREFIX_BYTES_MAX || !type_prefix_is_plain(type_prefix)) {
        return cg_error_set(err,
                            "event type prefix: longer than %d bytes, or not printable ASCII "
                            "without quotes and backslashes",
                            CG_EVENT_TYPE_PREFIX_BYTES_MAX);
    }
    if (!cg_utf8_valid(node) || node.len > CG_NODE_BYTES_MAX) {
        return cg_error_set(err, "node name: longer than %d bytes, or not UTF-8",
                            CG_NODE_BYTES_MAX);
    }
    return true;
}

bool cg_envelope_new(struct cg_bytes source, struct cg_bytes type_prefix, struct cg_bytes node,
                     struct cg_envelope **ret_envelope, struct cg_error *err)
{
    if (!check_texts(source, type_prefix, node, err)) {
        return false;
    }
    static const char literals[] = "\",\"source\":\"\",\"type\":\"\"node\":\"\",\"runId\":\"";
    size_t room = sizeof(literals) + cg_json_escaped_len(source) + type_prefix.len +
                  cg_json_escaped_len(node) + CG_RENDER_SLACK;
    struct cg_envelope *envelope = malloc(sizeof(*envelope) + room);
    if (envelope == NULL) {
        return cg_error_set(err, "no memory for the event template");
    }
    char *at = CG_RENDER_LITERAL(envelope->text, "\",\"source\":\"");
    envelope->source = cg_bytes(at, cg_json_escape(source, at));
    at = CG_RENDER_LITERAL(at + envelope->source.len, "\",\"type\":\"");
    at = cg_render_bytes(at, type_prefix);
    envelope->source_to_type = cg_bytes(envelope->text, (size_t)(at - envelope->text));
    envelope->type_prefix_len = type_prefix.len;

    char *node_start = at;
    at = CG_RENDER_LITERAL(at, "\"node\":\"");
    at += cg_json_escape(node, at);
    at = CG_RENDER_LITERAL(at, "\",\"runId\":\"");
    envelope->node_to_run = cg_bytes(node_start, (size_t)(at - node_start));
    *ret_envelope = envelope;
    return true;
}

void cg_envelope_free(struct cg_envelope *envelope)
{
    free(envelope);
}

bool cg_envelope_run_fits(const struct cg_run_identity *run)
{
    return cg_rendering_run_bytes(run) <= CG_EVENT_RUN_BYTES_MAX;
}

static char *write_text(struct cg_rendering *rendering, enum cg_event_text which, char *at,
                        struct cg_bytes text)
{
    return cg_rendering_note(rendering, which, at, cg_render_bytes(at, text));
}

/* Frames read together share a time, and the date changes once a second at most; so the last text
 * is kept. */
const char *cg_rendering_time(uint64_t realtime_ns)
{
    enum { FRACTION_AT = sizeof("2026-11-23T11:00:00.") - 1 };
    static _Thread_local struct {
        uint64_t realtime_ns;
        uint64_t second;
        char text[CG_TIME_TEXT_LEN];
    } last = {.second = UINT64_MAX};

    if (realtime_ns != last.realtime_ns || last.second == UINT64_MAX) {
        uint64_t second = realtime_ns / CG_NS_PER_S;
        if (second != last.second) {
            cg_time_format(realtime_ns, last.text);
        } else {
            uint32_t fraction = (uint32_t)(realtime_ns - second * CG_NS_PER_S);
            last.text[FRACTION_AT] = (char)('0' + fraction / 100000000);
            (void)cg_render_eight(last.text + FRACTION_AT + 1, fraction % 100000000);
        }
        last.second = second;
        last.realtime_ns = realtime_ns;
    }
    return last.text;
}

static char *write_time(const struct cg_rendering *rendering, char *at)
{
    memcpy(at, rendering->time, CG_TIME_TEXT_LEN);
    return at + CG_TIME_TEXT_LEN;
}

/* What a probe source adds to the type, or 0 where it may not become part of an attribute. */
static size_t write_type_suffix(char *at, struct cg_bytes probe_source)
{
    static const char allowed[256] = {
        ['.'] = '_', ['_'] = '_', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',
        ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['a'] = 'a', ['b'] = 'b',
        ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',
        ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',
        ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w',
        ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
    };
    if (probe_source.len > TYPE_SUFFIX_BYTES_MAX) {
        return 0;
    }
    for (size_t i = 0; i < probe_source.len; i++) {
        char c = allowed[(unsigned char)probe_source.data[i]];
        if (c == 0) {
            return 0;
        }
        at[i] = c;
    }
    return probe_source.len;
}

char *cg_rendering_head(struct cg_rendering *rendering, char *at)
{
    const struct cg_envelope *envelope = rendering->envelope;
    at = CG_RENDER_LITERAL(at, "{\"specversion\":\"1.0\",\"id\":\"");
    memcpy(at, rendering->uuid, CG_UUID_TEXT_LEN);
    at = cg_rendering_note(rendering, CG_TEXT_ID, at, at + CG_UUID_TEXT_LEN);

    char *source = at + (envelope->source.data - envelope->source_to_type.data);
    at = cg_render_bytes(at, envelope->source_to_type);
    (void)cg_rendering_note(rendering, CG_TEXT_SOURCE, source, source + envelope->source.len);
    return at;
}

/* From the first brace to the cell id in `data`. */
static char *write_head(struct cg_rendering *rendering, char *at, struct cg_bytes probe_source)
{
    at = cg_rendering_head(rendering, at);
    const char *type = at - rendering->envelope->type_prefix_len;
    size_t suffix = write_type_suffix(at, probe_source);
    at = suffix > 0 ? at + suffix : CG_RENDER_LITERAL(at, "unrecognised");
    at = cg_rendering_note(rendering, CG_TEXT_TYPE, type, at);

    at = CG_RENDER_LITERAL(at,
                           "\",\"datacontenttype\":\"application/json\",\"data\":{\"cellId\":\"");
    return write_text(rendering, CG_TEXT_CELL, at, rendering->stamp->run->cell_id);
}

/* The longest beginning of valid UTF-8 that is within the limit and cuts no character. */
static struct cg_bytes cut_text(struct cg_bytes text)
{
    if (text.len > CG_DECLARED_TEXT_BYTES_MAX) {
        text.len = CG_DECLARED_TEXT_BYTES_MAX;
        while (text.len > 0 && ((unsigned char)text.data[text.len] & 0xc0) == 0x80) {
            text.len--;
        }
    }
    return text;
}

static char *write_declared(struct cg_rendering *rendering, enum cg_event_text which, char *at,
                            struct cg_bytes text)
{
    return cg_rendering_note(rendering, which, at, at + cg_json_escape(cut_text(text), at));
}

/* `,"truncated":{…}` with the original lengths of the members that were cut; mostly nothing. */
static char *write_truncated(char *at, const struct cg_declaration *declaration)
{
    bool comm = declaration->guest_comm.len > CG_DECLARED_TEXT_BYTES_MAX;
    bool source = declaration->probe_source.len > CG_DECLARED_TEXT_BYTES_MAX;
    if (!comm && !source) {
        return at;
    }
    at = CG_RENDER_LITERAL(at, ",\"truncated\":{");
    if (comm) {
        at = CG_RENDER_LITERAL(at, "\"guestComm\":");
        at = cg_render_u64(at, declaration->guest_comm.len);
    }
    if (source) {
        at = comm ? CG_RENDER_LITERAL(at, ",\"probeSource\":")
                  : CG_RENDER_LITERAL(at, "\"probeSource\":");
        at = cg_render_u64(at, declaration->probe_source.len);
    }
    *at++ = '}';
    return at;
}

static char *write_guest(struct cg_rendering *rendering, char *at,
                         const struct cg_declaration *declaration)
{
    at = CG_RENDER_LITERAL(at, "\",\"guest\":{\"guestComm\":\"");
    at = write_declared(rendering, CG_TEXT_COMM, at, declaration->guest_comm);
    at = CG_RENDER_LITERAL(at, "\",\"guestMonotonicNs\":");
    at = cg_render_u64(at, declaration->guest_monotonic_ns);
    at = CG_RENDER_LITERAL(at, ",\"guestPid\":");
    at = cg_render_u64(at, declaration->guest_pid);
    at = CG_RENDER_LITERAL(at, ",\"probeSource\":\"");
    at = write_declared(rendering, CG_TEXT_PROBE_SOURCE, at, declaration->probe_source);
    *at++ = '"';
    at = write_truncated(at, declaration);
    return CG_RENDER_LITERAL(at, "},");
}

char *cg_rendering_host(struct cg_rendering *rendering, char *at)
{
    const struct cg_stamp *stamp = rendering->stamp;
    const struct cg_run_identity *run = stamp->run;
    at = CG_RENDER_LITERAL(at, "\"host\":{\"cellId\":\"");
    at = cg_render_bytes(at, run->cell_id);
    if (stamp->connection != 0) {
        at = CG_RENDER_LITERAL(at, "\",\"connection\":");
        at = cg_render_u64(at, stamp->connection);
        at = CG_RENDER_LITERAL(at, ",\"hostReceivedAt\":\"");
    } else {
        at = CG_RENDER_LITERAL(at, "\",\"hostReceivedAt\":\"");
    }
    at = write_time(rendering, at);
    at = CG_RENDER_LITERAL(at, "\",");
    if (run->labels_json.len > 0) {
        at = CG_RENDER_LITERAL(at, "\"labels\":");
        at = cg_render_bytes(at, run->labels_json);
        *at++ = ',';
    }
    at = cg_render_bytes(at, rendering->envelope->node_to_run);
    at = write_text(rendering, CG_TEXT_RUN, at, run->run_id);
    at = CG_RENDER_LITERAL(at, "\",\"sequence\":");
    at = cg_render_u64(at, stamp->sequence);
    at = CG_RENDER_LITERAL(at, ",\"specSignatureHash\":\"");
    at = write_text(rendering, CG_TEXT_SPEC_HASH, at, run->spec_hash_json);
    return CG_RENDER_LITERAL(at, "\"},");
}

char *cg_rendering_close(const struct cg_rendering *rendering, char *at, bool null_traceparent)
{
    const struct cg_run_identity *run = rendering->stamp->run;
    at = CG_RENDER_LITERAL(at, "},\"time\":\"");
    at = write_time(rendering, at);
    if (run->traceparent_json.len > 0) {
        at = CG_RENDER_LITERAL(at, "\",\"traceparent\":\"");
        at = cg_render_bytes(at, run->traceparent_json);
        return CG_RENDER_LITERAL(at, "\"}");
    }
    return null_traceparent ? CG_RENDER_LITERAL(at, "\",\"traceparent\":null}")
                            : CG_RENDER_LITERAL(at, "\"}");
}

/* From the run id in `data` to the last brace. */
static char *write_tail(const struct cg_rendering *rendering, char *at, bool null_traceparent)
{
    at = CG_RENDER_LITERAL(at, "\"runId\":\"");
    at = cg_render_bytes(at, rendering->stamp->run->run_id);
    *at++ = '"';
    return cg_rendering_close(rendering, at, null_traceparent);
}

static char *write_guest_event(struct cg_rendering *rendering, char *at,
                               const struct cg_declaration *declaration, bool null_traceparent)
{
    at = write_head(rendering, at, declaration->probe_source);
    at = write_guest(rendering, at, declaration);
    at = cg_rendering_host(rendering, at);
    at = CG_RENDER_LITERAL(at, "\"provenance\":\"declared\",");
    return write_tail(rendering, at, null_traceparent);
}

static void start_meta(const struct cg_stamp *stamp, const struct cg_declaration *declaration,
                       struct cg_event_meta *meta)
{
    *meta = (struct cg_event_meta){
        .sequence = stamp->sequence,
        .received_ns = stamp->received_ns,
        .connection = stamp->connection,
        .pid = declaration->guest_pid,
        .kind = CG_EVENT_GUEST,
        .severity = CG_SEVERITY_INFO,
    };
}

/* The signed event in its transport event. Returns its length, or 0. */
static size_t write_signed(struct cg_rendering *rendering, struct cg_signer *signer,
                           const struct cg_declaration *declaration, char *out)
{
    const struct cg_transport_attributes attributes = {
        .id_json = cg_bytes(rendering->uuid, CG_UUID_TEXT_LEN),
        .time_json = cg_bytes(rendering->time, CG_TIME_TEXT_LEN),
        .traceparent_json = rendering->stamp->run->traceparent_json,
    };
    char *at = cg_transport_open(out, attributes.id_json);
    at = cg_transport_open_envelope(at);
    const char *canonical = at;
    at = write_guest_event(rendering, at, declaration, true);
    at = cg_transport_seal(at, canonical, signer);
    return at == NULL ? 0 : (size_t)(cg_transport_close(at, &attributes) - out);
}

size_t cg_envelope_guest(const struct cg_envelope *envelope, struct cg_signer *signer,
                         const struct cg_stamp *stamp, const struct cg_declaration *declaration,
                         const char uuid[CG_UUID_TEXT_LEN], char *out,
                         struct cg_event_meta *ret_meta)
{
    if (!cg_envelope_run_fits(stamp->run)) {
        return 0;
    }
    struct cg_rendering rendering = {
        .envelope = envelope,
        .stamp = stamp,
        .start = out,
        .time = cg_rendering_time(stamp->received_ns),
        .uuid = uuid,
        .meta = ret_meta,
    };
    if (cg_signer_mode(signer) == CG_SIGNING_OFF) {
        /* Nothing can fail any more, so the result is filled in its place: copying what was just
         * written piecemeal would stall on the way from store to load. */
        start_meta(stamp, declaration, ret_meta);
        return (size_t)(write_guest_event(&rendering, out, declaration, false) - out);
    }
    struct cg_event_meta meta;
    start_meta(stamp, declaration, &meta);
    rendering.meta = &meta;
    size_t len = write_signed(&rendering, signer, declaration, out);
    if (len > 0) {
        *ret_meta = meta;
    }
    return len;
}
