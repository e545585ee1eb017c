/* The table that one gateway leaves the next, and the sockets it speaks of. */
#include "ingress/handover.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct cg_buf table;

static void set_up(void)
{
    cg_buf_init(&table, 1 << 20);
}

static void tear_down(void)
{
    cg_buf_fini(&table);
}

static const struct cg_handover_connection streams[] = {
    {.cookie = 11, .ordinal = 3, .frames = 5, .bytes = 600, .partial = CG_BYTES("\x20\0\0\0ab")},
    {.cookie = 12, .ordinal = 9},
};

static struct cg_handover_cell cell(const char *base, uint32_t connections)
{
    return (struct cg_handover_cell){
        .cell_id = CG_BYTES("cell"),
        .run_id = CG_BYTES("run"),
        .vsock_uds_base = cg_bytes_str(base),
        .cookie = 10,
        .device = 1,
        .inode = 2,
        .mode = 0600,
        .uid = UINT32_MAX,
        .gid = 7,
        .frames = UINT64_MAX,
        .frame_bytes = 21,
        .frames_rejected = 22,
        .connections_refused = 23,
        .last_frame_ns = 24,
        .connections_opened = 25,
        .connections_count = connections,
    };
}

static void make_table(void)
{
    const struct cg_handover_cell first = cell("/b", 2);
    const struct cg_handover_cell second = cell("/a", 0);
    cg_handover_table_begin(99, 2, &table);
    cg_handover_table_add_cell(&first, &table);
    cg_handover_table_add_connection(&streams[0], &table);
    cg_handover_table_add_connection(&streams[1], &table);
    cg_handover_table_add_cell(&second, &table);
    ck_assert(cg_handover_table_seal(&table));
}

START_TEST(a_table_says_what_was_put_into_it)
{
    make_table();
    struct cg_handover_table read;
    struct cg_error err;
    ck_assert(cg_handover_table_read(cg_buf_bytes(&table), &read, &err));
    ck_assert_uint_eq(read.witness_cookie, 99);
    ck_assert_uint_eq(read.cells_count, 2);
    const struct cg_handover_cell *first = &read.cells[0];
    ck_assert(cg_bytes_equal(first->vsock_uds_base, CG_BYTES("/b")));
    ck_assert(cg_bytes_equal(first->cell_id, CG_BYTES("cell")));
    ck_assert(cg_bytes_equal(first->run_id, CG_BYTES("run")));
    ck_assert_uint_eq(first->frames, UINT64_MAX);
    ck_assert_uint_eq(first->uid, UINT32_MAX);
    ck_assert_uint_eq(first->connections_opened, 25);
    ck_assert_uint_eq(first->connections_count, 2);
    ck_assert_uint_eq(first->connections[0].ordinal, 3);
    ck_assert(cg_bytes_equal(first->connections[0].partial, streams[0].partial));
    ck_assert_uint_eq(first->connections[1].cookie, 12);
    ck_assert_uint_eq(first->connections[1].partial.len, 0);
    ck_assert_uint_eq(read.cells[1].connections_count, 0);
    cg_handover_table_fini(&read);
}
END_TEST

START_TEST(a_table_that_was_cut_or_changed_anywhere_is_refused)
{
    make_table();
    struct cg_handover_table read;
    struct cg_error err;
    for (size_t len = 0; len < table.len; len++) {
        ck_assert(!cg_handover_table_read(cg_bytes(table.data, len), &read, &err));
    }
    for (size_t at = 0; at < table.len; at++) {
        table.data[at] ^= 0x40;
        ck_assert(!cg_handover_table_read(cg_buf_bytes(&table), &read, &err));
        table.data[at] ^= 0x40;
    }
    ck_assert(cg_buf_append_char(&table, 'x'));
    ck_assert(!cg_handover_table_read(cg_buf_bytes(&table), &read, &err));
}
END_TEST

