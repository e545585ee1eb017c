/* Patterns against a table, and against a slow matcher that follows the definition. */
#include "base/glob.h"

#include "cellgate/cleanup.h"

#include <check.h>
#include <stdint.h>

struct row {
    const char *pattern;
    const char *text;
    bool matches;
};

static const struct row rows[] = {
    {"", "", true},
    {"", "a", false},
    {"a", "", false},
    {"a", "a", true},
    {"a", "A", false},
    {"a", "ab", false},
    {"*", "", true},
    {"*", "anything.at/all", true},
    {"**", "", true},
    {"a*", "a", true},
    {"a*", "b", false},
    {"*a", "ba", true},
    {"*a", "ab", false},
    {"a*b*c", "a-b-c", true},
    {"a*b*c", "a-c-b", false},
    {"*.agent_silenced", "dev.cellos.events.cell.observability.v1.guest.agent_silenced", true},
    {"*.agent_silenced", "dev.cellos.events.cell.observability.v1.guest.agent_resumed", false},
    {"*ab*ab", "ab-ab-ab", true},
    {"*aab", "aaab", true},
    {"?", "", false},
    {"?", "a", true},
    {"?", "ab", false},
    {"??", "ab", true},
    {"a?c", "abc", true},
    {"a?c", "ac", false},
    {"?", "\xc3\xa9", true},   /* one character of two bytes */
    {"??", "\xc3\xa9", false}, /* and no more */
    {"*?", "\xc3\xa9", true},  /* a star takes no half of one for a `?` to end */
    {"*??", "\xc3\xa9", false},
    {"?\xf0\x9f\x90\x9d?",
     "a\xf0\x9f\x90\x9d"
     "b",
     true},
    {"[a]", "a", false}, /* no classes */
    {"[a]", "[a]", true},
    {"\\*", "*", false}, /* no escape */
    {"\\*", "\\x", true},
};

START_TEST(patterns_match_what_the_table_says)
{
    const struct row *row = &rows[_i];
    ck_assert_msg(cg_glob_match(cg_bytes_str(row->pattern), cg_bytes_str(row->text)) ==
                      row->matches,
                  "'%s' and '%s'", row->pattern, row->text);
}
END_TEST

START_TEST(a_nul_is_a_byte_like_others)
{
    ck_assert(cg_glob_match(CG_BYTES("a?b"), CG_BYTES("a\0b")));
    ck_assert(!cg_glob_match(CG_BYTES("a"), CG_BYTES("a\0b")));
}
END_TEST

/* By the definition, trying everything. */
static bool slow_match(const char *pattern, const char *text)
{
    if (*pattern == '\0') {
        return *text == '\0';
    }
    if (*pattern == '*') {
        return slow_match(pattern + 1, text) || (*text != '\0' && slow_match(pattern, text + 1));
    }
    return *text != '\0' && (*pattern == '?' || *pattern == *text) &&
           slow_match(pattern + 1, text + 1);
}

START_TEST(every_short_pattern_matches_as_its_definition_says)
{
    enum { PATTERN_LEN = 5, TEXT_LEN = 6 };
    static const char pattern_letters[] = "ab*?";
    char pattern[PATTERN_LEN + 1] = "";
    char text[TEXT_LEN + 1] = "";
    for (unsigned p = 0; p < 1U << (2 * PATTERN_LEN); p++) {
        unsigned pattern_len = p % (PATTERN_LEN + 1);
        for (unsigned i = 0; i < pattern_len; i++) {
            pattern[i] = pattern_letters[p >> (2 * i) & 3];
        }
        pattern[pattern_len] = '\0';
        for (unsigned t = 0; t < 1U << TEXT_LEN; t++) {
            unsigned text_len = t % (TEXT_LEN + 1);
            for (unsigned i = 0; i < text_len; i++) {
                text[i] = (t >> i & 1) != 0 ? 'a' : 'b';
            }
            text[text_len] = '\0';
            ck_assert_msg(cg_glob_match(cg_bytes_str(pattern), cg_bytes_str(text)) ==
                              slow_match(pattern, text),
                          "'%s' and '%s'", pattern, text);
        }
    }
}
END_TEST

START_TEST(the_worst_pattern_ends)
{
    enum { LEN = 65535 };
    static const char worst[] = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";
    cg_auto_free char *text = malloc(LEN);
    ck_assert_ptr_nonnull(text);
    memset(text, 'a', LEN);
    ck_assert(!cg_glob_match(cg_bytes_str(worst), cg_bytes(text, LEN)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("glob");
    TCase *tests = tcase_create("all");
    tcase_add_loop_test(tests, patterns_match_what_the_table_says, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tests, a_nul_is_a_byte_like_others);
    tcase_add_test(tests, every_short_pattern_matches_as_its_definition_says);
    tcase_add_test(tests, the_worst_pattern_ends);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
