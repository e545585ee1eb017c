/* test_limits.c - a cell's share, a reader's quota, and what a full spool gives up: who is held to
 * what, and that everything given up has a name. */
#include "spool_account.h"

/* --- quota --- */

static struct cg_spool_notice last_of[CG_SPOOL_NOTICE_COUNT];
static unsigned notices[CG_SPOOL_NOTICE_COUNT];

static void keep_notice(void *context, const struct cg_spool_notice *notice)
{
    (void)context;
    last_of[notice->kind] = *notice;
    notices[notice->kind]++;
}

START_TEST(a_dead_reader_loses_its_oldest_beyond_its_quota_and_no_other_does)
{
    struct cg_spool_config config = tight_config();
    config.notice = keep_notice;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *dead = open_reader(spool, "dead");
    struct cg_spool_reader *alive = open_reader(spool, "alive");
    cg_spool_reader_limit(dead, 192 * 1024);
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    struct account *of_dead = calloc(1, sizeof(*of_dead));
    struct account *of_alive = calloc(1, sizeof(*of_alive));
    for (uint64_t sequence = 1; sequence <= 4000; sequence += 10) {
        append(writer, "a", run, sequence, sequence + 9, 10);
        if (sequence == 51) {
            deliver(dead, 17, of_dead);
        }
        deliver(alive, UINT64_MAX, of_alive);
        struct cg_spool_backlog backlog;
        cg_spool_reader_backlog(dead, &backlog);
        ck_assert_uint_le(backlog.bytes, 192 * 1024);
        struct cg_spool_status status;
        cg_spool_status(spool, &status);
        ck_assert_uint_le(status.bytes, 192 * 1024);
    }
    ck_assert_uint_eq(check_whole(of_alive, 4000), 0);
    struct cg_spool_backlog backlog;
    cg_spool_reader_backlog(alive, &backlog);
    ck_assert_uint_eq(backlog.dropped_events, 0);
    cg_spool_reader_backlog(dead, &backlog);
    uint64_t dropped = backlog.dropped_events;
    ck_assert_uint_gt(dropped, 1000);
    ck_assert_uint_eq(backlog.quota_bytes, 192 * 1024);
    name_losses(spool, run, QUOTA, of_dead);
    deliver(dead, UINT64_MAX, of_dead);
    ck_assert_uint_eq(check_whole(of_dead, 4000), dropped);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_overflow), 0);
    free(of_dead);
    free(of_alive);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(dead);
    cg_spool_reader_close(alive);
    cg_spool_close(spool);
    ck_assert_uint_gt(notices[CG_SPOOL_READER_DROPPED], 2);
    const struct cg_spool_notice *last = &last_of[CG_SPOOL_READER_DROPPED];
    ck_assert_str_eq(last->name, "dead");
    ck_assert_uint_eq(last->count, last->last - last->first + 1);
}
END_TEST

START_TEST(what_is_given_up_of_a_run_that_has_ended_is_told_by_name)
{
    struct cg_spool_config config = tight_config();
    config.notice = keep_notice;
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *ended = open_run(spool, "ended");
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "ended", ended, 1, 20, 10);
    cg_spool_run_end(spool, ended);
    append(writer, "a", run, 1, 2000, 10);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    ck_assert_uint_eq(notices[CG_SPOOL_RUN_DROPPED], 1);
    const struct cg_spool_notice *last = &last_of[CG_SPOOL_RUN_DROPPED];
    ck_assert_str_eq(last->name, "ended");
    ck_assert_str_eq(last->text, "run");
    ck_assert_uint_eq(last->first, 1);
    ck_assert_uint_eq(last->last, 20);
}
END_TEST

/* --- share --- */

