/*
 * nats_jetstream_subject.h - the subject of an event, from a template. Pure; any thread.
 *
 * A template is a subject in which {cell_id}, {run_id} and {type} stand for what the inner event
 * says. What is put in is made safe, so that no event can choose a subject outside the template's
 * shape: every byte but letters, digits, `-`, `_` and `:` becomes `_`, and nothing becomes `_`. So
 * a cell or a run is always one token, while the dots of a type go on parting tokens
 * (docs/queues.md).
 */
#ifndef CELLGATE_EXPORTERS_NATS_JETSTREAM_SUBJECT_H
#define CELLGATE_EXPORTERS_NATS_JETSTREAM_SUBJECT_H

#include "cellgate/buf.h"
#include "cellgate/event.h"

enum {
    CG_NATS_TEMPLATE_BYTES_MAX = 256,
    CG_NATS_SUBJECT_PART_BYTES_MAX = 256, /* of what is put in for one placeholder */
    CG_NATS_SUBJECT_BYTES_MAX = CG_NATS_TEMPLATE_BYTES_MAX +
                                CG_NATS_TEMPLATE_BYTES_MAX / 6 * CG_NATS_SUBJECT_PART_BYTES_MAX,
};

/* Known placeholders only; around them non-empty tokens of letters, digits, `-`, `_` and `:`. */
CG_MUST_USE bool cg_nats_template_check(const char *template, struct cg_error *err);

/* How long the part of a checked template is that is the same for all events: its whole tokens
 * before the first placeholder. 0 if the first token has one. */
size_t cg_nats_template_fixed(const char *template);

/* Appends the event's subject, for a checked template. */
void cg_nats_subject_append(const char *template, const struct cg_event *event, struct cg_buf *out);

#endif
