/*
 * glob.h - patterns of `*` and `?`. Pure.
 *
 *   *   any number of bytes, none among them; dots and slashes are nothing special
 *   ?   one character (of valid UTF-8)
 *
 * Every other byte stands for itself; there is no escape and there are no classes. The whole text
 * must match, and case matters. At most text.len * pattern.len steps, no recursion, no memory.
 */
#ifndef CELLGATE_GLOB_H
#define CELLGATE_GLOB_H

#include "cellgate/bytes.h"

bool cg_glob_match(struct cg_bytes pattern, struct cg_bytes text);

#endif
