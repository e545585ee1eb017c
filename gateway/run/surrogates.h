/*
 * surrogates.h - JSON's `\ud83d\ude00` for those who only know YAML's `\U0001F600`. Pure.
 *
 * Many JSON writers escape characters beyond U+FFFF as two halves, which libyaml refuses one by
 * one.
 */
#ifndef CELLGATE_SURROGATES_H
#define CELLGATE_SURROGATES_H

#include "cellgate/buf.h"

/*
 * If `text` looks like a JSON object, and its strings hold escaped pairs, writes it into `buf` with
 * each pair as the character it means; *ret_text is then the contents of `buf`, else `text`. Line
 * numbers stay as they are. Fails without memory.
 */
CG_MUST_USE bool cg_surrogates_join(struct cg_bytes text, struct cg_buf *buf,
                                    struct cg_bytes *ret_text);

#endif
