#include "ingress/listening.h"

#include "cellgate/cleanup.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* A directory of the test's own, and what it makes beneath. */
static char top[64];
static char base[PATH_MAX];
static char path[PATH_MAX];
static struct cg_error err;
static struct cg_listening listening;

static struct cg_listening_request request_for(const char *beneath_top)
{
    ck_assert_int_lt(snprintf(base, sizeof(base), "%s/%s", top, beneath_top), PATH_MAX);
    ck_assert_int_lt(snprintf(path, sizeof(path), "%s_9001", base), PATH_MAX);
    return (struct cg_listening_request){
        .vsock_uds_base = base, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1};
}

static void make_directory(const char *beneath_top)
{
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s/%s", top, beneath_top);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
}

static void set_up(void)
{
    (void)snprintf(top, sizeof(top), "/tmp/cellgate-listening-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    listening = (struct cg_listening){.fd = -1};
    err = (struct cg_error){0};
}

static int remove_one(int dir_fd, const char *name)
{
    return unlinkat(dir_fd, name, 0) == 0 ? 0 : unlinkat(dir_fd, name, AT_REMOVEDIR);
}

static void tear_down(void)
{
    cg_listening_close(&listening);
    /* Two levels are all that the tests make, but for the long one, which cleans up itself. */
    static const char *const names[] = {
        "vm/a.vsock_9001", "vm/other", "vm",     "link",  "a.vsock_9001", "victim",
        "moved",           "record",   "c_9001", "aside", "b.vsock_9001",
    };
    int dir_fd = open(top, O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)remove_one(dir_fd, names[i]);
    }
    (void)close(dir_fd);
    ck_assert_msg(rmdir(top) == 0, "something was left in %s", top);
}

static bool can_connect(const char *to)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert_int_lt(snprintf(address.sun_path, sizeof(address.sun_path), "%s", to),
                     (int)sizeof(address.sun_path));
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

START_TEST(a_guest_can_connect_once_it_is_open)
{
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert_msg(cg_listening_open(&request, NULL, &listening, &err), "%s", err.text);
    ck_assert(can_connect(path));
    struct stat found;
    ck_assert_int_eq(lstat(path, &found), 0);
    ck_assert(S_ISSOCK(found.st_mode));
    ck_assert_uint_eq(found.st_mode & 07777, 0600);
    ck_assert(found.st_dev == listening.device && found.st_ino == listening.inode);
    cg_listening_unlink(&listening, &request);
    ck_assert_int_eq(lstat(path, &found), -1);
}
END_TEST

START_TEST(the_mode_is_the_one_asked_for_whatever_the_umask)
{
    struct cg_listening_request request = request_for("a.vsock");
    request.mode = 0662;
    (void)umask(0077);
    ck_assert_msg(cg_listening_open(&request, NULL, &listening, &err), "%s", err.text);
    struct stat found;
    ck_assert_int_eq(lstat(path, &found), 0);
    ck_assert_uint_eq(found.st_mode & 07777, 0662);
}
END_TEST

START_TEST(the_owner_is_the_one_asked_for_or_it_is_an_error)
{
    struct cg_listening_request request = request_for("a.vsock");
    request.uid = 12345;
    request.gid = 23456;
    bool opened = cg_listening_open(&request, NULL, &listening, &err);
    struct stat found;
    if (geteuid() == 0) {
        ck_assert_msg(opened, "%s", err.text);
        ck_assert_int_eq(lstat(path, &found), 0);
        ck_assert_uint_eq(found.st_uid, 12345);
        ck_assert_uint_eq(found.st_gid, 23456);
    } else {
        ck_assert(!opened);
        ck_assert_ptr_nonnull(strstr(err.text, path));
        ck_assert_int_eq(lstat(path, &found), -1);
    }
}
END_TEST

