#include "base/timers.h"

#include <stddef.h>

void cg_timer_init(struct cg_timer *timer)
{
    *timer = (struct cg_timer){.due_ns = CG_TIMER_NEVER};
}

/* Makes one heap of two; either may be NULL. Returns its first. */
static struct cg_timer *merge(struct cg_timer *a, struct cg_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    struct cg_timer *first = b->due_ns < a->due_ns ? b : a;
    struct cg_timer *second = first == a ? b : a;
    second->next = first->child;
    if (second->next != NULL) {
        second->next->prev = second;
    }
    second->prev = first;
    first->child = second;
    return first;
}

/* Merges siblings: in pairs from the left, then all of those from the right. */
static struct cg_timer *merge_siblings(struct cg_timer *at)
{
    struct cg_timer *pairs = NULL; /* linked by `next`, the last pair first */
    while (at != NULL) {
        struct cg_timer *a = at;
        struct cg_timer *b = a->next;
        at = b == NULL ? NULL : b->next;
        a->next = a->prev = NULL;
        if (b != NULL) {
            b->next = b->prev = NULL;
        }
        struct cg_timer *pair = merge(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    struct cg_timer *all = NULL;
    while (pairs != NULL) {
        struct cg_timer *rest = pairs->next;
        pairs->next = NULL;
        all = merge(all, pairs);
        pairs = rest;
    }
    return all;
}

static void remove_timer(struct cg_timers *timers, struct cg_timer *timer)
{
    if (timer == timers->first) {
        timers->first = merge_siblings(timer->child);
    } else {
        if (timer->prev->child == timer) {
            timer->prev->child = timer->next;
        } else {
            timer->prev->next = timer->next;
        }
        if (timer->next != NULL) {
            timer->next->prev = timer->prev;
        }
        timers->first = merge(timers->first, merge_siblings(timer->child));
    }
    cg_timer_init(timer);
}

void cg_timers_set(struct cg_timers *timers, struct cg_timer *timer, uint64_t due_ns)
{
    if (timer->due_ns == due_ns) {
        return;
    }
    if (timer->due_ns != CG_TIMER_NEVER) {
        remove_timer(timers, timer);
    }
    if (due_ns != CG_TIMER_NEVER) {
        timer->due_ns = due_ns;
        timers->first = merge(timers->first, timer);
    }
}
