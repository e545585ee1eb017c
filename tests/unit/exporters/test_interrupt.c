#include "exporters/interrupt.h"

#include "cellgate/clock.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { LONG_NS = 3600000000000LL };

/* A thread whose signals are all blocked, as those of the gateway are. */
struct sleeper {
    struct cg_interrupt *interrupt;
    atomic_int stage; /* 1: ready; 2: about to block */
    int pipe[2];
    int failure; /* of read() */
};

static void *block_for_long(void *argument)
{
    struct sleeper *sleeper = argument;
    struct cg_error err = {0};
    ck_assert_msg(cg_interrupt_new(&sleeper->interrupt, &err), "%s", err.text);
    atomic_store(&sleeper->stage, 1);
    ck_assert(cg_interrupt_begin(sleeper->interrupt, LONG_NS));
    atomic_store(&sleeper->stage, 2);
    char byte;
    sleeper->failure = read(sleeper->pipe[0], &byte, 1) < 0 ? errno : 0;
    cg_interrupt_end(sleeper->interrupt);
    ck_assert(!cg_interrupt_begin(sleeper->interrupt, LONG_NS)); /* cancelled is for good */
    return NULL;
}

START_TEST(test_a_blocking_call_ends_when_another_thread_says_so)
{
    struct sleeper sleeper = {0};
    pthread_t thread;
    ck_assert_int_eq(pipe(sleeper.pipe), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, block_for_long, &sleeper), 0);
    while (atomic_load(&sleeper.stage) < 2) {
        (void)poll(NULL, 0, 1);
    }
    cg_interrupt_cancel(sleeper.interrupt);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(sleeper.failure, EINTR);
    cg_interrupt_free(sleeper.interrupt);
    (void)close(sleeper.pipe[0]);
    (void)close(sleeper.pipe[1]);
}
END_TEST

START_TEST(test_a_blocking_call_ends_at_the_deadline)
{
    struct cg_interrupt *interrupt;
    struct cg_error err = {0};
    int ends[2];
    char byte;
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert(cg_interrupt_new(&interrupt, &err));
    ck_assert(cg_interrupt_begin(interrupt, CG_NS_PER_MS));
    ck_assert_int_eq(read(ends[0], &byte, 1), -1);
    ck_assert_int_eq(errno, EINTR);
    cg_interrupt_end(interrupt);
    cg_interrupt_free(interrupt);
    (void)close(ends[0]);
    (void)close(ends[1]);
}
END_TEST

START_TEST(test_outside_a_section_nothing_is_interrupted)
{
    struct cg_interrupt *interrupt;
    struct cg_error err = {0};
    ck_assert(cg_interrupt_new(&interrupt, &err));
    ck_assert(cg_interrupt_begin(interrupt, LONG_NS));
    cg_interrupt_end(interrupt);
    cg_interrupt_cancel(interrupt); /* the signal comes, and stays pending */
    ck_assert_int_eq(poll(NULL, 0, 100), 0);
    ck_assert(!cg_interrupt_begin(interrupt, LONG_NS));
    cg_interrupt_free(interrupt);
}
END_TEST

int main(void)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGURG);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    Suite *suite = suite_create("interrupt");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_a_blocking_call_ends_when_another_thread_says_so);
    tcase_add_test(tcase, test_a_blocking_call_ends_at_the_deadline);
    tcase_add_test(tcase, test_outside_a_section_nothing_is_interrupted);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
