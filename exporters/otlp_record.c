#include "exporters/otlp_record.h"

#include <endian.h>

/* The field's number and how it is encoded, for numbers below 16. */
#define TAG_VARINT(number)  ((char)((number) << 3))
#define TAG_FIXED64(number) ((char)((number) << 3 | 1))
#define TAG_BYTES(number)   ((char)((number) << 3 | 2))

enum { /* exporters/proto/otlp.proto */
       SCOPE_LOGS_RECORDS = 2,
       RECORD_TIME = 1,
       RECORD_SEVERITY = 2,
       RECORD_SEVERITY_TEXT = 3,
       RECORD_BODY = 5,
       RECORD_ATTRIBUTES = 6,
       RECORD_OBSERVED_TIME = 11,
       PAIR_KEY = 1,
       PAIR_VALUE = 2,
       VALUE_STRING = 1,
       VALUE_INT = 3,
};

enum { /* opentelemetry's SeverityNumber */
       SEVERITY_INFO = 9,
       SEVERITY_WARN = 13,
};

enum {
    SEVERITY_TEXT_BYTES = 4,
    LENGTH_BYTES_MAX = 5, /* no record has 2^32 bytes */
    /* Time, severity, its text, the time again. */
    FIXED_BYTES = 9 + 2 + 2 + SEVERITY_TEXT_BYTES + 9,
    BEFORE_BYTES_MAX = 1 + LENGTH_BYTES_MAX + FIXED_BYTES,
    BODY_BYTES_MAX = 2 * (1 + LENGTH_BYTES_MAX),
    /* All keys, numbers, tags and lengths of the attributes, generously. */
    ATTRIBUTES_BYTES_MAX = 512,
};

size_t cg_otlp_record_room(const struct cg_event *event)
{
    size_t room = BEFORE_BYTES_MAX + ATTRIBUTES_BYTES_MAX + BODY_BYTES_MAX;
    for (int i = 0; i < CG_TEXT_COUNT; i++) {
        room += event->meta.text[i].len; /* what a text says is never longer than its JSON */
    }
    return room;
}

static inline char *write_fixed64(char *at, uint64_t value)
{
    uint64_t little = htole64(value);
    memcpy(at, &little, sizeof(little));
    return at + sizeof(little);
}

/* An attribute up to its value, which takes `value_bytes`, tags and lengths included. */
static inline char *write_key(char *at, struct cg_bytes key, size_t value_bytes)
{
    *at++ = TAG_BYTES(RECORD_ATTRIBUTES);
    at = cg_varint_write(at, 2 + key.len + 1 + cg_varint_bytes(value_bytes) + value_bytes);
    *at++ = TAG_BYTES(PAIR_KEY);
    *at++ = (char)key.len;
    memcpy(at, key.data, key.len);
    at += key.len;
    *at++ = TAG_BYTES(PAIR_VALUE);
    return cg_varint_write(at, value_bytes);
}

static inline char *write_text(char *at, struct cg_bytes key, struct cg_bytes value)
{
    if (value.len == 0) {
        return at;
    }
    at = write_key(at, key, 1 + cg_varint_bytes(value.len) + value.len);
    *at++ = TAG_BYTES(VALUE_STRING);
    at = cg_varint_write(at, value.len);
    memcpy(at, value.data, value.len);
    return at + value.len;
}

static inline char *write_number(char *at, struct cg_bytes key, uint64_t value)
{
    at = write_key(at, key, 1 + cg_varint_bytes(value));
    *at++ = TAG_VARINT(VALUE_INT);
    return cg_varint_write(at, value);
}

static char *write_attributes(char *at, const struct cg_event *event, struct cg_otlp_text *text)
{
#define RAW(which)  cg_event_get(event, which)
#define SAID(which) cg_otlp_text_read(text, event, which)
    at = write_text(at, CG_BYTES("cloudevents.event_id"), RAW(CG_TEXT_ID));
    at = write_text(at, CG_BYTES("cloudevents.event_source"), SAID(CG_TEXT_SOURCE));
    at = write_text(at, CG_BYTES("cloudevents.event_spec_version"), CG_BYTES("1.0"));
    at = write_text(at, CG_BYTES("cloudevents.event_type"), RAW(CG_TEXT_TYPE));
    at = write_text(at, CG_BYTES("cellos.cell.id"), RAW(CG_TEXT_CELL));
    at = write_text(at, CG_BYTES("cellos.run.id"), RAW(CG_TEXT_RUN));
    at = write_text(at, CG_BYTES("cellos.spec.signature_hash"), SAID(CG_TEXT_SPEC_HASH));
    at = write_number(at, CG_BYTES("cellos.sequence"), event->meta.sequence);
    at = write_text(at, CG_BYTES("cellos.probe_source"), SAID(CG_TEXT_PROBE_SOURCE));
    if (event->meta.kind == CG_EVENT_GUEST) {
        at = write_number(at, CG_BYTES("process.pid"), event->meta.pid);
        at = write_text(at, CG_BYTES("process.command"), SAID(CG_TEXT_COMM));
    }
    return at;
#undef RAW
#undef SAID
}

/* Up to the event's JSON, which is not written. */
static char *write_body(char *at, size_t json_bytes)
{
    *at++ = TAG_BYTES(RECORD_BODY);
    at = cg_varint_write(at, 1 + cg_varint_bytes(json_bytes) + json_bytes);
    *at++ = TAG_BYTES(VALUE_STRING);
    return cg_varint_write(at, json_bytes);
}

static char *write_fixed(char *at, const struct cg_event_meta *meta)
{
    bool warns = meta->severity == CG_SEVERITY_WARN;
    *at++ = TAG_FIXED64(RECORD_TIME);
    at = write_fixed64(at, meta->received_ns);
    *at++ = TAG_VARINT(RECORD_SEVERITY);
    *at++ = warns ? SEVERITY_WARN : SEVERITY_INFO;
    *at++ = TAG_BYTES(RECORD_SEVERITY_TEXT);
    *at++ = SEVERITY_TEXT_BYTES;
    memcpy(at, warns ? "WARN" : "INFO", SEVERITY_TEXT_BYTES);
    at += SEVERITY_TEXT_BYTES;
    *at++ = TAG_FIXED64(RECORD_OBSERVED_TIME);
    return write_fixed64(at, meta->received_ns);
}

struct cg_bytes cg_otlp_record_write(const struct cg_event *event, struct cg_otlp_text *text,
                                     char *room)
{
    char *attributes = room + BEFORE_BYTES_MAX;
    char *end = write_attributes(attributes, event, text);
    end = write_body(end, event->bytes.len);
    size_t record_bytes = FIXED_BYTES + (size_t)(end - attributes) + event->bytes.len;

    char *start = attributes - FIXED_BYTES - cg_varint_bytes(record_bytes) - 1;
    char *at = start;
    *at++ = TAG_BYTES(SCOPE_LOGS_RECORDS);
    at = cg_varint_write(at, record_bytes);
    at = write_fixed(at, &event->meta);
    CG_ASSERT(at == attributes);
    return cg_bytes(start, (size_t)(end - start));
}
