/*
 * test_faults.c - a disk that refuses, a process that is killed, and many threads at once.
 *
 * pwrite, pread and fdatasync below stand in for the C library's: the linker prefers the program's
 * own.
 */
#include "spool_support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Fails the writes after the next `writes_until_failure`, short by `short_by` bytes first. */
static _Atomic int write_errno;
static _Atomic int writes_until_failure;
static _Atomic size_t write_at_most; /* 0: no limit */
static _Atomic int sync_errno;

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (write_errno != 0 && atomic_fetch_sub(&writes_until_failure, 1) <= 0) {
        errno = write_errno;
        return -1;
    }
    size_t most = write_at_most;
    if (most > 0 && len > most) {
        len = most;
    }
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

int fdatasync(int fd)
{
    if (sync_errno != 0) {
        errno = sync_errno;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* A place that cannot be read, in any file that has it: bad_from <= offset < bad_to. */
static _Atomic uint64_t bad_from, bad_to;
static _Atomic unsigned bad_reads;

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    uint64_t from = bad_from;
    uint64_t to = bad_to;
    if ((uint64_t)offset < to && (uint64_t)offset + len > from) {
        if ((uint64_t)offset >= from) {
            bad_reads++;
            errno = EIO;
            return -1;
        }
        len = from - (uint64_t)offset; /* as far as it can be read */
    }
    return syscall(SYS_pread64, fd, data, len, offset);
}

static void make_bad(uint64_t from, uint64_t to)
{
    bad_from = from;
    bad_to = to;
    bad_reads = 0;
}

static struct cg_spool_notice last_of[CG_SPOOL_NOTICE_COUNT];
static _Atomic unsigned notices[CG_SPOOL_NOTICE_COUNT];

static void keep_notice(void *context, const struct cg_spool_notice *notice)
{
    (void)context;
    last_of[notice->kind] = *notice;
    notices[notice->kind]++;
}

static struct cg_spool_config small_config(void)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 1024 * 1024;
    config.sync = CG_SPOOL_SYNC_NEVER;
    config.notice = keep_notice;
    return config;
}

/* A spool with events 1 to last, closed. */
static void fill(const struct cg_spool_config *config, uint64_t last)
{
    struct cg_spool *spool = open_spool(config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), 1, last, 10);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}

START_TEST(a_place_that_cannot_be_read_is_tried_and_then_passed_as_damage)
{
    enum { EVENTS = 100 }; /* one segment */
    struct cg_spool_config config = small_config();
    fill(&config, EVENTS);
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    make_bad(8192 + 100, 8192 + 4096 * _i);
    bool seen[EVENTS + 1] = {false};
    uint64_t count = 0;
    unsigned failures = 0;
    while (count < EVENTS && failures < 100) {
        struct cg_batch batch;
        struct cg_error err = {0};
        if (!cg_spool_reader_peek(reader, 20, 1 << 20, &batch, &err)) {
            ck_assert_str_ne(err.text, "");
            failures++;
            continue;
        }
        if (batch.count == 0 && !cg_spool_reader_wait(reader, 1, 1, 0)) {
            break;
        }
        for (size_t i = 0; i < batch.count; i++) {
            check_event(&batch.events[i]);
            seen[batch.events[i].meta.sequence] = true;
            count++;
        }
        cg_spool_reader_ack(reader, batch.count);
    }
    make_bad(0, 0);
    ck_assert_uint_eq(failures, CG_SPOOL_READ_TRIES_MAX - 1);
    uint64_t missing = EVENTS - count;
    ck_assert_uint_gt(missing, 0);
    ck_assert_uint_lt(missing, 60);
    ck_assert(seen[1] && seen[EVENTS]);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), missing);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_spool_damage_unreadable), 1);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    ck_assert_uint_eq(notices[CG_SPOOL_UNREADABLE], 1);
    ck_assert_uint_eq(notices[CG_SPOOL_EVENTS_DAMAGED], 1);
    const struct cg_spool_notice *damaged = &last_of[CG_SPOOL_EVENTS_DAMAGED];
    ck_assert_uint_eq(damaged->count, missing);
    for (uint64_t index = 1; index <= EVENTS; index++) {
        ck_assert_int_eq(seen[index], index < damaged->first || index > damaged->last);
    }
}
END_TEST

