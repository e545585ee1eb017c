/* Windows of numbered events, of which a filter on the cell's id lets some pass. */
#include "delivery/selection.h"

#include <check.h>
#include <stdlib.h>

enum { EVENTS_MAX = 2048 };

static struct cg_event events[EVENTS_MAX];
static const char cells[] = "+-"; /* the texts of a cell that passes, and of one that does not */
static const char *const wanted[] = {"+"};
static const struct cg_filter_rules rules = {.cells = {wanted, 1}};
static struct cg_selection selection;

/* What is read: a `+` passes. */
static struct cg_batch batch_of(const char *pattern)
{
    size_t count = strlen(pattern);
    ck_assert_uint_le(count, EVENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        events[i] = (struct cg_event){.index = 100 + i, .bytes = cg_bytes(cells, 2)};
        events[i].meta.text[CG_TEXT_CELL] =
            (struct cg_event_span){.offset = pattern[i] == '+' ? 0 : 1, .len = 1};
    }
    return (struct cg_batch){.events = events, .count = count, .bytes = 2 * count};
}

static struct cg_batch make(const char *pattern, uint64_t batch_events, uint64_t passed_over)
{
    struct cg_batch read = batch_of(pattern);
    struct cg_batch window;
    uint64_t over = UINT64_MAX;
    ck_assert(cg_selection_make(&selection, &read, batch_events, &window, &over, NULL));
    ck_assert_uint_eq(over, passed_over);
    ck_assert_uint_eq(window.bytes, 2 * window.count);
    return window;
}

static void setup(void)
{
    cg_selection_init(&selection, &rules);
}

static void teardown(void)
{
    cg_selection_fini(&selection);
}

START_TEST(without_a_filter_what_was_read_is_the_window)
{
    struct cg_selection all;
    struct cg_batch read = batch_of("-+-"), window;
    uint64_t passed_over = 7, count = 10, bytes = 100;
    cg_selection_init(&all, NULL);
    ck_assert(cg_selection_make(&all, &read, 1, &window, &passed_over, NULL));
    ck_assert_ptr_eq(window.events, events);
    ck_assert_uint_eq(window.count, 3);
    ck_assert_uint_eq(passed_over, 0);
    ck_assert_uint_eq(cg_selection_left(&all), 3);
    ck_assert_uint_eq(cg_selection_take(&all, 2), 2);
    ck_assert_uint_eq(cg_selection_left(&all), 1);
    ck_assert_uint_eq(cg_selection_next_index(&all), 102);
    cg_selection_reads(&all, 65536, &count, &bytes);
    ck_assert(count == 10 && bytes == 100);
    cg_selection_fini(&all);
}
END_TEST

START_TEST(an_event_that_passes_takes_those_behind_it_along)
{
    struct cg_batch window = make("--+--+++-", 100, 2);
    ck_assert_uint_eq(window.count, 4);
    ck_assert_uint_eq(window.events[0].index, 102);
    ck_assert_uint_eq(window.events[1].index, 105);
    ck_assert_uint_eq(window.events[3].index, 107);
    ck_assert_uint_eq(cg_selection_left(&selection), 7);
    ck_assert_uint_eq(cg_selection_next_index(&selection), 102);
    ck_assert_uint_eq(cg_selection_take(&selection, 1), 3);
    ck_assert_uint_eq(cg_selection_next_index(&selection), 105);
    ck_assert_uint_eq(cg_selection_take(&selection, 2), 2);
    ck_assert_uint_eq(cg_selection_left(&selection), 2);
    ck_assert_uint_eq(cg_selection_take(&selection, 1), 2);
    ck_assert_uint_eq(cg_selection_left(&selection), 0);
    ck_assert_uint_eq(cg_selection_next_index(&selection), 109);
}
END_TEST

START_TEST(where_nothing_passes_everything_is_passed_over)
{
    struct cg_batch window = make("-----", 100, 5);
    ck_assert_uint_eq(window.count, 0);
    ck_assert_uint_eq(cg_selection_left(&selection), 0);
    window = make("", 100, 0);
    ck_assert_uint_eq(window.count, 0);
}
END_TEST

