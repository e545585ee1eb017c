#include "cells/life_drops.h"
#include "event/render.h"

void cg_life_event_append(struct cg_life_event *event, struct cg_bytes piece)
{
    CG_ASSERT(event->text_len + piece.len + CG_RENDER_SLACK <= sizeof(event->text));
    (void)cg_render_bytes(event->text + event->text_len, piece);
    event->text_len += piece.len;
}

void cg_life_event_append_u64(struct cg_life_event *event, uint64_t value)
{
    enum { DIGITS_MAX = 20 };
    CG_ASSERT(event->text_len + DIGITS_MAX + CG_RENDER_SLACK <= sizeof(event->text));
    char *at = event->text + event->text_len;
    event->text_len += (size_t)(cg_render_u64(at, value) - at);
}

void cg_life_event_open(struct cg_life_event *event, struct cg_bytes key)
{
    CG_ASSERT(event->count < CG_LIFE_MEMBERS_MAX);
    event->members[event->count++] =
        (struct cg_member){.key = key, .json = {.data = event->text + event->text_len}};
}

void cg_life_event_close(struct cg_life_event *event)
{
    struct cg_bytes *json = &event->members[event->count - 1].json;
    json->len = (size_t)(event->text + event->text_len - json->data);
}

void cg_life_event_u64(struct cg_life_event *event, struct cg_bytes key, uint64_t value)
{
    cg_life_event_open(event, key);
    cg_life_event_append_u64(event, value);
    cg_life_event_close(event);
}

void cg_life_event_text(struct cg_life_event *event, struct cg_bytes key, const char *text)
{
    cg_life_event_open(event, key);
    cg_life_event_append(event, CG_BYTES("\""));
    cg_life_event_append(event, cg_bytes_str(text));
    cg_life_event_append(event, CG_BYTES("\""));
    cg_life_event_close(event);
}
