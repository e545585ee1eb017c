/*
 * json_write.h - texts as JSON strings, in the one form of docs/contract.md section 4. Pure.
 *
 * Escaped are `"`, `\` and U+0000 to U+001F only: \b \t \n \f \r in short form, the others as
 * \u00xx in lower-case hex. Everything else, DEL and non-ASCII included, goes out as it is: the
 * text is valid UTF-8 already, which is the caller's business (base/utf8.h).
 */
#ifndef CELLGATE_JSON_WRITE_H
#define CELLGATE_JSON_WRITE_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"

/* A byte becomes at most six: \u00xx. */
enum { CG_JSON_ESCAPE_GROWTH = 6 };

/* Writes the escaped text, without quotes, to `out`, which has room for CG_JSON_ESCAPE_GROWTH *
 * text.len bytes and does not overlap it. Returns the length written. */
size_t cg_json_escape(struct cg_bytes text, char *out);

/* How many bytes cg_json_escape would write. */
size_t cg_json_escaped_len(struct cg_bytes text);

/* Appends the text as a JSON string, quotes included. Returns !out->failed. */
bool cg_json_append_string(struct cg_buf *out, struct cg_bytes text);

#endif
