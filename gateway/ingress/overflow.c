#include "ingress/overflow.h"

#include "cellgate/clock.h"
#include "cellgate/metrics.h"

enum { LOG_PERIOD_S = 10, LOG_LINES = 1 };

void cg_overflow_init(struct cg_overflow *overflow)
{
    *overflow = (struct cg_overflow){
        .log_limit = {.period_ns = LOG_PERIOD_S * CG_NS_PER_S, .burst = LOG_LINES},
        .told = cg_metric_get(CG_SERIES_events_dropped_overflow),
    };
}

static void report(struct cg_overflow *overflow, uint64_t told, uint64_t dropped)
{
    /* Of threads that notice at the same time one tells. */
    if (atomic_compare_exchange_strong(&overflow->told, &told, dropped)) {
        CG_LOG(CG_LOG_WARNING, "spool_overflow", CG_F_U64("events", dropped - told));
    }
}

void cg_overflow_report(struct cg_overflow *overflow, uint64_t now_ns)
{
    uint64_t told = atomic_load(&overflow->told);
    uint64_t dropped = cg_metric_get(CG_SERIES_events_dropped_overflow);
    uint64_t suppressed; /* looks, not events: those are in the difference */
    if (dropped != told && cg_log_limit_pass(&overflow->log_limit, now_ns, &suppressed)) {
        report(overflow, told, dropped);
    }
}

void cg_overflow_report_rest(struct cg_overflow *overflow)
{
    uint64_t told = atomic_load(&overflow->told);
    uint64_t dropped = cg_metric_get(CG_SERIES_events_dropped_overflow);
    if (dropped != told) {
        report(overflow, told, dropped);
    }
}
