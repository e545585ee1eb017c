/* test_spool.c - appending, reading, acknowledging, reopening, filling up. */
#include "spool_support.h"

#include "spool/internal.h"

#include <math.h>

START_TEST(events_come_back_unchanged_and_in_order)
{
    struct cg_spool_config config = test_config();
    if (_i == 1) {
        config.dir = NULL;
    }
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    ck_assert_uint_eq(peek(reader, 10, 1000).count, 0);
    append(writer, "a", run, 1, 5000, 37);
    ck_assert_uint_eq(cg_spool_run_sequence(run), 5000);
    ck_assert_uint_eq(cg_spool_run_connection(run), 51);
    expect(reader, 1, 5000);
    ck_assert_uint_eq(peek(reader, 10, 1000).count, 0);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_batch_keeps_to_its_limits_and_is_never_empty)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), 1, 100, 10);
    ck_assert_uint_eq(peek(reader, 7, 1 << 20).count, 7);
    ck_assert_uint_eq(peek(reader, 100, 1).count, 1);
    struct cg_batch batch = peek(reader, 100, 3000);
    uint64_t bytes = 0;
    for (size_t i = 0; i < batch.count; i++) {
        bytes += batch.events[i].bytes.len;
    }
    ck_assert_uint_eq(batch.bytes, bytes);
    ck_assert_uint_le(bytes, 3000);
    ck_assert_uint_gt(bytes, 2000);
    cg_spool_reader_ack(reader, 2);
    cg_spool_reader_ack(reader, 1);
    ck_assert_uint_eq(peek(reader, 1, 1).events[0].meta.sequence, 4);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(positions_sequences_and_connections_survive)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *slow = open_reader(spool, "slow");
    struct cg_spool_reader *quick = open_reader(spool, "quick");
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "b", open_run(spool, "b"), 1, 3, 1);
    append(writer, "a", open_run(spool, "a"), 1, 9000, 50);
    for (uint64_t i = 0; i < 2; i++) { /* the three of the other cell first */
        cg_spool_reader_ack(i == 0 ? slow : quick, peek(i == 0 ? slow : quick, 3, 1 << 20).count);
    }
    expect(slow, 1, 17);
    expect(quick, 1, 8500);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(slow);
    cg_spool_reader_close(quick);
    cg_spool_close(spool);

    struct cg_spool_recovery recovery;
    spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.records, 9003);
    ck_assert_uint_eq(recovery.torn_bytes, 0);
    ck_assert_uint_eq(recovery.first_index, 1);
    ck_assert_uint_eq(recovery.next_index, 9004);
    slow = open_reader(spool, "slow");
    quick = open_reader(spool, "quick");
    struct cg_spool_reader *late = open_reader(spool, "late");
    writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    ck_assert_uint_eq(cg_spool_run_sequence(run), 9000);
    ck_assert_uint_eq(cg_spool_run_connection(run), 91);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "b")), 3);
    append(writer, "a", run, 9001, 9100, 50);
    expect(slow, 18, 9100);
    expect(quick, 8501, 9100);
    ck_assert_uint_eq(peek(late, 1, 1).events[0].index, 1);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(slow);
    cg_spool_reader_close(quick);
    cg_spool_reader_close(late);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_run_outlives_the_segments_of_its_events)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 256 * 1024;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "early", open_run(spool, "early"), 1, 250, 50);
    struct cg_spool_run *ended = open_run(spool, "ended");
    append(writer, "ended", ended, 1, 5, 5);
    cg_spool_reader_ack(reader, peek(reader, 1000, 1 << 20).count);
    cg_spool_run_end(spool, ended);
    struct cg_spool_run *run = open_run(spool, "busy");
    for (uint64_t sequence = 1; sequence <= 5000; sequence += 50) {
        append(writer, "busy", run, sequence, sequence + 49, 50);
        expect(reader, sequence, sequence + 49);
    }
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);

    spool = open_spool(&config, NULL);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "early")), 250);
    ck_assert_uint_eq(cg_spool_run_connection(open_run(spool, "early")), 3);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "busy")), 5000);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "ended")), 0);
    cg_spool_close(spool);
}
END_TEST

