#include "spool/losses.h"

#include <stdlib.h>
#include <string.h>

static void join(struct cg_loss_range *into, const struct cg_loss_range *more)
{
    into->first = more->first < into->first ? more->first : into->first;
    into->last = more->last > into->last ? more->last : into->last;
}

static void remove_at(struct cg_losses *losses, size_t at)
{
    losses->count--;
    memmove(&losses->ranges[at], &losses->ranges[at + 1],
            (losses->count - at) * sizeof(losses->ranges[0]));
}

static bool are_alike(const struct cg_loss_range *a, const struct cg_loss_range *b)
{
    return a->reason == b->reason && a->state == b->state &&
           (a->state != CG_LOSS_TOLD || a->told_index == b->told_index);
}

/* Makes room for one more by joining the last two that are alike; if no two are, the first two,
 * which are told again: a name too many is better than one too few. */
static void make_room(struct cg_losses *losses)
{
    size_t at = losses->count - 1;
    while (at > 1 && !are_alike(&losses->ranges[at], &losses->ranges[at - 1])) {
        at--;
    }
    if (!are_alike(&losses->ranges[at], &losses->ranges[at - 1])) {
        losses->ranges[at - 1].state = CG_LOSS_UNTOLD;
    }
    join(&losses->ranges[at - 1], &losses->ranges[at]);
    remove_at(losses, at);
}

/* The account, made with the first; NULL: no memory. */
static struct cg_losses *get(struct cg_losses **losses)
{
    if (*losses == NULL) {
        *losses = calloc(1, sizeof(**losses));
    }
    return *losses;
}

static void append(struct cg_losses *losses, const struct cg_loss_range *range)
{
    if (losses->count == CG_SPOOL_LOSSES_MAX) {
        make_room(losses);
    }
    losses->ranges[losses->count++] = *range;
}

bool cg_losses_add(struct cg_losses **losses, enum cg_spool_loss_reason reason, uint64_t first,
                   uint64_t last)
{
    struct cg_losses *all = get(losses);
    if (all == NULL) {
        return false;
    }
    const struct cg_loss_range more = {.first = first, .last = last, .reason = (uint8_t)reason};
    for (size_t i = all->count; i > 0; i--) {
        struct cg_loss_range *range = &all->ranges[i - 1];
        if (range->state == CG_LOSS_UNTOLD && range->reason == more.reason &&
            range->first <= last + 1 && first <= range->last + 1) {
            join(range, &more);
            return true;
        }
    }
    append(all, &more);
    return true;
}

bool cg_losses_recover(struct cg_losses **losses, const struct cg_loss_range *range)
{
    struct cg_losses *all = get(losses);
    if (all == NULL) {
        return false;
    }
    for (size_t i = all->count; i > 0; i--) {
        const struct cg_loss_range *older = &all->ranges[i - 1];
        if (older->state != CG_LOSS_TOLD && older->reason == range->reason &&
            older->first >= range->first && older->last <= range->last) {
            remove_at(all, i - 1);
        }
    }
    append(all, range);
    return true;
}

/* What can be told together is told as one. */
static void join_untold(struct cg_losses *losses)
{
    for (size_t i = 0; i < losses->count; i++) {
        struct cg_loss_range *range = &losses->ranges[i];
        for (size_t k = losses->count; range->state == CG_LOSS_UNTOLD && k > i + 1; k--) {
            const struct cg_loss_range *other = &losses->ranges[k - 1];
            if (other->state == CG_LOSS_UNTOLD && other->reason == range->reason &&
                other->first <= range->last + 1 && range->first <= other->last + 1) {
                join(range, other);
                remove_at(losses, k - 1);
                k = losses->count + 1; /* it may touch others now */
            }
        }
    }
}

static bool any_taken(const struct cg_losses *losses)
{
    for (size_t i = 0; losses != NULL && i < losses->count; i++) {
        if (losses->ranges[i].state == CG_LOSS_TAKEN) {
            return true;
        }
    }
    return false;
}

size_t cg_losses_take(struct cg_losses *losses, struct cg_spool_loss *ret_losses)
{
    size_t count = 0;
    if (losses == NULL || any_taken(losses)) {
        return 0;
    }
    join_untold(losses);
    for (size_t i = 0; i < losses->count; i++) {
        struct cg_loss_range *range = &losses->ranges[i];
        if (range->state == CG_LOSS_UNTOLD) {
            range->state = CG_LOSS_TAKEN;
            ret_losses[count++] =
                (struct cg_spool_loss){.reason = (enum cg_spool_loss_reason)range->reason,
                                       .first = range->first,
                                       .last = range->last};
        }
    }
    return count;
}

static void tell(struct cg_losses *losses, enum cg_loss_state which, uint64_t index)
{
    for (size_t i = 0; losses != NULL && i < losses->count; i++) {
        if (losses->ranges[i].state == which) {
            losses->ranges[i].state = CG_LOSS_TOLD;
            losses->ranges[i].told_index = index;
        }
    }
}

void cg_losses_told(struct cg_losses *losses, uint64_t index)
{
    tell(losses, CG_LOSS_TAKEN, index);
}

void cg_losses_recover_told(struct cg_losses *losses, uint64_t index)
{
    tell(losses, any_taken(losses) ? CG_LOSS_TAKEN : CG_LOSS_UNTOLD, index);
}

void cg_losses_untake(struct cg_losses *losses)
{
    for (size_t i = 0; losses != NULL && i < losses->count; i++) {
        if (losses->ranges[i].state == CG_LOSS_TAKEN) {
            losses->ranges[i].state = CG_LOSS_UNTOLD;
        }
    }
}

void cg_losses_untell(struct cg_losses *losses, uint64_t first, uint64_t end)
{
    for (size_t i = 0; losses != NULL && i < losses->count; i++) {
        struct cg_loss_range *range = &losses->ranges[i];
        if (range->state == CG_LOSS_TOLD && range->told_index >= first && range->told_index < end) {
            range->state = CG_LOSS_UNTOLD;
        }
    }
}

void cg_losses_pass(struct cg_losses *losses, uint64_t wanted_index)
{
    for (size_t i = losses == NULL ? 0 : losses->count; i > 0; i--) {
        if (losses->ranges[i - 1].state == CG_LOSS_TOLD &&
            losses->ranges[i - 1].told_index < wanted_index) {
            remove_at(losses, i - 1);
        }
    }
}
