/*
 * value.h - what a text of the configuration means, and back: numbers with units, switches, modes.
 *
 * Pure. Nothing here is YAML's business: `0660` is octal and `1:30` is refused, whatever YAML 1.1
 * thinks of them.
 */
#ifndef CELLGATE_VALUE_H
#define CELLGATE_VALUE_H

#include "cellgate/buf.h"
#include "cellgate/option.h"

/* Decimal digits without sign or leading zero. */
CG_MUST_USE bool cg_value_integer(struct cg_bytes text, uint64_t *ret_value);
/* "200ms", "10s", "1h"; "0" needs no unit. Nanoseconds. */
CG_MUST_USE bool cg_value_duration(struct cg_bytes text, uint64_t *ret_ns);
/* "512", "64KiB", "1MB". Bytes. */
CG_MUST_USE bool cg_value_size(struct cg_bytes text, uint64_t *ret_bytes);
/* true, yes, on, false, no, off; case does not matter. */
CG_MUST_USE bool cg_value_bool(struct cg_bytes text, bool *ret_value);
/* "0660" or "0o660": octal permission bits. The leading zero is required, since JSON writers turn
 * 0660 into 432. */
CG_MUST_USE bool cg_value_file_mode(struct cg_bytes text, uint64_t *ret_mode);
CG_MUST_USE bool cg_value_name(struct cg_bytes text, const struct cg_option_name *names,
                               int *ret_value);

/* In the largest unit that leaves a whole number. */
void cg_value_write_duration(uint64_t ns, struct cg_buf *out);
void cg_value_write_size(uint64_t bytes, struct cg_buf *out);
/* A double-quoted YAML (and JSON) string. */
void cg_value_write_text(struct cg_bytes text, struct cg_buf *out);

/* How many letters must be typed anew to make one word of the other; at most CG_DISTANCE_FAR. */
enum { CG_DISTANCE_FAR = 64 };
unsigned cg_value_distance(struct cg_bytes a, struct cg_bytes b);
/* Whether a word is near enough to be offered as what was meant. */
bool cg_value_resembles(struct cg_bytes typed, struct cg_bytes known, unsigned *ret_distance);

#endif
