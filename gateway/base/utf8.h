/*
 * utf8.h - strict UTF-8 (RFC 3629). Pure; any thread; cannot fail.
 */
#ifndef CELLGATE_UTF8_H
#define CELLGATE_UTF8_H

#include "cellgate/bytes.h"

/* True if `text` is UTF-8 throughout: no surrogates, no overlong forms, nothing above U+10FFFF,
 * nothing cut at the end. The empty text and NUL characters are valid. */
bool cg_utf8_valid(struct cg_bytes text);

#endif
