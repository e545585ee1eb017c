#include "event/render.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_number(uint64_t number)
{
    char got[20 + CG_RENDER_SLACK], expected[32];
    size_t len = (size_t)snprintf(expected, sizeof(expected), "%" PRIu64, number);
    memset(got, '#', sizeof(got));
    char *end = cg_render_u64(got, number);
    ck_assert_uint_eq((size_t)(end - got), len);
    ck_assert_msg(memcmp(got, expected, len) == 0, "%s: %.*s", expected, (int)len, got);
}

START_TEST(numbers_are_written_as_by_printf)
{
    for (uint64_t number = 0; number < 20000; number++) {
        assert_number(number);
    }
    /* around every power of ten and of two, and a walk over the whole range */
    for (uint64_t power = 1; power <= UINT64_MAX / 10; power *= 10) {
        for (uint64_t number = power * 10 - 3; number != power * 10 + 4; number++) {
            assert_number(number);
            assert_number(number - 1 + power);
        }
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_number((UINT64_C(1) << bit) - 1);
        assert_number(UINT64_MAX - (UINT64_C(1) << bit));
    }
    uint64_t walk = 88172645463325252;
    for (int i = 0; i < 50000; i++) {
        walk ^= walk << 13;
        walk ^= walk >> 7;
        walk ^= walk << 17;
        assert_number(walk >> (i % 64));
    }
    assert_number(UINT64_MAX);
}
END_TEST

START_TEST(eight_digits_keep_their_zeros)
{
    for (uint32_t number = 0; number < 100000000; number += number < 20000 ? 1 : 79193) {
        char got[8], expected[16];
        (void)snprintf(expected, sizeof(expected), "%08" PRIu32, number);
        ck_assert_ptr_eq(cg_render_eight(got, number), got + 8);
        ck_assert_mem_eq(got, expected, 8);
    }
}
END_TEST

START_TEST(bytes_of_every_length_are_copied_and_nothing_beyond)
{
    char from[100], to[120];
    for (size_t i = 0; i < sizeof(from); i++) {
        from[i] = (char)('0' + i);
    }
    for (size_t len = 0; len <= sizeof(from); len++) {
        memset(to, '#', sizeof(to));
        char *source = malloc(len + 1); /* so that reading beyond is seen */
        ck_assert_ptr_nonnull(source);
        memcpy(source, from, len);
        source = realloc(source, len > 0 ? len : 1);
        ck_assert_ptr_nonnull(source);
        ck_assert_ptr_eq(cg_render_bytes(to, cg_bytes(source, len)), to + len);
        ck_assert_int_eq(memcmp(to, from, len), 0);
        for (size_t i = len; i < sizeof(to); i++) {
            ck_assert_int_eq(to[i], '#');
        }
        free(source);
    }
    ck_assert_ptr_eq(cg_render_bytes(to, (struct cg_bytes){0}), to);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("render");
    tcase_add_test(tests, numbers_are_written_as_by_printf);
    tcase_add_test(tests, eight_digits_keep_their_zeros);
    tcase_add_test(tests, bytes_of_every_length_are_copied_and_nothing_beyond);
    tcase_set_timeout(tests, 60);
    Suite *suite = suite_create("event/render");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
