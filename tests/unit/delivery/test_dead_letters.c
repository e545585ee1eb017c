#include "delivery/dead_letters.h"

#include "cellgate/cleanup.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char directory[64];
static char path[96];
static struct cg_dead_letters letters;

static const char event_text[] =
    "{\"id\":\"id-1\",\"data\":{\"cellId\":\"c\\\"1\",\"runId\":\"r1\"}}";

static struct cg_event make_event(void)
{
    struct cg_event event = {.index = 41, .meta.sequence = 18446744073709551615u};
    event.bytes = cg_bytes(event_text, sizeof(event_text) - 1);
    event.meta.text[CG_TEXT_ID] = (struct cg_event_span){7, 4};
    event.meta.text[CG_TEXT_CELL] = (struct cg_event_span){31, 4};
    event.meta.text[CG_TEXT_RUN] = (struct cg_event_span){46, 2};
    return event;
}

static void setup(void)
{
    (void)snprintf(directory, sizeof(directory), "/tmp/cellgate-letters-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(path, sizeof(path), "%s/central.jsonl", directory);
}

static void teardown(void)
{
    (void)unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void open_letters(void)
{
    struct cg_error err = {0};
    ck_assert_msg(cg_dead_letters_open(&letters, path, "central", &err), "%s", err.text);
}

static void keep(const char *answer, size_t answer_len)
{
    struct cg_error err = {0};
    struct cg_event event = make_event();
    struct cg_verdict verdict = {.kind = CG_VERDICT_SUSPECT, .status = 422};
    (void)snprintf(verdict.detail, sizeof(verdict.detail), "HTTP 422");
    memcpy(verdict.answer, answer, answer_len);
    verdict.answer_len = answer_len;
    ck_assert_msg(
        cg_dead_letters_keep(&letters, &event, &verdict, UINT64_C(1763895600123456789), &err), "%s",
        err.text);
}

static size_t read_file(char *text, size_t max)
{
    cg_auto_fclose FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    size_t got = fread(text, 1, max - 1, file);
    text[got] = '\0';
    return got;
}

static void write_file(const char *text)
{
    cg_auto_fclose FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
}

START_TEST(a_letter_holds_the_answer_and_the_exact_event)
{
    char text[4096];
    open_letters();
    keep("no \"such\" field\n", 16);
    cg_dead_letters_close(&letters);
    (void)read_file(text, sizeof(text));
    ck_assert_str_eq(text,
                     "{\"time\":\"2025-11-23T11:00:00.123456789Z\",\"exporter\":\"central\","
                     "\"id\":\"id-1\",\"index\":41,\"cell\":\"c\\\"1\",\"run\":\"r1\","
                     "\"sequence\":18446744073709551615,\"status\":422,\"detail\":\"HTTP 422\","
                     "\"answer\":\"no \\\"such\\\" field\\u000a\",\"event\":"
                     "{\"id\":\"id-1\",\"data\":{\"cellId\":\"c\\\"1\",\"runId\":\"r1\"}}}\n");
}
END_TEST

START_TEST(an_answer_that_is_not_utf8_is_made_safe)
{
    static const struct {
        const char *answer;
        const char *text;
    } cases[] = {
        {"caf\xc3\xa9", "\"caf\xc3\xa9\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\xc3", "\"a\xef\xbf\xbd\""},
        {"\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
        {"\x1b[2J\x7f\\", "\"\\u001b[2J\\u007f\\\\\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[4096];
        open_letters();
        keep(cases[i].answer, strlen(cases[i].answer));
        cg_dead_letters_close(&letters);
        (void)read_file(text, sizeof(text));
        ck_assert_msg(strstr(text, cases[i].text) != NULL, "%zu: %s", i, text);
        ck_assert_int_eq(unlink(path), 0);
    }
    write_file("");
}
END_TEST

START_TEST(the_worst_answer_still_fits)
{
    static char text[1 << 17];
    static char answer[CG_VERDICT_ANSWER_MAX];
    memset(answer, 1, sizeof(answer));
    open_letters();
    keep(answer, sizeof(answer));
    cg_dead_letters_close(&letters);
    ck_assert_uint_gt(read_file(text, sizeof(text)), 6 * sizeof(answer));
}
END_TEST

START_TEST(the_file_is_private_and_grows)
{
    char text[4096];
    struct stat st;
    open_letters();
    keep("a", 1);
    cg_dead_letters_close(&letters);
    open_letters();
    keep("b", 1);
    cg_dead_letters_close(&letters);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    (void)read_file(text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, "\"answer\":\"a\""));
    ck_assert_ptr_nonnull(strstr(text, "\"answer\":\"b\""));
}
END_TEST

START_TEST(an_unfinished_last_line_is_cut_off)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"a\":1}\n{\"b\":", "{\"a\":1}\n"},
        {"{\"a\":1}\n", "{\"a\":1}\n"},
        {"{\"a\"", ""},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[4096];
        write_file(cases[i].before);
        open_letters();
        cg_dead_letters_close(&letters);
        (void)read_file(text, sizeof(text));
        ck_assert_str_eq(text, cases[i].after);
    }
}
END_TEST

