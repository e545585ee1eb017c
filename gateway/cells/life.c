#include "cells/life.h"

#include "cells/life_drops.h"

#include <stdlib.h>

static const uint64_t period_ns = CG_LIFE_PERIOD_S * CG_NS_PER_S;

void cg_life_fini(struct cg_life *life)
{
    free(life->stream);
    if (life->drops != NULL) {
        free(life->drops->ranges);
        free(life->drops);
    }
    *life = (struct cg_life){0};
}

/* cg_event_meta.silence: the bits of silences_told, and these. */
enum { SILENCE_LASTS = 1 << 8, SILENCE_SAID = 1 << 15 };

uint16_t cg_life_silence_after(const struct cg_life *life, const struct cg_life_event *event,
                               const struct cg_silence_facts *silence)
{
    unsigned told = atomic_load_explicit(&life->silences_told, memory_order_relaxed);
    switch (event->type) {
    case CG_GATEWAY_AGENT_SILENCED:
        told |= 1U << cg_silence_connection(silence);
        return (uint16_t)(SILENCE_SAID | SILENCE_LASTS | told);
    case CG_GATEWAY_AGENT_RESUMED:
        return (uint16_t)(SILENCE_SAID | told);
    default:
        return 0;
    }
}

void cg_life_restore(struct cg_life *life, uint16_t silence, uint64_t now_ns)
{
    if ((silence & SILENCE_SAID) == 0) {
        return;
    }
    uint8_t known = (1U << CG_SILENCE_CONNECTION_COUNT) - 1;
    atomic_store_explicit(&life->silences_told, (uint8_t)(silence & known), memory_order_relaxed);
    life->silent_since_ns = (silence & SILENCE_LASTS) != 0 ? now_ns : 0;
}

