#include "cellgate/cleanup.h"
#include "cellgate/exporter.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern const struct cg_exporter_ops cg_exporter_jsonl;

static const struct cg_exporter_ops *const ops = &cg_exporter_jsonl;
static char directory[64];
static char path[96];
static void *config;
static void *exporter;

/* The member that an option fills, found as the configuration finds it: by the table. */
static void *member(const char *section, const char *key)
{
    const struct cg_option *table = ops->options;
    char *at = config;
    for (const char *name = section != NULL ? section : key; name != NULL;) {
        while (table->key != NULL && strcmp(table->key, name) != 0) {
            table++;
        }
        ck_assert_ptr_nonnull(table->key);
        at += table->offset;
        name = name == section && section != NULL ? key : NULL;
        if (name != NULL) {
            table = table->fields;
        }
    }
    return at;
}

static void set_u64(const char *section, const char *key, uint64_t value)
{
    memcpy(member(section, key), &value, sizeof(value));
}

static void set_path(const char *value)
{
    memcpy(member(NULL, "path"), &value, sizeof(value));
}

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(directory, sizeof(directory), "/tmp/cellgate-jsonl-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    (void)snprintf(path, sizeof(path), "%s/events.jsonl", directory);
    config = calloc(1, ops->config_size);
    ck_assert_ptr_nonnull(config);
    bool sync = true;
    set_path(path);
    memcpy(member(NULL, "sync"), &sync, sizeof(sync));
    set_u64(NULL, "mode", 0640);
    set_u64("rotate", "keep", 2);
}

static void teardown(void)
{
    if (exporter != NULL) {
        ops->close(exporter);
    }
    free(config);
    char name[160];
    for (unsigned i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof(name), "%s.%u", path, i);
        (void)unlink(name);
    }
    (void)unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static bool try_open(struct cg_error *err)
{
    const struct cg_exporter_env env = {.name = "local", .node = "n", .version = "0"};
    return ops->open(config, &env, &exporter, err);
}

static void open_exporter(void)
{
    struct cg_error err = {0};
    ck_assert_msg(try_open(&err), "%s", err.text);
}

static struct cg_verdict deliver(const char *const *texts, size_t count)
{
    struct cg_event events[16] = {0};
    struct cg_batch batch = {.events = events, .count = count};
    for (size_t i = 0; i < count; i++) {
        events[i].bytes = cg_bytes_str(texts[i]);
        batch.bytes += events[i].bytes.len;
    }
    struct cg_verdict verdict = {0};
    ops->deliver(exporter, &batch, &verdict);
    return verdict;
}

static void deliver_one(const char *text)
{
    struct cg_verdict verdict = deliver(&text, 1);
    ck_assert_msg(verdict.kind == CG_VERDICT_DELIVERED, "%s", verdict.detail);
}

static const char *contents(const char *name)
{
    static char text[1 << 16];
    cg_auto_fclose FILE *file = fopen(name, "re");
    if (file == NULL) {
        return NULL;
    }
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    return text;
}

static const char *rotated(unsigned k)
{
    char name[160];
    (void)snprintf(name, sizeof(name), "%s.%u", path, k);
    return contents(name);
}

static void write_file(const char *text)
{
    cg_auto_fclose FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
}

/* --- files --- */

START_TEST(each_event_is_a_line_in_order)
{
    open_exporter();
    const char *texts[] = {"{\"a\":1}", "{\"b\":2}", "{\"c\":3}"};
    ck_assert_int_eq(deliver(texts, 3).kind, CG_VERDICT_DELIVERED);
    deliver_one("{\"d\":4}");
    ck_assert_str_eq(contents(path), "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\":4}\n");
}
END_TEST

START_TEST(a_batch_larger_than_the_chunk_is_written_whole)
{
    enum { COUNT = 100, LEN = 65000 };
    static char text[LEN];
    static struct cg_event events[COUNT];
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < COUNT; i++) {
        events[i].bytes = cg_bytes(text, LEN - i);
    }
    open_exporter();
    struct cg_verdict verdict = {0};
    ops->deliver(exporter, &(struct cg_batch){events, COUNT, COUNT * LEN}, &verdict);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_DELIVERED);
    cg_auto_fclose FILE *file = fopen(path, "re");
    static char line[LEN + 2];
    for (size_t i = 0; i < COUNT; i++) {
        ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
        ck_assert_uint_eq(strlen(line), LEN - i + 1);
    }
    ck_assert_int_eq(fgetc(file), EOF);
}
END_TEST

START_TEST(a_new_file_gets_its_mode_whatever_the_umask)
{
    struct stat st;
    mode_t before = umask(0777);
    open_exporter();
    umask(before);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
}
END_TEST

START_TEST(an_unfinished_line_is_cut_off_at_open)
{
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"{\"a\":1}\n{\"b\":", "{\"a\":1}\n{}\n"},
        {"{\"a\":1}\n", "{\"a\":1}\n{}\n"},
        {"{\"a\"", "{}\n"},
        {"", "{}\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_file(cases[i].before);
        open_exporter();
        deliver_one("{}");
        ops->close(exporter);
        exporter = NULL;
        ck_assert_str_eq(contents(path), cases[i].after);
    }
}
END_TEST