START_TEST(very_many_runs_fit_at_the_head_of_a_segment)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 64 * 1024 * 1024;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    char cell[32];
    for (unsigned i = 1; i <= 3000; i++) {
        (void)snprintf(cell, sizeof(cell), "cell-%u", i);
        append(writer, cell, open_run(spool, cell), i, i, 1);
    }
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
    spool = open_spool(&config, NULL);
    for (unsigned i = 1; i <= 3000; i++) {
        (void)snprintf(cell, sizeof(cell), "cell-%u", i);
        ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, cell)), i);
    }
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_lagging_reader_goes_from_the_file_over_to_memory)
{
    struct cg_spool_config config = test_config();
    config.bytes_max = 64 * 1024 * 1024;
    config.dir = _i == 1 ? NULL : config.dir;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), 1, 40000, 500); /* more than the tail holds */
    uint64_t next = 1;
    while (next <= 40000) {
        struct cg_batch batch = peek(reader, 512, 1 << 20);
        /* Full batches all the way, over every seam. */
        ck_assert_uint_eq(batch.count, 40001 - next < 512 ? 40001 - next : 512);
        for (size_t i = 0; i < batch.count; i++) {
            check_event(&batch.events[i]);
            ck_assert_uint_eq(batch.events[i].index, next);
            next++;
        }
        cg_spool_reader_ack(reader, batch.count);
    }
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_full_spool_pauses_and_goes_on_after_an_ack)
{
    struct cg_spool_config config = test_config();
    config.bytes_max = 4 * 1024 * 1024;
    config.dir = _i == 1 ? NULL : config.dir;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    struct cg_error err = {0};
    uint64_t sequence = 0;
    enum cg_append result = CG_APPEND_DONE;
    while (result == CG_APPEND_DONE) {
        while (cg_spool_writer_staged(writer) < 20 && stage(writer, "a", run, sequence + 1)) {
            sequence++;
        }
        result = cg_spool_writer_commit(writer, &err);
        ck_assert_uint_lt(sequence, 100000);
    }
    ck_assert_int_eq(result, CG_APPEND_FULL);
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    ck_assert(!status.appendable);
    ck_assert_uint_le(status.bytes, status.bytes_max);
    ck_assert_uint_eq(status.segments, 4);
    ck_assert_str_ne(status.last_error, "");
    ck_assert_int_eq(cg_spool_writer_commit(writer, &err), CG_APPEND_FULL);
    uint64_t staged = cg_spool_writer_staged(writer);
    ck_assert_uint_gt(staged, 0);
    /* More may be staged meanwhile, and nothing of it is lost or doubled. */
    sequence += stage(writer, "a", run, sequence + 1);
    expect(reader, 1, (sequence - staged) / 2);
    commit(writer);
    cg_spool_status(spool, &status);
    ck_assert(status.appendable);
    expect(reader, (sequence - staged) / 2 + 1, sequence);
    ck_assert_uint_eq(peek(reader, 1, 1).count, 0);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(with_drop_oldest_a_reader_skips_forward_and_it_is_counted)
{
    struct cg_spool_config config = test_config();
    config.bytes_max = 4 * 1024 * 1024;
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    config.dir = _i == 1 ? NULL : config.dir;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    uint64_t before = cg_metric_get(CG_SERIES_events_dropped_overflow);
    append(writer, "a", open_run(spool, "a"), 1, 20000, 100);
    uint64_t dropped = cg_metric_get(CG_SERIES_events_dropped_overflow) - before;
    ck_assert_uint_gt(dropped, 0);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), 0);
    expect(reader, dropped + 1, 20000);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(without_readers_the_newest_are_kept)
{
    struct cg_spool_config config = test_config();
    config.bytes_max = 4 * 1024 * 1024;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), 1, 20000, 100);
    struct cg_spool_reader *reader = open_reader(spool, "late");
    uint64_t first = peek(reader, 1, 1).events[0].meta.sequence;
    ck_assert_uint_gt(first, 1);
    expect(reader, first, 20000);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_closed_reader_holds_its_segments_until_it_is_forgotten)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 512 * 1024;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *slow = open_reader(spool, "slow");
    struct cg_spool_reader *quick = open_reader(spool, "quick");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "a", run, 1, 600, 20);
    expect(slow, 1, 10);
    expect(quick, 1, 600);
    cg_spool_reader_close(slow);
    append(writer, "a", run, 601, 700, 20); /* rotates, and lets go of what is passed */
    slow = open_reader(spool, "slow");
    expect(slow, 11, 700);
    cg_spool_reader_close(slow);
    for (uint64_t sequence = 701; sequence <= 2000; sequence += 100) {
        cg_spool_reader_forget(spool, "slow");
        append(writer, "a", run, sequence, sequence + 99, 20);
        expect(quick, sequence == 701 ? 601 : sequence, sequence + 99);
    }
    cg_spool_reader_close(quick);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

