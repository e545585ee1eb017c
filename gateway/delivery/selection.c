#include "delivery/selection.h"

#include <stdlib.h>

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void cg_selection_init(struct cg_selection *selection, const struct cg_filter_rules *rules)
{
    *selection = (struct cg_selection){.scale = 1};
    cg_filter_init(&selection->filter, rules);
}

void cg_selection_fini(struct cg_selection *selection)
{
    cg_filter_fini(&selection->filter);
    free(selection->events);
    free(selection->spans);
}

void cg_selection_reads(const struct cg_selection *selection, uint64_t events_max, uint64_t *events,
                        uint64_t *bytes)
{
    if (selection->scale > 1) {
        *events *= selection->scale;
        if (*bytes < CG_SELECTION_BYTES_MAX) {
            *bytes = smaller(*bytes * selection->scale, CG_SELECTION_BYTES_MAX);
        }
    }
    *events = smaller(*events, events_max);
}

static bool make_room(struct cg_selection *selection, size_t count, struct cg_error *err)
{
    if (count <= selection->capacity) {
        return true;
    }
    struct cg_event *events = realloc(selection->events, count * sizeof(*events));
    if (events != NULL) {
        selection->events = events;
    }
    uint32_t *spans = realloc(selection->spans, count * sizeof(*spans));
    if (spans != NULL) {
        selection->spans = spans;
    }
    if (events == NULL || spans == NULL) {
        return cg_error_set(err, "no memory to filter %zu events", count);
    }
    selection->capacity = count;
    return true;
}

/* What was read for one that passed says how much to read the next time. */
static void learn_scale(struct cg_selection *selection, uint64_t judged, uint64_t passed)
{
    uint64_t scale = passed > 0 ? judged / passed : 2 * selection->scale;
    selection->scale = smaller(scale, CG_SELECTION_SCALE_MAX);
}

/* Whole batches only, so that no small one is left over. */
static size_t cut(size_t count, uint64_t batch_events)
{
    return count <= batch_events ? count : count - count % batch_events;
}

bool cg_selection_make(struct cg_selection *selection, const struct cg_batch *read,
                       uint64_t batch_events, struct cg_batch *ret_window,
                       uint64_t *ret_passed_over, struct cg_error *err)
{
    CG_ASSERT(batch_events > 0);
    selection->at = 0;
    selection->left = read->count;
    selection->read = *read;
    selection->done = 0;
    if (!cg_filter_is_set(&selection->filter)) {
        *ret_window = *read;
        *ret_passed_over = 0;
        return true;
    }
    if (!make_room(selection, read->count, err)) {
        return false;
    }
    size_t count = 0;
    uint32_t passed_over = 0;
    for (size_t i = 0; i < read->count; i++) {
        bool passes = false;
        if (!cg_filter_judge(&selection->filter, &read->events[i], &passes, err)) {
            return false;
        }
        if (passes) {
            selection->events[count] = read->events[i];
            selection->spans[count++] = 0;
        }
        *(count == 0 ? &passed_over : &selection->spans[count - 1]) += 1;
    }
    if (read->count > 0) {
        learn_scale(selection, read->count, count);
    }
    size_t kept = cut(count, batch_events);
    struct cg_batch window = {.events = selection->events, .count = kept};
    selection->left = 0;
    for (size_t i = 0; i < kept; i++) {
        window.bytes += selection->events[i].bytes.len;
        selection->left += selection->spans[i];
    }
    selection->done = passed_over;
    *ret_window = window;
    *ret_passed_over = passed_over;
    return true;
}

uint64_t cg_selection_take(struct cg_selection *selection, uint64_t count)
{
    uint64_t taken = count;
    if (cg_filter_is_set(&selection->filter)) {
        taken = 0;
        for (uint64_t i = 0; i < count; i++) {
            taken += selection->spans[selection->at++];
        }
    }
    CG_ASSERT(taken <= selection->left);
    selection->left -= taken;
    selection->done += taken;
    return taken;
}

uint64_t cg_selection_next_index(const struct cg_selection *selection)
{
    const struct cg_batch *read = &selection->read;
    CG_ASSERT(read->count > 0 && selection->done <= read->count);
    return selection->done < read->count ? read->events[selection->done].index
                                         : read->events[read->count - 1].index + 1;
}