START_TEST(a_place_that_can_be_read_again_costs_nothing)
{
    struct cg_spool_config config = small_config();
    fill(&config, 100);
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    make_bad(128, UINT64_MAX);
    for (unsigned i = 1; i < CG_SPOOL_READ_TRIES_MAX; i++) {
        struct cg_batch batch;
        ck_assert(!cg_spool_reader_peek(reader, 20, 1 << 20, &batch, NULL));
    }
    make_bad(0, 0);
    expect(reader, 1, 100);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), 0);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(recovery_cuts_nothing_where_the_newest_segment_cannot_be_read)
{
    enum { EVENTS = 60 };
    struct cg_spool_config config = small_config();
    fill(&config, EVENTS); /* one segment of about 30 kB */
    struct stat before;
    struct stat after;
    const char *segment = spool_path("/segments/00000000000000000001.seg");
    ck_assert_int_eq(stat(segment, &before), 0);
    make_bad(_i == 0 ? 8192 : 16384, _i == 0 ? 8192 + 4096 : UINT64_MAX);
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert_uint_gt(bad_reads, 0);
    ck_assert_uint_gt(recovery.next_index, EVENTS); /* none is given out again */
    ck_assert_uint_eq(recovery.skipped_runs, 1);
    struct cg_spool_run *run = open_run(spool, "a");
    ck_assert_uint_gt(cg_spool_run_sequence(run), EVENTS); /* nor a number */
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    ck_assert_uint_eq(cg_spool_run_take_losses(spool, run, losses), 1);
    ck_assert_int_eq(losses[0].reason, CG_SPOOL_LOSS_DAMAGE);
    ck_assert_int_eq(stat(segment, &after), 0);
    ck_assert_int_eq(before.st_size, after.st_size);
    /* Tomorrow the disk can be read again, and everything is there. */
    make_bad(0, 0);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, EVENTS);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), 0);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_segment_whose_file_is_gone_is_passed_as_damage)
{
    struct cg_spool_config config = small_config();
    fill(&config, 400);
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    ck_assert_int_eq(unlink(spool_path("/segments/00000000000000000001.seg")), 0);
    struct cg_batch batch = {0};
    for (unsigned i = 1; i < CG_SPOOL_READ_TRIES_MAX; i++) {
        ck_assert(!cg_spool_reader_peek(reader, 20, 1 << 20, &batch, NULL));
    }
    batch = peek(reader, 20, 1 << 20);
    ck_assert_uint_gt(batch.count, 0);
    check_event(&batch.events[0]);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), batch.events[0].index - 1);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_failed_sync_is_got_over_also_while_nothing_is_appended)
{
    struct cg_spool_config config = small_config();
    config.sync = CG_SPOOL_SYNC_INTERVAL;
    config.sync_interval_ns = CG_NS_PER_MS;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "a", run, 1, 10, 1);
    sync_errno = _i == 0 ? EIO : ENOSPC;
    append(writer, "a", run, 11, 11, 1);
    struct cg_spool_status status = {.appendable = true};
    while (status.appendable) {
        cg_spool_status(spool, &status);
    }
    ck_assert_ptr_nonnull(strstr(status.last_error, "sync"));
    /* It goes on trying, with not one file more. */
    unsigned told = notices[CG_SPOOL_DEGRADED];
    ck_assert_uint_le(told, 1);
    for (unsigned i = 0; i < 2000; i++) {
        cg_spool_status(spool, &status);
        ck_assert(!status.appendable);
        ck_assert_uint_le(status.segments, 2);
    }
    sync_errno = 0;
    while (!status.appendable) {
        cg_spool_status(spool, &status);
    }
    append(writer, "a", run, 12, 20, 1);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, 20);
    cg_spool_reader_close(reader);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
    ck_assert_uint_eq(notices[CG_SPOOL_DEGRADED], 1);
    ck_assert_uint_eq(notices[CG_SPOOL_RECOVERED], 1);
    ck_assert_int_ne(access(spool_path("/clean"), F_OK), 0); /* not all is known to be on disk */
}
END_TEST