START_TEST(a_run_is_over_its_share_until_the_slowest_reader_has_passed_enough)
{
    struct cg_spool_config config = test_config();
    config.cell_share_bytes = 256 * 1024;
    config.dir = _i == 0 ? config.dir : NULL;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *fast = open_reader(spool, "fast");
    struct cg_spool_reader *slow = open_reader(spool, "slow");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    struct cg_spool_run *b = open_run(spool, "b");
    struct account *ignored = calloc(1, sizeof(*ignored));
    uint64_t next_b = 1;
    uint64_t sequence = 1;
    for (unsigned round = 0; round < 5; round++) {
        while (!cg_spool_run_over_share(spool, a)) {
            append(writer, "a", a, sequence, sequence, 1);
            if (sequence % 7 == 0) { /* in between, and far less */
                append(writer, "b", b, next_b, next_b, 1);
                next_b++;
            }
            sequence++;
        }
        ck_assert_uint_eq(cg_spool_run_room(spool, a), 0);
        ck_assert(!cg_spool_run_over_share(spool, b));
        deliver(fast, UINT64_MAX, ignored);
        ck_assert(cg_spool_run_over_share(spool, a)); /* the slow one counts */
        struct cg_spool_backlog backlog;
        cg_spool_reader_backlog(slow, &backlog);
        deliver(slow, backlog.events / 2, ignored);
        ck_assert(!cg_spool_run_over_share(spool, a));
        /* Half of it is known to be gone, to an eighth of the share. */
        ck_assert_uint_ge(cg_spool_run_room(spool, a), 256 * 1024 / 4);
        ck_assert_uint_le(cg_spool_run_room(spool, a), 256 * 1024 * 3 / 4);
    }
    deliver(slow, UINT64_MAX, ignored);
    ck_assert(!cg_spool_run_over_share(spool, a));
    free(ignored);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(fast);
    cg_spool_reader_close(slow);
    cg_spool_close(spool);
}
END_TEST

START_TEST(what_a_run_holds_is_known_after_a_restart)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.cell_share_bytes = 256 * 1024;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    uint64_t sequence = 1;
    for (; !cg_spool_run_over_share(spool, a); sequence++) {
        append(writer, "a", a, sequence, sequence, 1);
    }
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    spool = open_spool(&config, NULL);
    reader = open_reader(spool, "central");
    a = open_run(spool, "a");
    ck_assert(cg_spool_run_over_share(spool, a));
    expect(reader, 1, sequence - 1);
    ck_assert(!cg_spool_run_over_share(spool, a));
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(without_a_share_a_run_may_hold_everything)
{
    struct cg_spool_config config = tight_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    append(writer, "a", a, 1, 500, 10);
    ck_assert(!cg_spool_run_over_share(spool, a));
    ck_assert_uint_eq(cg_spool_run_room(spool, a), UINT64_MAX);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(the_spool_stops_growing_where_the_reserve_of_the_file_system_begins)
{
    struct cg_spool_config config = tight_config();
    config.reserve_bytes = UINT64_C(1) << 62; /* more than any file system has */
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    ck_assert(stage(writer, "a", open_run(spool, "a"), 1));
    struct cg_error err = {0};
    ck_assert_int_eq(cg_spool_writer_commit(writer, &err), CG_APPEND_FULL);
    ck_assert_ptr_nonnull(strstr(err.text, "file system"));
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    ck_assert(!status.appendable);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("limits");
    TCase *tcase = tcase_create("limits");
    tcase_add_checked_fixture(tcase, make_test_dir, remove_test_dir);
    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, a_dead_reader_loses_its_oldest_beyond_its_quota_and_no_other_does);
    tcase_add_test(tcase, what_is_given_up_of_a_run_that_has_ended_is_told_by_name);
    tcase_add_loop_test(tcase, a_run_is_over_its_share_until_the_slowest_reader_has_passed_enough,
                        0, 2);
    tcase_add_test(tcase, what_a_run_holds_is_known_after_a_restart);
    tcase_add_test(tcase, without_a_share_a_run_may_hold_everything);
    tcase_add_test(tcase, the_spool_stops_growing_where_the_reserve_of_the_file_system_begins);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
