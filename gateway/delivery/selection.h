/*
 * selection.h - of the events that were read, those that a filter lets pass. Pure but for memory.
 *
 * The plan sees only the events that pass, one behind the other, as if nobody else's were between
 * them. The selection knows how many events of the spool each of them stands for: itself, and those
 * behind it that do not pass, up to the next one that does. So acknowledgements stay in order, and
 * what is filtered is acknowledged with what stands before it, or at once where nothing does.
 *
 * Each event is judged when it is read; again only if it is read again (when the plan wants to see
 * further, or a batch was cut). A selective filter makes small batches of what used to fill one, so
 * the selection says how much to read: as many times more as were lately read for one that passed.
 *
 * Without a filter it hands through what was read, and costs nothing. One thread.
 */
#ifndef CELLGATE_SELECTION_H
#define CELLGATE_SELECTION_H

#include "cellgate/exporter.h"
#include "delivery/filter.h"

enum {
    CG_SELECTION_SCALE_MAX = 256,
    CG_SELECTION_BYTES_MAX = 4 << 20, /* read at once for the sake of a filter */
};

struct cg_selection {
    struct cg_filter filter;
    uint64_t scale; /* events to read for one that passes */

    struct cg_event *events; /* those that pass */
    uint32_t *spans;         /* how many events of the spool each stands for */
    size_t capacity;
    size_t at;     /* the first that is not acknowledged */
    uint64_t left; /* events of the spool, from there to the end of what was read */

    struct cg_batch read; /* all of it, borrowed, for the place: */
    size_t done;          /* so many of them are acknowledged, or are to be */
};

/* The rules (NULL: none) are borrowed until fini. */
void cg_selection_init(struct cg_selection *selection, const struct cg_filter_rules *rules);
void cg_selection_fini(struct cg_selection *selection);

/* How much to read where the plan wants so much; `events_max` is what can be asked for. */
void cg_selection_reads(const struct cg_selection *selection, uint64_t events_max, uint64_t *events,
                        uint64_t *bytes);

/*
 * Judges what was read. *ret_window are the events that pass: borrowed from the selection and from
 * `read`, valid until the next make. It has at most a whole number of batches of `batch_events`:
 * the rest is left to the next reading. *ret_passed_over events from the beginning are to be
 * acknowledged at once. On failure, which is a lack of memory, there is no window.
 */
CG_MUST_USE bool cg_selection_make(struct cg_selection *selection, const struct cg_batch *read,
                                   uint64_t batch_events, struct cg_batch *ret_window,
                                   uint64_t *ret_passed_over, struct cg_error *err);

/* The first `count` events of the window are done with: so many of the spool are. */
CG_MUST_USE uint64_t cg_selection_take(struct cg_selection *selection, uint64_t count);

/* The index of the event that is acknowledged next; behind all that was read, one more than the
 * last. Something was read. What comes at the next reading begins there, unless the spool gave up
 * events meanwhile. */
uint64_t cg_selection_next_index(const struct cg_selection *selection);

/* Events of the spool that were read and not taken. */
static inline uint64_t cg_selection_left(const struct cg_selection *selection)
{
    return selection->left;
}

#endif
