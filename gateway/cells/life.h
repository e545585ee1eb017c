/*
 * life.h - what a run goes through, and which of it becomes an event when. Pure; time is an
 * argument.
 *
 * docs/contract.md section 4, the gateway's own events: silence and its end, drops, streams,
 * pauses, the end of the run, each with its limit. What happens is noted (cg_life_heard,
 * cg_life_stream …) and only counted or remembered, in memory that does not grow with it; what is
 * to be told comes out of cg_life_next, one event at a time, and counts as told when it has been
 * staged. So nothing is lost while there is no room for an event: it is told later, with what came
 * to it meanwhile.
 *
 * A life belongs to its cell's ingress thread, but for the two totals, which anybody may read. All
 * times are monotonic nanoseconds. Thousands of cells are idle: what is rarely needed is allocated
 * when it is.
 */
#ifndef CELLGATE_LIFE_H
#define CELLGATE_LIFE_H

#include "cells/silence.h"
#include "event/envelope.h"
#include "spool/spool.h"

/* What the host dropped or refused; the keys of `drops`, in their sorted order. Those with a star
 * have used sequence numbers, and are named by ranges. */
enum cg_life_drop {
    CG_DROP_CONNECTION_CAP,
    CG_DROP_DAMAGE, /* * numbers skipped, since the spool was damaged */
    CG_DROP_DESCRIPTORS,
    CG_DROP_MEMORY,
    CG_DROP_OVERFLOW, /* * given up by a full spool */
    CG_DROP_PEER,
    CG_DROP_POWER_LOSS, /* * numbers skipped after a power cut */
    CG_DROP_PROBES,     /* readings for which there was no room: none has used a number */
    CG_DROP_QUOTA,      /* * given up by one exporter */
    CG_DROP_SIGNING,    /* * */
    CG_DROP_UNSUPPORTED_VERSION,
    CG_DROP_WIRE_ERROR,
    CG_DROP_COUNT
};

/* Why the gateway does not read a cell. */
enum cg_life_pause { CG_PAUSE_RATE, CG_PAUSE_SHARE, CG_PAUSE_SPOOL };

struct cg_life_stream {
    uint32_t connection;
    bool closed;        /* else opened */
    const char *reason; /* closed: a static text */
    uint64_t frames, bytes;
};

struct cg_life_drops; /* life_drops.c */

struct cg_life {
    uint64_t silent_since_ns;  /* the silence that was told counts from here; 0: none, or over */
    uint64_t changed_ns;       /* when connectionState last changed */
    uint64_t paused_since_ns;  /* 0: it is read */
    uint64_t streams_since_ns; /* the limit's period began */
    struct cg_life_stream *stream; /* the newest one that is to be told, or NULL */
    struct cg_life_drops *drops;   /* NULL: there never were any */
    _Atomic uint64_t drops_total;  /* of the run, all reasons */
    uint32_t streams_suppressed;   /* that no event of their own told of */
    uint32_t silent_ms;            /* of a silence that is over, while that is to be told */
    uint32_t paused_ms;            /* likewise of a pause */
    uint8_t streams_told;          /* in the period */
    _Atomic uint8_t silences_told; /* a bit for each enum cg_silence_connection */
    uint8_t connection;            /* enum cg_silence_connection, as of changed_ns */
    uint8_t pause;                 /* enum cg_life_pause */
    bool resumed : 1;              /* to be told */
    bool unpaused : 1;             /* likewise */
    bool paused_told : 1;
};

/* What else decides, of this moment. */
struct cg_life_facts {
    struct cg_silence_facts silence;
    uint64_t now_ns;
    bool once;  /* one silence a run is told */
    bool flush; /* the last chance to tell: limits in time do not count */
};

enum {
    CG_LIFE_MEMBERS_MAX = 6,
    CG_LIFE_TEXT_BYTES_MAX = 32768,
    CG_LIFE_PERIOD_S = 10,     /* of the limits below */
    CG_LIFE_STREAMS_MAX = 10,  /* events of streams in a period */
    CG_LIFE_RANGES_MAX = 4096, /* of sequence numbers, held until they are told */
};

/* An event to be rendered; the members' values point into `text`. */
struct cg_life_event {
    enum cg_gateway_event type;
    enum cg_event_severity severity;
    uint32_t connection; /* for the stamp; 0: none */
    size_t count;
    struct cg_member members[CG_LIFE_MEMBERS_MAX];
    size_t ranges;     /* of drops: how many of them it names */
    bool tells_losses; /* it names all that was taken from the spool: cg_event_meta.tells_losses */
    size_t text_len;
    char text[CG_LIFE_TEXT_BYTES_MAX];
};

/* Zeroed memory is a life that has just begun. */
void cg_life_fini(struct cg_life *life);

/* What an event says of the run's silences (cg_event_meta.silence): which were told, and whether
 * one lasts; 0 for events that are not about silence. */
uint16_t cg_life_silence_after(const struct cg_life *life, const struct cg_life_event *event,
                               const struct cg_silence_facts *silence);
/* A life that goes on after a restart, with the last such word of the run. A silence that lasts
 * counts from now: how long it was before is not known any more. */
void cg_life_restore(struct cg_life *life, uint16_t silence, uint64_t now_ns);

/* --- what happens --- */

/* A frame was accepted. */
void cg_life_heard(struct cg_life *life, uint64_t now_ns);
/* A connection was opened or closed; `silence` as it is after that. */
void cg_life_stream(struct cg_life *life, const struct cg_life_stream *stream,
                    const struct cg_silence_facts *silence, uint64_t now_ns);
void cg_life_drop(struct cg_life *life, enum cg_life_drop reason, uint64_t more);
/* The same of an event whose sequence number is to be named. False: there is no memory, or no room,
 * to name it; then the number must not count as used, or it would be a hole that nobody names. */
CG_MUST_USE bool cg_life_drop_sequence(struct cg_life *life, enum cg_life_drop reason,
                                       uint64_t sequence);
/* A range of the run's sequences that the spool has lost. */
void cg_life_lose(struct cg_life *life, const struct cg_spool_loss *loss);
/* The gateway stops reading the cell, and goes on; both may be said again. */
void cg_life_pause(struct cg_life *life, enum cg_life_pause pause, uint64_t now_ns);
void cg_life_unpause(struct cg_life *life, uint64_t window_ns, uint64_t now_ns);

/* --- what is told of it --- */

/* The next event that may be told now. False: none. */
bool cg_life_next(const struct cg_life *life, const struct cg_life_facts *facts,
                  struct cg_life_event *ret_event);
/* It has been staged; or it has used up a sequence number and could not be signed, in which case
 * what telemetry.dropped would have said is said by the next one. */
void cg_life_told(struct cg_life *life, const struct cg_life_facts *facts,
                  const struct cg_life_event *event, bool staged);
/* When cg_life_next may have something if nothing happens before, or UINT64_MAX. */
uint64_t cg_life_due_ns(const struct cg_life *life, const struct cg_life_facts *facts);

/* The last event of the run. */
struct cg_life_end {
    uint64_t last_sequence; /* run_ended's own */
    uint64_t frames, bytes, silences, drops;
};
void cg_life_ended(const struct cg_life_end *end, struct cg_life_event *ret_event);
/* Totals of the run. Any thread: whoever ends a run reads them also when its ingress thread is held
 * up. */
uint64_t cg_life_silences(const struct cg_life *life);
uint64_t cg_life_drops(const struct cg_life *life);

#endif