START_TEST(a_file_that_is_not_ours_is_left_alone)
{
    struct cg_error err = {0};
    write_file("root:x:0:0\nno newline here");
    ck_assert(!try_open(&err));
    ck_assert_str_eq(contents(path), "root:x:0:0\nno newline here");
    ck_assert_ptr_nonnull(strstr(err.text, path));
}
END_TEST

START_TEST(a_symbolic_link_is_refused)
{
    struct cg_error err = {0};
    ck_assert_int_eq(symlink("/dev/null", path), 0);
    ck_assert(!try_open(&err));
}
END_TEST

START_TEST(two_writers_of_one_file_are_refused)
{
    struct cg_error err = {0};
    write_file("");
    cg_auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_assert(!try_open(&err));
    ck_assert_ptr_nonnull(strstr(err.text, "lock"));
}
END_TEST

START_TEST(a_failed_write_leaves_whole_batches_only)
{
    open_exporter();
    deliver_one("{\"first\":1}");
    /* A file-size limit in the middle of the batch stands in for a full disk. Nothing is asserted
     * while it holds: Check writes files as well. */
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const struct rlimit low = {20, limit.rlim_max};
    const char *texts[] = {"{}", "{\"second\":1234567890}"};
    int lowered = setrlimit(RLIMIT_FSIZE, &low);
    struct cg_verdict verdict = deliver(texts, 2);
    int restored = setrlimit(RLIMIT_FSIZE, &limit);

    ck_assert_int_eq(lowered, 0);
    ck_assert_int_eq(restored, 0);
    ck_assert_int_ne(verdict.kind, CG_VERDICT_DELIVERED);
    ck_assert_ptr_nonnull(strstr(verdict.detail, path));
    ck_assert_str_eq(contents(path), "{\"first\":1}\n");
    ck_assert_int_eq(deliver(texts, 2).kind, CG_VERDICT_DELIVERED);
    ck_assert_str_eq(contents(path), "{\"first\":1}\n{}\n{\"second\":1234567890}\n");
}
END_TEST

START_TEST(a_file_rotates_before_it_grows_too_large)
{
    set_u64("rotate", "bytes", 20);
    open_exporter();
    for (unsigned i = 0; i < 7; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "{\"n\":%u}", i); /* 8 bytes with its newline */
        deliver_one(text);
    }
    ck_assert_str_eq(contents(path), "{\"n\":6}\n");
    ck_assert_str_eq(rotated(1), "{\"n\":4}\n{\"n\":5}\n");
    ck_assert_str_eq(rotated(2), "{\"n\":2}\n{\"n\":3}\n");
    ck_assert_ptr_null(rotated(3));
}
END_TEST

START_TEST(a_batch_larger_than_the_limit_gets_a_file_of_its_own)
{
    set_u64("rotate", "bytes", 10);
    open_exporter();
    deliver_one("{\"large\":1234567890}");
    ck_assert_ptr_null(rotated(1));
    deliver_one("{\"large\":1234567891}");
    ck_assert_str_eq(rotated(1), "{\"large\":1234567890}\n");
    ck_assert_str_eq(contents(path), "{\"large\":1234567891}\n");
}
END_TEST

START_TEST(reopen_takes_up_a_new_file_before_the_next_batch)
{
    char moved[160];
    (void)snprintf(moved, sizeof(moved), "%s.4", path);
    open_exporter();
    deliver_one("{\"n\":1}");
    ck_assert_int_eq(rename(path, moved), 0);
    deliver_one("{\"n\":2}");
    ops->reopen(exporter);
    deliver_one("{\"n\":3}");
    ck_assert_str_eq(rotated(4), "{\"n\":1}\n{\"n\":2}\n");
    ck_assert_str_eq(contents(path), "{\"n\":3}\n");
}
END_TEST

START_TEST(a_file_that_cannot_be_reopened_holds_until_it_can)
{
    char aside[160];
    const char *text = "{}";
    (void)snprintf(aside, sizeof(aside), "%s.aside", directory);
    open_exporter();
    ck_assert_int_eq(rename(directory, aside), 0);
    ops->reopen(exporter);
    ck_assert_int_eq(deliver(&text, 1).kind, CG_VERDICT_CONFIG);
    ck_assert_int_eq(deliver(&text, 1).kind, CG_VERDICT_CONFIG);
    ck_assert_int_eq(rename(aside, directory), 0);
    deliver_one(text);
    ck_assert_str_eq(contents(path), "{}\n");
}
END_TEST

START_TEST(a_file_truncated_by_others_goes_on)
{
    open_exporter();
    deliver_one("{\"n\":1}");
    ck_assert_int_eq(truncate(path, 0), 0);
    deliver_one("{\"n\":2}");
    ck_assert_str_eq(contents(path), "{\"n\":2}\n");
}
END_TEST

/* --- streams --- */

/* Makes stdout a pipe; returns its reading end. */
static int pipe_stdout(void)
{
    int fds[2];
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(dup2(fds[1], STDOUT_FILENO), STDOUT_FILENO);
    ck_assert_int_eq(close(fds[1]), 0);
    set_path("-");
    return fds[0];
}

