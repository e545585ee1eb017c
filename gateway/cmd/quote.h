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
/* Appends a JSON text, in whose strings what could drive the terminal becomes \u escapes, so that
 * it says the same. What is no valid UTF-8 is shown as the log would. */
bool cg_quote_json(struct cg_buf *out, struct cg_bytes json);

#endif
