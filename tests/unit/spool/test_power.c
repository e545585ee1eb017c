/* test_power.c - what another boot means for the numbers of runs: after a power cut they skip,
 * after a kill or a clean end they do not. */
#include "spool_support.h"

#include <sys/wait.h>

static const uint8_t monday[16] = {1, 2, 3};
static const uint8_t tuesday[16] = {4, 5, 6};
enum { SKIP = 1 << 20 };

static struct cg_spool_config config_of(const uint8_t *boot_id)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.boot_id = boot_id;
    return config;
}

/* In a process that ends without closing the spool: runs a and b up to these sequences. */
static void append_and_die(const struct cg_spool_config *config, uint64_t from, uint64_t to)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct cg_spool *spool = open_spool(config, NULL);
        struct cg_spool_writer *writer = open_writer(spool);
        append(writer, "a", open_run(spool, "a"), from, to, 10);
        append(writer, "b", open_run(spool, "b"), from, to, 10);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}

static void check_skipped(struct cg_spool *spool, struct cg_spool_run *run, uint64_t before,
                          enum cg_spool_loss_reason reason)
{
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    ck_assert_uint_eq(cg_spool_run_sequence(run), before + SKIP);
    ck_assert_uint_eq(cg_spool_run_take_losses(spool, run, losses), 1);
    ck_assert_int_eq(losses[0].reason, reason);
    ck_assert_uint_eq(losses[0].first, before + 1);
    ck_assert_uint_eq(losses[0].last, before + SKIP);
}

START_TEST(after_a_power_cut_every_live_run_skips_and_the_skipped_range_is_named)
{
    struct cg_spool_config config = config_of(monday);
    append_and_die(&config, 1, 300);
    config = config_of(tuesday);
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert(recovery.power_cut);
    ck_assert_uint_eq(recovery.skipped_runs, 2);
    check_skipped(spool, open_run(spool, "a"), 300, CG_SPOOL_LOSS_POWER);
    check_skipped(spool, open_run(spool, "b"), 300, CG_SPOOL_LOSS_POWER);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_kill_in_the_same_boot_skips_nothing)
{
    struct cg_spool_config config = config_of(monday);
    append_and_die(&config, 1, 300);
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert(!recovery.power_cut);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "a")), 300);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "new")), 0);
    cg_spool_close(spool);
}
END_TEST

static void append_and_close(const struct cg_spool_config *config, uint64_t from, uint64_t to)
{
    struct cg_spool *spool = open_spool(config, NULL);
    struct cg_spool_writer *writer = open_writer(spool);
    append(writer, "a", open_run(spool, "a"), from, to, 10);
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}

START_TEST(a_clean_end_before_another_boot_skips_nothing_and_counts_once)
{
    struct cg_spool_config config = config_of(monday);
    append_and_close(&config, 1, 10);
    config = config_of(tuesday);
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert(!recovery.power_cut);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "a")), 10);
    cg_spool_close(spool);

    append_and_close(&config, 11, 20);
    append_and_die(&config, 1, 300); /* the mark of that clean end is gone now */
    config = config_of(monday);
    spool = open_spool(&config, &recovery);
    ck_assert(recovery.power_cut);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_spool_that_never_syncs_leaves_no_mark_of_a_clean_end)
{
    struct cg_spool_config config = config_of(monday);
    config.sync = CG_SPOOL_SYNC_NEVER;
    append_and_close(&config, 1, 10);
    config.boot_id = tuesday;
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert(recovery.power_cut);
    cg_spool_close(spool);
}
END_TEST

START_TEST(the_skipped_range_is_remembered_until_it_is_told)
{
    struct cg_spool_config config = config_of(monday);
    append_and_die(&config, 1, 300);
    config = config_of(tuesday);
    /* Killed twice in the new boot, once before and once after anything was appended. */
    cg_spool_close(open_spool(&config, NULL));
    append_and_die(&config, 301 + SKIP, 310 + SKIP);
    struct cg_spool_recovery recovery;
    struct cg_spool *spool = open_spool(&config, &recovery);
    ck_assert(!recovery.power_cut);
    struct cg_spool_run *run = open_run(spool, "a");
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    ck_assert_uint_eq(cg_spool_run_sequence(run), 310 + SKIP);
    ck_assert_uint_eq(cg_spool_run_take_losses(spool, run, losses), 1);
    ck_assert_uint_eq(losses[0].first, 301);
    ck_assert_uint_eq(losses[0].last, 300 + SKIP);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_run_whose_records_are_all_gone_skips_too_until_the_runs_are_settled)
{
    struct cg_spool_config config = config_of(monday);
    append_and_die(&config, 1, 300);
    config = config_of(tuesday);
    struct cg_spool *spool = open_spool(&config, NULL);
    check_skipped(spool, open_run(spool, "unknown"), 0, CG_SPOOL_LOSS_POWER);
    cg_spool_runs_settled(spool);
    ck_assert_uint_eq(cg_spool_run_sequence(open_run(spool, "new")), 0);
    cg_spool_close(spool);
}
END_TEST

START_TEST(a_damaged_mark_of_a_clean_end_counts_as_none)
{
    struct cg_spool_config config = config_of(monday);
    append_and_close(&config, 1, 10);
    char mark[64];
    int fd = open(spool_path("/clean"), O_RDWR);
    ck_assert_int_ge(fd, 0);
    ssize_t len = read(fd, mark, sizeof(mark));
    ck_assert_int_gt(len, 0);
    (void)close(fd);
    for (ssize_t cut = 0; cut < 2 * len; cut++) { /* each byte flipped, then each length */
        fd = open(spool_path("/clean"), O_RDWR | O_CREAT | O_TRUNC, 0600);
        ck_assert_int_ge(fd, 0);
        ssize_t kept = cut < len ? len : cut - len;
        if (cut < len) {
            mark[cut] ^= 4;
        }
        ck_assert_int_eq(write(fd, mark, (size_t)kept), kept);
        if (cut < len) {
            mark[cut] ^= 4;
        }
        (void)close(fd);
        config.boot_id = config.boot_id == monday ? tuesday : monday;
        struct cg_spool_recovery recovery;
        struct cg_spool *spool = open_spool(&config, &recovery);
        ck_assert(recovery.power_cut);
        ck_assert_int_ne(access(spool_path("/clean"), F_OK), 0);
        cg_spool_close(spool);
        (void)unlink(spool_path("/clean"));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("power");
    TCase *tcase = tcase_create("power");
    tcase_add_checked_fixture(tcase, make_test_dir, remove_test_dir);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, after_a_power_cut_every_live_run_skips_and_the_skipped_range_is_named);
    tcase_add_test(tcase, a_kill_in_the_same_boot_skips_nothing);
    tcase_add_test(tcase, a_clean_end_before_another_boot_skips_nothing_and_counts_once);
    tcase_add_test(tcase, a_spool_that_never_syncs_leaves_no_mark_of_a_clean_end);
    tcase_add_test(tcase, the_skipped_range_is_remembered_until_it_is_told);
    tcase_add_test(tcase, a_run_whose_records_are_all_gone_skips_too_until_the_runs_are_settled);
    tcase_add_test(tcase, a_damaged_mark_of_a_clean_end_counts_as_none);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
