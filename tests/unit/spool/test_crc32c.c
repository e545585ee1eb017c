/* test_crc32c.c - the checksum against published values and against its plain form. */
#include "spool/crc32c.h"

#include <check.h>
#include <stdlib.h>

START_TEST(published_values_come_out)
{
    unsigned char bytes[32];
    ck_assert_uint_eq(cg_crc32c(0, "123456789", 9), 0xe3069283); /* the usual check value */
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = 0;
    }
    ck_assert_uint_eq(cg_crc32c(0, bytes, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = 0xff;
    }
    ck_assert_uint_eq(cg_crc32c(0, bytes, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)i;
    }
    ck_assert_uint_eq(cg_crc32c(0, bytes, 32), 0x46dd794e);
    ck_assert_uint_eq(cg_crc32c_portable(0, bytes, 32), 0x46dd794e);
}
END_TEST

START_TEST(every_length_and_alignment_agrees_with_the_plain_form)
{
    enum { LEN = 14000 };
    unsigned char *bytes = malloc(LEN + 8);
    ck_assert_ptr_nonnull(bytes);
    uint32_t state = 1;
    for (size_t i = 0; i < LEN + 8; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(state >> 24);
    }
    for (size_t len = 0; len < LEN; len = len < 1500 ? len + 1 : len + 611) {
        size_t at = len % 8;
        ck_assert_uint_eq(cg_crc32c(7, bytes + at, len), cg_crc32c_portable(7, bytes + at, len));
    }
    free(bytes);
}
END_TEST

START_TEST(a_checksum_can_be_extended)
{
    static const char text[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    for (size_t cut = 0; cut < sizeof(text); cut++) {
        uint32_t crc = cg_crc32c(0, text, cut);
        ck_assert_uint_eq(cg_crc32c(crc, text + cut, sizeof(text) - cut),
                          cg_crc32c(0, text, sizeof(text)));
    }
    const uint64_t words[2] = {UINT64_C(0x0123456789abcdef), 42};
    ck_assert_uint_eq(cg_crc32c_u64x2(99, words[0], words[1]),
                      cg_crc32c_portable(99, words, sizeof(words)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crc32c");
    TCase *tcase = tcase_create("crc32c");
    tcase_add_test(tcase, published_values_come_out);
    tcase_add_test(tcase, every_length_and_alignment_agrees_with_the_plain_form);
    tcase_add_test(tcase, a_checksum_can_be_extended);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
