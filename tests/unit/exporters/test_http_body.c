#include "exporters/http_body.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct cg_bytes pieces[] = {
    CG_BYTES("["), {0}, CG_BYTES("{\"a\":1}"), CG_BYTES(","), CG_BYTES("{}"), CG_BYTES("]"), {0},
};
static const char whole[] = "[{\"a\":1},{}]";
enum { PIECE_COUNT = sizeof(pieces) / sizeof(pieces[0]), WHOLE_BYTES = sizeof(whole) - 1 };

static void assert_reads_whole(struct cg_http_body *body, size_t room)
{
    char got[2 * WHOLE_BYTES + 1];
    size_t len = 0;
    size_t more;
    while ((more = cg_http_body_read(body, got + len, room)) > 0) {
        len += more;
        ck_assert_uint_le(len, WHOLE_BYTES);
    }
    ck_assert_uint_eq(len, WHOLE_BYTES);
    ck_assert_mem_eq(got, whole, WHOLE_BYTES);
}

START_TEST(pieces_are_one_body_whatever_the_room)
{
    for (size_t room = 1; room <= WHOLE_BYTES + 1; room++) {
        struct cg_http_body body;
        cg_http_body_init(&body, pieces, PIECE_COUNT);
        ck_assert_uint_eq(body.bytes, WHOLE_BYTES);
        assert_reads_whole(&body, room);
    }
}
END_TEST

START_TEST(a_rewound_body_is_read_again_from_its_start)
{
    struct cg_http_body body;
    cg_http_body_init(&body, pieces, PIECE_COUNT);
    for (size_t before = 0; before <= WHOLE_BYTES; before++) {
        char skipped[WHOLE_BYTES + 1];
        ck_assert_uint_eq(cg_http_body_read(&body, skipped, before), before);
        cg_http_body_rewind(&body);
        assert_reads_whole(&body, 5);
        cg_http_body_rewind(&body);
    }
}
END_TEST

START_TEST(a_body_without_bytes_is_at_its_end)
{
    struct cg_http_body body;
    char to[1];
    cg_http_body_init(&body, NULL, 0);
    ck_assert_uint_eq(body.bytes, 0);
    ck_assert_uint_eq(cg_http_body_read(&body, to, sizeof(to)), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exporters/http_body");
    TCase *tests = tcase_create("http_body");
    tcase_add_test(tests, pieces_are_one_body_whatever_the_room);
    tcase_add_test(tests, a_rewound_body_is_read_again_from_its_start);
    tcase_add_test(tests, a_body_without_bytes_is_at_its_end);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
