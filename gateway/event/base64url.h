/*
 * base64url.h - base64url without padding (RFC 4648 section 5). Pure.
 *
 * Keys and signatures, and nothing else, are written this way. Strict both ways: one text for one
 * sequence of bytes, so that a signature has no second spelling.
 */
#ifndef CELLGATE_BASE64URL_H
#define CELLGATE_BASE64URL_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdint.h>

/* Room that the text of `len` bytes takes. */
#define CG_BASE64URL_LEN(len) ((4 * (size_t)(len) + 2) / 3)

/*
 * `=` at the end are dropped, however many; the rest is strict: no '+' or '/', no white space, no
 * impossible length, unused bits zero. Writes at most `max` bytes to `out`; what it wrote before a
 * refusal is wiped. Says no more than yes or no, since the text may be a secret.
 */
CG_MUST_USE bool cg_base64url_decode(struct cg_bytes text, uint8_t *out, size_t max,
                                     size_t *ret_len);

/* Writes CG_BASE64URL_LEN(bytes.len) characters to `out`, and returns that number. */
size_t cg_base64url_encode(struct cg_bytes bytes, char *out);

#endif