/* A reload stops an exporter and starts it again; the second restart finds nothing to read. */
START_TEST(a_reader_that_is_closed_and_opened_goes_on_where_it_was)
{
    struct cg_spool_config config = test_config();
    if (_i == 1) {
        config.dir = NULL; /* nothing is saved: the spool itself remembers */
    }
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "r");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    uint64_t sequence = 0;
    for (int round = 0; round < 5; round++) {
        append(writer, "a", run, sequence + 1, sequence + 10, 10);
        expect(reader, sequence + 1, sequence + 7); /* the rest has been peeked, or not */
        for (int restart = 0; restart <= round; restart++) {
            cg_spool_reader_close(reader);
            reader = open_reader(spool, "r");
        }
        append(writer, "a", run, sequence + 11, sequence + 20, 10);
        expect(reader, sequence + 8, sequence + 20);
        cg_spool_reader_close(reader);
        reader = open_reader(spool, "r");
        sequence += 20;
    }
    cg_spool_reader_close(reader);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

/* With the position forgotten but for the index, as another process has left it. */
START_TEST(a_reader_opened_among_events_in_memory_finds_its_place)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *first = open_reader(spool, "first");
    struct cg_spool_reader *holder = open_reader(spool, "holder");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "a", run, 1, 10, 10);
    expect(first, 1, 10);
    cg_spool_reader_close(first);
    cg_spool_reader_forget(spool, "first"); /* the file says where it was: at the end */
    first = open_reader(spool, "first");
    append(writer, "a", run, 11, 20, 1);
    expect(first, 11, 20);
    cg_spool_reader_close(first);
    cg_spool_reader_close(holder);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

