#include "base/file.h"
#include "cellgate/cleanup.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LONG_LINE_BYTES = 10000 }; /* more than is read at once */

static int file_of(const char *text)
{
    int fd = memfd_create("lines", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert(cg_file_write_all(fd, cg_bytes_str(text), NULL));
    return fd;
}

static off_t lines_end(const char *text)
{
    cg_auto_close int fd = file_of(text);
    off_t end = -1;
    ck_assert(cg_file_lines_end(fd, (off_t)strlen(text), LONG_LINE_BYTES, &end, NULL));
    return end;
}

START_TEST(whole_lines_end_where_the_file_ends)
{
    ck_assert_int_eq(lines_end(""), 0);
    ck_assert_int_eq(lines_end("\n"), 1);
    ck_assert_int_eq(lines_end("one\ntwo\n"), 8);
}
END_TEST

START_TEST(an_unfinished_line_is_behind_the_end)
{
    ck_assert_int_eq(lines_end("one\ntw"), 4);
    ck_assert_int_eq(lines_end("on"), 0);
}
END_TEST

START_TEST(a_long_unfinished_line_is_passed_piece_by_piece)
{
    char text[LONG_LINE_BYTES + 1];
    memset(text, 'x', LONG_LINE_BYTES);
    text[LONG_LINE_BYTES] = '\0';
    ck_assert_int_eq(lines_end(text), 0);
    for (size_t at = 0; at < LONG_LINE_BYTES; at += 97) {
        text[at] = '\n';
        ck_assert_int_eq(lines_end(text), (off_t)at + 1);
        text[at] = 'x';
        if (at > 0) {
            text[0] = '\n';
            ck_assert_int_eq(lines_end(text), 1);
            text[0] = 'x';
        }
    }
}
END_TEST

START_TEST(only_the_first_bytes_are_looked_at)
{
    cg_auto_close int fd = file_of("one\ntwo\n");
    off_t end = -1;
    ck_assert(cg_file_lines_end(fd, 7, 3, &end, NULL));
    ck_assert_int_eq(end, 4);
}
END_TEST

START_TEST(a_line_longer_than_allowed_fails_early_or_late)
{
    static const struct {
        const char *text;
        off_t line_bytes_max;
        bool found;
    } cases[] = {
        {"one\ntwo", 3, true}, {"one\ntwo", 2, false}, {"two", 3, true}, {"two", 2, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cg_auto_close int fd = file_of(cases[i].text);
        off_t end;
        ck_assert(cg_file_lines_end(fd, (off_t)strlen(cases[i].text), cases[i].line_bytes_max, &end,
                                    NULL) == cases[i].found);
    }
    /* A hole of a terabyte would take minutes to read. */
    cg_auto_close int fd = file_of("line\n");
    ck_assert_int_eq(ftruncate(fd, (off_t)1 << 40), 0);
    off_t end;
    ck_assert(!cg_file_lines_end(fd, (off_t)1 << 40, LONG_LINE_BYTES, &end, NULL));
}
END_TEST

START_TEST(a_file_that_became_shorter_fails_and_tells)
{
    cg_auto_close int fd = file_of("one");
    struct cg_error err = {0};
    off_t end = -1;
    ck_assert(!cg_file_lines_end(fd, 4, 4, &end, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "read"));
    ck_assert_int_eq(end, -1);
}
END_TEST

START_TEST(a_write_that_cannot_be_finished_tells_why)
{
    cg_auto_close int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    struct cg_error err = {0};
    ck_assert(!cg_file_write_all(fd, CG_BYTES("x"), &err));
    ck_assert_ptr_nonnull(strstr(err.text, strerror(ENOSPC)));
}
END_TEST

START_TEST(the_directory_of_a_path_is_what_is_synced)
{
    char directory[] = "/tmp/cellgate-file-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(directory));
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/not-made-yet", directory);
    ck_assert(cg_file_sync_directory(path, NULL));
    ck_assert(cg_file_sync_directory("no-slash", NULL));
    ck_assert_int_eq(rmdir(directory), 0);
    struct cg_error err = {0};
    ck_assert(!cg_file_sync_directory(path, &err));
    ck_assert_ptr_nonnull(strstr(err.text, directory));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/file");
    TCase *tests = tcase_create("file");
    tcase_add_test(tests, whole_lines_end_where_the_file_ends);
    tcase_add_test(tests, an_unfinished_line_is_behind_the_end);
    tcase_add_test(tests, a_long_unfinished_line_is_passed_piece_by_piece);
    tcase_add_test(tests, only_the_first_bytes_are_looked_at);
    tcase_add_test(tests, a_line_longer_than_allowed_fails_early_or_late);
    tcase_add_test(tests, a_file_that_became_shorter_fails_and_tells);
    tcase_add_test(tests, a_write_that_cannot_be_finished_tells_why);
    tcase_add_test(tests, the_directory_of_a_path_is_what_is_synced);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
