#include "delivery/letter.h"

#include "base/utf8.h"
#include "cellgate/clock.h"

enum {
    NODES_MAX = 2 * CG_EVENT_BYTES_MAX, /* an event cannot have more */
    SPANS = 2 * CG_TEXT_COUNT,          /* offset and length of each text */
};

static const char line_begins[] = "{\"state\":\"";
static const char id_begins[] = "\",\"id\":\"";
_Static_assert(sizeof(line_begins) - 1 == CG_LETTER_STATE_OFFSET, "where the state stands");

const char *cg_letter_state_name(enum cg_letter_state state)
{
    static const char *const names[CG_LETTER_STATE_COUNT] = {
        [CG_LETTER_KEPT] = "kept",
        [CG_LETTER_REDO] = "redo",
        [CG_LETTER_SENT] = "sent",
        [CG_LETTER_GONE] = "gone",
    };
    return names[state];
}

const char *cg_letter_reason_name(enum cg_letter_reason reason)
{
    static const char *const names[CG_LETTER_REASON_COUNT] = {
        [CG_LETTER_REFUSED] = "refused",
        [CG_LETTER_TOO_LARGE] = "too_large",
        [CG_LETTER_FAILING] = "failing",
        [CG_LETTER_AGE] = "age",
    };
    return names[reason];
}

enum cg_letter_reason cg_letter_reason_of(const struct cg_verdict *verdict)
{
    return verdict->kind == CG_VERDICT_TOO_LARGE ? CG_LETTER_TOO_LARGE
           : verdict->kind == CG_VERDICT_BACKOFF ? CG_LETTER_FAILING
                                                 : CG_LETTER_REFUSED;
}

/* --- writing --- */

/* The length of the UTF-8 character at the start of `text`, or 0 if there is none. */
static size_t character_length(struct cg_bytes text)
{
    unsigned char first = (unsigned char)text.data[0];
    size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    return length <= text.len && cg_utf8_valid(cg_bytes(text.data, length)) ? length : 0;
}

/* A JSON string of what a peer sent: bytes that are not UTF-8 become U+FFFD. */
static void append_json_string(struct cg_buf *line, struct cg_bytes text)
{
    cg_buf_append_char(line, '"');
    while (text.len > 0) {
        unsigned char first = (unsigned char)text.data[0];
        size_t length = character_length(text);
        if (length == 0) {
            cg_buf_append_str(line, "\xef\xbf\xbd");
            length = 1;
        } else if (first < 0x20 || first == 0x7f) {
            cg_buf_printf(line, "\\u%04x", first);
        } else {
            if (first == '"' || first == '\\') {
                cg_buf_append_char(line, '\\');
            }
            cg_buf_append(line, cg_bytes(text.data, length));
        }
        text = cg_bytes(text.data + length, text.len - length);
    }
    cg_buf_append_char(line, '"');
}

/* A text of the event stands there as JSON already. */
static void append_member(struct cg_buf *line, const char *name, struct cg_bytes escaped)
{
    cg_buf_append_str(line, name);
    cg_buf_append(line, escaped);
    cg_buf_append_char(line, '"');
}

static void append_number(struct cg_buf *line, const char *name, uint64_t value)
{
    cg_buf_append_str(line, name);
    cg_buf_append_u64(line, value);
}

static void append_meta(struct cg_buf *line, const struct cg_event_meta *meta)
{
    append_number(line, ",\"meta\":{\"kind\":", meta->kind);
    append_number(line, ",\"severity\":", meta->severity);
    append_number(line, ",\"received_ns\":", meta->received_ns);
    append_number(line, ",\"connection\":", meta->connection);
    append_number(line, ",\"pid\":", meta->pid);
    for (size_t i = 0; i < CG_TEXT_COUNT; i++) {
        append_number(line, i == 0 ? ",\"spans\":[" : ",", meta->text[i].offset);
        append_number(line, ",", meta->text[i].len);
    }
    cg_buf_append_str(line, "]}");
}

bool cg_letter_write(struct cg_buf *line, const char *exporter, const struct cg_event *event,
                     enum cg_letter_reason reason, const struct cg_verdict *verdict,
                     uint64_t realtime_ns)
{
    char time[CG_TIME_TEXT_LEN];
    cg_time_format(realtime_ns, time);

    cg_buf_append_str(line, line_begins);
    cg_buf_append_str(line, cg_letter_state_name(CG_LETTER_KEPT));
    append_member(line, id_begins, cg_event_get(event, CG_TEXT_ID));
    append_member(line, ",\"time\":\"", cg_bytes(time, sizeof(time)));
    cg_buf_append_str(line, ",\"exporter\":");
    append_json_string(line, cg_bytes_str(exporter));
    append_member(line, ",\"reason\":\"", cg_bytes_str(cg_letter_reason_name(reason)));
    append_number(line, ",\"index\":", event->index);
    append_member(line, ",\"cell\":\"", cg_event_get(event, CG_TEXT_CELL));
    append_member(line, ",\"run\":\"", cg_event_get(event, CG_TEXT_RUN));
    append_number(line, ",\"sequence\":", event->meta.sequence);
    cg_buf_printf(line, ",\"status\":%d,\"detail\":", verdict->status);
    append_json_string(line, cg_bytes_str(verdict->detail));
    cg_buf_append_str(line, ",\"answer\":");
    append_json_string(line, cg_bytes(verdict->answer, verdict->answer_len));
    append_meta(line, &event->meta);
    cg_buf_append_str(line, ",\"event\":");
    cg_buf_append(line, event->bytes);
    return cg_buf_append_str(line, "}\n");
}

/* --- reading --- */

