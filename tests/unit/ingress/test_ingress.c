/* The threads of ingress, over real sockets. */
#include "ingress/ingress.h"

#include "unit/ingress/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct cg_cell *cell_a;

static bool has_ended(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

static struct cg_ingress *ingress;
static char top[64];
static char socket_base[PATH_MAX];
static char socket_path[PATH_MAX];

static void set_up_threads(void)
{
    set_up_common();
    (void)snprintf(top, sizeof(top), "/tmp/cellgate-ingress-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    (void)snprintf(socket_base, sizeof(socket_base), "%s/a.vsock", top);
    (void)snprintf(socket_path, sizeof(socket_path), "%s/a.vsock_9001", top);
    config.clock = &cg_clock_system;
    config.connections_max = 2;
    ck_assert_msg(cg_ingress_start(&config, envelope, key, spool, &ingress, &err), "%s", err.text);
    cell_a = add_cell("cell-a", socket_base);
    ck_assert_msg(cg_ingress_listen(ingress, cell_a, &err), "%s", err.text);
}

static void tear_down_threads(void)
{
    cg_ingress_stop(ingress);
    (void)unlink(socket_path);
    ck_assert_int_eq(rmdir(top), 0);
    tear_down_common();
}

/* A guest with blocking calls. */
static int connect_guest(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Waits until the run has `count` events more, and takes them. */
static void await_events(uint64_t count)
{
    uint64_t deadline_ns = cg_clock_monotonic(&cg_clock_system) + 60 * CG_NS_PER_S;
    while (count > 0) {
        ck_assert(cg_spool_reader_wait(events, count, UINT64_MAX, deadline_ns));
        struct cg_batch batch;
        size_t got = take_events(&batch);
        ck_assert_uint_le(got, count);
        count -= got;
    }
}

static void expect_end(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&poll_fd, 1, 60000), 1);
    ck_assert(has_ended(fd));
}

static void send_frame(int fd)
{
    cg_auto_buf struct cg_buf frame;
    cg_buf_init(&frame, 4096);
    put_frame(&frame, 1);
    ck_assert_int_eq(send(fd, frame.data, frame.len, MSG_NOSIGNAL), (ssize_t)frame.len);
}

START_TEST(a_guest_is_heard_and_heard_again_after_it_has_gone)
{
    for (unsigned i = 1; i <= 50; i++) {
        cg_auto_close int guest = connect_guest();
        send_frame(guest);
        await_events(1);
        ck_assert_uint_eq(cell_a->connections_opened, i);
        ck_assert_int_eq(shutdown(guest, SHUT_WR), 0);
        expect_end(guest);
    }
    ck_assert_uint_eq(cell_a->frames, 50);
    ck_assert_uint_eq(cg_ingress_connections(ingress), 0);
}
END_TEST

START_TEST(one_connection_beyond_the_cap_is_closed_at_once_and_counted)
{
    uint64_t refused = cg_metric_get(CG_SERIES_connections_refused_cap);
    cg_auto_close int first = connect_guest();
    cg_auto_close int second = connect_guest();
    cg_auto_close int third = connect_guest();
    expect_end(third);
    ck_assert_uint_eq(cell_a->connections_refused, 1);
    ck_assert_uint_eq(cg_metric_get(CG_SERIES_connections_refused_cap), refused + 1);
    send_frame(first);
    send_frame(second);
    await_events(2);
    ck_assert_uint_eq(cg_ingress_connections(ingress), 2);
}
END_TEST

START_TEST(draining_removes_the_socket_and_keeps_what_was_sent)
{
    cg_auto_close int guest = connect_guest();
    for (unsigned i = 0; i < 500; i++) {
        send_frame(guest);
    }
    cg_auto_close int late = connect_guest();
    send_frame(late);
    cg_ingress_drain(ingress, cg_clock_monotonic(&cg_clock_system) + 60 * CG_NS_PER_S);
    struct stat found;
    ck_assert_int_eq(lstat(socket_path, &found), -1);
    await_events(501);
    ck_assert(has_ended(guest) && has_ended(late));
}
END_TEST

START_TEST(accepting_goes_on_when_descriptors_have_run_out)
{
    uint64_t refused = cg_metric_get(CG_SERIES_connections_refused_descriptors);
    const struct rlimit few = {.rlim_cur = 256, .rlim_max = 256};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    cg_auto_close int guest = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int taken[256];
    size_t count = 0;
    while (count < 256 && (taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        count++;
    }
    ck_assert_int_eq(errno, EMFILE);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", socket_path);
    ck_assert_int_eq(connect(guest, (const struct sockaddr *)&address, sizeof(address)), 0);
    expect_end(guest);
    while (count > 0) {
        (void)close(taken[--count]);
    }
    ck_assert_uint_ge(cg_metric_get(CG_SERIES_connections_refused_descriptors), refused + 1);
    cg_auto_close int next = connect_guest();
    send_frame(next);
    await_events(1);
}
END_TEST

int main(void)
{
    TCase *threads = tcase_create("threads");
    tcase_add_checked_fixture(threads, set_up_threads, tear_down_threads);
    tcase_add_test(threads, a_guest_is_heard_and_heard_again_after_it_has_gone);
    tcase_add_test(threads, one_connection_beyond_the_cap_is_closed_at_once_and_counted);
    tcase_add_test(threads, draining_removes_the_socket_and_keeps_what_was_sent);
    tcase_add_test(threads, accepting_goes_on_when_descriptors_have_run_out);
    tcase_set_timeout(threads, 120);
    Suite *suite = suite_create("ingress/ingress");
    suite_add_tcase(suite, threads);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
