/*
 * otlp_json.h - events as OTLP LogRecords in JSON. Pure but for the buffer's memory.
 *
 * An attribute's text goes out as it stands in the event's JSON; the body is the event's JSON text
 * once more escaped, so that what a receiver reads is the event byte for byte.
 */
#ifndef CELLGATE_EXPORTERS_OTLP_JSON_H
#define CELLGATE_EXPORTERS_OTLP_JSON_H

#include "cellgate/buf.h"
#include "cellgate/event.h"

/* From the first brace to the bracket before the first record; `instance_id` and the others are
 * UTF-8. Returns !out->failed, as does what follows. */
bool cg_otlp_json_open(struct cg_buf *out, const char *instance_id, const char *node,
                       const char *version);
bool cg_otlp_json_record(struct cg_buf *out, const struct cg_event *event);
bool cg_otlp_json_close(struct cg_buf *out);

#endif