/* The sum is right, and the contents are not: whoever wrote it, nothing is believed. */
START_TEST(counts_and_lengths_beyond_the_bytes_allocate_nothing)
{
    struct cg_handover_table read;
    struct cg_error err;
    for (int kind = 0; kind < 4; kind++) {
        cg_buf_clear(&table);
        struct cg_handover_cell one = cell("/a", kind == 1 ? UINT32_MAX : 1);
        one.cell_id = kind == 3 ? CG_BYTES("") : one.cell_id;
        cg_handover_table_begin(1, kind == 0 ? UINT32_MAX : 1, &table);
        cg_handover_table_add_cell(&one, &table);
        cg_handover_table_add_connection(&streams[0], &table);
        if (kind == 2) {
            table.data[table.len - streams[0].partial.len - 1] = 0x7F; /* its length */
        }
        ck_assert(cg_handover_table_seal(&table));
        ck_assert_msg(!cg_handover_table_read(cg_buf_bytes(&table), &read, &err), "%d", kind);
    }
}
END_TEST

START_TEST(sockets_are_matched_by_cookie_and_strangers_closed)
{
    int pair[2], stranger[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, stranger), 0);
    struct cg_handover_cell one = cell("/a", 0);
    one.cookie = cg_handover_cookie(pair[0]);
    ck_assert_uint_ne(one.cookie, 0);
    ck_assert_uint_ne(one.cookie, cg_handover_cookie(pair[1]));
    cg_handover_table_begin(0, 1, &table);
    cg_handover_table_add_cell(&one, &table);
    ck_assert(cg_handover_table_seal(&table));
    struct cg_error err;
    int table_fd = -1;
    ck_assert(cg_handover_keep_table(cg_buf_bytes(&table), &table_fd, &err));
    ck_assert_int_eq(write(table_fd, "x", 1), -1);

    const int fds[] = {stranger[0], pair[0], table_fd, open("/dev/null", O_RDONLY)};
    struct cg_handover *handover = NULL;
    ck_assert(cg_handover_open(fds, 4, &handover, &err));
    ck_assert_ptr_null(cg_handover_find(handover, "/other"));
    const struct cg_handover_cell *found = cg_handover_find(handover, "/a");
    ck_assert_ptr_nonnull(found);
    ck_assert(cg_handover_holds(handover, 1, 2));
    ck_assert(!cg_handover_holds(handover, 2, 1));
    ck_assert_int_eq(cg_handover_take(handover, found->cookie), pair[0]);
    ck_assert_int_eq(cg_handover_take(handover, found->cookie), -1);
    ck_assert_uint_eq(cg_handover_close(handover), 1); /* the stranger */
    char byte;
    ck_assert_int_eq(read(stranger[1], &byte, 1), 0);
    (void)close(stranger[1]);
    (void)close(pair[0]);
    (void)close(pair[1]);
}
END_TEST

START_TEST(without_a_sealed_table_everything_is_closed)
{
    make_table();
    for (int kind = 0; kind < 2; kind++) {
        int pair[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        int memory = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        ck_assert_int_eq(write(memory, table.data, table.len), (ssize_t)table.len);
        const int fds[] = {pair[0], memory};
        if (kind == 1) {
            (void)close(memory); /* none at all */
        }
        struct cg_handover *handover = NULL;
        struct cg_error err;
        ck_assert(!cg_handover_open(fds, kind == 1 ? 1 : 2, &handover, &err));
        char byte;
        ck_assert_int_eq(read(pair[1], &byte, 1), 0);
        (void)close(pair[1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ingress/handover");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_table_says_what_was_put_into_it);
    tcase_add_test(tcase, a_table_that_was_cut_or_changed_anywhere_is_refused);
    tcase_add_test(tcase, counts_and_lengths_beyond_the_bytes_allocate_nothing);
    tcase_add_test(tcase, sockets_are_matched_by_cookie_and_strangers_closed);
    tcase_add_test(tcase, without_a_sealed_table_everything_is_closed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
