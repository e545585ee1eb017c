#include "cells/life_drops.h"

#include <stdlib.h>

/* An event names this many: each at most `[20 digits,20 digits],`. */
enum { RANGES_PER_EVENT_MAX = 650, RANGE_TEXT_BYTES_MAX = 44 };
_Static_assert(RANGES_PER_EVENT_MAX *RANGE_TEXT_BYTES_MAX + 2048 <= CG_LIFE_TEXT_BYTES_MAX,
               "the ranges of an event fit its text");

static const struct cg_bytes names[CG_DROP_COUNT] = {
    [CG_DROP_CONNECTION_CAP] = CG_BYTES("\"connection_cap\":"),
    [CG_DROP_DAMAGE] = CG_BYTES("\"damage\":"),
    [CG_DROP_DESCRIPTORS] = CG_BYTES("\"descriptors\":"),
    [CG_DROP_MEMORY] = CG_BYTES("\"memory\":"),
    [CG_DROP_OVERFLOW] = CG_BYTES("\"overflow\":"),
    [CG_DROP_PEER] = CG_BYTES("\"peer\":"),
    [CG_DROP_POWER_LOSS] = CG_BYTES("\"power_loss\":"),
    [CG_DROP_PROBES] = CG_BYTES("\"probes\":"),
    [CG_DROP_QUOTA] = CG_BYTES("\"quota\":"),
    [CG_DROP_SIGNING] = CG_BYTES("\"signing\":"),
    [CG_DROP_UNSUPPORTED_VERSION] = CG_BYTES("\"unsupported_version\":"),
    [CG_DROP_WIRE_ERROR] = CG_BYTES("\"wire_error\":"),
};

/* The account, made when it is first needed. Without memory for it a drop shows in metrics only. */
static struct cg_life_drops *account(struct cg_life *life)
{
    if (life->drops == NULL) {
        life->drops = calloc(1, sizeof(*life->drops));
    }
    return life->drops;
}

static void count(struct cg_life *life, enum cg_life_drop reason, uint64_t more)
{
    atomic_fetch_add_explicit(&life->drops_total, more, memory_order_relaxed);
    life->drops->counts[reason] += more;
}

void cg_life_drop(struct cg_life *life, enum cg_life_drop reason, uint64_t more)
{
    CG_ASSERT(reason < CG_DROP_COUNT);
    if (account(life) != NULL) {
        count(life, reason, more);
    }
}

static bool grow(struct cg_life_drops *drops)
{
    size_t capacity = drops->ranges_capacity == 0 ? 4 : drops->ranges_capacity * 2;
    if (capacity > CG_LIFE_RANGES_MAX) {
        return false;
    }
    struct cg_life_range *ranges = reallocarray(drops->ranges, capacity, sizeof(*ranges));
    if (ranges == NULL) {
        return false;
    }
    drops->ranges = ranges;
    drops->ranges_capacity = capacity;
    return true;
}

static bool has_ranges(enum cg_life_drop reason)
{
    return reason == CG_DROP_DAMAGE || reason == CG_DROP_OVERFLOW || reason == CG_DROP_POWER_LOSS ||
           reason == CG_DROP_QUOTA || reason == CG_DROP_SIGNING;
}

/* False without an account, or without room for the range, which is then counted only. */
static bool drop_range(struct cg_life *life, enum cg_life_drop reason, uint64_t first,
                       uint64_t last)
{
    struct cg_life_drops *drops = account(life);
    if (drops == NULL) {
        return false;
    }
    count(life, reason, last - first + 1);
    struct cg_life_range *newest =
        drops->ranges_count == 0 ? NULL : &drops->ranges[drops->ranges_count - 1];
    if (newest != NULL && newest->reason == reason && newest->last + 1 == first) {
        newest->last = last;
        return true;
    }
    if (drops->ranges_count == drops->ranges_capacity && !grow(drops)) {
        return false;
    }
    CG_ASSERT(drops->ranges != NULL);
    drops->ranges[drops->ranges_count++] = (struct cg_life_range){first, last, reason};
    return true;
}

bool cg_life_drop_sequence(struct cg_life *life, enum cg_life_drop reason, uint64_t sequence)
{
    CG_ASSERT(reason == CG_DROP_SIGNING);
    return drop_range(life, reason, sequence, sequence);
}

