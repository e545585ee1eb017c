/*
 * tap_page.h - GET /v1/tap: events as they are appended, a line each. docs/contract.md section 6.
 *
 * ?cell= and ?types= are patterns (base/glob.h), ?limit= ends it after so many events. A line is an
 * event's bytes as they go out, or {"skipped":N}: so many events were appended that this tap never
 * saw, because it was too slow (whether they would have matched is not known). It holds nothing of
 * the spool (spool/tap.h); at most CG_SPOOL_TAPS_MAX at once, 503 beyond.
 */
#ifndef CELLGATE_HTTP_TAP_PAGE_H
#define CELLGATE_HTTP_TAP_PAGE_H

#include "http/public.h"
#include "http/server.h"

void cg_tap_page(const struct cg_gateway_view *view, const struct cg_http_request *request,
                 struct cg_http_answer *answer);

#endif