START_TEST(a_failing_sync_of_each_commit_publishes_nothing_before_it_is_good)
{
    struct cg_spool_config config = small_config();
    config.sync = CG_SPOOL_SYNC_ALWAYS;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "a", run, 1, 3, 1);
    expect(reader, 1, 3);
    sync_errno = EROFS;
    for (uint64_t sequence = 4; sequence <= 6; sequence++) {
        ck_assert(stage(writer, "a", run, sequence));
        ck_assert_int_eq(cg_spool_writer_commit(writer, NULL), CG_APPEND_FAILED);
        ck_assert_uint_eq(peek(reader, 10, 1 << 20).count, 0);
    }
    sync_errno = 0;
    commit(writer);
    expect(reader, 4, 6);
    cg_spool_reader_close(reader);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
    ck_assert_int_eq(access(spool_path("/clean"), F_OK), 0);
    ck_assert_uint_eq(notices[CG_SPOOL_RECOVERED], 1);
}
END_TEST

START_TEST(staged_events_survive_a_disk_that_refuses)
{
    static const int failures[] = {ENOSPC, EIO, EDQUOT, EROFS};
    struct cg_spool_config config = test_config();
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_writer *other = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    struct cg_spool_run *other_run = open_run(spool, "b");
    uint64_t sequence = 1;
    append(writer, "a", run, 1, 1, 1);
    for (unsigned round = 0; round < 40; round++) {
        while (cg_spool_writer_staged(writer) < 30) {
            if (stage(writer, "a", run, sequence + 1)) {
                sequence++;
            } else {
                commit(writer);
            }
        }
        /* Some pieces are written before it fails: what they leave must not come back. */
        write_at_most = 500 + 31 * round;
        writes_until_failure = (int)(round % 5);
        write_errno = failures[round % 4];
        struct cg_error err = {0};
        ck_assert_int_eq(cg_spool_writer_commit(writer, &err), CG_APPEND_FAILED);
        ck_assert_str_ne(err.text, "");
        ck_assert_uint_eq(cg_spool_writer_staged(writer), 30);
        struct cg_spool_status status;
        cg_spool_status(spool, &status);
        ck_assert(!status.appendable);
        ck_assert_str_ne(status.last_error, "");
        write_errno = 0;
        write_at_most = round % 2 == 0 ? 0 : 333;
        if (round % 3 == 0) { /* another writer's shorter commit lands on the same place */
            append(other, "b", other_run, round + 1, round + 1, 1);
        }
        commit(writer);
        cg_spool_status(spool, &status);
        ck_assert(status.appendable);
    }
    write_at_most = 0;
    cg_spool_writer_close(writer);
    cg_spool_writer_close(other);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);

    struct cg_spool_recovery recovery;
    spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.records, sequence + 14);
    ck_assert_uint_eq(recovery.torn_bytes, 0);
    reader = open_reader(spool, "central");
    uint64_t next = 1;
    while (next <= sequence) {
        struct cg_batch batch = peek(reader, 64, 1 << 20);
        ck_assert_uint_gt(batch.count, 0);
        for (size_t i = 0; i < batch.count; i++) {
            check_event(&batch.events[i]);
            if (cg_bytes_equal(cg_event_get(&batch.events[i], CG_TEXT_CELL), CG_BYTES("a"))) {
                ck_assert_uint_eq(batch.events[i].meta.sequence, next);
                next++;
            }
        }
        cg_spool_reader_ack(reader, batch.count);
    }
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), 0);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_remainder_of_a_failed_write_never_becomes_an_event)
{
    struct cg_spool_config config = test_config();
    config.sync = CG_SPOOL_SYNC_ALWAYS;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_writer *other = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    append(writer, "a", run, 1, 2, 1);
    for (uint64_t sequence = 13; sequence <= 15; sequence++) {
        ck_assert(stage(writer, "a", run, sequence));
    }
    sync_errno = EIO; /* all is written, and yet it is not committed */
    struct cg_error err = {0};
    ck_assert_int_eq(cg_spool_writer_commit(writer, &err), CG_APPEND_FAILED);
    sync_errno = 0;
    append(other, "b", open_run(spool, "b"), 13, 13, 1); /* of the same length as the first */
    cg_spool_writer_close(writer);
    cg_spool_writer_close(other);
    cg_spool_close(spool);
    struct cg_spool_recovery recovery;
    spool = open_spool(&config, &recovery);
    ck_assert_uint_eq(recovery.records, 3);
    cg_spool_close(spool);
}
END_TEST

