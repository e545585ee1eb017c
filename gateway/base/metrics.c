#include "cellgate/metrics.h"

#include "cellgate/clock.h"

const struct cg_metric_family_info cg_metric_families[CG_FAMILY_COUNT] = {
#define CG_FAMILY(id, name, type, help, advice)                                                    \
    [CG_FAMILY_##id] = {"cellgate_" name, CG_METRIC_##type, help, advice},
#define CG_SERIES(id, family, labels)
#include "cellgate/metrics.def"
};

const struct cg_metric_series_info cg_metric_series[CG_SERIES_COUNT] = {
#define CG_FAMILY(id, name, type, help, advice)
#define CG_SERIES(id, family, labels) [CG_SERIES_##id] = {CG_FAMILY_##family, labels},
#include "cellgate/metrics.def"
};

const double cg_histogram_bounds_s[CG_HISTOGRAM_BUCKETS] = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
};

static _Atomic uint64_t series_values[CG_SERIES_COUNT];

void cg_metric_add(enum cg_metric_series series, uint64_t count)
{
    atomic_fetch_add_explicit(&series_values[series], count, memory_order_relaxed);
}

uint64_t cg_metric_get(enum cg_metric_series series)
{
    return atomic_load_explicit(&series_values[series], memory_order_relaxed);
}

void cg_histogram_observe(struct cg_histogram *histogram, uint64_t duration_ns)
{
    double seconds = (double)duration_ns / (double)CG_NS_PER_S;
    unsigned bucket = 0;
    while (bucket < CG_HISTOGRAM_BUCKETS && seconds > cg_histogram_bounds_s[bucket]) {
        bucket++;
    }
    atomic_fetch_add_explicit(&histogram->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_ns, duration_ns, memory_order_relaxed);
}
