#include "event/json_write.h"

#include <check.h>
#include <stdlib.h>

static const struct {
    struct cg_bytes text;
    const char *escaped;
} pairs[] = {
    {{"", 0}, ""},
    {{"plain, and longer than a word of eight", 38}, "plain, and longer than a word of eight"},
    {{"\"", 1}, "\\\""},
    {{"\\", 1}, "\\\\"},
    {{"/", 1}, "/"},
    {{"\b\t\n\f\r", 5}, "\\b\\t\\n\\f\\r"},
    {{"\0", 1}, "\\u0000"},
    {{"\x0b\x1f\x1a", 3}, "\\u000b\\u001f\\u001a"},
    {{"\x7f", 1}, "\x7f"},
    {{"</script>&'", 11}, "</script>&'"},
    {{"\xc3\xa9\xe8\xaa\x9e\xf0\x9f\x98\x80\xe2\x80\xa8", 12},
     "\xc3\xa9\xe8\xaa\x9e\xf0\x9f\x98\x80\xe2\x80\xa8"},
    {{"1234567\"12345678\n", 17}, "1234567\\\"12345678\\n"},
};

START_TEST(only_quotes_backslashes_and_controls_are_escaped)
{
    char out[256];
    size_t len = cg_json_escape(pairs[_i].text, out);
    ck_assert_uint_eq(len, strlen(pairs[_i].escaped));
    ck_assert(len == 0 || memcmp(out, pairs[_i].escaped, len) == 0);
    ck_assert_uint_eq(cg_json_escaped_len(pairs[_i].text), len);
}
END_TEST

/* The fast path looks at eight bytes at once: each byte must count at each place among any others.
 */
START_TEST(every_byte_is_seen_at_every_place)
{
    static const char around[] = {'a', '\x7f', '\x80', '\xff', '!', '#', '[', ']', ' '};
    for (size_t fill = 0; fill < sizeof(around); fill++) {
        for (unsigned value = 0; value < 256; value++) {
            for (size_t at = 0; at < 17; at++) {
                char text[17];
                char out[6 * sizeof(text)];
                memset(text, around[fill], sizeof(text));
                text[at] = (char)value;
                bool escaped = value < 0x20 || value == '"' || value == '\\';
                size_t len = cg_json_escape(cg_bytes(text, sizeof(text)), out);
                ck_assert_int_eq(len > sizeof(text), escaped);
                ck_assert_mem_eq(out, text, at);
                ck_assert_int_eq(out[at] == '\\', escaped);
                ck_assert_mem_eq(out + len - (16 - at), text + at + 1, 16 - at);
            }
        }
    }
}
END_TEST

START_TEST(nothing_but_the_worst_text_grows_sixfold)
{
    char text[1000] = {0};
    char out[CG_JSON_ESCAPE_GROWTH * sizeof(text)];
    ck_assert_uint_eq(cg_json_escape(cg_bytes(text, sizeof(text)), out), sizeof(out));
    ck_assert_uint_eq(cg_json_escaped_len(cg_bytes(text, sizeof(text))), sizeof(out));
}
END_TEST

START_TEST(an_appended_string_has_its_quotes)
{
    struct cg_buf buf;
    cg_buf_init(&buf, 64);
    ck_assert(cg_json_append_string(&buf, CG_BYTES("a\nb")));
    ck_assert(cg_json_append_string(&buf, CG_BYTES("")));
    ck_assert_str_eq(cg_buf_str(&buf), "\"a\\nb\"\"\"");
    cg_buf_fini(&buf);
}
END_TEST

START_TEST(a_string_that_has_no_room_is_left_out_whole)
{
    struct cg_buf buf;
    cg_buf_init(&buf, 7);
    ck_assert(cg_json_append_string(&buf, CG_BYTES("a")));
    ck_assert(!cg_json_append_string(&buf, CG_BYTES("abc")));
    ck_assert(buf.failed);
    ck_assert_uint_eq(buf.len, 3);
    cg_buf_fini(&buf);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("json_write");
    tcase_add_loop_test(tests, only_quotes_backslashes_and_controls_are_escaped, 0,
                        sizeof(pairs) / sizeof(pairs[0]));
    tcase_add_test(tests, every_byte_is_seen_at_every_place);
    tcase_add_test(tests, nothing_but_the_worst_text_grows_sixfold);
    tcase_add_test(tests, an_appended_string_has_its_quotes);
    tcase_add_test(tests, a_string_that_has_no_room_is_left_out_whole);
    Suite *suite = suite_create("event/json_write");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