START_TEST(after_a_failed_sync_appending_moves_to_another_file)
{
    struct cg_spool_config config = test_config();
    config.sync_interval_ns = CG_NS_PER_MS;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    sync_errno = EIO;
    uint64_t sequence = 1;
    struct cg_spool_status status = {.appendable = true};
    append(writer, "a", run, sequence, sequence, 1);
    sequence++;
    while (status.appendable) { /* the committer has yet to find out */
        (void)sched_yield();
        cg_spool_status(spool, &status);
    }
    while (status.segments < 2) {
        append(writer, "a", run, sequence, sequence, 1);
        sequence++;
        cg_spool_status(spool, &status);
    }
    ck_assert_ptr_nonnull(strstr(status.last_error, "sync"));
    sync_errno = 0;
    append(writer, "a", run, sequence, sequence, 1);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    expect(reader, 1, sequence);
    cg_spool_reader_close(reader);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

/* Appends for ever and tells the parent what was committed. */
static void append_until_killed(const struct cg_spool_config *config, int tell_fd)
{
    struct cg_spool *spool = NULL;
    struct cg_spool_recovery recovery;
    struct cg_error err = {0};
    struct cg_spool_writer *writer = NULL;
    struct cg_spool_run *run = NULL;
    if (!cg_spool_open(config, &spool, &recovery, &err) ||
        !cg_spool_writer_open(spool, &writer, &err) ||
        !cg_spool_run_open(spool, CG_BYTES("a"), CG_BYTES("run"), &run, &err)) {
        _exit(1);
    }
    for (uint64_t sequence = cg_spool_run_sequence(run);;) {
        for (unsigned i = 0; i < 7; i++) {
            if (!stage(writer, "a", run, sequence + 1)) {
                break; /* the block is full: commit */
            }
            sequence++;
        }
        if (cg_spool_writer_commit(writer, &err) != CG_APPEND_DONE ||
            write(tell_fd, &sequence, sizeof(sequence)) != (ssize_t)sizeof(sequence)) {
            _exit(3);
        }
    }
}

START_TEST(a_killed_process_loses_nothing_it_committed)
{
    struct cg_spool_config config = test_config();
    config.bytes_max = UINT64_C(1) << 30;
    config.segment_bytes = 128 * 1024;
    uint64_t told = 0;
    for (unsigned round = 1; round <= 8; round++) {
        int pipe_fds[2];
        ck_assert_int_eq(pipe(pipe_fds), 0);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            (void)close(pipe_fds[0]);
            append_until_killed(&config, pipe_fds[1]);
        }
        (void)close(pipe_fds[1]);
        for (unsigned i = 0; i < 37 * round; i++) {
            ck_assert_int_eq(read(pipe_fds[0], &told, sizeof(told)), (ssize_t)sizeof(told));
        }
        ck_assert_int_eq(kill(child, SIGKILL), 0);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        while (read(pipe_fds[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) {
        }
        (void)close(pipe_fds[0]);

        struct cg_spool *spool = open_spool(&config, NULL);
        uint64_t last = cg_spool_run_sequence(open_run(spool, "a"));
        ck_assert_uint_ge(last, told);
        struct cg_spool_reader *reader = open_reader(spool, "central");
        uint64_t first = peek(reader, 1, 1).events[0].meta.sequence;
        expect(reader, first, last);
        ck_assert_uint_eq(peek(reader, 1, 1).count, 0);
        cg_spool_reader_close(reader);
        cg_spool_close(spool);
    }
}
END_TEST

/* --- threads --- */

enum { WRITERS = 3, READERS = 3, PER_WRITER = 8000 };

struct worker {
    struct cg_spool *spool;
    unsigned number;
    _Atomic unsigned *writers_left;
};

static void *write_events(void *argument)
{
    const struct worker *worker = argument;
    char cells[2][16];
    struct cg_spool_run *runs[2];
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(cells[i], sizeof(cells[i]), "cell-%u-%u", worker->number, i);
        runs[i] = open_run(worker->spool, cells[i]);
    }
    struct cg_spool_writer *writer = open_writer(worker->spool);
    for (uint64_t i = 0; i < PER_WRITER; i++) {
        while (!stage(writer, cells[i % 2], runs[i % 2], i / 2 + 1)) {
            enum cg_append result = cg_spool_writer_commit(writer, NULL);
            ck_assert_int_ne(result, CG_APPEND_FAILED);
        }
        if (i % (3 + 40 * worker->number) == 0) {
            ck_assert_int_ne(cg_spool_writer_commit(writer, NULL), CG_APPEND_FAILED);
        }
    }
    while (cg_spool_writer_staged(writer) > 0) {
        ck_assert_int_ne(cg_spool_writer_commit(writer, NULL), CG_APPEND_FAILED);
    }
    cg_spool_writer_close(writer);
    atomic_fetch_sub(worker->writers_left, 1);
    return NULL;
}

static void *read_events(void *argument)
{
    const struct worker *worker = argument;
    char name[16];
    (void)snprintf(name, sizeof(name), "reader-%u", worker->number);
    struct cg_spool_reader *reader = open_reader(worker->spool, name);
    uint64_t next[WRITERS][2] = {{0}};
    uint64_t count = 0;
    uint64_t index = 0;
    while (count < (uint64_t)WRITERS * PER_WRITER) {
        (void)cg_spool_reader_wait(reader, 200, 100000,
                                   cg_clock_monotonic(&cg_clock_system) + CG_NS_PER_MS);
        struct cg_batch batch = peek(reader, 100 + 300 * worker->number, 1 << 19);
        for (size_t i = 0; i < batch.count; i++) {
            const struct cg_event *event = &batch.events[i];
            check_event(event);
            ck_assert_uint_eq(event->index, ++index);
            struct cg_bytes cell = cg_event_get(event, CG_TEXT_CELL);
            uint64_t *expected = &next[cell.data[5] - '0'][cell.data[7] - '0'];
            ck_assert_uint_eq(event->meta.sequence, ++*expected);
        }
        count += batch.count;
        if (batch.count > 1) { /* in two steps, as after a split */
            cg_spool_reader_ack(reader, batch.count / 2);
            batch.count -= batch.count / 2;
        }
        cg_spool_reader_ack(reader, batch.count);
        struct cg_spool_backlog backlog;
        cg_spool_reader_backlog(reader, &backlog);
        ck_assert_uint_eq(backlog.acked_index, count + 1);
        struct cg_spool_status status;
        cg_spool_status(worker->spool, &status);
    }
    cg_spool_reader_close(reader);
    return NULL;
}

START_TEST(many_writers_and_readers_lose_and_double_nothing)
{
    struct cg_spool_config config = test_config();
    config.bytes_max = 8 * 1024 * 1024; /* so that writers meet a full spool */
    config.sync_interval_ns = CG_NS_PER_MS;
    config.dir = _i == 1 ? NULL : config.dir;
    struct cg_spool *spool = open_spool(&config, NULL);
    /* Readers that come first hold the segments until the threads have opened theirs. */
    struct cg_spool_reader *holder = open_reader(spool, "holder");
    _Atomic unsigned writers_left = WRITERS;
    struct worker workers[WRITERS + READERS];
    pthread_t threads[WRITERS + READERS];
    for (unsigned i = 0; i < WRITERS + READERS; i++) {
        bool reads = i < READERS;
        workers[i] = (struct worker){spool, reads ? i : i - READERS, &writers_left};
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, reads ? read_events : write_events, &workers[i]), 0);
    }
    /* The holder follows too, without looking. */
    for (uint64_t count = 0; count < (uint64_t)WRITERS * PER_WRITER;) {
        (void)cg_spool_reader_wait(holder, 1, 1, UINT64_MAX);
        struct cg_batch batch = peek(holder, 10, 1 << 20);
        cg_spool_reader_ack(holder, batch.count);
        count += batch.count;
    }
    for (unsigned i = 0; i < WRITERS + READERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_uint_eq(atomic_load(&writers_left), 0);
    cg_spool_reader_close(holder);
    cg_spool_close(spool);
}
END_TEST