START_TEST(disk_use_stays_bounded_and_files_are_used_again)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 128 * 1024;
    config.bytes_max = 1024 * 1024;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    for (uint64_t sequence = 1; sequence <= 20000; sequence += 100) {
        append(writer, "a", run, sequence, sequence + 99, 50);
        expect(reader, sequence, sequence + 99);
    }
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    ck_assert_uint_le(status.segments, 2);
    unsigned files = 0;
    DIR *dir = opendir(spool_path("/segments"));
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        files += entry->d_name[0] != '.';
    }
    (void)closedir(dir);
    ck_assert_uint_le(files, status.segments + CG_SPARES_MAX);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_second_opener_is_refused)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool *second = NULL;
    struct cg_spool_recovery recovery;
    struct cg_error err = {0};
    ck_assert(!cg_spool_open(&config, &second, &recovery, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "another process"));
    ck_assert_ptr_null(second);
    struct stat status;
    ck_assert_int_eq(stat(spool_path(""), &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0700);
    cg_spool_close(spool);
    spool = open_spool(&config, NULL);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_directory_that_cannot_be_made_is_named)
{
    struct cg_spool_config config = test_config();
    config.dir = "/nonexistent/spool";
    struct cg_spool *spool = NULL;
    struct cg_spool_recovery recovery;
    struct cg_error err = {0};
    ck_assert(!cg_spool_open(&config, &spool, &recovery, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/spool"));
}
END_TEST

START_TEST(names_of_readers_are_checked)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "ok-1_2.x");
    static const char *const bad[] = {"", "a/b", "..", ".hidden", "ok-1_2.x", "a b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct cg_spool_reader *other = NULL;
        struct cg_error err = {0};
        ck_assert(!cg_spool_reader_open(spool, bad[i], &other, &err));
        ck_assert_str_ne(err.text, "");
    }
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(waits_end_for_each_of_their_reasons)
{
    struct cg_spool_config config = test_config();
    config.dir = NULL;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    ck_assert(!cg_spool_reader_wait(reader, 1, 1, 0)); /* a deadline in the past */
    cg_spool_reader_interrupt(reader);                 /* sticky until a wait took it */
    ck_assert(!cg_spool_reader_wait(reader, 1, 1, UINT64_MAX));
    ck_assert(!cg_spool_reader_wait(reader, 1, 1, 0));
    append(writer, "a", run, 1, 10, 10);
    ck_assert(cg_spool_reader_wait(reader, 10, UINT64_MAX, UINT64_MAX));
    ck_assert(cg_spool_reader_wait(reader, UINT64_MAX, 100, UINT64_MAX));
    ck_assert(cg_spool_reader_wait(reader, 11, UINT64_MAX, 0)); /* something is there */
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(the_backlog_says_how_much_and_how_old)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_backlog backlog;
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    ck_assert(isinf(status.seconds_until_full));
    ck_assert(status.appendable);
    ck_assert_uint_eq(status.next_index, 1);
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert_uint_eq(backlog.events, 0);
    ck_assert_uint_eq(backlog.bytes, 0);
    ck_assert_uint_eq(backlog.oldest_received_ns, 0);
    append(writer, "a", open_run(spool, "a"), 1, 20, 5);
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert_uint_eq(backlog.events, 20);
    ck_assert_uint_gt(backlog.bytes, 20 * 80);
    ck_assert_uint_eq(backlog.oldest_received_ns, 1001);
    ck_assert_uint_eq(backlog.acked_index, 1);
    expect(reader, 1, 7);
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert_uint_eq(backlog.events, 13);
    ck_assert_uint_eq(backlog.oldest_received_ns, 1008);
    cg_spool_reader_ack(reader, peek(reader, 3, 1 << 20).count); /* a whole batch, more behind it */
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert_uint_eq(backlog.oldest_received_ns, 1011);
    expect(reader, 11, 20);
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert_uint_eq(backlog.events, 0);
    ck_assert_uint_eq(backlog.bytes, 0);
    ck_assert_uint_eq(backlog.oldest_received_ns, 0);
    ck_assert_uint_eq(backlog.acked_index, 21);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

static uint64_t acknowledged(struct cg_spool *spool, struct cg_spool_reader *reader, bool *ret_all)
{
    struct cg_spool_backlog backlog;
    uint64_t sequence = UINT64_MAX;
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert(cg_spool_run_below(spool, CG_BYTES("a"), CG_BYTES("run"), backlog.acked_index,
                                 &sequence, ret_all));
    return sequence;
}

START_TEST(what_a_reader_has_of_a_run_is_never_said_too_high_nor_taken_back)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *quick = open_reader(spool, "quick");
    struct cg_spool_reader *slow = open_reader(spool, "slow");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    bool all = false;
    ck_assert_uint_eq(acknowledged(spool, slow, &all), 0);
    ck_assert(all);
    uint64_t said = 0;
    for (uint64_t sequence = 1; sequence <= 400; sequence++) {
        append(writer, "a", run, sequence, sequence, 1);
        expect(quick, sequence, sequence);
        ck_assert_uint_eq(acknowledged(spool, quick, &all), sequence);
        ck_assert(all);
        if (sequence <= 10) {
            continue; /* slow lags by ten */
        }
        expect(slow, sequence - 10, sequence - 10);
        uint64_t now = acknowledged(spool, slow, &all);
        ck_assert(!all);
        ck_assert_uint_ge(now, said);
        ck_assert_uint_le(now, sequence - 10);
        said = now;
    }
    ck_assert_uint_ge(said, 400 - 3 * 10);
    expect(slow, 391, 400);
    ck_assert_uint_eq(acknowledged(spool, slow, &all), 400);
    ck_assert(all);
    cg_spool_run_end(spool, run);
    uint64_t sequence = 0;
    ck_assert(!cg_spool_run_below(spool, CG_BYTES("a"), CG_BYTES("run"), 1, &sequence, &all));
    cg_spool_writer_close(writer);
    cg_spool_reader_close(quick);
    cg_spool_reader_close(slow);
    cg_spool_close(spool);
}
END_TEST

/* Stages one event that says something of its run's silence. */
static void stage_silence(struct cg_spool_writer *writer, struct cg_spool_run *run,
                          uint64_t sequence, uint16_t silence)
{
    char *out = cg_spool_writer_begin(writer);
    ck_assert_ptr_nonnull(out);
    struct cg_event_meta meta;
    size_t len = render_event(out, "a", sequence, &meta);
    meta.silence = silence;
    cg_spool_writer_end(writer, len, &meta, run);
}

START_TEST(what_was_said_of_a_silence_is_recovered_from_tail_and_table)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    ck_assert_uint_eq(cg_spool_run_silence(spool, run), 0);
    /* In the middle of a commit, where others of the run stand before and behind it. */
    ck_assert(stage(writer, "a", run, 1));
    stage_silence(writer, run, 2, 0x8101);
    stage_silence(writer, run, 3, 0x8001);
    ck_assert(stage(writer, "a", run, 4));
    commit(writer);
    ck_assert_uint_eq(cg_spool_run_silence(spool, run), 0x8001);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);

    spool = open_spool(&config, NULL); /* from the tail */
    run = open_run(spool, "a");
    ck_assert_uint_eq(cg_spool_run_silence(spool, run), 0x8001);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    writer = open_writer(spool);
    append(writer, "a", run, 5, 9000, 50); /* over several segments */
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    ck_assert_uint_gt(status.segments, 2);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);

    spool = open_spool(&config, NULL); /* from the table at the newest segment's head */
    ck_assert_uint_eq(cg_spool_run_silence(spool, open_run(spool, "a")), 0x8001);
    cg_spool_close(spool);
}
END_TEST

