/*
 * event.h - one event as it lies in the spool: what exporters, filters and keys read.
 *
 * The spool keeps for each event a fixed header and the event's bytes as they go out. The header
 * says where in those bytes the attributes of the *inner* event stand (for a signed event the one
 * inside the envelope), so that nobody downstream parses JSON. The texts are as they stand in the
 * JSON, that is, escaped; ids and types never need escapes, guest texts may.
 */
#ifndef CELLGATE_EVENT_H
#define CELLGATE_EVENT_H

#include "cellgate/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum cg_event_kind {
    CG_EVENT_GUEST = 1,   /* declared by a guest */
    CG_EVENT_GATEWAY = 2, /* the gateway's own: silence, drops, life cycle */
    CG_EVENT_PROBE = 3,   /* read by a host probe */
};

enum cg_event_severity { CG_SEVERITY_INFO = 0, CG_SEVERITY_WARN = 1 };

/* Attributes that the record header locates. */
enum cg_event_text {
    CG_TEXT_ID,
    CG_TEXT_SOURCE,
    CG_TEXT_TYPE,
    CG_TEXT_CELL,
    CG_TEXT_RUN,
    CG_TEXT_SPEC_HASH,
    CG_TEXT_PROBE_SOURCE, /* empty where the event has none */
    CG_TEXT_COMM,         /* empty where the event has none */
    CG_TEXT_COUNT
};

/* Where a text stands in the event's bytes. An event is at most 65,535 bytes, so 16 bits do. */
struct cg_event_span {
    uint16_t offset;
    uint16_t len;
};

/* What is known of an event beside its bytes. Made once, by whoever renders it. */
struct cg_event_meta {
    uint64_t sequence;    /* per run, from 1 */
    uint64_t received_ns; /* real time; the host's receive time, and the event's time */
    uint32_t connection;  /* ordinal within the run, 0 for none */
    uint32_t pid;         /* as the guest declared it, 0 for none */
    uint8_t kind;         /* enum cg_event_kind */
    uint8_t severity;     /* enum cg_event_severity */
    uint16_t silence;  /* what is known of the run's silence from here on (cells/life.h), which the
                          spool keeps over a restart; 0: nothing new */
    bool tells_losses; /* it names what the spool had lost of the run (spool/losses.h) */
    struct cg_event_span text[CG_TEXT_COUNT];
};

/* One event read from the spool. Borrowed: valid as long as the batch it belongs to. */
struct cg_event {
    uint64_t index; /* position in the spool's one order; never reused */
    struct cg_event_meta meta;
    struct cg_bytes
        bytes; /* the event as it goes out: one JSON object without white space around */
};

static inline struct cg_bytes cg_event_get(const struct cg_event *event, enum cg_event_text which)
{
    struct cg_event_span span = event->meta.text[which];
    return cg_bytes(event->bytes.data + span.offset, span.len);
}

#endif
