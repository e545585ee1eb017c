#include "ingress/rate.h"

#include "cellgate/clock.h"

#include <check.h>
#include <stdlib.h>

static struct cg_rate rate;
static struct cg_rate_bucket bucket;

static void set_up(void)
{
    rate = cg_rate_make(1000, 50); /* a frame a millisecond, fifty at once */
    cg_rate_bucket_init(&bucket);
}

static bool in_debt(uint64_t now_ms)
{
    return cg_rate_in_debt(&rate, &bucket, now_ms * CG_NS_PER_MS);
}

static void take(uint64_t frames, uint64_t now_ms)
{
    cg_rate_take(&rate, &bucket, frames, now_ms * CG_NS_PER_MS);
}

START_TEST(a_burst_is_free_also_just_after_boot)
{
    take(50, 0);
    ck_assert(!in_debt(0));
}
END_TEST

START_TEST(what_goes_beyond_the_burst_is_paid_by_time)
{
    take(60, 100);
    ck_assert(in_debt(100));
    ck_assert(in_debt(109));
    ck_assert(!in_debt(110));
}
END_TEST

START_TEST(debts_add_up)
{
    take(60, 100);
    take(10, 100);
    ck_assert(in_debt(119));
    ck_assert(!in_debt(120));
}
END_TEST

START_TEST(the_bucket_fills_with_time_but_not_beyond_the_burst)
{
    take(50, 100);
    take(20, 120); /* twenty have come back */
    ck_assert(!in_debt(120));
    take(51, 100000); /* a long rest is worth no more than the burst */
    ck_assert(in_debt(100000));
    ck_assert(!in_debt(100001));
}
END_TEST

START_TEST(in_the_long_run_the_rate_holds)
{
    uint64_t frames = 0;
    for (uint64_t ms = 0; ms < 10000; ms++) {
        if (!in_debt(ms)) {
            take(7, ms);
            frames += 7;
        }
    }
    ck_assert_uint_ge(frames, 10000);
    ck_assert_uint_le(frames, 10000 + 50 + 7);
}
END_TEST

START_TEST(no_rate_is_no_limit)
{
    rate = cg_rate_make(0, 0);
    take(UINT64_MAX, 0);
    ck_assert(!in_debt(0));
}
END_TEST

START_TEST(absurd_numbers_do_not_overflow)
{
    rate = cg_rate_make(1, UINT64_MAX);
    take(UINT64_MAX, 0);
    take(UINT64_MAX, 1);
    ck_assert(in_debt(2));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("rate");
    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, a_burst_is_free_also_just_after_boot);
    tcase_add_test(tcase, what_goes_beyond_the_burst_is_paid_by_time);
    tcase_add_test(tcase, debts_add_up);
    tcase_add_test(tcase, the_bucket_fills_with_time_but_not_beyond_the_burst);
    tcase_add_test(tcase, in_the_long_run_the_rate_holds);
    tcase_add_test(tcase, no_rate_is_no_limit);
    tcase_add_test(tcase, absurd_numbers_do_not_overflow);
    Suite *suite = suite_create("rate");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
