/*
 * health.h - /livez, /readyz, /healthz, /v1/exporters and the front page. docs/contract.md
 * section 6.
 *
 * Ready means: guests can connect and what they declare is appended. A collector in trouble does
 * not change that; it shows as a line of `?verbose`, as "degraded", and in metrics.
 */
#ifndef CELLGATE_HTTP_HEALTH_H
#define CELLGATE_HTTP_HEALTH_H

#include "http/public.h"
#include "http/server.h"

/* The process turns. */
void cg_health_live(const struct cg_gateway_view *view, struct cg_http_answer *answer);
/* 200 or 503; with `verbose` a line for each check. */
void cg_health_ready(const struct cg_gateway_view *view, bool verbose,
                     struct cg_http_answer *answer);
/* JSON: all of it, for people and scripts; the same status code as /readyz. */
void cg_health_report(const struct cg_gateway_view *view, struct cg_http_answer *answer);
/* JSON: each exporter with its counts, trouble and backlog. */
void cg_health_exporters(const struct cg_gateway_view *view, struct cg_http_answer *answer);
/* Plain text: what is here, with counts. */
void cg_health_index(const struct cg_gateway_view *view, struct cg_http_answer *answer);

#endif
