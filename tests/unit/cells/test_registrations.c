#include "cells/registrations.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[64];
static char path[PATH_MAX];
static struct cg_error err;
static struct cg_registrations *journal;
static struct cg_registrations_found found;

static uint64_t now_ns;

static uint64_t fake_time(const struct cg_clock *clock)
{
    (void)clock;
    return now_ns;
}

static const struct cg_clock fake_clock = {.monotonic_ns = fake_time, .realtime_ns = fake_time};

static void set_up(void)
{
    now_ns = 1000 * CG_NS_PER_S;
    (void)snprintf(top, sizeof(top), "/tmp/cellgate-registrations-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    (void)snprintf(path, sizeof(path), "%s/registrations", top);
    journal = NULL;
}

static void tear_down(void)
{
    cg_registrations_close(journal);
    (void)unlink(path);
    ck_assert_int_eq(rmdir(top), 0);
}

static void reopen(void)
{
    cg_registrations_close(journal);
    journal = NULL;
    ck_assert_msg(cg_registrations_open(path, &fake_clock, &journal, &found, &err), "%s", err.text);
}

static const struct cg_pair labels[] = {{"team", "a\"b\\c"}, {"caf\xc3\xa9", ""}};

static const struct cg_probe_spec probes = {.text = {[CG_PROBE_TAP_INTERFACE] = "tap\"0"},
                                            .flush = true};

static struct cg_kept_registration registration_of(const char *cell_id, const char *run_id)
{
    return (struct cg_kept_registration){
        .spec = {.cell_id = cell_id,
                 .run_id = run_id,
                 .spec_signature_hash = "sha256:\"00\"",
                 .vsock_uds_base = "/run/vm/caf\xc3\xa9 1.vsock",
                 .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                 .labels = {labels, 2},
                 .probes = &probes,
                 .keepalive_window_ns = 12345,
                 .socket_mode = 0660,
                 .owner = {.present = true, .first = 10, .last = 11}},
        .vmm_pid = 77,
        .vmm_start_ticks = UINT64_MAX,
    };
}

static const struct cg_socket_made made = {
    .path = "/run/vm/a_9001", .temporary = ".cellgate-1", .device = 1, .inode = UINT64_MAX};

static bool put(const char *cell_id, const char *run_id)
{
    const struct cg_kept_registration registration = registration_of(cell_id, run_id);
    return cg_registrations_put(journal, &made, &registration, &err);
}

static const char *run_of(const char *cell_id)
{
    static char run_id[CG_ID_BYTES_MAX + 1];
    cg_registrations_run_of(journal, cell_id, run_id);
    return run_id;
}

static void expect_whole(void *context, const struct cg_kept_registration *got, bool ended)
{
    const struct cg_kept_registration want = registration_of("a", "r1");
    ck_assert_str_eq(got->spec.cell_id, want.spec.cell_id);
    ck_assert_str_eq(got->spec.run_id, want.spec.run_id);
    ck_assert_str_eq(got->spec.spec_signature_hash, want.spec.spec_signature_hash);
    ck_assert_str_eq(got->spec.vsock_uds_base, want.spec.vsock_uds_base);
    ck_assert_str_eq(got->spec.traceparent, want.spec.traceparent);
    ck_assert_str_eq(got->spec.probes->text[CG_PROBE_TAP_INTERFACE], "tap\"0");
    ck_assert(got->spec.probes->flush);
    ck_assert_uint_eq(got->spec.labels.count, 2);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_str_eq(got->spec.labels.items[i].key, labels[i].key);
        ck_assert_str_eq(got->spec.labels.items[i].value, labels[i].value);
    }
    ck_assert_uint_eq(got->spec.keepalive_window_ns, 12345);
    ck_assert_uint_eq(got->spec.socket_mode, 0660);
    ck_assert(got->spec.owner.present && got->spec.owner.first == 10 && got->spec.owner.last == 11);
    ck_assert_uint_eq(got->vmm_pid, 77);
    ck_assert_uint_eq(got->vmm_start_ticks, UINT64_MAX);
    *(int *)context += ended ? 100 : 1;
}

static void expect_socket(void *context, const struct cg_socket_made *got)
{
    ck_assert_str_eq(got->path, made.path);
    ck_assert_str_eq(got->temporary, made.temporary);
    ck_assert(got->device == made.device && got->inode == made.inode);
    ++*(int *)context;
}

START_TEST(what_was_put_comes_back_whole)
{
    reopen();
    ck_assert_msg(put("a", "r1"), "%s", err.text);
    for (unsigned i = 0; i < 2; i++) {
        reopen();
        ck_assert_uint_eq(found.registrations, 1);
        ck_assert_uint_eq(found.damaged_records + found.torn_bytes, 0);
        int seen = 0;
        ck_assert(cg_registrations_restore(journal, expect_whole, &seen, &err));
        ck_assert_int_eq(seen, 1);
        seen = 0;
        cg_registrations_visit_sockets(journal, expect_socket, &seen);
        ck_assert_int_eq(seen, 1);
    }
}
END_TEST

