/* test_limits.c - a cell's share, a reader's quota, and what a full spool gives up: who is held to
 * what, and that everything given up has a name. */
#include "spool_support.h"

#include "spool/record.h"
#include "spool/segment.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

static struct cg_spool_config tight_config(void)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 512 * 1024;
    config.sync = CG_SPOOL_SYNC_NEVER;
    return config;
}

/* --- what is named --- */

enum { SEQUENCES_MAX = 20000 };

/* Of one run: what was delivered, and what was named as lost. */
struct account {
    bool delivered[SEQUENCES_MAX];
    bool named[SEQUENCES_MAX];
};

static void name_losses(struct cg_spool *spool, struct cg_spool_run *run,
                        enum cg_spool_loss_reason reason, struct account *account)
{
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    size_t count = cg_spool_run_take_losses(spool, run, losses);
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(losses[i].reason, reason);
        ck_assert_uint_le(losses[i].first, losses[i].last);
        ck_assert_uint_lt(losses[i].last, SEQUENCES_MAX);
        for (uint64_t sequence = losses[i].first; sequence <= losses[i].last; sequence++) {
            account->named[sequence] = true;
        }
    }
}

static void deliver(struct cg_spool_reader *reader, uint64_t events, struct account *of_a)
{
    while (events > 0) {
        struct cg_batch batch = peek(reader, events < 100 ? events : 100, 1 << 20);
        if (batch.count == 0) {
            return;
        }
        for (size_t i = 0; i < batch.count; i++) {
            check_event(&batch.events[i]);
            if (cg_bytes_equal(cg_event_get(&batch.events[i], CG_TEXT_CELL), CG_BYTES("a"))) {
                of_a->delivered[batch.events[i].meta.sequence] = true;
            }
        }
        cg_spool_reader_ack(reader, batch.count);
        events -= batch.count;
    }
}

static uint64_t check_whole(const struct account *account, uint64_t last)
{
    uint64_t named = 0;
    for (uint64_t sequence = 1; sequence <= last; sequence++) {
        ck_assert_msg(account->delivered[sequence] || account->named[sequence],
                      "%" PRIu64 " is lost without a name", sequence);
        named += account->named[sequence] && !account->delivered[sequence] ? 1 : 0;
    }
    return named;
}

START_TEST(what_a_full_spool_gives_up_is_counted_and_named_by_run_and_sequence)
{
    struct cg_spool_config config = tight_config();
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    config.dir = _i == 0 ? config.dir : NULL;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    struct cg_spool_run *b = open_run(spool, "b");
    struct account *account = calloc(1, sizeof(*account));
    uint64_t before = cg_metric_get(CG_SERIES_events_dropped_overflow);
    for (uint64_t sequence = 1; sequence <= 4000; sequence += 10) {
        append(writer, "a", a, sequence, sequence + 9, 10);
        append(writer, "b", b, sequence, sequence + 9, 10);
        if (sequence % 700 == 1) {
            deliver(reader, 123, account); /* so that drops begin in the middle of a segment */
        }
    }
    name_losses(spool, a, CG_SPOOL_LOSS_OVERFLOW, account);
    deliver(reader, UINT64_MAX, account);
    uint64_t named = check_whole(account, 4000);
    uint64_t dropped = cg_metric_get(CG_SERIES_events_dropped_overflow) - before;
    ck_assert_uint_gt(named, 1000);
    ck_assert_uint_ge(dropped, 2 * named - 200); /* of both runs, which took turns */
    struct cg_spool_backlog backlog;
    cg_spool_reader_backlog(reader, &backlog);
    ck_assert_uint_eq(backlog.dropped_events, dropped);
    free(account);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_reader_that_is_opened_again_goes_on_behind_what_was_given_up_meanwhile)
{
    struct cg_spool_config config = tight_config();
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    struct account *account = calloc(1, sizeof(*account));
    uint64_t before = cg_metric_get(CG_SERIES_events_dropped_damage);
    append(writer, "a", a, 1, 100, 10);
    deliver(reader, 10, account);
    cg_spool_reader_close(reader);
    append(writer, "a", a, 101, 2000, 10);
    reader = open_reader(spool, "central");
    name_losses(spool, a, CG_SPOOL_LOSS_OVERFLOW, account);
    deliver(reader, UINT64_MAX, account);
    ck_assert_uint_gt(check_whole(account, 2000), 500);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), before);
    free(account);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

/* An event that tells what its run had lost. */
static void tell(struct cg_spool_writer *writer, const char *cell, struct cg_spool_run *run,
                 uint64_t sequence)
{
    char *out = cg_spool_writer_begin(writer);
    ck_assert_ptr_nonnull(out);
    struct cg_event_meta meta;
    size_t len = render_event(out, cell, sequence, &meta);
    meta.tells_losses = true;
    cg_spool_writer_end(writer, len, &meta, run);
    commit(writer);
}

