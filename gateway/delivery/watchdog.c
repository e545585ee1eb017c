#include "delivery/watchdog.h"

#include "cellgate/clock.h"

enum { LOOKS_A_LIMIT = 8, INTERVAL_MS_MIN = 5, INTERVAL_MS_MAX = 10000 };

void cg_watchdog_init(struct cg_watchdog *watchdog, uint64_t limit_ns, uint64_t now_ns)
{
    *watchdog = (struct cg_watchdog){.limit_ns = limit_ns, .from_ns = now_ns};
}

/* The latest instant up to which there is nothing to complain of. */
static uint64_t satisfied_until(const struct cg_watchdog *watchdog,
                                const struct cg_watchdog_view *view)
{
    if (!view->backlog || view->excused_until_ns >= view->now_ns) {
        return view->now_ns;
    }
    uint64_t until = watchdog->from_ns;
    until = view->progress_ns > until ? view->progress_ns : until;
    return view->excused_until_ns > until ? view->excused_until_ns : until;
}

enum cg_watchdog_turn cg_watchdog_look(struct cg_watchdog *watchdog,
                                       const struct cg_watchdog_view *view)
{
    if (watchdog->limit_ns == 0) {
        return CG_WATCHDOG_NOTHING;
    }
    bool stalled = watchdog->since_ns != 0;
    watchdog->from_ns = satisfied_until(watchdog, view);
    if (stalled && (!view->backlog || view->progress_ns > watchdog->since_ns)) {
        watchdog->since_ns = 0;
        return CG_WATCHDOG_RECOVERED;
    }
    if (view->now_ns < watchdog->from_ns || view->now_ns - watchdog->from_ns < watchdog->limit_ns) {
        return CG_WATCHDOG_NOTHING;
    }
    if (!stalled) {
        watchdog->since_ns = watchdog->from_ns == 0 ? 1 : watchdog->from_ns;
    }
    watchdog->from_ns = view->now_ns; /* another limit before the next rebuilding */
    return stalled ? CG_WATCHDOG_REBUILD : CG_WATCHDOG_STALLS;
}

uint64_t cg_watchdog_interval_ns(const struct cg_watchdog *watchdog)
{
    uint64_t interval_ns = watchdog->limit_ns / LOOKS_A_LIMIT;
    if (interval_ns < INTERVAL_MS_MIN * CG_NS_PER_MS) {
        return INTERVAL_MS_MIN * CG_NS_PER_MS;
    }
    return interval_ns > INTERVAL_MS_MAX * CG_NS_PER_MS ? INTERVAL_MS_MAX * CG_NS_PER_MS
                                                        : interval_ns;
}
