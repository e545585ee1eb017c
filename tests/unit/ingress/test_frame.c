#include "ingress/frame.h"

#include "cellgate/limits.h"

#include <check.h>
#include <stdlib.h>

static char stream[CG_FRAME_PREFIX_BYTES + CG_FRAME_BODY_BYTES_MAX + 8];

static const struct {
    struct cg_bytes stream;
    enum cg_frame_result result;
    size_t number; /* WHOLE: the body's length; PARTIAL: the bytes needed */
} cases[] = {
    {CG_BYTES(""), CG_FRAME_PARTIAL, 4},
    {CG_BYTES("\x01"), CG_FRAME_PARTIAL, 4},
    {CG_BYTES("\x01\0\0"), CG_FRAME_PARTIAL, 4},
    {CG_BYTES("\x01\0\0\0"), CG_FRAME_PARTIAL, 5},
    {CG_BYTES("\x01\0\0\0a"), CG_FRAME_WHOLE, 1},
    {CG_BYTES("\x01\0\0\0ab"), CG_FRAME_WHOLE, 1},
    {CG_BYTES("\x03\0\0\0ab"), CG_FRAME_PARTIAL, 7},
    {CG_BYTES("\x03\0\0\0abc\x01\0"), CG_FRAME_WHOLE, 3},
    {CG_BYTES("\0\0\x01\0"), CG_FRAME_PARTIAL, 65540},
    {CG_BYTES("\x01\0\x01\0"), CG_FRAME_BAD_LENGTH, 0},
    {CG_BYTES("\0\0\0\0"), CG_FRAME_BAD_LENGTH, 0},
    {CG_BYTES("\0\0\0\0abcd"), CG_FRAME_BAD_LENGTH, 0},
    {CG_BYTES("\0\0\0\x01"), CG_FRAME_BAD_LENGTH, 0},
    {CG_BYTES("\0\0\0\x80"), CG_FRAME_BAD_LENGTH, 0},
    {CG_BYTES("\xFF\xFF\xFF\xFF"), CG_FRAME_BAD_LENGTH, 0},
};

START_TEST(the_front_of_a_stream_is_judged_by_its_prefix)
{
    struct cg_bytes body = {0};
    size_t needed = 0;
    ck_assert_int_eq(cg_frame_next(cases[_i].stream, &body, &needed), cases[_i].result);
    if (cases[_i].result == CG_FRAME_WHOLE) {
        ck_assert_ptr_eq(body.data, cases[_i].stream.data + CG_FRAME_PREFIX_BYTES);
        ck_assert_uint_eq(body.len, cases[_i].number);
    } else if (cases[_i].result == CG_FRAME_PARTIAL) {
        ck_assert_uint_eq(needed, cases[_i].number);
    }
}
END_TEST

START_TEST(only_the_output_of_the_result_is_set)
{
    struct cg_bytes body = CG_BYTES("untouched");
    size_t needed = 17;
    ck_assert_int_eq(cg_frame_next(CG_BYTES("\x02\0\0\0ab"), &body, &needed), CG_FRAME_WHOLE);
    ck_assert_uint_eq(needed, 17);
    body = CG_BYTES("untouched");
    ck_assert_int_eq(cg_frame_next(CG_BYTES("\x02\0\0\0a"), &body, &needed), CG_FRAME_PARTIAL);
    ck_assert(cg_bytes_equal(body, CG_BYTES("untouched")));
    needed = 17;
    ck_assert_int_eq(cg_frame_next(CG_BYTES("\0\0\0\0"), &body, &needed), CG_FRAME_BAD_LENGTH);
    ck_assert(cg_bytes_equal(body, CG_BYTES("untouched")));
    ck_assert_uint_eq(needed, 17);
}
END_TEST

START_TEST(the_longest_body_is_65536_bytes)
{
    struct cg_bytes body;
    size_t needed;
    memcpy(stream, "\0\0\x01\0", CG_FRAME_PREFIX_BYTES);
    ck_assert_int_eq(cg_frame_next(cg_bytes(stream, sizeof(stream)), &body, &needed),
                     CG_FRAME_WHOLE);
    ck_assert_uint_eq(body.len, CG_FRAME_BODY_BYTES_MAX);
    size_t whole = CG_FRAME_PREFIX_BYTES + CG_FRAME_BODY_BYTES_MAX;
    ck_assert_int_eq(cg_frame_next(cg_bytes(stream, whole), &body, &needed), CG_FRAME_WHOLE);
    ck_assert_int_eq(cg_frame_next(cg_bytes(stream, whole - 1), &body, &needed), CG_FRAME_PARTIAL);
    ck_assert_uint_eq(needed, whole);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("frame");
    tcase_add_loop_test(tests, the_front_of_a_stream_is_judged_by_its_prefix, 0,
                        sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(tests, only_the_output_of_the_result_is_set);
    tcase_add_test(tests, the_longest_body_is_65536_bytes);
    Suite *suite = suite_create("ingress/frame");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