START_TEST(a_file_that_is_there_is_an_error_and_stays)
{
    struct cg_listening_request request = request_for("a.vsock");
    cg_auto_close int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_ptr_nonnull(strstr(err.text, "exists already"));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_socket_that_is_there_is_an_error_and_stays)
{
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert_msg(cg_listening_open(&request, NULL, &listening, &err), "%s", err.text);
    struct cg_listening second;
    ck_assert(!cg_listening_open(&request, NULL, &second, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "exists already"));
    ck_assert(can_connect(path));
}
END_TEST

START_TEST(a_missing_directory_is_an_error_that_names_the_path)
{
    struct cg_listening_request request = request_for("nowhere/a.vsock");
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, path));
}
END_TEST

START_TEST(a_symlink_to_the_directory_is_refused)
{
    make_directory("vm");
    struct cg_listening_request request = request_for("link/a.vsock");
    char link[PATH_MAX];
    (void)snprintf(link, sizeof(link), "%s/link", top);
    ck_assert_int_eq(symlink("vm", link), 0);
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "symlink"));

    const char *const roots[] = {top};
    request.roots = (struct cg_strings){roots, 1};
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "symlink"));
}
END_TEST

START_TEST(a_symlink_in_the_place_of_the_socket_is_refused_and_its_target_untouched)
{
    struct cg_listening_request request = request_for("a.vsock");
    char victim[PATH_MAX];
    (void)snprintf(victim, sizeof(victim), "%s/victim", top);
    cg_auto_close int fd = open(victim, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(symlink("victim", path), 0);
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "exists already"));
    struct stat found;
    ck_assert_int_eq(fstat(fd, &found), 0);
    ck_assert_uint_eq(found.st_mode & 07777, 0640);
    ck_assert_uint_eq(found.st_uid, geteuid());
}
END_TEST

START_TEST(a_root_that_is_a_symlink_is_the_operators_and_followed)
{
    make_directory("vm");
    char link[PATH_MAX];
    (void)snprintf(link, sizeof(link), "%s/link", top);
    ck_assert_int_eq(symlink("vm", link), 0);
    struct cg_listening_request request = request_for("link/a.vsock");
    const char *const roots[] = {"/nowhere", link};
    request.roots = (struct cg_strings){roots, 2};
    ck_assert_msg(cg_listening_open(&request, NULL, &listening, &err), "%s", err.text);
    ck_assert(can_connect(path));
}
END_TEST

START_TEST(a_path_outside_the_roots_is_refused)
{
    make_directory("vm");
    char root[PATH_MAX];
    (void)snprintf(root, sizeof(root), "%s/v", top); /* a prefix of the name, not a directory */
    struct cg_listening_request request = request_for("vm/a.vsock");
    const char *const roots[] = {root, "/nowhere"};
    request.roots = (struct cg_strings){roots, 2};
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "ingress.roots"));
    ck_assert_ptr_nonnull(strstr(err.text, path));
}
END_TEST

START_TEST(a_socket_directly_in_a_root_with_a_slash_at_its_end_is_beneath_it)
{
    char root[PATH_MAX];
    (void)snprintf(root, sizeof(root), "%s//", top);
    struct cg_listening_request request = request_for("a.vsock");
    const char *const roots[] = {root};
    request.roots = (struct cg_strings){roots, 1};
    ck_assert_msg(cg_listening_open(&request, NULL, &listening, &err), "%s", err.text);
}
END_TEST

