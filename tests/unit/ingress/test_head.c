#include "ingress/head.h"

#include <check.h>
#include <stdlib.h>

enum { TAIL_BYTES = 300 };

static void assert_same(struct cg_bytes input)
{
    struct cg_head quick;
    struct cg_head full;
    size_t quick_size = cg_head_read_short(input, &quick);
    if (quick_size == 0) {
        return; /* left to the library */
    }
    ck_assert_uint_eq(quick_size, cg_head_read_any(input, &full));
    ck_assert_int_eq(quick.kind, full.kind);
    if (quick.kind == CG_HEAD_TEXT) {
        ck_assert_ptr_eq(quick.content.data, full.content.data);
        ck_assert_uint_eq(quick.content.len, full.content.len);
    } else {
        ck_assert_uint_eq(quick.value, full.value);
    }
}

START_TEST(heads_read_in_place_are_as_the_library_reads_them)
{
    char input[TAIL_BYTES] = {0};
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            input[0] = (char)first;
            input[1] = (char)second;
            for (size_t length = 0; length < sizeof(input); length = length * 2 + 1) {
                assert_same(cg_bytes(input, length));
            }
            assert_same(cg_bytes(input, sizeof(input)));
        }
    }
}
END_TEST

START_TEST(ordinary_heads_are_read_in_place)
{
    struct cg_head head;
    ck_assert_uint_eq(cg_head_read_short(CG_BYTES("\x17\0"), &head), 1);
    ck_assert_uint_eq(cg_head_read_short(CG_BYTES("\x18\xFF"), &head), 2);
    ck_assert_uint_eq(cg_head_read_short(CG_BYTES("\x63"
                                                  "abc"),
                                         &head),
                      4);
    ck_assert_uint_eq(cg_head_read_short(CG_BYTES("\x78\x03"
                                                  "abc"),
                                         &head),
                      5);
    ck_assert_uint_eq(cg_head_read_short(CG_BYTES("\x78\x04"
                                                  "abc"),
                                         &head),
                      0);
    ck_assert_uint_eq(cg_head_read_short(CG_BYTES("\x19\0\0"), &head), 0);
}
END_TEST

/* The initial bytes that begin no item (RFC 8949 section 3, and simple values not assigned). */
static bool is_reserved(unsigned initial)
{
    unsigned major = initial >> 5;
    unsigned info = initial & 31;
    if (info >= 28 && info <= 30) {
        return true;
    }
    if (info == 31) {
        return major == 0 || major == 1 || major == 6;
    }
    return major == 7 && (info < 20 || info == 24);
}

START_TEST(every_initial_byte_begins_an_item_or_is_reserved)
{
    for (unsigned initial = 0; initial < 256; initial++) {
        char input[TAIL_BYTES] = {(char)initial};
        struct cg_head head;
        size_t size = cg_head_read(cg_bytes(input, sizeof(input)), &head);
        ck_assert_msg((size == 0) == is_reserved(initial), "%02X", initial);
    }
}
END_TEST

START_TEST(simple_values_in_two_bytes_are_false_to_undefined)
{
    for (unsigned value = 0; value < 256; value++) {
        char input[2] = {(char)0xF8, (char)value};
        struct cg_head head;
        size_t size = cg_head_read(cg_bytes(input, sizeof(input)), &head);
        ck_assert_uint_eq(size, value >= 20 && value <= 23 ? 2 : 0);
        ck_assert(size == 0 || head.kind == CG_HEAD_SIMPLE);
    }
}
END_TEST

START_TEST(tags_have_their_numbers_in_every_width)
{
    struct cg_head head;
    for (unsigned number = 0; number < 24; number++) {
        char input[1] = {(char)(0xC0 | number)};
        ck_assert_uint_eq(cg_head_read(cg_bytes(input, 1), &head), 1);
        ck_assert_int_eq(head.kind, CG_HEAD_TAG);
        ck_assert_uint_eq(head.value, number);
    }
    ck_assert_uint_eq(cg_head_read(CG_BYTES("\xD8\x02"), &head), 2);
    ck_assert_uint_eq(head.value, 2);
    ck_assert_uint_eq(cg_head_read(CG_BYTES("\xDB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), &head), 9);
    ck_assert_uint_eq(head.value, UINT64_MAX);
}
END_TEST

START_TEST(lengths_near_two_to_the_sixty_fourth_do_not_wrap)
{
    struct cg_head head;
    for (unsigned low = 0xF0; low <= 0xFF; low++) {
        char input[32] = {0x7B, -1, -1, -1, -1, -1, -1, -1, (char)low};
        ck_assert_uint_eq(cg_head_read(cg_bytes(input, sizeof(input)), &head), 0);
        input[0] = 0x5B;
        ck_assert_uint_eq(cg_head_read(cg_bytes(input, sizeof(input)), &head), 0);
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("head");
    tcase_add_test(tests, heads_read_in_place_are_as_the_library_reads_them);
    tcase_add_test(tests, ordinary_heads_are_read_in_place);
    tcase_add_test(tests, every_initial_byte_begins_an_item_or_is_reserved);
    tcase_add_test(tests, simple_values_in_two_bytes_are_false_to_undefined);
    tcase_add_test(tests, tags_have_their_numbers_in_every_width);
    tcase_add_test(tests, lengths_near_two_to_the_sixty_fourth_do_not_wrap);
    Suite *suite = suite_create("ingress/head");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