/* Whether the spool knows the run of a cell. */
static bool knows(struct cg_spool *spool, const char *cell)
{
    uint64_t index;
    return cg_spool_run_last_index(spool, cg_bytes_str(cell), CG_BYTES("run"), &index);
}

START_TEST(a_run_is_forgotten_by_the_last_who_has_it_open)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    cg_spool_run_close(spool, open_run(spool, "empty"));
    ck_assert(!knows(spool, "empty"));
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "a", run, 1, 3, 3);
    cg_spool_run_close(spool, run);
    ck_assert(knows(spool, "a")); /* it goes on */
    run = open_run(spool, "a");
    ck_assert_uint_eq(cg_spool_run_sequence(run), 3);
    struct cg_spool_run *again = open_run(spool, "a");
    cg_spool_run_end(spool, run);
    ck_assert(knows(spool, "a"));
    cg_spool_run_close(spool, again);
    ck_assert(!knows(spool, "a"));
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

START_TEST(what_is_staged_and_abandoned_leaves_no_trace)
{
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    char *out = cg_spool_writer_begin(writer);
    memset(out, 'x', 2000);
    append(writer, "a", run, 1, 3, 3);
    ck_assert_uint_eq(cg_spool_writer_staged(writer), 0);
    ck_assert(stage(writer, "a", run, 4));
    ck_assert_uint_eq(cg_spool_writer_staged(writer), 1);
    expect(reader, 1, 3);
    ck_assert_uint_eq(peek(reader, 1, 1).count, 0);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(the_largest_event_fits)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 4096; /* smaller than one event */
    config.bytes_max = 1024 * 1024;
    config.sync = CG_SPOOL_SYNC_ALWAYS;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    for (unsigned i = 1; i <= 5; i++) {
        char *out = cg_spool_writer_begin(writer);
        ck_assert_ptr_nonnull(out);
        memset(out, (int)('a' + i), CG_EVENT_BYTES_MAX);
        struct cg_event_meta meta = {.sequence = i, .kind = CG_EVENT_GUEST};
        cg_spool_writer_end(writer, CG_EVENT_BYTES_MAX, &meta, run);
    }
    commit(writer);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    spool = open_spool(&config, NULL);
    reader = open_reader(spool, "central");
    struct cg_batch batch = peek(reader, 10, UINT64_MAX);
    ck_assert_uint_eq(batch.count, 5);
    for (unsigned i = 1; i <= 5; i++) {
        ck_assert_uint_eq(batch.events[i - 1].bytes.len, CG_EVENT_BYTES_MAX);
        ck_assert_int_eq(batch.events[i - 1].bytes.data[CG_EVENT_BYTES_MAX - 1], (int)('a' + i));
    }
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spool");
    TCase *tcase = tcase_create("spool");
    tcase_add_checked_fixture(tcase, make_test_dir, remove_test_dir);
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, events_come_back_unchanged_and_in_order, 0, 2);
    tcase_add_test(tcase, a_batch_keeps_to_its_limits_and_is_never_empty);
    tcase_add_test(tcase, positions_sequences_and_connections_survive);
    tcase_add_test(tcase, a_run_outlives_the_segments_of_its_events);
    tcase_add_test(tcase, very_many_runs_fit_at_the_head_of_a_segment);
    tcase_add_loop_test(tcase, a_lagging_reader_goes_from_the_file_over_to_memory, 0, 2);
    tcase_add_loop_test(tcase, a_full_spool_pauses_and_goes_on_after_an_ack, 0, 2);
    tcase_add_loop_test(tcase, with_drop_oldest_a_reader_skips_forward_and_it_is_counted, 0, 2);
    tcase_add_test(tcase, without_readers_the_newest_are_kept);
    tcase_add_test(tcase, a_closed_reader_holds_its_segments_until_it_is_forgotten);
    tcase_add_loop_test(tcase, a_reader_that_is_closed_and_opened_goes_on_where_it_was, 0, 2);
    tcase_add_test(tcase, a_reader_opened_among_events_in_memory_finds_its_place);
    tcase_add_test(tcase, disk_use_stays_bounded_and_files_are_used_again);
    tcase_add_test(tcase, a_second_opener_is_refused);
    tcase_add_test(tcase, a_directory_that_cannot_be_made_is_named);
    tcase_add_test(tcase, names_of_readers_are_checked);
    tcase_add_test(tcase, waits_end_for_each_of_their_reasons);
    tcase_add_test(tcase, the_backlog_says_how_much_and_how_old);
    tcase_add_test(tcase, what_a_reader_has_of_a_run_is_never_said_too_high_nor_taken_back);
    tcase_add_test(tcase, what_was_said_of_a_silence_is_recovered_from_tail_and_table);
    tcase_add_test(tcase, a_run_is_forgotten_by_the_last_who_has_it_open);
    tcase_add_test(tcase, what_is_staged_and_abandoned_leaves_no_trace);
    tcase_add_test(tcase, the_largest_event_fits);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
