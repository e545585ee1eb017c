/* A heap of timers against a plain search, over many random operations. */
#include "base/timers.h"

#include <check.h>
#include <stdlib.h>

enum { TIMERS = 200, ROUNDS = 50000 };

static struct cg_timer timer[TIMERS];
static struct cg_timers timers;

static uint64_t random_state = 1;

static uint32_t draw(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % below;
}

static uint64_t earliest(void)
{
    uint64_t first = CG_TIMER_NEVER;
    for (unsigned i = 0; i < TIMERS; i++) {
        first = timer[i].due_ns < first ? timer[i].due_ns : first;
    }
    return first;
}

static void set_up(void)
{
    timers = (struct cg_timers){0};
    for (unsigned i = 0; i < TIMERS; i++) {
        cg_timer_init(&timer[i]);
    }
}

START_TEST(the_first_is_always_the_earliest)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t due = draw(4) == 0 ? CG_TIMER_NEVER : draw(1000);
        cg_timers_set(&timers, &timer[draw(TIMERS)], due);
        uint64_t first = timers.first == NULL ? CG_TIMER_NEVER : timers.first->due_ns;
        ck_assert_uint_eq(first, earliest());
    }
}
END_TEST

START_TEST(they_come_out_in_order_and_all)
{
    for (unsigned i = 0; i < TIMERS; i++) {
        cg_timers_set(&timers, &timer[i], draw(100));
    }
    uint64_t last = 0;
    unsigned count = 0;
    for (; timers.first != NULL; count++) {
        ck_assert_uint_ge(timers.first->due_ns, last);
        last = timers.first->due_ns;
        cg_timers_set(&timers, timers.first, CG_TIMER_NEVER);
    }
    ck_assert_uint_eq(count, TIMERS);
}
END_TEST

START_TEST(what_is_taken_out_is_in_no_heap)
{
    cg_timers_set(&timers, &timer[0], 5);
    cg_timers_set(&timers, &timer[0], CG_TIMER_NEVER);
    ck_assert_ptr_null(timers.first);
    cg_timers_set(&timers, &timer[0], CG_TIMER_NEVER);
    ck_assert_ptr_null(timers.first);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("timers");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, the_first_is_always_the_earliest);
    tcase_add_test(tcase, they_come_out_in_order_and_all);
    tcase_add_test(tcase, what_is_taken_out_is_in_no_heap);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
