/*
 * guard.h - which Host a request may name. Pure. docs/contract.md section 6.
 *
 * A web page that a browser was led to by DNS rebinding reaches a listener on loopback with the
 * page's own name in Host. So Host must be an address, localhost, or a configured name.
 */
#ifndef CELLGATE_HTTP_GUARD_H
#define CELLGATE_HTTP_GUARD_H

#include "cellgate/option.h"

#include <stdbool.h>

/* `host` is the header's value, with or without a port; names are compared without case. */
bool cg_host_allowed(const char *host, struct cg_strings names);

#endif
