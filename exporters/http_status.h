/*
 * http_status.h - what an HTTP status means for a batch: docs/contract.md section 7 as one table.
 *
 * Pure: no I/O, no clock; any thread.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_STATUS_H
#define CELLGATE_EXPORTERS_HTTP_STATUS_H

#include "cellgate/bytes.h"
#include "cellgate/exporter.h"

#include <stdint.h>

/* Whose rules hold: OTLP names the statuses that may be tried again, and they are fewer. */
enum cg_http_rules { CG_HTTP_RULES_PLAIN, CG_HTTP_RULES_OTLP };

/*
 * Fills kind, suspicious_when_repeated, retry_after_ns, status and detail ("HTTP 503") of
 * *ret_verdict; the answer is the caller's. `retry_after` is the value of the header, empty for
 * none; it counts only where the same batch is to come again.
 */
void cg_http_status_verdict(enum cg_http_rules rules, int status, struct cg_bytes retry_after,
                            uint64_t now_realtime_ns, struct cg_verdict *ret_verdict);

/*
 * The value of a Retry-After header as a delay from now: whole seconds, or a date in one of the
 * three forms of RFC 9110 section 5.6.7. 0 for a date that is past and for anything unreadable. Not
 * capped (the core does that), but far numbers end at UINT64_MAX.
 */
uint64_t cg_http_retry_after_ns(struct cg_bytes value, uint64_t now_realtime_ns);

#endif
