/* test_naming.c - that what the spool gives up, and what damage takes, has a name: run and
 * sequence.
 */
#include "spool_account.h"

#include "spool/record.h"
#include "spool/segment.h"

#include <pthread.h>
#include <stdatomic.h>

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
    name_losses(spool, a, OVERFLOW, account);
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
    name_losses(spool, a, OVERFLOW, account);
    deliver(reader, UINT64_MAX, account);
    ck_assert_uint_gt(check_whole(account, 2000), 500);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), before);
    free(account);
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

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
    name_losses(spool, taker.run, OVERFLOW, account);
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
    name_losses(spool, a, OVERFLOW, account);
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
    name_losses(spool, a, OVERFLOW, again);
    ck_assert(!again->named[1]); /* for all that is known it was told */
    tell(writer, "a", a, 2201);
    deliver(reader, UINT64_MAX, again);
    ck_assert(!again->delivered[2001] && again->delivered[2002]);
    free(again);
    again = calloc(1, sizeof(*again));
    name_losses(spool, a, OVERFLOW | DAMAGE, again);
    ck_assert(again->named[1] && again->named[2001]);
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
    name_losses(spool, a, OVERFLOW, account);
    deliver(reader, UINT64_MAX, account);
    ck_assert_uint_gt(check_whole(account, sequence - 2), 100);
    free(account);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}
END_TEST

/* --- damage --- */

enum { EVENTS = 400, CELLS = 3 }; /* some seven segments */

static const char *const cell_names[CELLS] = {"a", "b", "late"};

/* Events of cells in turn: index i belongs to cell (i - 1) % 2, but for those from 300 on that are
 * also the last cell's, which begins there. */
static unsigned cell_at(uint64_t index)
{
    return index >= 300 ? (unsigned)(index % CELLS) : (unsigned)(index % 2);
}

static uint64_t sequence_at(uint64_t index)
{
    uint64_t sequence = 0;
    for (uint64_t at = 1; at <= index; at++) {
        sequence += cell_at(at) == cell_at(index) ? 1 : 0;
    }
    return sequence;
}

static void make_events(const struct cg_spool_config *config)
{
    struct cg_spool *spool = open_spool(config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_writer *writer = open_writer(spool);
    struct cg_spool_run *runs[CELLS] = {0};
    for (uint64_t index = 1; index <= EVENTS; index++) {
        unsigned cell = cell_at(index);
        if (runs[cell] == NULL) {
            runs[cell] = open_run(spool, cell_names[cell]);
        }
        append(writer, cell_names[cell], runs[cell], sequence_at(index), sequence_at(index), 1);
    }
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}

/* Which segments there are, by their first index; how many. */
static size_t list_segments(uint64_t first_index[32])
{
    size_t count = 0;
    DIR *dir = opendir(spool_path("/segments"));
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        uint64_t index;
        if (cg_segment_parse_name(entry->d_name, &index)) {
            size_t at = count++;
            ck_assert_uint_le(count, 32);
            for (; at > 0 && first_index[at - 1] > index; at--) {
                first_index[at] = first_index[at - 1];
            }
            first_index[at] = index;
        }
    }
    (void)closedir(dir);
    return count;
}

/* Reads everything there is; what was named of each cell, in `accounts`. */
static void read_damaged(const struct cg_spool_config *config, struct account accounts[CELLS])
{
    struct cg_spool *spool = open_spool(config, NULL);
    struct cg_spool_reader *reader = open_reader(spool, "central");
    struct cg_spool_run *runs[CELLS];
    for (unsigned cell = 0; cell < CELLS; cell++) {
        runs[cell] = open_run(spool, cell_names[cell]);
    }
    uint64_t before = 0;
    while (cg_spool_reader_wait(reader, 1, 1, 0)) {
        struct cg_batch batch = peek(reader, 7, 1 << 20);
        for (size_t i = 0; i < batch.count; i++) {
            const struct cg_event *event = &batch.events[i];
            check_event(event);
            ck_assert_uint_gt(event->index, before);
            before = event->index;
            accounts[cell_at(before)].delivered[event->meta.sequence] = true;
        }
        cg_spool_reader_ack(reader, batch.count);
    }
    for (unsigned cell = 0; cell < CELLS; cell++) {
        name_losses(spool, runs[cell], DAMAGE, &accounts[cell]);
    }
    for (uint64_t index = 1; index <= EVENTS; index++) {
        const struct account *account = &accounts[cell_at(index)];
        uint64_t sequence = sequence_at(index);
        ck_assert_msg(account->delivered[sequence] || account->named[sequence],
                      "index %" PRIu64 " is lost without a name", index);
    }
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
}

static uint64_t named_for_nothing(const struct account accounts[CELLS])
{
    uint64_t count = 0;
    for (unsigned cell = 0; cell < CELLS; cell++) {
        for (uint64_t sequence = 1; sequence < SEQUENCES_MAX; sequence++) {
            count += accounts[cell].named[sequence] && accounts[cell].delivered[sequence] ? 1 : 0;
        }
    }
    return count;
}

