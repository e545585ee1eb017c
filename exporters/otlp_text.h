/*
 * otlp_text.h - an event's texts, as they stand in its JSON and as they read.
 *
 * The header of an event locates texts inside the event's bytes, escapes included. JSON takes them
 * as they stand; protobuf wants what they say. Most have no escape and are borrowed; those that
 * have one go through the strict JSON reader. One thread at a time.
 */
#ifndef CELLGATE_EXPORTERS_OTLP_TEXT_H
#define CELLGATE_EXPORTERS_OTLP_TEXT_H

#include "cellgate/buf.h"
#include "cellgate/event.h"
#include "event/json.h"

struct cg_otlp_text {
    struct cg_json json;
    struct cg_buf said;
};

void cg_otlp_text_init(struct cg_otlp_text *text);
void cg_otlp_text_fini(struct cg_otlp_text *text);

/* What the attribute says. Borrowed from the event, or until the next call. A text that is no JSON
 * string (which nothing of ours writes) is taken as it stands: the body has it in any case. */
struct cg_bytes cg_otlp_text_read(struct cg_otlp_text *text, const struct cg_event *event,
                                  enum cg_event_text which);

#endif