START_TEST(an_end_without_its_last_events_is_known_after_a_restart)
{
    reopen();
    ck_assert(put("a", "r1"));
    ck_assert(cg_registrations_end(journal, "a", "r1", &err));
    reopen();
    int seen = 0;
    ck_assert(cg_registrations_restore(journal, expect_whole, &seen, &err));
    ck_assert_int_eq(seen, 100);
    cg_registrations_gone(journal, "a", "r1");
    cg_registrations_unmade(journal, made.path);
    reopen();
    ck_assert_uint_eq(found.registrations + found.sockets, 0);
    ck_assert(cg_registrations_ended(journal, "a", "r1"));
    ck_assert(!cg_registrations_ended(journal, "a", "r2"));
}
END_TEST

START_TEST(another_run_of_the_cell_is_not_touched_by_the_end_of_one)
{
    reopen();
    ck_assert(put("a", "r2"));
    ck_assert(cg_registrations_end(journal, "a", "r1", &err));
    cg_registrations_gone(journal, "a", "r1");
    reopen();
    ck_assert_str_eq(run_of("a"), "r2");
}
END_TEST

START_TEST(ended_runs_are_forgotten_after_a_week_or_ten_thousand)
{
    reopen();
    ck_assert(cg_registrations_end(journal, "a", "r1", &err));
    now_ns += (uint64_t)CG_ENDED_RUN_AGE_S * CG_NS_PER_S;
    ck_assert(cg_registrations_ended(journal, "a", "r1"));
    now_ns++;
    ck_assert(!cg_registrations_ended(journal, "a", "r1"));
    reopen();
    ck_assert_uint_eq(found.ended_runs, 0);

    cg_registrations_close(journal);
    ck_assert(cg_registrations_open(NULL, &fake_clock, &journal, &found, &err));
    char run_id[32];
    for (unsigned i = 0; i <= CG_ENDED_RUNS_MAX; i++) {
        (void)snprintf(run_id, sizeof(run_id), "r%u", i);
        ck_assert(cg_registrations_end(journal, "a", run_id, &err));
    }
    ck_assert(!cg_registrations_ended(journal, "a", "r0"));
    ck_assert(cg_registrations_ended(journal, "a", "r1"));
    ck_assert(cg_registrations_ended(journal, "a", run_id));
}
END_TEST

/* --- damage --- */

static char image[65536];

static size_t make_image(void)
{
    reopen();
    ck_assert(put("a", "r1") && put("b", "r1"));
    ck_assert(cg_registrations_end(journal, "b", "r1", &err));
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, image, sizeof(image));
    ck_assert(len > 0 && (size_t)len < sizeof(image));
    return (size_t)len;
}

static void write_image(size_t len)
{
    cg_registrations_close(journal);
    journal = NULL;
    cg_auto_close int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, image, len), (ssize_t)len);
}

START_TEST(a_tail_torn_at_any_byte_is_cut)
{
    size_t len = make_image();
    size_t lines_end[16] = {0};
    size_t lines = 0;
    for (size_t i = 0; i < len; i++) {
        if (image[i] == '\n') {
            lines_end[lines++] = i + 1;
        }
    }
    ck_assert_uint_eq(lines, 6); /* format, and socket and put twice, ended */
    for (size_t cut = 0; cut <= len; cut++) {
        write_image(cut);
        reopen();
        size_t whole = 0;
        while (whole < lines && lines_end[whole] <= cut) {
            whole++;
        }
        size_t torn = cut - (whole == 0 ? 0 : lines_end[whole - 1]);
        ck_assert_uint_eq(found.torn_bytes, torn);
        ck_assert_uint_eq(found.damaged_records, 0);
        ck_assert_uint_eq(found.registrations, (size_t)(whole >= 3) + (whole >= 5));
        ck_assert_uint_eq(found.ended_runs, whole >= 6);
        ck_assert_msg(put("c", "r1"), "%s", err.text);
        reopen();
        ck_assert_uint_eq(found.torn_bytes, 0);
        ck_assert_str_eq(run_of("c"), "r1");
    }
}
END_TEST

START_TEST(a_flipped_bit_loses_one_record_or_joins_two_and_is_reported)
{
    size_t len = make_image();
    for (size_t at = 0; at < len; at++) {
        const char before = image[at];
        image[at] = (char)(before ^ (1 << at % 8));
        write_image(len);
        reopen();
        ck_assert_uint_ge(found.damaged_records + (found.torn_bytes != 0), 1);
        ck_assert_uint_le(found.damaged_records, 2);
        ck_assert_uint_ge(found.registrations + found.ended_runs + found.sockets, 1);
        image[at] = before;
    }
}
END_TEST

