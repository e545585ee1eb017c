/*
 * metrics.h - the counters of the process, and histograms.
 *
 * metrics.def is the one list: a family has its help text and the operator's advice, a series is
 * one counter of it. Counters are relaxed atomics added to once per batch of work, from any thread.
 * What is a state rather than a count (gauges, per-exporter series) is asked of its owner at scrape
 * time.
 */
#ifndef CELLGATE_METRICS_H
#define CELLGATE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

enum cg_metric_type { CG_METRIC_COUNTER, CG_METRIC_GAUGE, CG_METRIC_HISTOGRAM };

enum cg_metric_family {
#define CG_FAMILY(id, name, type, help, advice) CG_FAMILY_##id,
#define CG_SERIES(id, family, labels)
#include "cellgate/metrics.def"
    CG_FAMILY_COUNT
};

enum cg_metric_series {
#define CG_FAMILY(id, name, type, help, advice)
#define CG_SERIES(id, family, labels) CG_SERIES_##id,
#include "cellgate/metrics.def"
    CG_SERIES_COUNT
};

struct cg_metric_family_info {
    const char *name; /* with the prefix cellgate_ */
    enum cg_metric_type type;
    const char *help;
    const char *advice;
};

struct cg_metric_series_info {
    enum cg_metric_family family;
    const char *labels; /* `reason="eof"`, or "" */
};

extern const struct cg_metric_family_info cg_metric_families[CG_FAMILY_COUNT];
extern const struct cg_metric_series_info cg_metric_series[CG_SERIES_COUNT];

void cg_metric_add(enum cg_metric_series series, uint64_t count);
uint64_t cg_metric_get(enum cg_metric_series series);

/* Durations in the buckets of cg_histogram_bounds_s. Zero-initialised; any thread. */
enum { CG_HISTOGRAM_BUCKETS = 14 };
extern const double cg_histogram_bounds_s[CG_HISTOGRAM_BUCKETS];

struct cg_histogram {
    _Atomic uint64_t buckets[CG_HISTOGRAM_BUCKETS + 1]; /* not cumulative; the last is +Inf */
    _Atomic uint64_t sum_ns;
};

void cg_histogram_observe(struct cg_histogram *histogram, uint64_t duration_ns);

#endif