START_TEST(a_path_longer_than_a_socket_address_works)
{
    enum { DEPTH = 12 };
    char dirs[DEPTH][1024];
    char at[512] = "";
    for (size_t i = 0; i < DEPTH; i++) {
        size_t len = strlen(at);
        (void)snprintf(at + len, sizeof(at) - len, "%sa-directory-of-a-jail", i == 0 ? "" : "/");
        (void)snprintf(dirs[i], sizeof(dirs[i]), "%s/%s", top, at);
        ck_assert_int_eq(mkdir(dirs[i], 0700), 0);
    }
    size_t len = strlen(at);
    (void)snprintf(at + len, sizeof(at) - len, "/a.vsock");
    struct cg_listening_request request = request_for(at);
    ck_assert_uint_gt(strlen(path), 107);
    bool opened = cg_listening_open(&request, NULL, &listening, &err);
    struct stat found;
    ck_assert_msg(opened, "%s", err.text);
    ck_assert_int_eq(lstat(path, &found), 0);
    cg_listening_unlink(&listening, &request);
    for (size_t i = DEPTH; i > 0; i--) {
        ck_assert_int_eq(rmdir(dirs[i - 1]), 0);
    }
}
END_TEST

START_TEST(a_name_too_long_for_any_socket_address_is_refused)
{
    char name[130];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct cg_listening_request request = request_for(name);
    ck_assert(!cg_listening_open(&request, NULL, &listening, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "too long"));
}
END_TEST

START_TEST(only_what_was_made_is_removed)
{
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert_msg(cg_listening_open(&request, NULL, &listening, &err), "%s", err.text);
    char moved[PATH_MAX];
    (void)snprintf(moved, sizeof(moved), "%s/moved", top);
    ck_assert_int_eq(rename(path, moved), 0);
    struct cg_listening other = {.fd = -1};
    ck_assert(cg_listening_open(&request, NULL, &other, &err));
    cg_listening_unlink(&listening, &request);
    ck_assert(can_connect(path));
    cg_listening_close(&other);
}
END_TEST

/* --- the record --- */

static struct cg_sockets_made *open_record(void)
{
    char record[PATH_MAX];
    (void)snprintf(record, sizeof(record), "%s/record", top);
    struct cg_sockets_made *made = NULL;
    ck_assert_msg(cg_sockets_made_open(record, &made, &err), "%s", err.text);
    return made;
}

START_TEST(a_socket_left_by_a_crash_is_replaced)
{
    struct cg_listening_request request = request_for("a.vsock");
    struct cg_sockets_made *made = open_record();
    ck_assert_msg(cg_listening_open(&request, made, &listening, &err), "%s", err.text);
    cg_listening_close(&listening); /* as the kernel does for a killed process */
    cg_sockets_made_close(made);

    made = open_record();
    ck_assert(!can_connect(path));
    ck_assert_msg(cg_listening_open(&request, made, &listening, &err), "%s", err.text);
    ck_assert(can_connect(path));
    cg_sockets_made_close(made);
}
END_TEST

START_TEST(a_recorded_socket_with_a_listener_stays)
{
    struct cg_listening_request request = request_for("a.vsock");
    struct cg_sockets_made *made = open_record();
    ck_assert(cg_listening_open(&request, made, &listening, &err));
    cg_sockets_made_close(made);
    made = open_record();
    struct cg_listening second;
    ck_assert(!cg_listening_open(&request, made, &second, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "somebody listens"));
    ck_assert(can_connect(path));
    cg_sockets_made_close(made);
}
END_TEST

START_TEST(a_strangers_socket_at_a_recorded_path_stays)
{
    struct cg_listening_request request = request_for("a.vsock");
    struct cg_sockets_made *made = open_record();
    ck_assert(cg_listening_open(&request, made, &listening, &err));
    cg_sockets_made_close(made);
    char aside[PATH_MAX];
    (void)snprintf(aside, sizeof(aside), "%s/aside", top);
    ck_assert_int_eq(rename(path, aside), 0); /* keeps the inode from being used again */
    struct cg_listening other = {.fd = -1};
    ck_assert(cg_listening_open(&request, NULL, &other, &err));
    cg_listening_close(&other);

    made = open_record();
    struct cg_listening second;
    ck_assert(!cg_listening_open(&request, made, &second, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "not ours"));
    ck_assert_int_eq(access(path, F_OK), 0);
    cg_sockets_made_close(made);
}
END_TEST

