#include "exporters/otlp_text.h"

#include "cellgate/limits.h"

void cg_otlp_text_init(struct cg_otlp_text *text)
{
    const struct cg_json_limits limits = {
        .bytes_max = CG_EVENT_BYTES_MAX, .nodes_max = 1, .levels_max = 1};
    cg_json_init(&text->json, limits);
    cg_buf_init(&text->said, CG_EVENT_BYTES_MAX);
}

void cg_otlp_text_fini(struct cg_otlp_text *text)
{
    cg_json_fini(&text->json);
    cg_buf_fini(&text->said);
}

/* The string with its quotes, which stand around it in the event; false if they do not. */
static bool quoted(const struct cg_event *event, struct cg_event_span span,
                   struct cg_bytes *ret_string)
{
    struct cg_bytes bytes = event->bytes;
    size_t end = (size_t)span.offset + span.len;
    if (span.offset == 0 || end >= bytes.len || bytes.data[span.offset - 1] != '"' ||
        bytes.data[end] != '"') {
        return false;
    }
    *ret_string = cg_bytes(bytes.data + span.offset - 1, (size_t)span.len + 2);
    return true;
}

static bool decode(struct cg_otlp_text *text, const struct cg_event *event,
                   enum cg_event_text which)
{
    struct cg_bytes string;
    cg_buf_clear(&text->said);
    return quoted(event, event->meta.text[which], &string) &&
           cg_json_parse(&text->json, string, NULL) &&
           cg_json_type(&text->json, 0) == CG_JSON_STRING &&
           cg_json_decode(&text->json, 0, &text->said);
}

struct cg_bytes cg_otlp_text_read(struct cg_otlp_text *text, const struct cg_event *event,
                                  enum cg_event_text which)
{
    struct cg_bytes raw = cg_event_get(event, which);
    if (raw.len == 0 || memchr(raw.data, '\\', raw.len) == NULL || !decode(text, event, which)) {
        return raw;
    }
    return cg_buf_bytes(&text->said);
}