START_TEST(stdout_gets_lines_and_keeps_its_flags)
{
    char text[64] = {0};
    cg_auto_close int reader = pipe_stdout();
    open_exporter();
    deliver_one("{\"n\":1}");
    ck_assert_int_eq(read(reader, text, sizeof(text) - 1), 8);
    ck_assert_str_eq(text, "{\"n\":1}\n");
    ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK, 0);
}
END_TEST

START_TEST(a_closed_pipe_is_configuration_trouble)
{
    const char *text = "{}";
    int reader = pipe_stdout();
    open_exporter();
    ck_assert_int_eq(close(reader), 0);
    struct cg_verdict verdict = deliver(&text, 1);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_CONFIG);
    ck_assert_ptr_nonnull(strstr(verdict.detail, "Broken pipe"));
}
END_TEST

static struct cg_event large[64];

static void *deliver_large(void *verdict)
{
    static char text[65000];
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < 64; i++) {
        large[i].bytes = cg_bytes(text, sizeof(text));
    }
    ops->deliver(exporter, &(struct cg_batch){large, 64, 64 * sizeof(text)}, verdict);
    return NULL;
}

/* Waits until the pipe is full: the deliverer then waits in poll or is about to. */
static void wait_until_full(int reader)
{
    int held = 0;
    int size = fcntl(reader, F_GETPIPE_SZ);
    while (held < size) {
        ck_assert_int_eq(ioctl(reader, FIONREAD, &held), 0);
        sched_yield();
    }
}

START_TEST(a_reader_that_stands_still_does_not_stop_cancel)
{
    struct cg_verdict verdict = {0};
    pthread_t thread;
    cg_auto_close int reader = pipe_stdout();
    open_exporter();
    ck_assert_int_eq(pthread_create(&thread, NULL, deliver_large, &verdict), 0);
    wait_until_full(reader);
    ops->cancel(exporter);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(verdict.kind, CG_VERDICT_BACKOFF);

    const char *text = "{}";
    ck_assert_int_eq(deliver(&text, 1).kind, CG_VERDICT_BACKOFF); /* every later one, too */
}
END_TEST

START_TEST(a_fifo_gets_whole_lines_again_after_a_reader_left)
{
    char text[64] = {0};
    const char *event = "{\"n\":2}";
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(reader, 0);
    open_exporter();
    deliver_one("{\"n\":1}");
    ck_assert_int_eq(read(reader, text, sizeof(text)), 8);
    ck_assert_int_eq(close(reader), 0);
    ck_assert_int_eq(deliver(&event, 1).kind, CG_VERDICT_CONFIG);
    reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    deliver_one(event);
    ck_assert_int_eq(read(reader, text, sizeof(text) - 1), 8);
    ck_assert_str_eq(text, "{\"n\":2}\n");
    ck_assert_int_eq(close(reader), 0);
}
END_TEST

START_TEST(a_fifo_nobody_reads_is_refused_at_open)
{
    struct cg_error err = {0};
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert(!try_open(&err));
    ck_assert_ptr_nonnull(strstr(err.text, "nobody reads it"));
}
END_TEST

START_TEST(rotation_of_stdout_is_refused_by_check)
{
    struct cg_error err = {0};
    ck_assert(ops->validate(config, &err));
    set_path("-");
    ck_assert(ops->validate(config, &err));
    set_u64("rotate", "bytes", 1);
    ck_assert(!ops->validate(config, &err));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jsonl");
    TCase *tests = tcase_create("jsonl");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, each_event_is_a_line_in_order);
    tcase_add_test(tests, a_batch_larger_than_the_chunk_is_written_whole);
    tcase_add_test(tests, a_new_file_gets_its_mode_whatever_the_umask);
    tcase_add_test(tests, an_unfinished_line_is_cut_off_at_open);
    tcase_add_test(tests, a_file_that_is_not_ours_is_left_alone);
    tcase_add_test(tests, a_symbolic_link_is_refused);
    tcase_add_test(tests, two_writers_of_one_file_are_refused);
    tcase_add_test(tests, a_failed_write_leaves_whole_batches_only);
    tcase_add_test(tests, a_file_rotates_before_it_grows_too_large);
    tcase_add_test(tests, a_batch_larger_than_the_limit_gets_a_file_of_its_own);
    tcase_add_test(tests, reopen_takes_up_a_new_file_before_the_next_batch);
    tcase_add_test(tests, a_file_that_cannot_be_reopened_holds_until_it_can);
    tcase_add_test(tests, a_file_truncated_by_others_goes_on);
    tcase_add_test(tests, stdout_gets_lines_and_keeps_its_flags);
    tcase_add_test(tests, a_closed_pipe_is_configuration_trouble);
    tcase_add_test(tests, a_reader_that_stands_still_does_not_stop_cancel);
    tcase_add_test(tests, a_fifo_gets_whole_lines_again_after_a_reader_left);
    tcase_add_test(tests, a_fifo_nobody_reads_is_refused_at_open);
    tcase_add_test(tests, rotation_of_stdout_is_refused_by_check);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