START_TEST(a_record_survives_cut_and_damaged_lines)
{
    struct cg_listening_request first = request_for("b.vsock");
    struct cg_sockets_made *made = open_record();
    ck_assert(cg_listening_open(&first, made, &listening, &err));
    cg_listening_close(&listening);
    struct cg_listening_request second = request_for("a.vsock");
    ck_assert(cg_listening_open(&second, made, &listening, &err));
    dev_t device = listening.device;
    ino_t inode = listening.inode;
    cg_listening_close(&listening);
    cg_sockets_made_close(made);

    char record[PATH_MAX];
    (void)snprintf(record, sizeof(record), "%s/record", top);
    cg_auto_close int fd = open(record, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, "\xff", 1, 20), 1); /* in the first line, behind its checksum */
    ck_assert_int_gt(lseek(fd, 0, SEEK_END), 0);
    static const char cut[] = "0123456789abcdef 1 2 /tmp/cu";
    ck_assert_int_eq(write(fd, cut, sizeof(cut) - 1), (ssize_t)sizeof(cut) - 1);

    made = open_record();
    ck_assert(cg_sockets_made_has(made, path, device, inode));
    ck_assert(!cg_sockets_made_has(made, path, device, inode + 1));
    char damaged[PATH_MAX];
    (void)snprintf(damaged, sizeof(damaged), "%s/b.vsock_9001", top);
    struct stat found;
    ck_assert_int_eq(lstat(damaged, &found), 0);
    ck_assert(!cg_sockets_made_has(made, damaged, found.st_dev, found.st_ino));
    cg_sockets_made_close(made);
}
END_TEST

START_TEST(a_cleared_record_knows_nothing)
{
    struct cg_listening_request request = request_for("a.vsock");
    struct cg_sockets_made *made = open_record();
    ck_assert(cg_listening_open(&request, made, &listening, &err));
    cg_listening_close(&listening);
    ck_assert(cg_sockets_made_clear(made, &err));
    cg_sockets_made_close(made);
    made = open_record();
    ck_assert(!cg_sockets_made_has(made, path, listening.device, listening.inode));
    ck_assert(!cg_listening_open(&request, made, &listening, &err));
    cg_sockets_made_close(made);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("listening");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_guest_can_connect_once_it_is_open);
    tcase_add_test(tcase, the_mode_is_the_one_asked_for_whatever_the_umask);
    tcase_add_test(tcase, the_owner_is_the_one_asked_for_or_it_is_an_error);
    tcase_add_test(tcase, a_file_that_is_there_is_an_error_and_stays);
    tcase_add_test(tcase, a_socket_that_is_there_is_an_error_and_stays);
    tcase_add_test(tcase, a_missing_directory_is_an_error_that_names_the_path);
    tcase_add_test(tcase, a_symlink_to_the_directory_is_refused);
    tcase_add_test(tcase, a_symlink_in_the_place_of_the_socket_is_refused_and_its_target_untouched);
    tcase_add_test(tcase, a_root_that_is_a_symlink_is_the_operators_and_followed);
    tcase_add_test(tcase, a_path_outside_the_roots_is_refused);
    tcase_add_test(tcase, a_socket_directly_in_a_root_with_a_slash_at_its_end_is_beneath_it);
    tcase_add_test(tcase, a_path_longer_than_a_socket_address_works);
    tcase_add_test(tcase, a_name_too_long_for_any_socket_address_is_refused);
    tcase_add_test(tcase, only_what_was_made_is_removed);
    tcase_add_test(tcase, a_socket_left_by_a_crash_is_replaced);
    tcase_add_test(tcase, a_recorded_socket_with_a_listener_stays);
    tcase_add_test(tcase, a_strangers_socket_at_a_recorded_path_stays);
    tcase_add_test(tcase, a_record_survives_cut_and_damaged_lines);
    tcase_add_test(tcase, a_cleared_record_knows_nothing);
    Suite *suite = suite_create("listening");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
