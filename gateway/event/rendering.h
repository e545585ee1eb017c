/*
 * rendering.h - an event on its way into memory: for the envelope's own files, and nobody else.
 *
 * envelope.c renders declarations of guests and what all events share; envelope_gateway.c the
 * gateway's own events. Each function writes at `at` and returns where the text ends; whoever calls
 * has bounded the whole.
 */
#ifndef CELLGATE_RENDERING_H
#define CELLGATE_RENDERING_H

#include "cellgate/limits.h"
#include "event/envelope.h"

/* All literals, numbers, times and ids of a signed event, and the signature, generously. */
enum { CG_EVENT_FIXED_BYTES_MAX = 2048 };

/* Pieces between the values of an event that are the same for all events of the gateway. */
struct cg_envelope {
    struct cg_bytes source_to_type; /* `","source":"…","type":"<prefix>` */
    struct cg_bytes node_to_run;    /* `"node":"…","runId":"` */
    struct cg_bytes source;         /* within source_to_type, as spans need it */
    size_t type_prefix_len;         /* at the end of source_to_type */
    char text[];
};

/* One event on its way into `out`. */
struct cg_rendering {
    const struct cg_envelope *envelope;
    const struct cg_stamp *stamp;
    const char *start; /* of the event in transport: spans count from here */
    const char *time;  /* CG_TIME_TEXT_LEN bytes */
    const char *uuid;  /* CG_UUID_TEXT_LEN bytes */
    struct cg_event_meta *meta;
};

/* The stamp's time as text, in memory of the calling thread, until its next call. */
const char *cg_rendering_time(uint64_t realtime_ns);

/* Notes that the text from `from` to `at` is the attribute `which`; returns `at`. */
static inline char *cg_rendering_note(struct cg_rendering *rendering, enum cg_event_text which,
                                      const char *from, char *at)
{
    rendering->meta->text[which] = (struct cg_event_span){
        .offset = (uint16_t)(from - rendering->start),
        .len = (uint16_t)(at - from),
    };
    return at;
}

/* From the first brace to the end of the type's prefix. */
char *cg_rendering_head(struct cg_rendering *rendering, char *at);
/* `"host":{…},`: what only the host knows. Notes run and hash. */
char *cg_rendering_host(struct cg_rendering *rendering, char *at);
/* From the brace that closes `data` to the last one. */
char *cg_rendering_close(const struct cg_rendering *rendering, char *at, bool null_traceparent);

/* What a run's constant texts take of a signed event. */
static inline size_t cg_rendering_run_bytes(const struct cg_run_identity *run)
{
    /* As often as each stands in it. */
    return 2 * run->cell_id.len + 2 * run->run_id.len + run->spec_hash_json.len +
           2 * run->traceparent_json.len + run->labels_json.len;
}

#endif