START_TEST(losses_survive_a_restart_until_the_event_that_tells_them_is_passed)
{
    struct cg_spool_config config = tight_config();
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    append(writer, "a", a, 1, 2000, 10);
    ck_assert_uint_eq(cg_spool_run_take_losses(spool, a, losses), 1);
    ck_assert_uint_eq(losses[0].first, 1);
    uint64_t last = losses[0].last;
    for (unsigned round = 0; round < 3; round++) {
        cg_spool_writer_close(writer);
        cg_spool_reader_close(reader);
        cg_spool_close(spool);
        spool = open_spool(&config, NULL);
        reader = open_reader(spool, "central");
        writer = open_writer(spool);
        a = open_run(spool, "a");
        if (round < 2) { /* taken, and nobody told */
            ck_assert_uint_eq(cg_spool_run_take_losses(spool, a, losses), 1);
            ck_assert_uint_eq(losses[0].first, 1);
            ck_assert_uint_eq(losses[0].last, last);
        }
        if (round == 1) {
            tell(writer, "a", a, 2001);
        }
    }
    /* It is told by an event in the spool; making room for that one may have cost others. */
    if (cg_spool_run_take_losses(spool, a, losses) > 0) {
        ck_assert_uint_gt(losses[0].first, last);
        tell(writer, "a", a, 2001);
    }
    uint64_t seen = cg_spool_losses(spool);
    append(writer, "a", a, 2002, 4000, 10); /* which pushes it out, undelivered */
    ck_assert_uint_gt(cg_spool_losses(spool), seen);
    ck_assert_uint_eq(cg_spool_run_take_losses(spool, a, losses), 1);
    ck_assert_uint_eq(losses[0].first, 1);
    ck_assert_uint_gt(losses[0].last, 2001);
    tell(writer, "a", a, 4001);
    while (cg_spool_reader_wait(reader, 1, 1, 0)) {
        cg_spool_reader_ack(reader, peek(reader, 100, 1 << 20).count);
    }
    append(writer, "a", a, 4002, 4002, 1);
    ck_assert_uint_eq(cg_spool_run_take_losses(spool, a, losses), 0);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

/* Somebody who takes losses all the time, as other threads' looks may at any moment. */
struct taker {
    struct cg_spool *spool;
    struct cg_spool_run *run;
    atomic_bool over;
    pthread_mutex_t lock;
    size_t count; /* taken and not yet told */
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
};

static void *take_all_the_time(void *argument)
{
    struct taker *taker = argument;
    while (!atomic_load(&taker->over)) {
        struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
        size_t count = cg_spool_run_take_losses(taker->spool, taker->run, losses);
        if (count > 0) { /* nothing more is handed out before that is told */
            pthread_mutex_lock(&taker->lock);
            memcpy(taker->losses, losses, count * sizeof(losses[0]));
            taker->count = count;
            pthread_mutex_unlock(&taker->lock);
        }
    }
    return NULL;
}

struct told {
    size_t count;
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
};

static bool tell_taken(struct taker *taker, struct cg_spool_writer *writer, uint64_t sequence,
                       struct told *told)
{
    pthread_mutex_lock(&taker->lock);
    told->count = taker->count;
    memcpy(told->losses, taker->losses, taker->count * sizeof(taker->losses[0]));
    taker->count = 0;
    pthread_mutex_unlock(&taker->lock);
    if (told->count > 0) {
        tell(writer, "a", taker->run, sequence);
    }
    return told->count > 0;
}

START_TEST(what_was_told_in_vain_is_told_again_while_others_look_for_losses)
{
    struct cg_spool_config config = tight_config();
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct taker taker = {
        .spool = spool, .run = open_run(spool, "a"), .lock = PTHREAD_MUTEX_INITIALIZER};
    struct told *told = calloc(SEQUENCES_MAX, sizeof(*told));
    struct account *account = calloc(1, sizeof(*account));
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, take_all_the_time, &taker), 0);
    uint64_t last = 0;
    while (last < SEQUENCES_MAX - 20) {
        append(writer, "a", taker.run, last + 1, last + 10, 10);
        last += 10;
        last += tell_taken(&taker, writer, last + 1, &told[last + 1]) ? 1 : 0;
    }
    atomic_store(&taker.over, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    last += tell_taken(&taker, writer, last + 1, &told[last + 1]) ? 1 : 0;
    name_losses(spool, taker.run, CG_SPOOL_LOSS_OVERFLOW, account);
    deliver(reader, UINT64_MAX, account);
    for (uint64_t teller = 1; teller <= last; teller++) {
        for (size_t i = 0; account->delivered[teller] && i < told[teller].count; i++) {
            const struct cg_spool_loss *loss = &told[teller].losses[i];
            memset(&account->named[loss->first], true, loss->last - loss->first + 1);
        }
    }
    ck_assert_uint_gt(check_whole(account, last), 10000);
    free(told);
    free(account);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

/* Damages the record of that index, wherever it is. */
static void damage_event(uint64_t index)
{
    static char data[256 * 1024];
    DIR *dir = opendir(spool_path("/segments"));
    ck_assert_ptr_nonnull(dir);
    unsigned found = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        uint64_t first;
        if (!cg_segment_parse_name(entry->d_name, &first) || first > index) {
            continue;
        }
        int fd = openat(dirfd(dir), entry->d_name, O_RDWR);
        ssize_t len = pread(fd, data, sizeof(data) / 2, 0);
        for (ssize_t at = CG_SEGMENT_HEADER_BYTES; at + CG_RECORD_HEADER_BYTES <= len; at += 8) {
            const struct cg_record_header *record = (const void *)(data + at);
            if (record->index == index && cg_record_is_event(record) &&
                record->len <= CG_EVENT_BYTES_MAX && cg_record_whole(record)) {
                ck_assert_int_eq(pwrite(fd, "", 1, at + 9), 1); /* in its checksums */
                found++;
            }
        }
        (void)close(fd);
    }
    (void)closedir(dir);
    ck_assert_uint_eq(found, 1);
}