START_TEST(a_symbolic_link_is_refused)
{
    struct cg_error err = {0};
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert(!cg_dead_letters_open(&letters, path, "central", &err));
    ck_assert_ptr_nonnull(strstr(err.text, path));
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(a_letter_that_does_not_fit_leaves_nothing_behind)
{
    char before[4096], after[4096];
    struct cg_error err = {0};
    struct cg_event event = make_event();
    const struct cg_verdict verdict = {.kind = CG_VERDICT_SUSPECT};
    open_letters();
    keep("first", 5);
    size_t size = read_file(before, sizeof(before));

    /* A file-size limit in the middle of the next line stands in for a full disk. Nothing is
     * asserted while it holds: Check writes files as well. */
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const struct rlimit low = {size + 50, limit.rlim_max};
    int lowered = setrlimit(RLIMIT_FSIZE, &low);
    bool kept = cg_dead_letters_keep(&letters, &event, &verdict, 0, &err);
    int restored = setrlimit(RLIMIT_FSIZE, &limit);

    ck_assert_int_eq(lowered, 0);
    ck_assert_int_eq(restored, 0);
    ck_assert(!kept);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    (void)read_file(after, sizeof(after));
    ck_assert_str_eq(after, before);

    keep("second", 6);
    (void)read_file(after, sizeof(after));
    ck_assert_ptr_nonnull(strstr(after, "\"second\""));
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(a_file_that_was_moved_away_is_made_anew)
{
    char text[4096];
    open_letters();
    keep("first", 5);
    ck_assert_int_eq(unlink(path), 0);
    cg_dead_letters_reopen(&letters);
    keep("second", 6);
    (void)read_file(text, sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, "\"second\""));
    ck_assert_ptr_null(strstr(text, "\"first\""));
    cg_dead_letters_close(&letters);
}
END_TEST

START_TEST(without_a_path_nothing_is_kept_and_nothing_fails)
{
    struct cg_error err = {0};
    ck_assert(cg_dead_letters_open(&letters, NULL, "central", &err));
    keep("x", 1);
    cg_dead_letters_reopen(&letters);
    cg_dead_letters_close(&letters);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dead_letters");
    TCase *tests = tcase_create("dead_letters");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_letter_holds_the_answer_and_the_exact_event);
    tcase_add_test(tests, an_answer_that_is_not_utf8_is_made_safe);
    tcase_add_test(tests, the_worst_answer_still_fits);
    tcase_add_test(tests, the_file_is_private_and_grows);
    tcase_add_test(tests, an_unfinished_last_line_is_cut_off);
    tcase_add_test(tests, a_symbolic_link_is_refused);
    tcase_add_test(tests, a_letter_that_does_not_fit_leaves_nothing_behind);
    tcase_add_test(tests, a_file_that_was_moved_away_is_made_anew);
    tcase_add_test(tests, without_a_path_nothing_is_kept_and_nothing_fails);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
