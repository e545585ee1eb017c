#include "base/loop.h"

#include "base/list.h"
#include "cellgate/clock.h"

#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct cg_loop loop;
static struct cg_loop_ready ready;
static int ends[2];
static struct cg_error err;

static void set_up(void)
{
    ck_assert_msg(cg_loop_init(&loop, &err), "%s", err.text);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void tear_down(void)
{
    cg_loop_fini(&loop);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

START_TEST(what_can_be_read_is_reported_by_its_data_until_it_is_read)
{
    ck_assert(cg_loop_add(&loop, ends[0], &ends, &err));
    cg_loop_wait(&loop, 0, 0, &ready);
    ck_assert_uint_eq(ready.count, 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    for (int i = 0; i < 2; i++) {
        cg_loop_wait(&loop, 0, UINT64_MAX, &ready);
        ck_assert_uint_eq(ready.count, 1);
        ck_assert_ptr_eq(ready.data[0], &ends);
        ck_assert(!ready.woken);
    }
    cg_loop_remove(&loop, ends[0]);
    cg_loop_wait(&loop, 0, 0, &ready);
    ck_assert_uint_eq(ready.count, 0);
}
END_TEST

START_TEST(a_wake_up_ends_one_wait_however_often_it_was_given)
{
    cg_loop_wake(&loop);
    cg_loop_wake(&loop);
    cg_loop_wait(&loop, 0, UINT64_MAX, &ready);
    ck_assert(ready.woken);
    ck_assert_uint_eq(ready.count, 0);
    cg_loop_wait(&loop, 0, 0, &ready);
    ck_assert(!ready.woken);
}
END_TEST

START_TEST(a_deadline_ends_a_wait_and_a_past_one_only_looks)
{
    cg_loop_wait(&loop, 5, 6, &ready);
    ck_assert(!ready.woken);
    cg_loop_wait(&loop, 6, 5, &ready);
    ck_assert(!ready.woken);
}
END_TEST

START_TEST(a_pause_hears_wake_ups_only)
{
    ck_assert(cg_loop_add(&loop, ends[0], &ends, &err));
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    cg_loop_pause(&loop, 0, 1, &ready);
    ck_assert_uint_eq(ready.count, 0);
    ck_assert(!ready.woken);
    cg_loop_wake(&loop);
    cg_loop_pause(&loop, 0, UINT64_MAX, &ready);
    ck_assert_uint_eq(ready.count, 0);
    ck_assert(ready.woken);
}
END_TEST

START_TEST(a_descriptor_that_cannot_be_watched_is_an_error)
{
    ck_assert(!cg_loop_add(&loop, -1, &ends, &err));
    ck_assert_str_ne(err.text, "");
}
END_TEST

struct item {
    int number;
    struct cg_list node;
};

START_TEST(a_list_keeps_its_order_and_lets_go_of_any_node)
{
    struct cg_list head;
    struct item items[3];
    cg_list_init(&head);
    ck_assert(cg_list_is_empty(&head));
    for (int i = 0; i < 3; i++) {
        items[i].number = i;
        cg_list_init(&items[i].node);
        ck_assert(!cg_list_is_linked(&items[i].node));
        cg_list_append(&head, &items[i].node);
        ck_assert(cg_list_is_linked(&items[i].node));
    }
    cg_list_remove(&items[1].node);
    ck_assert(!cg_list_is_linked(&items[1].node));
    cg_list_remove(&items[1].node);
    ck_assert_int_eq(CG_LIST_ENTRY(head.next, struct item, node)->number, 0);
    ck_assert_int_eq(CG_LIST_ENTRY(head.prev, struct item, node)->number, 2);

    struct item moved = items[0];
    cg_list_moved(&moved.node);
    ck_assert_ptr_eq(head.next, &moved.node);
    ck_assert_ptr_eq(items[2].node.prev, &moved.node);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("loop");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_can_be_read_is_reported_by_its_data_until_it_is_read);
    tcase_add_test(tcase, a_wake_up_ends_one_wait_however_often_it_was_given);
    tcase_add_test(tcase, a_deadline_ends_a_wait_and_a_past_one_only_looks);
    tcase_add_test(tcase, a_pause_hears_wake_ups_only);
    tcase_add_test(tcase, a_descriptor_that_cannot_be_watched_is_an_error);
    tcase_add_test(tcase, a_list_keeps_its_order_and_lets_go_of_any_node);
    Suite *suite = suite_create("base/loop");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