START_TEST(losses_are_told_again_when_the_event_that_told_them_is_damaged)
{
    struct cg_spool_config config = tight_config();
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    struct account *account = calloc(1, sizeof(*account));
    append(writer, "a", a, 1, 2000, 10);
    name_losses(spool, a, CG_SPOOL_LOSS_OVERFLOW, account);
    ck_assert(account->named[1]);
    tell(writer, "a", a, 2001);
    append(writer, "a", a, 2002, 2200, 10); /* it does not stand in the newest segment any more */
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    damage_event(2001);

    spool = open_spool(&config, NULL);
    reader = open_reader(spool, "central");
    writer = open_writer(spool);
    a = open_run(spool, "a");
    struct account *again = calloc(1, sizeof(*again));
    name_losses(spool, a, CG_SPOOL_LOSS_OVERFLOW, again);
    ck_assert(!again->named[1]); /* for all that is known it was told */
    tell(writer, "a", a, 2201);
    deliver(reader, UINT64_MAX, again);
    ck_assert(!again->delivered[2001] && again->delivered[2002]);
    free(again);
    again = calloc(1, sizeof(*again));
    name_losses(spool, a, CG_SPOOL_LOSS_OVERFLOW, again);
    ck_assert(again->named[1]);
    free(again);
    free(account);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

/* What a kill leaves right after the oldest segment has begun its new life: no head, no event. */
static void behead(uint64_t first_index)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/segments/%020" PRIu64 ".seg", first_index);
    ck_assert_int_eq(truncate(spool_path(path), 128), 0);
}

START_TEST(what_was_given_up_has_a_name_when_a_kill_comes_before_the_next_head)
{
    struct cg_spool_config config = tight_config();
    config.when_full = CG_SPOOL_FULL_DROP_OLDEST;
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *a = open_run(spool, "a");
    struct account *account = calloc(1, sizeof(*account));
    uint64_t sequence = 1;
    while (cg_metric_get(CG_SERIES_events_dropped_overflow) == 0) {
        append(writer, "a", a, sequence, sequence, 1);
        sequence++;
    }
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    behead(sequence - 1);

    spool = open_spool(&config, NULL);
    reader = open_reader(spool, "central");
    a = open_run(spool, "a");
    name_losses(spool, a, CG_SPOOL_LOSS_OVERFLOW, account);
    deliver(reader, UINT64_MAX, account);
    ck_assert_uint_gt(check_whole(account, sequence - 2), 100);
    free(account);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

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
    name_losses(spool, run, CG_SPOOL_LOSS_QUOTA, of_dead);
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
    tcase_add_loop_test(tcase, what_a_full_spool_gives_up_is_counted_and_named_by_run_and_sequence,
                        0, 2);
    tcase_add_test(tcase, what_was_told_in_vain_is_told_again_while_others_look_for_losses);
    tcase_add_test(tcase, losses_are_told_again_when_the_event_that_told_them_is_damaged);
    tcase_add_test(tcase, what_was_given_up_has_a_name_when_a_kill_comes_before_the_next_head);
    tcase_add_test(tcase, a_reader_that_is_opened_again_goes_on_behind_what_was_given_up_meanwhile);
    tcase_add_test(tcase, losses_survive_a_restart_until_the_event_that_tells_them_is_passed);
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
