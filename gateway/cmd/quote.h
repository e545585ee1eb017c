/*
 * quote.h - what others wrote, on a terminal and in columns. Pure.
 */
#ifndef CELLGATE_QUOTE_H
#define CELLGATE_QUOTE_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"

/*
 * Appends `text` as it is where it is printable, and as a JSON string of ASCII alone otherwise: if
 * it is empty or "-" (which means none), begins with a quote, or has a character that would break
 * the column or drive the terminal. `text` is valid UTF-8. Returns !out->failed.
 */
bool cg_quote_append(struct cg_buf *out, struct cg_bytes text);

/*
 * Appends JSON for a terminal: what would drive it (DEL, U+0080 to U+009F, overrides of direction
 * and the like) becomes an escape, so that it is still the same JSON. `json` is valid UTF-8 and has
 * no raw control characters, as JSON has not. Returns !out->failed.
 */
bool cg_quote_append_json(struct cg_buf *out, struct cg_bytes json);

#endif