START_TEST(more_than_a_batch_is_cut_to_whole_batches)
{
    struct cg_batch window = make("+++++++-", 3, 0);
    ck_assert_uint_eq(window.count, 6);
    ck_assert_uint_eq(cg_selection_left(&selection), 6);
    ck_assert_uint_eq(cg_selection_take(&selection, 6), 6); /* the last is read again */
    ck_assert_uint_eq(cg_selection_next_index(&selection), 106);
    window = make("++-", 3, 0);
    ck_assert_uint_eq(window.count, 2);
    window = make("+-+-+-", 3, 0);
    ck_assert_uint_eq(window.count, 3);
    ck_assert_uint_eq(cg_selection_take(&selection, 3), 6);
}
END_TEST

START_TEST(it_reads_as_many_times_more_as_were_lately_read_for_one)
{
    uint64_t count = 10, bytes = 1000;
    cg_selection_reads(&selection, 65536, &count, &bytes);
    ck_assert(count == 10 && bytes == 1000); /* nothing is known yet */
    (void)make("+----+----", 10, 0);
    cg_selection_reads(&selection, 65536, &count, &bytes);
    ck_assert(count == 50 && bytes == 5000);

    count = 10;
    (void)make("----", 10, 4); /* none passed: twice as many the next time */
    cg_selection_reads(&selection, 65536, &count, &bytes);
    ck_assert_uint_eq(count, 100);
    for (int i = 0; i < 70; i++) {
        (void)make("-", 10, 1);
    }
    count = 65000;
    bytes = 1 << 20;
    cg_selection_reads(&selection, 65536, &count, &bytes);
    ck_assert(count == 65536 && bytes == CG_SELECTION_BYTES_MAX);

    bytes = 2 * (uint64_t)CG_SELECTION_BYTES_MAX; /* never less than is wanted */
    cg_selection_reads(&selection, 65536, &count, &bytes);
    ck_assert_uint_eq(bytes, 2 * (uint64_t)CG_SELECTION_BYTES_MAX);
    count = 10;
    (void)make("++++", 10, 0);
    cg_selection_reads(&selection, 65536, &count, &bytes);
    ck_assert_uint_eq(count, 10);
}
END_TEST

START_TEST(however_it_is_taken_every_event_is_acknowledged_once_and_in_order)
{
    char pattern[EVENTS_MAX + 1] = "";
    unsigned seed = 4711;
    for (unsigned round = 0; round < 200; round++) {
        size_t count = 1 + rand_r(&seed) % 1000;
        for (size_t i = 0; i < count; i++) {
            pattern[i] = rand_r(&seed) % (1 + round % 20) == 0 ? '+' : '-';
        }
        pattern[count] = '\0';
        struct cg_batch read = batch_of(pattern), window;
        uint64_t done = 0;
        uint64_t batch_events = 1 + rand_r(&seed) % 100;
        ck_assert(cg_selection_make(&selection, &read, batch_events, &window, &done, NULL));
        for (size_t at = 0; at < window.count;) {
            ck_assert_uint_eq(window.events[at].index, 100 + done);
            size_t take = 1 + rand_r(&seed) % (window.count - at);
            done += cg_selection_take(&selection, take);
            at += take;
        }
        ck_assert_uint_eq(cg_selection_left(&selection), 0);
        ck_assert_uint_le(done, count);
        for (size_t i = done; i < count; i++) {
            ck_assert(window.count > 0 && window.count % batch_events == 0);
        }
    }
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("selection");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, without_a_filter_what_was_read_is_the_window);
    tcase_add_test(tests, an_event_that_passes_takes_those_behind_it_along);
    tcase_add_test(tests, where_nothing_passes_everything_is_passed_over);
    tcase_add_test(tests, more_than_a_batch_is_cut_to_whole_batches);
    tcase_add_test(tests, it_reads_as_many_times_more_as_were_lately_read_for_one);
    tcase_add_test(tests, however_it_is_taken_every_event_is_acknowledged_once_and_in_order);
    Suite *suite = suite_create("delivery/selection");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
