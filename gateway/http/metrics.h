/*
 * metrics.h - the page /metrics: Prometheus text format 0.0.4. docs/contract.md section 6.
 *
 * Counters come from cellgate/metrics.h; states are asked of their owners as the page is written.
 */
#ifndef CELLGATE_HTTP_METRICS_H
#define CELLGATE_HTTP_METRICS_H

#include "cellgate/buf.h"
#include "http/public.h"

#define CG_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Appends the whole page. Any thread. */
void cg_metrics_page(const struct cg_gateway_view *view, struct cg_buf *out);

#endif
