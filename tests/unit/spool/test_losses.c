/* test_losses.c - the account of one run's lost sequences, without a spool. */
#include "spool/losses.h"

#include <check.h>
#include <stdlib.h>

static struct cg_losses *losses;
static struct cg_spool_loss taken[CG_SPOOL_LOSSES_MAX];

static void begin(void)
{
    losses = NULL;
}

static void end(void)
{
    free(losses);
}

static void add(enum cg_spool_loss_reason reason, uint64_t first, uint64_t last)
{
    ck_assert(cg_losses_add(&losses, reason, first, last));
}

static void check_taken(size_t at, enum cg_spool_loss_reason reason, uint64_t first, uint64_t last)
{
    ck_assert_int_eq(taken[at].reason, reason);
    ck_assert_uint_eq(taken[at].first, first);
    ck_assert_uint_eq(taken[at].last, last);
}

START_TEST(ranges_of_one_reason_that_touch_are_joined)
{
    add(CG_SPOOL_LOSS_OVERFLOW, 5, 7);
    add(CG_SPOOL_LOSS_OVERFLOW, 8, 9);
    add(CG_SPOOL_LOSS_QUOTA, 10, 12);
    add(CG_SPOOL_LOSS_OVERFLOW, 1, 4);
    add(CG_SPOOL_LOSS_QUOTA, 11, 20);
    add(CG_SPOOL_LOSS_OVERFLOW, 30, 30);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 3);
    check_taken(0, CG_SPOOL_LOSS_OVERFLOW, 1, 9);
    check_taken(1, CG_SPOOL_LOSS_QUOTA, 10, 20);
    check_taken(2, CG_SPOOL_LOSS_OVERFLOW, 30, 30);
}
END_TEST

START_TEST(what_was_taken_is_not_given_twice_and_nothing_more_before_it_is_told)
{
    add(CG_SPOOL_LOSS_OVERFLOW, 1, 2);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    add(CG_SPOOL_LOSS_OVERFLOW, 3, 4); /* not joined: somebody is telling the other */
    ck_assert_uint_eq(cg_losses_take(losses, taken), 0);
    cg_losses_told(losses, 100);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    check_taken(0, CG_SPOOL_LOSS_OVERFLOW, 3, 4);
}
END_TEST

START_TEST(a_range_is_told_again_when_the_event_that_told_it_is_lost)
{
    add(CG_SPOOL_LOSS_OVERFLOW, 1, 2);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    cg_losses_told(losses, 100);
    cg_losses_untell(losses, 90, 100);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 0);
    cg_losses_untell(losses, 100, 101);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
}
END_TEST

START_TEST(a_range_is_forgotten_when_every_reader_has_passed_the_event_that_told_it)
{
    add(CG_SPOOL_LOSS_POWER, 1, 2);
    cg_losses_pass(losses, UINT64_MAX);
    ck_assert_uint_eq(losses->count, 1);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    cg_losses_told(losses, 100);
    cg_losses_pass(losses, 100);
    ck_assert_uint_eq(losses->count, 1);
    cg_losses_pass(losses, 101);
    ck_assert_uint_eq(losses->count, 0);
}
END_TEST

START_TEST(too_many_ranges_are_joined_so_that_each_number_keeps_its_name)
{
    for (uint64_t i = 1; i <= 5 * CG_SPOOL_LOSSES_MAX; i++) {
        add(i % 7 == 0 ? CG_SPOOL_LOSS_QUOTA : CG_SPOOL_LOSS_OVERFLOW, 10 * i, 10 * i + 3);
        if (i == 9) {
            ck_assert_uint_gt(cg_losses_take(losses, taken), 0);
            cg_losses_told(losses, 1000);
        }
    }
    ck_assert_uint_le(losses->count, CG_SPOOL_LOSSES_MAX);
    for (uint64_t i = 1; i <= 5 * CG_SPOOL_LOSSES_MAX; i++) {
        bool named = false;
        for (size_t at = 0; at < losses->count; at++) {
            named = named ||
                    (losses->ranges[at].first <= 10 * i && losses->ranges[at].last >= 10 * i + 3);
        }
        ck_assert(named);
    }
}
END_TEST

START_TEST(what_was_taken_by_somebody_who_is_gone_is_handed_out_again)
{
    add(CG_SPOOL_LOSS_OVERFLOW, 1, 2);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    add(CG_SPOOL_LOSS_OVERFLOW, 3, 4);
    cg_losses_untake(losses);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    check_taken(0, CG_SPOOL_LOSS_OVERFLOW, 1, 4);
}
END_TEST

START_TEST(a_recovered_range_stands_for_those_within_it_that_were_not_told)
{
    add(CG_SPOOL_LOSS_DAMAGE, 1, 2);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    cg_losses_told(losses, 100);
    add(CG_SPOOL_LOSS_DAMAGE, 4, 5);
    add(CG_SPOOL_LOSS_DAMAGE, 7, 8);
    add(CG_SPOOL_LOSS_QUOTA, 4, 5);
    const struct cg_loss_range wide = {
        .first = 1, .last = 8, .reason = CG_SPOOL_LOSS_DAMAGE, .state = CG_LOSS_TAKEN};
    ck_assert(cg_losses_recover(&losses, &wide));
    ck_assert_uint_eq(losses->count, 3); /* what was told, what has another reason, and this */
    cg_losses_recover_told(losses, 200); /* what was taken, and nothing else */
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    check_taken(0, CG_SPOOL_LOSS_QUOTA, 4, 5);
    cg_losses_untake(losses);
    cg_losses_told(losses, 300); /* nobody had taken it */
    ck_assert_uint_eq(cg_losses_take(losses, taken), 1);
    cg_losses_untake(losses);
    cg_losses_recover_told(losses, 300);
    ck_assert_uint_eq(cg_losses_take(losses, taken), 0);
}
END_TEST

START_TEST(a_run_without_losses_has_nothing_to_tell)
{
    cg_losses_told(NULL, 1);
    cg_losses_untell(NULL, 1, 2);
    cg_losses_pass(NULL, 1);
    ck_assert_uint_eq(cg_losses_take(NULL, taken), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("losses");
    TCase *tcase = tcase_create("losses");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, ranges_of_one_reason_that_touch_are_joined);
    tcase_add_test(tcase, what_was_taken_is_not_given_twice_and_nothing_more_before_it_is_told);
    tcase_add_test(tcase, a_range_is_told_again_when_the_event_that_told_it_is_lost);
    tcase_add_test(tcase, a_range_is_forgotten_when_every_reader_has_passed_the_event_that_told_it);
    tcase_add_test(tcase, too_many_ranges_are_joined_so_that_each_number_keeps_its_name);
    tcase_add_test(tcase, what_was_taken_by_somebody_who_is_gone_is_handed_out_again);
    tcase_add_test(tcase, a_recovered_range_stands_for_those_within_it_that_were_not_told);
    tcase_add_test(tcase, a_run_without_losses_has_nothing_to_tell);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