static uint32_t whole_ms(uint64_t from_ns, uint64_t to_ns)
{
    uint64_t ms = to_ns > from_ns ? (to_ns - from_ns) / CG_NS_PER_MS : 0;
    return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

/* --- what happens --- */

void cg_life_heard(struct cg_life *life, uint64_t now_ns)
{
    if (life->silent_since_ns != 0) {
        life->silent_ms = whole_ms(life->silent_since_ns, now_ns);
        life->silent_since_ns = 0;
        life->resumed = true;
    }
}

void cg_life_stream(struct cg_life *life, const struct cg_life_stream *stream,
                    const struct cg_silence_facts *silence, uint64_t now_ns)
{
    enum cg_silence_connection connection = cg_silence_connection(silence);
    if (connection != life->connection) {
        life->connection = (uint8_t)connection;
        life->changed_ns = now_ns;
    }
    /* The newest waits for its turn to be told, and the ones before it are counted in it. */
    struct cg_life_stream *newest = life->stream;
    if (newest == NULL) {
        newest = malloc(sizeof(*newest));
    } else {
        life->streams_suppressed++;
    }
    if (newest == NULL) {
        life->streams_suppressed++;
        return;
    }
    *newest = *stream;
    life->stream = newest;
}

void cg_life_pause(struct cg_life *life, enum cg_life_pause pause, uint64_t now_ns)
{
    if (life->unpaused) {
        life->unpaused = false; /* nobody knows yet that the last one ended: it goes on */
    } else if (life->paused_since_ns == 0) {
        life->paused_since_ns = now_ns;
        life->pause = (uint8_t)pause;
        life->paused_told = false;
    }
}

void cg_life_unpause(struct cg_life *life, uint64_t window_ns, uint64_t now_ns)
{
    if (life->paused_since_ns == 0 || life->unpaused) {
        return;
    }
    if (life->paused_told || now_ns - life->paused_since_ns >= window_ns) {
        life->paused_ms = whole_ms(life->paused_since_ns, now_ns);
        life->unpaused = true;
    } else {
        life->paused_since_ns = 0;
    }
}

/* --- when it is told; 0 is at once --- */

static unsigned silences_told(const struct cg_life *life)
{
    return atomic_load_explicit(&life->silences_told, memory_order_relaxed);
}

static uint64_t silence_due_ns(const struct cg_life *life, const struct cg_life_facts *facts)
{
    enum cg_silence_connection connection = cg_silence_connection(&facts->silence);
    unsigned told = silences_told(life);
    if (facts->silence.paused || life->paused_since_ns != 0 || (told >> connection & 1) != 0 ||
        (facts->once && told != 0)) {
        return UINT64_MAX;
    }
    uint64_t since_ns = cg_silence_since(&facts->silence);
    if (since_ns == 0) {
        return UINT64_MAX; /* registered this moment */
    }
    if (life->silent_since_ns != 0 && life->changed_ns > since_ns) {
        since_ns = life->changed_ns; /* an agent that reconnects is given the time to */
    }
    return since_ns + facts->silence.window_ns;
}

static uint64_t pause_due_ns(const struct cg_life *life, const struct cg_life_facts *facts)
{
    if (life->unpaused) {
        return 0;
    }
    if (life->paused_since_ns == 0 || life->paused_told) {
        return UINT64_MAX;
    }
    return life->paused_since_ns + facts->silence.window_ns;
}

static uint64_t stream_due_ns(const struct cg_life *life, const struct cg_life_facts *facts)
{
    if (life->stream == NULL) {
        return UINT64_MAX;
    }
    bool may = life->streams_told < CG_LIFE_STREAMS_MAX || facts->flush;
    return may ? 0 : life->streams_since_ns + period_ns;
}

static uint64_t drops_due_ns(const struct cg_life *life, const struct cg_life_facts *facts)
{
    const struct cg_life_drops *drops = life->drops;
    if (!cg_life_drops_pending(drops)) {
        return UINT64_MAX;
    }
    bool may = drops->told_ns == 0 || facts->flush || drops->ranges_count >= CG_LIFE_RANGES_MAX / 2;
    return may ? 0 : drops->told_ns + period_ns;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t cg_life_due_ns(const struct cg_life *life, const struct cg_life_facts *facts)
{
    if (life->resumed) {
        return 0;
    }
    uint64_t due_ns = earlier(silence_due_ns(life, facts), pause_due_ns(life, facts));
    due_ns = earlier(due_ns, stream_due_ns(life, facts));
    return earlier(due_ns, drops_due_ns(life, facts));
}

/* --- what is told --- */

static void begin(struct cg_life_event *event, enum cg_gateway_event type,
                  enum cg_event_severity severity)
{
    event->type = type;
    event->severity = severity;
    event->connection = 0;
    event->count = event->ranges = event->text_len = 0;
    event->tells_losses = false;
}

static void tell_resumed(const struct cg_life *life, struct cg_life_event *event)
{
    begin(event, CG_GATEWAY_AGENT_RESUMED, CG_SEVERITY_INFO);
    cg_life_event_u64(event, CG_BYTES("silentMs"), life->silent_ms);
}

static void tell_silenced(const struct cg_life_facts *facts, struct cg_life_event *event)
{
    enum cg_silence_connection connection = cg_silence_connection(&facts->silence);
    begin(event, CG_GATEWAY_AGENT_SILENCED,
          connection == CG_SILENCE_OPEN ? CG_SEVERITY_INFO : CG_SEVERITY_WARN);
    cg_life_event_text(event, CG_BYTES("connectionState"), cg_silence_connection_name(connection));
    cg_life_event_u64(event, CG_BYTES("elapsedMs"),
                      whole_ms(cg_silence_since(&facts->silence), facts->now_ns));
    cg_life_event_text(event, CG_BYTES("epistemicStatus"), "DECLARED");
    cg_life_event_u64(event, CG_BYTES("keepaliveWindowMs"),
                      facts->silence.window_ns / CG_NS_PER_MS);
    cg_life_event_text(event, CG_BYTES("ruleClass"), "GUEST_AGENT_DECLARATION");
}

static void tell_pause(const struct cg_life *life, const struct cg_life_facts *facts,
                       struct cg_life_event *event)
{
    static const char *const reasons[] = {
        [CG_PAUSE_RATE] = "rate", [CG_PAUSE_SHARE] = "share", [CG_PAUSE_SPOOL] = "spool"};
    bool over = life->paused_told;
    begin(event, over ? CG_GATEWAY_UNPAUSED : CG_GATEWAY_PAUSED,
          over ? CG_SEVERITY_INFO : CG_SEVERITY_WARN);
    cg_life_event_u64(event, CG_BYTES("pausedMs"),
                      life->unpaused ? life->paused_ms
                                     : whole_ms(life->paused_since_ns, facts->now_ns));
    cg_life_event_text(event, CG_BYTES("reason"), reasons[life->pause]);
}

static void tell_stream(const struct cg_life *life, struct cg_life_event *event)
{
    const struct cg_life_stream *stream = life->stream;
    begin(event, stream->closed ? CG_GATEWAY_STREAM_CLOSED : CG_GATEWAY_STREAM_OPENED,
          CG_SEVERITY_INFO);
    event->connection = stream->connection;
    if (stream->closed) {
        cg_life_event_u64(event, CG_BYTES("bytes"), stream->bytes);
    }
    cg_life_event_u64(event, CG_BYTES("connection"), stream->connection);
    if (stream->closed) {
        cg_life_event_u64(event, CG_BYTES("frames"), stream->frames);
        cg_life_event_text(event, CG_BYTES("reason"), stream->reason);
    }
    cg_life_event_u64(event, CG_BYTES("suppressed"), life->streams_suppressed);
}

static void tell_drops(const struct cg_life *life, struct cg_life_event *event)
{
    begin(event, CG_GATEWAY_TELEMETRY_DROPPED, CG_SEVERITY_WARN);
    cg_life_drops_tell(life->drops, event);
}

bool cg_life_next(const struct cg_life *life, const struct cg_life_facts *facts,
                  struct cg_life_event *ret_event)
{
    uint64_t now_ns = facts->now_ns;
    if (life->resumed) {
        tell_resumed(life, ret_event);
    } else if (silence_due_ns(life, facts) <= now_ns) {
        tell_silenced(facts, ret_event);
    } else if (pause_due_ns(life, facts) <= now_ns) {
        tell_pause(life, facts, ret_event);
    } else if (stream_due_ns(life, facts) <= now_ns) {
        tell_stream(life, ret_event);
    } else if (drops_due_ns(life, facts) <= now_ns) {
        tell_drops(life, ret_event);
    } else {
        return false;
    }
    return true;
}

static void told_stream(struct cg_life *life, uint64_t now_ns)
{
    if (life->streams_told == 0 || now_ns - life->streams_since_ns >= period_ns) {
        life->streams_since_ns = now_ns;
        life->streams_told = 0;
    }
    /* At the very end there may be more than the limit. */
    life->streams_told += life->streams_told < CG_LIFE_STREAMS_MAX ? 1 : 0;
    life->streams_suppressed = 0;
    free(life->stream);
    life->stream = NULL;
}

void cg_life_told(struct cg_life *life, const struct cg_life_facts *facts,
                  const struct cg_life_event *event, bool staged)
{
    switch (event->type) {
    case CG_GATEWAY_AGENT_RESUMED:
        life->resumed = false;
        break;
    case CG_GATEWAY_AGENT_SILENCED:
        atomic_fetch_or_explicit(&life->silences_told,
                                 (uint8_t)(1U << cg_silence_connection(&facts->silence)),
                                 memory_order_relaxed);
        life->silent_since_ns = cg_silence_since(&facts->silence);
        break;
    case CG_GATEWAY_PAUSED:
        life->paused_told = true;
        break;
    case CG_GATEWAY_UNPAUSED:
        life->paused_told = life->unpaused = false;
        life->paused_since_ns = 0;
        break;
    case CG_GATEWAY_STREAM_OPENED:
    case CG_GATEWAY_STREAM_CLOSED:
        told_stream(life, facts->now_ns);
        break;
    case CG_GATEWAY_TELEMETRY_DROPPED:
        if (staged) {
            cg_life_drops_told(life->drops, event, facts->now_ns);
        } else {
            life->drops->told_ns = facts->now_ns;
        }
        break;
    case CG_GATEWAY_RUN_ENDED:
    case CG_GATEWAY_CORROBORATION:
    case CG_GATEWAY_EVENT_COUNT:
        CG_ASSERT(false);
    }
}

void cg_life_ended(const struct cg_life_end *end, struct cg_life_event *ret_event)
{
    begin(ret_event, CG_GATEWAY_RUN_ENDED, CG_SEVERITY_INFO);
    cg_life_event_u64(ret_event, CG_BYTES("bytes"), end->bytes);
    cg_life_event_u64(ret_event, CG_BYTES("drops"), end->drops);
    cg_life_event_u64(ret_event, CG_BYTES("frames"), end->frames);
    cg_life_event_u64(ret_event, CG_BYTES("lastSequence"), end->last_sequence);
    cg_life_event_u64(ret_event, CG_BYTES("silences"), end->silences);
}

uint64_t cg_life_silences(const struct cg_life *life)
{
    return (uint64_t)__builtin_popcount(silences_told(life));
}

uint64_t cg_life_drops(const struct cg_life *life)
{
    return atomic_load_explicit(&life->drops_total, memory_order_relaxed);
}
