/*
 * otlp_record.h - one event as an OTLP LogRecord in protobuf, written byte by byte. Pure.
 *
 * This is the hot path: no object tree, no allocation, and the event's bytes are not copied. A
 * record is `head` and, behind it, the event's bytes where they lie: the body is its last field.
 * Lengths of protobuf stand in front of what they measure, so the attributes are written first, at
 * a distance that leaves room for what goes before them. Test: the same through protobuf-c.
 */
#ifndef CELLGATE_EXPORTERS_OTLP_RECORD_H
#define CELLGATE_EXPORTERS_OTLP_RECORD_H

#include "cellgate/bytes.h"
#include "cellgate/event.h"
#include "exporters/otlp_text.h"

enum { CG_VARINT_BYTES_MAX = 10 };

/* protobuf's variable-length integer: seven bits a byte, the lowest first. */
static inline size_t cg_varint_bytes(uint64_t value)
{
    size_t bytes = 1;
    for (; value >= 0x80; value >>= 7) {
        bytes++;
    }
    return bytes;
}

static inline char *cg_varint_write(char *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        *at++ = (char)(value | 0x80);
    }
    *at++ = (char)value;
    return at;
}

/* Room that cg_otlp_record_write needs at most. */
size_t cg_otlp_record_room(const struct cg_event *event);

/* Writes the head of the record, as field `log_records` of ScopeLogs, into `room`. */
struct cg_bytes cg_otlp_record_write(const struct cg_event *event, struct cg_otlp_text *text,
                                     char *room);

#endif
