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

static struct cg_registrations *made;

static bool opens(const struct cg_listening_request *request, struct cg_listening *ret_listening)
{
    return cg_listening_open(request, made, NULL, ret_listening, &err) == CG_LISTENING_DONE;
}

static struct cg_listening_request request_for(const char *beneath_top)
{
    ck_assert_int_lt(snprintf(base, sizeof(base), "%s/%s", top, beneath_top), PATH_MAX);
    ck_assert_int_lt(snprintf(path, sizeof(path), "%s_9001", base), PATH_MAX);
    return (struct cg_listening_request){
        .vsock_uds_base = base, .look = {.mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1}};
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
    struct cg_registrations_found found;
    ck_assert(cg_registrations_open(NULL, &cg_clock_system, &made, &found, &err));
}

static int remove_one(int dir_fd, const char *name)
{
    return unlinkat(dir_fd, name, 0) == 0 ? 0 : unlinkat(dir_fd, name, AT_REMOVEDIR);
}

static void tear_down(void)
{
    cg_listening_close(&listening);
    cg_registrations_close(made);
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
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
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
    request.look.mode = 0662;
    (void)umask(0077);
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
    struct stat found;
    ck_assert_int_eq(lstat(path, &found), 0);
    ck_assert_uint_eq(found.st_mode & 07777, 0662);
}
END_TEST

START_TEST(the_owner_is_the_one_asked_for_or_it_is_an_error)
{
    struct cg_listening_request request = request_for("a.vsock");
    request.look.uid = 12345;
    request.look.gid = 23456;
    bool opened = opens(&request, &listening);
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
    ck_assert(!opens(&request, &listening));
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_ptr_nonnull(strstr(err.text, "exists already"));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_socket_that_is_there_is_an_error_and_stays)
{
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
    struct cg_listening second;
    ck_assert(!opens(&request, &second));
    ck_assert_ptr_nonnull(strstr(err.text, "exists already"));
    ck_assert(can_connect(path));
}
END_TEST

START_TEST(a_missing_directory_is_an_error_that_names_the_path)
{
    struct cg_listening_request request = request_for("nowhere/a.vsock");
    ck_assert(!opens(&request, &listening));
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
    ck_assert(!opens(&request, &listening));
    ck_assert_ptr_nonnull(strstr(err.text, "symlink"));

    const char *const roots[] = {top};
    request.roots = (struct cg_strings){roots, 1};
    ck_assert(!opens(&request, &listening));
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
    ck_assert(!opens(&request, &listening));
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
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
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
    ck_assert(!opens(&request, &listening));
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
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
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
    bool opened = opens(&request, &listening);
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
    ck_assert(!opens(&request, &listening));
    ck_assert_ptr_nonnull(strstr(err.text, "too long"));
}
END_TEST

START_TEST(only_what_was_made_is_removed)
{
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
    char moved[PATH_MAX];
    (void)snprintf(moved, sizeof(moved), "%s/moved", top);
    ck_assert_int_eq(rename(path, moved), 0);
    struct cg_listening other = {.fd = -1};
    ck_assert(opens(&request, &other));
    cg_listening_unlink(&listening, &request);
    ck_assert(can_connect(path));
    cg_listening_close(&other);
}
END_TEST

/* --- what a gateway that died has left --- */

static const char *journal_path(void)
{
    static char journal[PATH_MAX];
    (void)snprintf(journal, sizeof(journal), "%s/record", top);
    return journal;
}

static void reopen_journal(void)
{
    cg_registrations_close(made);
    struct cg_registrations_found found;
    ck_assert_msg(cg_registrations_open(journal_path(), &cg_clock_system, &made, &found, &err),
                  "%s", err.text);
}

static void sweep(void)
{
    cg_listening_sweep(made, (struct cg_strings){0}, (struct cg_socket_files){0}, NULL);
}

START_TEST(a_socket_left_by_a_crash_is_swept)
{
    reopen_journal();
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
    cg_listening_close(&listening); /* as the kernel does for a killed process */
    reopen_journal();
    ck_assert(!can_connect(path));
    ck_assert(!opens(&request, &listening));
    sweep();
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_msg(opens(&request, &listening), "%s", err.text);
    ck_assert(can_connect(path));
}
END_TEST

START_TEST(a_recorded_socket_with_a_listener_stays)
{
    reopen_journal();
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert(opens(&request, &listening));
    reopen_journal();
    sweep();
    struct cg_listening second;
    ck_assert(!opens(&request, &second));
    ck_assert(can_connect(path));
}
END_TEST

START_TEST(a_strangers_socket_at_a_recorded_path_stays)
{
    reopen_journal();
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert(opens(&request, &listening));
    char aside[PATH_MAX];
    (void)snprintf(aside, sizeof(aside), "%s/aside", top);
    ck_assert_int_eq(rename(path, aside), 0); /* keeps the inode from being used again */
    reopen_journal();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert_int_lt(snprintf(address.sun_path, sizeof(address.sun_path), "%s", path),
                     (int)sizeof(address.sun_path));
    int stranger = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(stranger, (const struct sockaddr *)&address, sizeof(address)), 0);
    (void)close(stranger);
    sweep();
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_socket_that_never_got_its_place_is_swept_by_its_temporary_name)
{
    reopen_journal();
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert(opens(&request, &listening));
    char temporary[PATH_MAX];
    (void)snprintf(temporary, sizeof(temporary), "%s/.cellgate-0123", top);
    ck_assert_int_eq(rename(path, temporary), 0);
    const struct cg_socket_made socket_made = {.path = path,
                                               .temporary = ".cellgate-0123",
                                               .device = listening.device,
                                               .inode = listening.inode};
    ck_assert(cg_registrations_put(made, &socket_made, NULL, &err));
    cg_listening_close(&listening);
    reopen_journal();
    sweep();
    ck_assert_int_ne(access(temporary, F_OK), 0);
}
END_TEST

START_TEST(a_socket_that_was_about_to_be_recorded_is_swept_and_a_file_is_not)
{
    reopen_journal();
    struct cg_listening_request request = request_for("a.vsock");
    ck_assert(opens(&request, &listening));
    char temporary[PATH_MAX];
    (void)snprintf(temporary, sizeof(temporary), "%s/.cellgate-0123", top);
    ck_assert_int_eq(rename(path, temporary), 0);
    ck_assert(cg_registrations_making(made, path, ".cellgate-0123", &err));
    cg_listening_close(&listening);
    reopen_journal();
    sweep();
    ck_assert_int_ne(access(temporary, F_OK), 0);

    int fd = open(temporary, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    ck_assert(cg_registrations_making(made, path, ".cellgate-0123", &err));
    sweep();
    ck_assert_int_eq(unlink(temporary), 0);
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
    tcase_add_test(tcase, a_socket_left_by_a_crash_is_swept);
    tcase_add_test(tcase, a_recorded_socket_with_a_listener_stays);
    tcase_add_test(tcase, a_strangers_socket_at_a_recorded_path_stays);
    tcase_add_test(tcase, a_socket_that_never_got_its_place_is_swept_by_its_temporary_name);
    tcase_add_test(tcase, a_socket_that_was_about_to_be_recorded_is_swept_and_a_file_is_not);
    Suite *suite = suite_create("listening");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
