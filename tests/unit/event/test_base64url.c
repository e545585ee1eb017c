#include "event/base64url.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *bytes;
    const char *text;
} pairs[] = {
    {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
    {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "-_-_"},
};

START_TEST(bytes_become_the_text_and_come_back)
{
    char text[32];
    uint8_t bytes[32];
    size_t len = strlen(pairs[_i].bytes);
    ck_assert_uint_eq(cg_base64url_encode(cg_bytes(pairs[_i].bytes, len), text),
                      strlen(pairs[_i].text));
    ck_assert_int_eq(strncmp(text, pairs[_i].text, strlen(pairs[_i].text)), 0);
    ck_assert_uint_eq(CG_BASE64URL_LEN(len), strlen(pairs[_i].text));
    size_t got = SIZE_MAX;
    ck_assert(cg_base64url_decode(cg_bytes_str(pairs[_i].text), bytes, len, &got));
    ck_assert_uint_eq(got, len);
    ck_assert(len == 0 || memcmp(bytes, pairs[_i].bytes, len) == 0);
}
END_TEST

START_TEST(every_byte_at_every_place_comes_back)
{
    for (unsigned value = 0; value < 256; value++) {
        for (size_t at = 0; at < 5; at++) {
            uint8_t bytes[5] = {1, 2, 3, 4, 5}, back[5];
            char text[7];
            size_t len;
            bytes[at] = (uint8_t)value;
            ck_assert_uint_eq(cg_base64url_encode(cg_bytes(bytes, 5), text), 7);
            ck_assert(cg_base64url_decode(cg_bytes(text, 7), back, 5, &len));
            ck_assert_mem_eq(bytes, back, 5);
        }
    }
}
END_TEST

static const char *const padded[] = {"Zg=", "Zg==", "Zg======", "Zm9v=", "Zm9v===="};

START_TEST(padding_is_dropped_however_much)
{
    uint8_t bytes[8];
    size_t len;
    ck_assert(cg_base64url_decode(cg_bytes_str(padded[_i]), bytes, sizeof(bytes), &len));
    ck_assert_int_eq(bytes[0], 'f');
}
END_TEST

static const char *const refused[] = {
    "A",     "AAAAA",   "Zh",   "Zm9=x", "Zm+v", "Zm/v", "Zm 9v", " Zm9v", "Zm9v\n", "=Zm9v",
    "Z===m", "Zm8\x80", "Zm8@", "Zm8[",  "Zm8`", "Zm8{", "Zm8:",  "Zm8.",  "Zn9",
};

START_TEST(any_other_text_is_refused_and_leaves_nothing)
{
    uint8_t bytes[16];
    memset(bytes, 0, sizeof(bytes));
    size_t len = 77;
    ck_assert(!cg_base64url_decode(cg_bytes_str(refused[_i]), bytes, sizeof(bytes), &len));
    ck_assert_uint_eq(len, 77);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        ck_assert_uint_eq(bytes[i], 0);
    }
}
END_TEST

START_TEST(what_has_no_room_is_refused)
{
    uint8_t bytes[3];
    size_t len;
    ck_assert(!cg_base64url_decode(CG_BYTES("Zm9vYg"), bytes, 3, &len));
    ck_assert(cg_base64url_decode(CG_BYTES("Zm9v"), bytes, 3, &len));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("base64url");
    tcase_add_loop_test(tests, bytes_become_the_text_and_come_back, 0,
                        sizeof(pairs) / sizeof(pairs[0]));
    tcase_add_test(tests, every_byte_at_every_place_comes_back);
    tcase_add_loop_test(tests, padding_is_dropped_however_much, 0,
                        sizeof(padded) / sizeof(padded[0]));
    tcase_add_loop_test(tests, any_other_text_is_refused_and_leaves_nothing, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, what_has_no_room_is_refused);
    Suite *suite = suite_create("event/base64url");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
