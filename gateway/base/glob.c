#include "base/glob.h"

#include <stdint.h>

static bool continues_character(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Behind the character at `at`; 0 if none begins there. */
static size_t behind_character(struct cg_bytes text, size_t at)
{
    if (at >= text.len || continues_character(text.data[at])) {
        return 0;
    }
    at++;
    while (at < text.len && continues_character(text.data[at])) {
        at++;
    }
    return at;
}

/* Only the last star needs to be remembered: what an earlier one might take as well, the last one
 * can take too. */
bool cg_glob_match(struct cg_bytes pattern, struct cg_bytes text)
{
    size_t at = 0;
    size_t next = 0;
    size_t behind_star = SIZE_MAX; /* in the pattern */
    size_t starred = 0;            /* how far into the text that star reaches */
    while (at < text.len) {
        size_t behind = 0;
        if (next < pattern.len && pattern.data[next] == '*') {
            behind_star = ++next;
            starred = at;
            continue;
        }
        if (next < pattern.len && pattern.data[next] == '?') {
            behind = behind_character(text, at);
        } else if (next < pattern.len && pattern.data[next] == text.data[at]) {
            behind = at + 1;
        }
        if (behind > 0) {
            at = behind;
            next++;
        } else if (behind_star != SIZE_MAX) {
            at = ++starred;
            next = behind_star;
        } else {
            return false;
        }
    }
    while (next < pattern.len && pattern.data[next] == '*') {
        next++;
    }
    return next == pattern.len;
}
