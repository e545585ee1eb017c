#include "cells/life_drops.h"

#include <stdlib.h>

/* An event names this many: each at most `[20 digits,20 digits],`. */
enum { RANGES_PER_EVENT_MAX = 650, RANGE_TEXT_BYTES_MAX = 44 };
_Static_assert(RANGES_PER_EVENT_MAX *RANGE_TEXT_BYTES_MAX + 1024 <= CG_LIFE_TEXT_BYTES_MAX,
               "the ranges of an event fit its text");

static const struct cg_bytes names[CG_DROP_COUNT] = {
    [CG_DROP_CONNECTION_CAP] = CG_BYTES("\"connection_cap\":"),
    [CG_DROP_DESCRIPTORS] = CG_BYTES("\"descriptors\":"),
    [CG_DROP_MEMORY] = CG_BYTES("\"memory\":"),
    [CG_DROP_PEER] = CG_BYTES("\"peer\":"),
    [CG_DROP_PROBES] = CG_BYTES("\"probes\":"),
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

void cg_life_drop_sequence(struct cg_life *life, enum cg_life_drop reason, uint64_t sequence)
{
    CG_ASSERT(reason == CG_DROP_SIGNING);
    struct cg_life_drops *drops = account(life);
    if (drops == NULL) {
        return;
    }
    count(life, reason, 1);
    struct cg_life_range *last =
        drops->ranges_count == 0 ? NULL : &drops->ranges[drops->ranges_count - 1];
    if (last != NULL && last->last + 1 == sequence) {
        last->last = sequence;
    } else if (drops->ranges_count < drops->ranges_capacity || grow(drops)) {
        CG_ASSERT(drops->ranges != NULL);
        drops->ranges[drops->ranges_count++] = (struct cg_life_range){sequence, sequence};
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

/* What an event that names so many of the ranges says as their count. */
static uint64_t count_of_ranges(const struct cg_life_drops *drops, size_t ranges)
{
    if (ranges == drops->ranges_count) {
        return drops->counts[CG_DROP_SIGNING];
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < ranges; i++) {
        sum += drops->ranges[i].last - drops->ranges[i].first + 1;
    }
    return sum;
}

static void append_ranges(const struct cg_life_drops *drops, struct cg_life_event *event)
{
    cg_life_event_append(event, CG_BYTES(",\"ranges\":["));
    for (size_t i = 0; i < event->ranges; i++) {
        cg_life_event_append(event, i == 0 ? CG_BYTES("[") : CG_BYTES(",["));
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
    cg_life_event_open(event, CG_BYTES("drops"));
    cg_life_event_append(event, CG_BYTES("{"));
    bool first = true;
    for (unsigned i = 0; i < CG_DROP_COUNT; i++) {
        if (drops->counts[i] == 0) {
            continue;
        }
        cg_life_event_append(event, first ? CG_BYTES("") : CG_BYTES(","));
        first = false;
        cg_life_event_append(event, names[i]);
        cg_life_event_append(event, CG_BYTES("{\"count\":"));
        cg_life_event_append_u64(event, i == CG_DROP_SIGNING ? count_of_ranges(drops, event->ranges)
                                                             : drops->counts[i]);
        if (i == CG_DROP_SIGNING) {
            append_ranges(drops, event);
        }
        cg_life_event_append(event, CG_BYTES("}"));
    }
    cg_life_event_append(event, CG_BYTES("}"));
    cg_life_event_close(event);
}

void cg_life_drops_told(struct cg_life_drops *drops, const struct cg_life_event *event,
                        uint64_t now_ns)
{
    uint64_t signing = drops->counts[CG_DROP_SIGNING] - count_of_ranges(drops, event->ranges);
    memset(drops->counts, 0, sizeof(drops->counts));
    drops->counts[CG_DROP_SIGNING] = signing;
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