START_TEST(a_file_of_another_version_is_left_alone)
{
    static const char line[] = "7e8d1077 {\"cellgate_registrations\":{\"version\":2}}\n";
    make_image();
    memcpy(image, line, sizeof(line) - 1);
    write_image(sizeof(line) - 1);
    ck_assert(!cg_registrations_open(path, &fake_clock, &journal, &found, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "another version"));
    struct stat after;
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_eq(after.st_size, (off_t)sizeof(line) - 1);
}
END_TEST

/* --- writing --- */

START_TEST(what_cannot_be_written_is_not_kept_and_later_is)
{
    reopen();
    ck_assert(put("a", "r1"));
    struct stat before;
    ck_assert_int_eq(stat(path, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const struct rlimit small = {.rlim_cur = (rlim_t)before.st_size + 20,
                                 .rlim_max = limit.rlim_max};
    /* Check writes a file too: no assertion while the limit holds. */
    bool limited = setrlimit(RLIMIT_FSIZE, &small) == 0;
    bool kept = put("b", "r1");
    bool known = *run_of("b") != '\0';
    bool ended = cg_registrations_end(journal, "a", "r1", &err);
    bool remembered = cg_registrations_ended(journal, "a", "r1");
    const struct rlimit none = {.rlim_cur = 1, .rlim_max = limit.rlim_max};
    bool none_left = setrlimit(RLIMIT_FSIZE, &none) == 0;
    bool writable = cg_registrations_writable(journal);
    bool mended = cg_registrations_mend(journal, &err);
    bool unlimited = setrlimit(RLIMIT_FSIZE, &limit) == 0;
    ck_assert(limited && none_left && unlimited);
    ck_assert(!kept && !known && !ended && !remembered && !writable && !mended);
    struct stat after;
    ck_assert_int_eq(stat(path, &after), 0);
    ck_assert_int_eq(after.st_size, before.st_size);
    ck_assert_msg(cg_registrations_mend(journal, &err), "%s", err.text);
    ck_assert(cg_registrations_writable(journal));
    ck_assert_msg(put("b", "r1"), "%s", err.text);
    reopen();
    ck_assert_uint_eq(found.registrations, 2);
    ck_assert_uint_eq(found.damaged_records + found.torn_bytes, 0);
}
END_TEST

START_TEST(a_file_that_is_mostly_dead_is_replaced)
{
    reopen();
    ck_assert(put("a", "r1"));
    off_t largest = 0;
    bool replaced = false;
    for (unsigned i = 0; i < 100000 && !replaced; i++) {
        ck_assert(cg_registrations_put(journal, &made, NULL, &err));
        struct stat now;
        ck_assert_int_eq(stat(path, &now), 0);
        replaced = now.st_size < largest;
        largest = now.st_size > largest ? now.st_size : largest;
    }
    ck_assert(replaced);
    ck_assert_int_lt(largest, 5 << 20);
    reopen();
    ck_assert_uint_eq(found.registrations, 1);
}
END_TEST

enum { THREADS = 8, PUTS = 60 };

/* Without ck_assert, which is not for several threads. */
static void *put_many(void *context)
{
    unsigned which = *(unsigned *)context;
    struct cg_error own = {0};
    bool good = true;
    for (unsigned i = 0; i < PUTS && good; i++) {
        char cell_id[32];
        (void)snprintf(cell_id, sizeof(cell_id), "c%u-%u", which, i);
        const struct cg_kept_registration registration = registration_of(cell_id, "r");
        good = cg_registrations_put(journal, &made, &registration, &own);
        if (i % 2 == 0) {
            good = good && cg_registrations_end(journal, cell_id, "r", &own);
            cg_registrations_gone(journal, cell_id, "r");
        }
    }
    return good ? context : NULL;
}

START_TEST(many_threads_share_the_journal)
{
    reopen();
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, put_many, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *good;
        ck_assert_int_eq(pthread_join(threads[i], &good), 0);
        ck_assert_ptr_nonnull(good);
    }
    reopen();
    ck_assert_uint_eq(found.registrations, THREADS * PUTS / 2);
    ck_assert_uint_eq(found.ended_runs, THREADS * PUTS / 2);
    ck_assert_uint_eq(found.damaged_records + found.torn_bytes, 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("registrations");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_was_put_comes_back_whole);
    tcase_add_test(tcase, an_end_without_its_last_events_is_known_after_a_restart);
    tcase_add_test(tcase, another_run_of_the_cell_is_not_touched_by_the_end_of_one);
    tcase_add_test(tcase, ended_runs_are_forgotten_after_a_week_or_ten_thousand);
    tcase_add_test(tcase, a_tail_torn_at_any_byte_is_cut);
    tcase_add_test(tcase, a_flipped_bit_loses_one_record_or_joins_two_and_is_reported);
    tcase_add_test(tcase, a_file_of_another_version_is_left_alone);
    tcase_add_test(tcase, what_cannot_be_written_is_not_kept_and_later_is);
    tcase_add_test(tcase, a_file_that_is_mostly_dead_is_replaced);
    tcase_add_test(tcase, many_threads_share_the_journal);
    tcase_set_timeout(tcase, 120);
    Suite *suite = suite_create("registrations");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
