/* test_tap.c - looking at the tail without a claim to it. */
#include "spool_support.h"

#include "spool/internal.h"

#include <pthread.h>
#include <stdatomic.h>

static struct cg_spool *spool;
static struct cg_spool_reader *reader;
static struct cg_spool_writer *writer;
static struct cg_spool_run *run;
static struct cg_spool_tap *tap;

static void setup(void)
{
    make_test_dir();
    struct cg_spool_config config = test_config();
    spool = open_spool(&config, NULL);
    reader = open_reader(spool, "central");
    writer = open_writer(spool);
    run = open_run(spool, "a");
    tap = NULL;
}

static void teardown(void)
{
    if (tap != NULL) {
        cg_spool_tap_close(tap);
    }
    cg_spool_writer_close(writer);
    cg_spool_reader_close(reader);
    cg_spool_close(spool);
    remove_test_dir();
}

static struct cg_spool_tap *open_tap(void)
{
    struct cg_error err = {0};
    struct cg_spool_tap *opened = NULL;
    bool too_many = false;
    ck_assert_msg(cg_spool_tap_open(spool, &opened, &too_many, &err), "%s", err.text);
    return opened;
}

/* Looks once and passes up to `count` events, which must begin with sequence `first`; returns how
 * many it passed. */
static size_t look(uint64_t first, size_t count, uint64_t *ret_skipped)
{
    const struct cg_event *events = NULL;
    size_t there = cg_spool_tap_look(tap, &events, ret_skipped);
    if (there == 0) {
        return 0;
    }
    count = there < count ? there : count;
    for (size_t i = 0; i < count; i++) {
        check_event(&events[i]);
        ck_assert_uint_eq(events[i].meta.sequence, first + *ret_skipped + i);
    }
    cg_spool_tap_pass(tap, count);
    return count;
}

static void expect_nothing(void)
{
    uint64_t skipped = 1;
    ck_assert_uint_eq(look(0, 1, &skipped), 0);
    ck_assert_uint_eq(skipped, 0);
}

static void expect_seen(uint64_t first, uint64_t last, size_t at_once)
{
    while (first <= last) {
        uint64_t skipped = 1;
        size_t seen =
            look(first, last - first + 1 < at_once ? last - first + 1 : at_once, &skipped);
        ck_assert_uint_gt(seen, 0);
        ck_assert_uint_eq(skipped, 0);
        first += seen;
    }
}

START_TEST(a_tap_sees_what_is_committed_after_it_was_opened)
{
    append(writer, "a", run, 1, 10, 3);
    tap = open_tap();
    expect_nothing();
    append(writer, "a", run, 11, 200, 7);
    expect_seen(11, 200, 1000);
    expect_nothing();
    append(writer, "a", run, 201, 2000, 10);
    expect_seen(201, 2000, 17); /* some of a look only: the others come again */
    expect_nothing();
}
END_TEST

START_TEST(a_tap_sees_what_readers_have_passed_already)
{
    tap = open_tap();
    append(writer, "a", run, 1, 500, 10);
    expect(reader, 1, 500);
    append(writer, "a", run, 501, 1000, 10);
    expect(reader, 501, 1000);
    expect_seen(1, 1000, 100);
    expect_nothing();
    ck_assert_uint_eq(spool->tail.count, 0); /* and then nobody wants it */
}
END_TEST

START_TEST(a_tap_that_does_not_look_holds_nothing_and_is_told_what_it_lost)
{
    enum { EVENTS = 100000 }; /* 50 MB, in a spool of 16 */
    tap = open_tap();
    for (uint64_t first = 1; first <= EVENTS; first += 1000) {
        append(writer, "a", run, first, first + 999, 100);
        expect(reader, first, first + 999);
        ck_assert_uint_le(spool->tail.blocks, CG_TAIL_BLOCKS_MAX);
    }
    struct cg_spool_status status;
    cg_spool_status(spool, &status);
    ck_assert_uint_le(status.segments, 3);
    uint64_t kept = 0;
    for (size_t i = 0; i < spool->tail.count; i++) {
        kept += spool->tail.extents[(spool->tail.first + i) % CG_TAIL_EXTENTS_MAX].len;
    }
    ck_assert_uint_le(kept, CG_SPOOL_TAP_LAG_BYTES_MAX + CG_BLOCK_BYTES);

    uint64_t next = 1, lost = 0, skipped = 0;
    for (size_t seen; (seen = look(next, 256, &skipped)) > 0;) {
        ck_assert(lost == 0 || skipped == 0); /* told once, at the beginning */
        lost += skipped;
        next += skipped + seen;
    }
    ck_assert_uint_gt(lost, EVENTS / 2);
    ck_assert_uint_eq(next, EVENTS + 1);
}
END_TEST

