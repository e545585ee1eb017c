/*
 * http_headers.h - which headers an operator may add to a request. Pure; any thread.
 */
#ifndef CELLGATE_EXPORTERS_HTTP_HEADERS_H
#define CELLGATE_EXPORTERS_HTTP_HEADERS_H

#include "cellgate/error.h"
#include "cellgate/option.h"

enum { CG_HTTP_HEADER_BYTES_MAX = 8192 }; /* of a value */

/* Names are HTTP tokens and not one of those that the protocol sets itself; values are not empty
 * and hold no control characters. A value is never part of the error: it may be a secret. */
CG_MUST_USE bool cg_http_headers_validate(const struct cg_pairs *headers, struct cg_error *err);

/* Is there one of this name, whatever its case? */
bool cg_http_headers_has(const struct cg_pairs *headers, const char *name);

#endif