bool cg_letter_peek(struct cg_bytes line, enum cg_letter_state *ret_state, struct cg_bytes *ret_id)
{
    const size_t before_id = CG_LETTER_STATE_OFFSET + CG_LETTER_STATE_LEN;
    if (line.len <= before_id + sizeof(id_begins) - 1 ||
        !cg_bytes_starts(line, cg_bytes_str(line_begins)) ||
        memcmp(line.data + before_id, id_begins, sizeof(id_begins) - 1) != 0) {
        return false;
    }
    const char *id = line.data + before_id + sizeof(id_begins) - 1;
    const char *end = memchr(id, '"', line.len - (size_t)(id - line.data));
    if (end == NULL) {
        return false;
    }
    /* A state that a power cut left half written says nothing: the letter is kept. */
    *ret_state = CG_LETTER_KEPT;
    for (unsigned state = 0; state < CG_LETTER_STATE_COUNT; state++) {
        const char *name = cg_letter_state_name((enum cg_letter_state)state);
        if (memcmp(line.data + CG_LETTER_STATE_OFFSET, name, CG_LETTER_STATE_LEN) == 0) {
            *ret_state = (enum cg_letter_state)state;
        }
    }
    *ret_id = cg_bytes(id, (size_t)(end - id));
    return true;
}

void cg_letter_reader_init(struct cg_json *json)
{
    cg_json_init(json, (struct cg_json_limits){.bytes_max = CG_LETTER_BYTES_MAX,
                                               .nodes_max = NODES_MAX,
                                               .levels_max = CG_JSON_LEVELS_MAX});
}

static bool read_number(const struct cg_json *json, uint32_t object, const char *name, uint64_t max,
                        uint64_t *ret_value)
{
    uint64_t value = 0;
    uint32_t node = cg_json_find(json, object, cg_bytes_str(name));
    if (node == 0 || cg_json_type(json, node) != CG_JSON_NUMBER ||
        !cg_json_u64(json, node, &value) || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

/* Offset and length of each text, all of them within the event. */
static bool read_spans(const struct cg_json *json, uint32_t array, struct cg_event *event)
{
    uint64_t numbers[SPANS];
    if (array == 0 || cg_json_type(json, array) != CG_JSON_ARRAY ||
        json->nodes[array].count != SPANS) {
        return false;
    }
    uint32_t node = array + 1;
    for (size_t i = 0; i < SPANS; i++, node = json->nodes[node].next) {
        if (cg_json_type(json, node) != CG_JSON_NUMBER || !cg_json_u64(json, node, &numbers[i]) ||
            numbers[i] > CG_EVENT_BYTES_MAX) {
            return false;
        }
    }
    for (size_t i = 0; i < CG_TEXT_COUNT; i++) {
        if (numbers[2 * i] + numbers[2 * i + 1] > event->bytes.len) {
            return false;
        }
        event->meta.text[i] =
            (struct cg_event_span){(uint16_t)numbers[2 * i], (uint16_t)numbers[2 * i + 1]};
    }
    return true;
}

static bool read_meta(const struct cg_json *json, struct cg_event *event)
{
    uint64_t kind, severity, connection, pid;
    uint32_t meta = cg_json_find(json, 0, CG_BYTES("meta"));
    if (meta == 0 || !read_number(json, meta, "kind", UINT8_MAX, &kind) ||
        !read_number(json, meta, "severity", UINT8_MAX, &severity) ||
        !read_number(json, meta, "received_ns", UINT64_MAX, &event->meta.received_ns) ||
        !read_number(json, meta, "connection", UINT32_MAX, &connection) ||
        !read_number(json, meta, "pid", UINT32_MAX, &pid)) {
        return false;
    }
    event->meta.kind = (uint8_t)kind;
    event->meta.severity = (uint8_t)severity;
    event->meta.connection = (uint32_t)connection;
    event->meta.pid = (uint32_t)pid;
    return read_spans(json, cg_json_find(json, meta, CG_BYTES("spans")), event);
}

bool cg_letter_read(struct cg_json *json, struct cg_bytes line, struct cg_letter *ret_letter,
                    struct cg_error *err)
{
    struct cg_letter letter = {0};
    if (line.len > 0 && line.data[line.len - 1] == '\n') {
        line.len--;
    }
    if (!cg_letter_peek(line, &letter.state, &letter.id)) {
        return cg_error_set(err, "no dead letter");
    }
    if (!cg_json_parse(json, line, err)) {
        return cg_error_context(
            err, "dead letter %.*s",
            (int)(letter.id.len < CG_ID_BYTES_MAX ? letter.id.len : CG_ID_BYTES_MAX),
            letter.id.data);
    }
    uint32_t event = cg_json_find(json, 0, CG_BYTES("event"));
    uint32_t reason = cg_json_find(json, 0, CG_BYTES("reason"));
    if (event == 0 || cg_json_type(json, event) != CG_JSON_OBJECT || reason == 0 ||
        cg_json_type(json, reason) != CG_JSON_STRING) {
        return cg_error_set(err, "a dead letter without event or reason");
    }
    letter.reason = cg_json_raw(json, reason);
    letter.event.bytes = cg_json_raw(json, event);
    if (letter.event.bytes.len > CG_EVENT_BYTES_MAX ||
        !read_number(json, 0, "index", UINT64_MAX, &letter.event.index) ||
        !read_number(json, 0, "sequence", UINT64_MAX, &letter.event.meta.sequence) ||
        !read_meta(json, &letter.event)) {
        return cg_error_set(err, "a dead letter whose numbers are not ours");
    }
    *ret_letter = letter;
    return true;
}