START_TEST(a_reader_that_is_behind_loses_nothing_by_a_tap)
{
    tap = open_tap();
    append(writer, "a", run, 1, 20000, 100);
    expect(reader, 1, 10000);
    append(writer, "a", run, 20001, 22000, 100);
    expect(reader, 10001, 22000);
}
END_TEST

START_TEST(there_is_room_for_so_many_taps)
{
    struct cg_spool_tap *taps[CG_SPOOL_TAPS_MAX];
    struct cg_error err = {0};
    bool too_many = false;
    for (unsigned i = 0; i < CG_SPOOL_TAPS_MAX; i++) {
        taps[i] = open_tap();
    }
    ck_assert(!cg_spool_tap_open(spool, &tap, &too_many, &err));
    ck_assert(too_many);
    cg_spool_tap_close(taps[3]);
    taps[3] = open_tap();
    append(writer, "a", run, 1, 10, 10);
    for (unsigned i = 0; i < CG_SPOOL_TAPS_MAX; i++) {
        tap = taps[i];
        expect_seen(1, 10, 100);
        cg_spool_tap_close(tap);
    }
    tap = NULL;
}
END_TEST

START_TEST(a_tap_is_closed_with_what_it_has_borrowed)
{
    const struct cg_event *events = NULL;
    uint64_t skipped = 0;
    tap = open_tap();
    append(writer, "a", run, 1, 10, 10);
    ck_assert_uint_eq(cg_spool_tap_look(tap, &events, &skipped), 10);
    cg_spool_tap_close(tap);
    tap = NULL;
    expect(reader, 1, 10);
    ck_assert_uint_eq(spool->tail.count, 0);
}
END_TEST

/* --- all at once --- */

enum { RACE_EVENTS = 50000 };
static _Atomic bool written;

static void *write_all(void *unused)
{
    (void)unused;
    append(writer, "a", run, 1, RACE_EVENTS, 20);
    atomic_store(&written, true);
    return NULL;
}

static void *read_all(void *unused)
{
    (void)unused;
    for (uint64_t next = 1; next <= RACE_EVENTS;) {
        (void)cg_spool_reader_wait(reader, 1, UINT64_MAX, UINT64_MAX);
        struct cg_batch batch = peek(reader, 1000, 1 << 20);
        next += batch.count;
        cg_spool_reader_ack(reader, batch.count);
    }
    return NULL;
}

START_TEST(a_tap_looks_on_while_others_write_and_read)
{
    pthread_t threads[2];
    tap = open_tap();
    ck_assert_int_eq(pthread_create(&threads[0], NULL, write_all, NULL), 0);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, read_all, NULL), 0);
    uint64_t next = 1;
    for (bool last = false; !last;) {
        uint64_t skipped = 0;
        last = atomic_load(&written); /* asked before the look that finds nothing */
        for (size_t seen; (seen = look(next, 100, &skipped)) > 0 || skipped > 0;) {
            next += skipped + seen;
        }
    }
    ck_assert_uint_eq(next, RACE_EVENTS + 1);
    ck_assert_int_eq(pthread_join(threads[0], NULL), 0);
    ck_assert_int_eq(pthread_join(threads[1], NULL), 0);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("tap");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_tap_sees_what_is_committed_after_it_was_opened);
    tcase_add_test(tests, a_tap_sees_what_readers_have_passed_already);
    tcase_add_test(tests, a_tap_that_does_not_look_holds_nothing_and_is_told_what_it_lost);
    tcase_add_test(tests, a_reader_that_is_behind_loses_nothing_by_a_tap);
    tcase_add_test(tests, there_is_room_for_so_many_taps);
    tcase_add_test(tests, a_tap_is_closed_with_what_it_has_borrowed);
    tcase_add_test(tests, a_tap_looks_on_while_others_write_and_read);
    Suite *suite = suite_create("spool/tap");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
