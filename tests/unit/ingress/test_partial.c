#include "ingress/partial.h"

#include <check.h>
#include <stdlib.h>

static struct cg_partials partials;

static void set_up(void)
{
    cg_partials_init(&partials);
}

START_TEST(a_frame_grows_byte_by_byte_and_keeps_what_it_has)
{
    enum { FRAME = 5000 };
    struct cg_partial *held = NULL;
    uint64_t grown = 0;
    for (size_t i = 0; i < FRAME - 1; i++) {
        char byte = (char)(i % 251);
        size_t more = cg_partial_append(&partials, &held, NULL, cg_bytes(&byte, 1), FRAME, i);
        ck_assert_uint_ne(more, SIZE_MAX);
        grown += more;
        ck_assert_uint_le(held->cap, FRAME);
        ck_assert(held->cap <= 64 || held->cap < 2 * held->len);
    }
    ck_assert_uint_eq(partials.bytes, grown);
    ck_assert_uint_eq(held->begun_ns, 0);
    for (size_t i = 0; i < FRAME - 1; i++) {
        ck_assert_int_eq(held->bytes[i], (char)(i % 251));
    }
    ck_assert_uint_eq(cg_partial_drop(&partials, &held), grown);
    ck_assert_uint_eq(partials.bytes, 0);
    ck_assert_ptr_null(held);
    ck_assert_ptr_null(cg_partial_oldest(&partials));
}
END_TEST

START_TEST(the_oldest_is_the_one_begun_first_also_when_it_grows)
{
    struct cg_partial *first = NULL;
    struct cg_partial *second = NULL;
    static const char bytes[1000];
    ck_assert_uint_eq(cg_partial_append(&partials, &first, NULL, cg_bytes(bytes, 3), 4, 1), 4);
    ck_assert_uint_eq(cg_partial_append(&partials, &second, NULL, cg_bytes(bytes, 65), 5000, 2),
                      128);
    ck_assert_uint_gt(cg_partial_append(&partials, &first, NULL, cg_bytes(bytes, 1000), 5000, 3),
                      0);
    ck_assert_ptr_eq(cg_partial_oldest(&partials), first);
    ck_assert_uint_eq(first->begun_ns, 1);

    cg_partial_renew(&partials, first, 4);
    ck_assert_ptr_eq(cg_partial_oldest(&partials), second);
    (void)cg_partial_drop(&partials, &second);
    ck_assert_ptr_eq(cg_partial_oldest(&partials), first);
    ck_assert_uint_eq(first->begun_ns, 4);
    (void)cg_partial_drop(&partials, &first);
}
END_TEST

START_TEST(dropping_nothing_is_nothing)
{
    struct cg_partial *held = NULL;
    ck_assert_uint_eq(cg_partial_drop(&partials, &held), 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("partial");
    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, a_frame_grows_byte_by_byte_and_keeps_what_it_has);
    tcase_add_test(tcase, the_oldest_is_the_one_begun_first_also_when_it_grows);
    tcase_add_test(tcase, dropping_nothing_is_nothing);
    Suite *suite = suite_create("partial");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
