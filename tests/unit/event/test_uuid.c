#include "event/uuid.h"

#include <check.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LEN = 36, MANY = 20000 };

static struct cg_uuid_source source;

static const char *next(uint64_t realtime_ns)
{
    static char text[TEXT_LEN + 1];
    memset(text, '#', sizeof(text));
    cg_uuid_next(&source, realtime_ns, text);
    ck_assert_int_eq(text[TEXT_LEN], '#');
    text[TEXT_LEN] = '\0';
    return text;
}

START_TEST(the_text_is_a_version_7_uuid_in_lower_case)
{
    for (int i = 0; i < MANY; i++) {
        const char *text = next(UINT64_C(1795431600123456789));
        for (int at = 0; at < TEXT_LEN; at++) {
            bool dash = at == 8 || at == 13 || at == 18 || at == 23;
            ck_assert(dash ? text[at] == '-'
                           : isdigit(text[at]) || (text[at] >= 'a' && text[at] <= 'f'));
        }
        ck_assert_int_eq(text[14], '7');
        ck_assert_ptr_nonnull(strchr("89ab", text[19]));
    }
}
END_TEST

START_TEST(it_begins_with_the_milliseconds)
{
    ck_assert_int_eq(strncmp(next(0), "00000000-0000-7", 15), 0);
    ck_assert_int_eq(strncmp(next(999999), "00000000-0000-7", 15), 0);
    ck_assert_int_eq(strncmp(next(1000000), "00000000-0001-7", 15), 0);
    /* the example of RFC 9562, appendix A.6 */
    ck_assert_int_eq(strncmp(next(UINT64_C(1645557742000000000)), "017f22e2-79b0-7", 15), 0);
    ck_assert_int_eq(strncmp(next(UINT64_MAX), "10c6f7a0-b5ed-7", 15), 0);
}
END_TEST

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

START_TEST(none_repeats_over_many_blocks)
{
    static char texts[MANY][TEXT_LEN + 1];
    for (int i = 0; i < MANY; i++) {
        memcpy(texts[i], next(0), sizeof(texts[i]));
    }
    qsort(texts, MANY, sizeof(texts[0]), compare);
    for (int i = 1; i < MANY; i++) {
        ck_assert_str_ne(texts[i - 1], texts[i]);
    }
}
END_TEST

START_TEST(every_random_bit_takes_both_values)
{
    /* 74 bits; that one of them stays the same 200 times happens once in 10^58 runs */
    unsigned ones[TEXT_LEN] = {0}, zeros[TEXT_LEN] = {0};
    for (int i = 0; i < 200; i++) {
        const char *text = next(0);
        for (int at = 0; at < TEXT_LEN; at++) {
            unsigned value = (unsigned)strtoul((char[]){text[at], '\0'}, NULL, 16);
            ones[at] |= value;
            zeros[at] |= ~value & 15;
        }
    }
    for (int at = 15; at < TEXT_LEN; at++) {
        if (at == 18 || at == 23) {
            continue;
        }
        ck_assert_uint_eq(ones[at], at == 19 ? 11 : 15);
        ck_assert_uint_eq(zeros[at], at == 19 ? 7 : 15);
    }
}
END_TEST

START_TEST(what_was_handed_out_is_wiped)
{
    (void)next(0);
    ck_assert_uint_gt(source.used, 0);
    for (size_t i = 0; i < source.used; i++) {
        ck_assert_uint_eq(source.block[i], 0);
    }
}
END_TEST

static void set_up(void)
{
    cg_uuid_source_init(&source);
}

int main(void)
{
    TCase *tests = tcase_create("uuid");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, the_text_is_a_version_7_uuid_in_lower_case);
    tcase_add_test(tests, it_begins_with_the_milliseconds);
    tcase_add_test(tests, none_repeats_over_many_blocks);
    tcase_add_test(tests, every_random_bit_takes_both_values);
    tcase_add_test(tests, what_was_handed_out_is_wiped);
    Suite *suite = suite_create("event/uuid");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