struct sleeper {
    struct cg_spool_reader *reader;
    _Atomic bool woken;
    bool something;
};

static void *wait_for_ever(void *argument)
{
    struct sleeper *sleeper = argument;
    sleeper->something = cg_spool_reader_wait(sleeper->reader, 5, UINT64_MAX, UINT64_MAX);
    atomic_store(&sleeper->woken, true);
    return NULL;
}

START_TEST(a_wait_ends_when_enough_was_committed_or_it_is_interrupted)
{
    struct cg_spool_config config = test_config();
    config.dir = NULL;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *run = open_run(spool, "a");
    struct sleeper sleeper = {.reader = open_reader(spool, "central")};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_ever, &sleeper), 0);
    append(writer, "a", run, 1, 4, 1);
    ck_assert(!atomic_load(&sleeper.woken));
    append(writer, "a", run, 5, 5, 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(sleeper.something);
    expect(sleeper.reader, 1, 5);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_ever, &sleeper), 0);
    cg_spool_reader_interrupt(sleeper.reader);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(!sleeper.something);
    cg_spool_reader_close(sleeper.reader);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("faults");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, make_test_dir, remove_test_dir);
    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, staged_events_survive_a_disk_that_refuses);
    tcase_add_loop_test(tcase, a_place_that_cannot_be_read_is_tried_and_then_passed_as_damage, 1,
                        5);
    tcase_add_test(tcase, a_place_that_can_be_read_again_costs_nothing);
    tcase_add_loop_test(tcase, recovery_cuts_nothing_where_the_newest_segment_cannot_be_read, 0, 2);
    tcase_add_test(tcase, a_segment_whose_file_is_gone_is_passed_as_damage);
    tcase_add_loop_test(tcase, a_failed_sync_is_got_over_also_while_nothing_is_appended, 0, 2);
    tcase_add_test(tcase, a_failing_sync_of_each_commit_publishes_nothing_before_it_is_good);
    tcase_add_test(tcase, a_remainder_of_a_failed_write_never_becomes_an_event);
    tcase_add_test(tcase, after_a_failed_sync_appending_moves_to_another_file);
    tcase_add_test(tcase, a_killed_process_loses_nothing_it_committed);
    tcase_add_loop_test(tcase, many_writers_and_readers_lose_and_double_nothing, 0, 2);
    tcase_add_test(tcase, a_wait_ends_when_enough_was_committed_or_it_is_interrupted);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
