/*
 * arguments.h - numbers and durations as query arguments write them. Pure.
 */
#ifndef CELLGATE_HTTP_ARGUMENTS_H
#define CELLGATE_HTTP_ARGUMENTS_H

#include "cellgate/error.h"

#include <stdint.h>

/* Digits only, at most `max`. */
CG_MUST_USE bool cg_argument_u64(const char *text, uint64_t max, uint64_t *ret_value);
/* "30s", "500ms", "2m": digits and a unit, at most `max_ns`. */
CG_MUST_USE bool cg_argument_duration(const char *text, uint64_t max_ns, uint64_t *ret_ns);

#endif
