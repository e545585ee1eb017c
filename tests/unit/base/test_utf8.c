#include "base/utf8.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

static const struct cg_bytes valid_texts[] = {
    CG_BYTES(""),
    CG_BYTES("plain"),
    CG_BYTES("a NUL \0 inside"),
    CG_BYTES("\x7F"),
    CG_BYTES("\xC2\x80"),         /* U+0080, the first of two bytes */
    CG_BYTES("\xDF\xBF"),         /* U+07FF, the last */
    CG_BYTES("\xE0\xA0\x80"),     /* U+0800 */
    CG_BYTES("\xED\x9F\xBF"),     /* U+D7FF, just below the surrogates */
    CG_BYTES("\xEE\x80\x80"),     /* U+E000, just above */
    CG_BYTES("\xEF\xBB\xBF"),     /* a byte order mark */
    CG_BYTES("\xEF\xBF\xBF"),     /* U+FFFF */
    CG_BYTES("\xF0\x90\x80\x80"), /* U+10000 */
    CG_BYTES("\xF4\x8F\xBF\xBF"), /* U+10FFFF */
    CG_BYTES("eight at a glance, then \xC3\xA9, and on it goes"),
};

static const struct cg_bytes invalid_texts[] = {
    CG_BYTES("\x80"),             /* a continuation by itself */
    CG_BYTES("\xBF"),             /* likewise */
    CG_BYTES("\xC0\x80"),         /* NUL in two bytes */
    CG_BYTES("\xC1\xBF"),         /* U+007F in two bytes */
    CG_BYTES("\xC2"),             /* cut */
    CG_BYTES("\xC2\x41"),         /* not continued */
    CG_BYTES("\xC2\xC2"),         /* likewise */
    CG_BYTES("\xE0\x9F\xBF"),     /* U+07FF in three bytes */
    CG_BYTES("\xE1\x80"),         /* cut */
    CG_BYTES("\xE1\x80\x41"),     /* not continued */
    CG_BYTES("\xED\xA0\x80"),     /* U+D800 */
    CG_BYTES("\xED\xBF\xBF"),     /* U+DFFF */
    CG_BYTES("\xF0\x8F\xBF\xBF"), /* U+FFFF in four bytes */
    CG_BYTES("\xF1\x80\x80"),     /* cut */
    CG_BYTES("\xF1\x80\x80\x41"), /* not continued */
    CG_BYTES("\xF4\x90\x80\x80"), /* U+110000 */
    CG_BYTES("\xF5\x80\x80\x80"),
    CG_BYTES("\xF8\x88\x80\x80\x80"), /* five bytes, never UTF-8 */
    CG_BYTES("\xFE"),
    CG_BYTES("\xFF"),
    CG_BYTES("12345678\xFF"),
    CG_BYTES("1234567\xE2\x82"),
};

START_TEST(well_formed_text_is_valid)
{
    ck_assert(cg_utf8_valid(valid_texts[_i]));
}
END_TEST

START_TEST(malformed_text_is_invalid)
{
    ck_assert(!cg_utf8_valid(invalid_texts[_i]));
}
END_TEST

/* The verdict must not depend on where in a stride of eight a character stands. */
START_TEST(a_verdict_is_the_same_at_every_offset)
{
    char padded[64];
    for (size_t before = 0; before < 20; before++) {
        memset(padded, 'x', sizeof(padded));
        memcpy(padded + before, "\xF0\x9F\x98\x80", 4);
        ck_assert(cg_utf8_valid(cg_bytes(padded, before + 4)));
        ck_assert(cg_utf8_valid(cg_bytes(padded, before + 24)));
        ck_assert(!cg_utf8_valid(cg_bytes(padded, before + 3)));
        padded[before + 3] = 'x';
        ck_assert(!cg_utf8_valid(cg_bytes(padded, before + 24)));
    }
}
END_TEST

static size_t encode(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(leads[length] | c);
    return length;
}

START_TEST(every_code_point_but_the_surrogates_is_valid)
{
    for (uint32_t c = 0; c < 0x120000; c++) {
        char text[4];
        size_t length = encode(c, text);
        bool expected = c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
        ck_assert_msg(cg_utf8_valid(cg_bytes(text, length)) == expected, "U+%X", c);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("utf8");
    tcase_add_loop_test(tests, well_formed_text_is_valid, 0,
                        sizeof(valid_texts) / sizeof(valid_texts[0]));
    tcase_add_loop_test(tests, malformed_text_is_invalid, 0,
                        sizeof(invalid_texts) / sizeof(invalid_texts[0]));
    tcase_add_test(tests, a_verdict_is_the_same_at_every_offset);
    tcase_add_test(tests, every_code_point_but_the_surrogates_is_valid);
    Suite *suite = suite_create("base/utf8");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