START_TEST(what_damaged_records_held_is_named_exactly)
{
    struct cg_spool_config config = tight_config();
    make_events(&config);
    uint64_t segments[32];
    size_t count = list_segments(segments);
    ck_assert_uint_ge(count, 4);
    static struct account accounts[CELLS];
    /* One, a stretch of both cells, and the last and first of two segments. */
    uint64_t damaged[] = {5, 61, 62, 63, 64, segments[2] - 1, segments[2], 299, 300, 301, 302, 303};
    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        if (damaged[i] < segments[count - 1]) {
            damage_event(damaged[i]);
        }
    }
    read_damaged(&config, accounts);
    ck_assert(accounts[cell_at(5)].named[sequence_at(5)]);
    ck_assert(accounts[cell_at(62)].named[sequence_at(62)]);
    ck_assert_uint_eq(named_for_nothing(accounts), 0);

    /* Nobody has told it, and the reader has passed it: the next process still knows. */
    static struct account later[CELLS];
    struct cg_spool *spool = open_spool(&config, NULL);
    for (unsigned cell = 0; cell < CELLS; cell++) {
        name_losses(spool, open_run(spool, cell_names[cell]), DAMAGE, &later[cell]);
        ck_assert_int_eq(memcmp(later[cell].named, accounts[cell].named, SEQUENCES_MAX), 0);
    }
    cg_spool_close(spool);
}
END_TEST

static void read_to_end(struct cg_spool *spool, const char *name)
{
    struct cg_spool_reader *reader = open_reader(spool, name);
    while (cg_spool_reader_wait(reader, 1, 1, 0)) {
        cg_spool_reader_ack(reader, peek(reader, 7, 1 << 20).count);
    }
    cg_spool_reader_close(reader);
}

START_TEST(damage_behind_the_reader_that_is_ahead_is_counted_and_named_once_each)
{
    struct cg_spool_config config = tight_config();
    make_events(&config);
    struct cg_spool *spool = open_spool(&config, NULL);
    struct cg_spool_reader *ahead = open_reader(spool, "ahead");
    while (cg_spool_reader_wait(ahead, 1, 1, 0)) {
        struct cg_batch batch = peek(ahead, 10, 1 << 20);
        if (batch.events[0].index > 100) {
            break;
        }
        cg_spool_reader_ack(ahead, batch.count);
    }
    cg_spool_reader_close(ahead);
    cg_spool_close(spool);
    damage_event(20);
    damage_event(150);

    uint64_t before = cg_metric_get(CG_SERIES_events_dropped_damage);
    static struct account account;
    spool = open_spool(&config, NULL);
    struct cg_spool_run *a = open_run(spool, cell_names[0]);
    read_to_end(spool, "ahead");
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), before + 1);
    read_to_end(spool, "central");
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_events_dropped_damage), before + 2);
    name_losses(spool, a, DAMAGE, &account);
    ck_assert(account.named[sequence_at(20)] && account.named[sequence_at(150)]);
    cg_spool_close(spool);
}
END_TEST

/* The segment's header is gone, and so is all that was in it. */
static void damage_segment(uint64_t first_index)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "/segments/%020" PRIu64 ".seg", first_index);
    int fd = open(spool_path(name), O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "x", 1, 0), 1);
    (void)close(fd);
}

START_TEST(what_a_damaged_segment_held_is_named_exactly_if_there_is_one_before_it)
{
    struct cg_spool_config config = tight_config();
    make_events(&config);
    uint64_t segments[32];
    size_t count = list_segments(segments);
    ck_assert_uint_ge(count, 4);
    size_t which = _i == 0 ? 1 : count - 2;
    damage_segment(segments[which]);
    static struct account accounts[CELLS];
    memset(accounts, 0, sizeof(accounts));
    read_damaged(&config, accounts);
    uint64_t last = segments[which + 1] - 1;
    ck_assert(accounts[cell_at(last)].named[sequence_at(last)]);
    ck_assert_uint_eq(named_for_nothing(accounts), 0);
}
END_TEST

START_TEST(what_the_oldest_segment_held_is_named_when_it_is_damaged)
{
    struct cg_spool_config config = tight_config();
    make_events(&config);
    uint64_t segments[32];
    ck_assert_uint_ge(list_segments(segments), 4);
    damage_segment(segments[0]);
    static struct account accounts[CELLS];
    read_damaged(&config, accounts);
    ck_assert(accounts[cell_at(1)].named[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("naming");
    TCase *tcase = tcase_create("naming");
    tcase_add_checked_fixture(tcase, make_test_dir, remove_test_dir);
    tcase_set_timeout(tcase, 240);
    tcase_add_loop_test(tcase, what_a_full_spool_gives_up_is_counted_and_named_by_run_and_sequence,
                        0, 2);
    tcase_add_test(tcase, a_reader_that_is_opened_again_goes_on_behind_what_was_given_up_meanwhile);
    tcase_add_test(tcase, losses_survive_a_restart_until_the_event_that_tells_them_is_passed);
    tcase_add_test(tcase, what_was_told_in_vain_is_told_again_while_others_look_for_losses);
    tcase_add_test(tcase, losses_are_told_again_when_the_event_that_told_them_is_damaged);
    tcase_add_test(tcase, what_was_given_up_has_a_name_when_a_kill_comes_before_the_next_head);
    tcase_add_test(tcase, what_damaged_records_held_is_named_exactly);
    tcase_add_test(tcase, damage_behind_the_reader_that_is_ahead_is_counted_and_named_once_each);
    tcase_add_loop_test(
        tcase, what_a_damaged_segment_held_is_named_exactly_if_there_is_one_before_it, 0, 2);
    tcase_add_test(tcase, what_the_oldest_segment_held_is_named_when_it_is_damaged);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