void cg_life_lose(struct cg_life *life, const struct cg_spool_loss *loss)
{
    static const enum cg_life_drop drops[CG_SPOOL_LOSS_COUNT] = {
        [CG_SPOOL_LOSS_POWER] = CG_DROP_POWER_LOSS,
        [CG_SPOOL_LOSS_DAMAGE] = CG_DROP_DAMAGE,
        [CG_SPOOL_LOSS_OVERFLOW] = CG_DROP_OVERFLOW,
        [CG_SPOOL_LOSS_QUOTA] = CG_DROP_QUOTA,
    };
    bool kept = drop_range(life, drops[loss->reason], loss->first, loss->last);
    if (life->drops != NULL) {
        life->drops->losses = true;
        life->drops->short_of_room = life->drops->short_of_room || !kept;
    }
}

bool cg_life_drops_pending(const struct cg_life_drops *drops)
{
    for (unsigned i = 0; drops != NULL && i < CG_DROP_COUNT; i++) {
        if (drops->counts[i] > 0) {
            return true;
        }
    }
    return false;
}

static size_t ranges_of_event(const struct cg_life_drops *drops)
{
    return drops->ranges_count < RANGES_PER_EVENT_MAX ? drops->ranges_count : RANGES_PER_EVENT_MAX;
}

/* What an event that names so many of the ranges says of a reason: all there is, or what those
 * ranges come to if others follow. */
static uint64_t count_told(const struct cg_life_drops *drops, enum cg_life_drop reason,
                           size_t ranges)
{
    uint64_t sum = 0;
    for (size_t i = 0; has_ranges(reason) && i < drops->ranges_count; i++) {
        const struct cg_life_range *range = &drops->ranges[i];
        if (range->reason != reason) {
            continue;
        }
        if (i >= ranges) {
            return sum;
        }
        sum += range->last - range->first + 1;
    }
    return drops->counts[reason];
}

static void append_ranges(const struct cg_life_drops *drops, enum cg_life_drop reason,
                          struct cg_life_event *event)
{
    cg_life_event_append(event, CG_BYTES(",\"ranges\":["));
    bool first = true;
    for (size_t i = 0; i < event->ranges; i++) {
        if (drops->ranges[i].reason != reason) {
            continue;
        }
        cg_life_event_append(event, first ? CG_BYTES("[") : CG_BYTES(",["));
        first = false;
        cg_life_event_append_u64(event, drops->ranges[i].first);
        cg_life_event_append(event, CG_BYTES(","));
        cg_life_event_append_u64(event, drops->ranges[i].last);
        cg_life_event_append(event, CG_BYTES("]"));
    }
    cg_life_event_append(event, CG_BYTES("]"));
}

void cg_life_drops_tell(const struct cg_life_drops *drops, struct cg_life_event *event)
{
    event->ranges = ranges_of_event(drops);
    event->tells_losses =
        drops->losses && !drops->short_of_room && event->ranges == drops->ranges_count;
    cg_life_event_open(event, CG_BYTES("drops"));
    cg_life_event_append(event, CG_BYTES("{"));
    bool first = true;
    for (enum cg_life_drop reason = 0; reason < CG_DROP_COUNT; reason++) {
        uint64_t told = count_told(drops, reason, event->ranges);
        if (told == 0) {
            continue;
        }
        cg_life_event_append(event, first ? CG_BYTES("") : CG_BYTES(","));
        first = false;
        cg_life_event_append(event, names[reason]);
        cg_life_event_append(event, CG_BYTES("{\"count\":"));
        cg_life_event_append_u64(event, told);
        if (has_ranges(reason)) {
            append_ranges(drops, reason, event);
        }
        cg_life_event_append(event, CG_BYTES("}"));
    }
    cg_life_event_append(event, CG_BYTES("}"));
    cg_life_event_close(event);
}

void cg_life_drops_told(struct cg_life_drops *drops, const struct cg_life_event *event,
                        uint64_t now_ns)
{
    for (enum cg_life_drop reason = 0; reason < CG_DROP_COUNT; reason++) {
        drops->counts[reason] -= count_told(drops, reason, event->ranges);
    }
    drops->losses = drops->losses && !event->tells_losses;
    drops->ranges_count -= event->ranges;
    if (drops->ranges_count > 0) {
        memmove(drops->ranges, drops->ranges + event->ranges,
                drops->ranges_count * sizeof(*drops->ranges));
        return; /* the rest is of the same moment: it follows at once */
    }
    free(drops->ranges);
    drops->ranges = NULL;
    drops->ranges_capacity = 0;
    drops->told_ns = now_ns;
}
