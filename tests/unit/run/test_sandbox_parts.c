/* Each part of the sandbox, taken on by a forked child that then tries what it may not. */
#include "run/landlock.h"
#include "run/privileges.h"
#include "run/seccomp.h"

#include "run/sanitized.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GOOD = 17, NOT_HAD = 18 };

/* Runs `body` in a child; returns its wait status. */
static int in_child(void (*body)(void))
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        body();
        _exit(GOOD);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void expect(bool condition, const char *what)
{
    if (!condition) {
        (void)dprintf(STDERR_FILENO, "not so: %s (errno %d)\n", what, errno);
        _exit(1);
    }
}
#define EXPECT(condition) expect((condition), #condition)

static void must_be_good(int status)
{
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == GOOD, "status %#x", (unsigned)status);
}

static void must_be_killed(int status)
{
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x",
                  (unsigned)status);
}

/* --- seccomp --- */

static void enter_filter(void)
{
    struct cg_error err = {0};
    if (!cg_seccomp_gateway(0, &err)) {
        _exit(NOT_HAD);
    }
}

/* Tests of a filter that the machine cannot load say so, and are no tests. */
static bool has_seccomp(void)
{
    int status = in_child(enter_filter);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HAD) {
        (void)fprintf(stderr, "skipped: no seccomp filter can be loaded here\n");
        return false;
    }
    return true;
}

static void run_a_program(void)
{
    enter_filter();
    char name[] = "true";
    char *const arguments[] = {name, NULL};
    char *const environment[] = {NULL};
    (void)execve("/bin/true", arguments, environment);
}

static void trace_the_parent(void)
{
    enter_filter();
    (void)syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}

static void make_a_namespace(void)
{
    enter_filter();
    (void)syscall(SYS_unshare, CLONE_NEWUSER);
}

static void mount_something(void)
{
    enter_filter();
    (void)mount("none", "/tmp", "tmpfs", 0, NULL);
}

static void load_a_program_into_the_kernel(void)
{
    enter_filter();
    (void)syscall(SYS_bpf, 0, NULL, 0);
}

static void make_a_namespace_on_a_thread(void);

START_TEST(what_no_honest_gateway_tries_ends_the_process)
{
    static void (*const bodies[])(void) = {
        run_a_program,
        trace_the_parent,
        make_a_namespace,
        mount_something,
        load_a_program_into_the_kernel,
        make_a_namespace_on_a_thread,
    };
    for (size_t i = 0; has_seccomp() && i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        must_be_killed(in_child(bodies[i]));
    }
}
END_TEST

/* The filter is every thread's, also of one that was there before. */
static int go[2];

static void *wait_and_try(void *context)
{
    char byte;
    (void)context;
    EXPECT(read(go[0], &byte, 1) == 1);
    (void)syscall(SYS_unshare, CLONE_NEWNET);
    return NULL;
}

static void make_a_namespace_on_a_thread(void)
{
    pthread_t thread;
    EXPECT(pipe(go) == 0);
    EXPECT(pthread_create(&thread, NULL, wait_and_try, NULL) == 0);
    enter_filter();
    EXPECT(write(go[1], "x", 1) == 1);
    (void)pthread_join(thread, NULL);
}

static void try_what_fails(void)
{
    enter_filter();
    EXPECT(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
    EXPECT(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EPERM);
    EXPECT(setuid(12345) < 0 && errno == EPERM);
    EXPECT(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM);
    EXPECT(syscall(SYS_personality, 0x0400000) < 0 || CG_SANITIZED);
    EXPECT(CG_SANITIZED || kill(getppid(), 0) < 0);
#if !CG_SANITIZED
    EXPECT(fork() < 0);
    EXPECT(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) == MAP_FAILED);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(page != MAP_FAILED);
    EXPECT(mprotect(page, 4096, PROT_READ | PROT_EXEC) < 0);
#endif
}

START_TEST(what_else_is_not_needed_fails)
{
    if (has_seccomp()) {
        must_be_good(in_child(try_what_fails));
    }
}
END_TEST

static void *do_nothing(void *context)
{
    return context;
}

/* errno tells who refused: the filter, or the kernel that looks at the descriptor. */
static void try_namespaces(void)
{
    struct cg_error err = {0};
    EXPECT(cg_seccomp_gateway(CG_SECCOMP_NETWORK_NAMESPACES, &err));
    EXPECT(syscall(SYS_setns, -1, CLONE_NEWNET) < 0 && errno == EBADF);
    EXPECT(syscall(SYS_setns, -1, CLONE_NEWUSER) < 0 && errno == EPERM);
}

static void try_no_namespaces(void)
{
    enter_filter();
    EXPECT(syscall(SYS_setns, -1, CLONE_NEWNET) < 0 && errno == EPERM);
}

START_TEST(network_namespaces_are_entered_only_where_a_probe_needs_it)
{
    if (has_seccomp()) {
        must_be_good(in_child(try_namespaces));
        must_be_good(in_child(try_no_namespaces));
    }
}
END_TEST

static void try_what_is_needed(void)
{
    enter_filter();
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, do_nothing, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT(socket(AF_INET, SOCK_STREAM, 0) >= 0);
    EXPECT(socket(AF_INET6, SOCK_DGRAM, 0) >= 0 || errno == EAFNOSUPPORT);
    EXPECT(socket(AF_UNIX, SOCK_SEQPACKET, 0) >= 0);
    EXPECT(memfd_create("x", 0) >= 0);
}

START_TEST(what_is_needed_goes_on)
{
    if (has_seccomp()) {
        must_be_good(in_child(try_what_is_needed));
    }
}
END_TEST

static void be_the_helper(void)
{
    struct cg_error err = {0};
    EXPECT(cg_seccomp_helper(&err));
    EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    EXPECT(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
    EXPECT(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == EPERM);
#if !CG_SANITIZED
    EXPECT(fork() < 0);
    EXPECT(mkdir("/tmp/cellgate-never", 0700) < 0 && errno == EPERM);
#endif
}

START_TEST(the_helper_has_no_network_and_makes_no_processes)
{
    if (has_seccomp()) {
        must_be_good(in_child(be_the_helper));
    }
}
END_TEST

/* --- Landlock --- */

static char top[64];

static void path_in(const char *name, char ret_path[128])
{
    (void)snprintf(ret_path, 128, "%s/%s", top, name);
}

static int make_file(const char *name)
{
    char path[128];
    path_in(name, path);
    return open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
}

static void remove_file(const char *name)
{
    char path[128];
    path_in(name, path);
    if (unlink(path) != 0) {
        (void)rmdir(path);
    }
}

static void set_up_files(void)
{
    char path[128];
    (void)snprintf(top, sizeof(top), "/tmp/cellgate-landlock-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    static const char *const directories[] = {"read", "write", "sockets", "closed"};
    for (size_t i = 0; i < 4; i++) {
        path_in(directories[i], path);
        ck_assert_int_eq(mkdir(path, 0700), 0);
    }
    (void)close(make_file("read/file"));
    (void)close(make_file("closed/file"));
}

static void tear_down_files(void)
{
    static const char *const names[] = {"read/file", "closed/file", "write/new",
                                        "write/old", "sockets/s",   "read",
                                        "write",     "sockets",     "closed"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        remove_file(names[i]);
    }
    ck_assert_msg(rmdir(top) == 0, "something was left in %s", top);
}

static bool has_landlock(void)
{
    if (cg_landlock_abi() == 0) {
        (void)fprintf(stderr, "skipped: the kernel has no Landlock\n");
    }
    return cg_landlock_abi() != 0;
}

static void enter_rules(void)
{
    struct cg_error err = {0};
    struct cg_landlock landlock;
    char path[128];
    EXPECT(cg_landlock_init(&landlock, false, &err));
    static const struct {
        const char *name;
        enum cg_landlock_access access;
    } rules[] = {{"read", CG_LANDLOCK_READ},
                 {"write", CG_LANDLOCK_WRITE},
                 {"sockets", CG_LANDLOCK_SOCKETS},
                 {"nowhere", CG_LANDLOCK_READ}};
    for (size_t i = 0; i < 4; i++) {
        path_in(rules[i].name, path);
        EXPECT(cg_landlock_allow(&landlock, path, rules[i].access, &err));
    }
    EXPECT(cg_privileges_forbid_new(&err));
    EXPECT(cg_landlock_restrict(&landlock, &err));
    cg_landlock_fini(&landlock);
}

static bool opens(const char *name, int flags)
{
    char path[128];
    path_in(name, path);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static bool binds(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", top, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

static void try_files(void)
{
    enter_rules();
    char old_path[128];
    char new_path[128];
    EXPECT(opens("read/file", O_RDONLY));
    EXPECT(!opens("read/file", O_WRONLY) && errno == EACCES);
    EXPECT(!opens("read/new", O_CREAT | O_WRONLY) && errno == EACCES);
    EXPECT(!opens("closed/file", O_RDONLY) && errno == EACCES);
    EXPECT(!opens("closed/new", O_CREAT | O_WRONLY) && errno == EACCES);
    EXPECT(!opens("new", O_CREAT | O_WRONLY) && errno == EACCES);
    EXPECT(opens("write/old", O_CREAT | O_RDWR | O_TRUNC));
    path_in("write/old", old_path);
    path_in("write/new", new_path);
    EXPECT(rename(old_path, new_path) == 0);
    EXPECT(binds("sockets/s"));
    EXPECT(!opens("sockets/new", O_CREAT | O_WRONLY) && errno == EACCES);
    EXPECT(!binds("closed/s") && errno == EACCES);
    path_in("closed/file", old_path);
    EXPECT(unlink(old_path) != 0 && errno == EACCES);
}

START_TEST(files_outside_the_rules_are_out_of_reach)
{
    if (has_landlock()) {
        must_be_good(in_child(try_files));
    }
}
END_TEST

/* --- rights --- */

static bool is_root(void)
{
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: only root has rights to give up\n");
    }
    return geteuid() == 0;
}

static void give_up_all(void)
{
    struct cg_error err = {0};
    EXPECT(cg_capabilities_keep(0, &err));
    EXPECT(cg_capabilities() == 0);
    /* Not by the C library, which asks every thread: a sanitizer's own has not given up anything.
     */
    EXPECT(syscall(SYS_setuid, 12345) != 0);
    EXPECT(chown("/", 12345, 0) != 0);
}

static void become_another(void)
{
    struct cg_error err = {0};
    struct cg_identity identity;
    EXPECT(cg_identity_find("12345", "23456", &identity, &err));
    EXPECT(cg_identity_become(&identity, 34567, &err));
    EXPECT(cg_capabilities_keep(CG_CAPABILITY(10), &err)); /* NET_BIND_SERVICE */
    EXPECT(geteuid() == 12345 && getegid() == 23456);
    gid_t groups[8];
    int count = getgroups(8, groups);
    EXPECT(count == 2 && groups[0] + groups[1] == 23456 + 34567);
    EXPECT(syscall(SYS_setuid, 0) != 0);
    EXPECT((cg_capabilities() & ~CG_CAPABILITY(10)) == 0);
}

START_TEST(capabilities_that_are_given_up_do_not_come_back)
{
    if (is_root()) {
        must_be_good(in_child(give_up_all));
    }
}
END_TEST

START_TEST(another_user_keeps_only_the_capabilities_that_it_shall)
{
    if (is_root()) {
        must_be_good(in_child(become_another));
    }
}
END_TEST

START_TEST(a_user_that_there_is_not_is_named)
{
    struct cg_error err = {0};
    struct cg_identity identity;
    ck_assert(!cg_identity_find("no-such-user", NULL, &identity, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "no-such-user"));
    ck_assert(!cg_identity_find("root", "no-such-group", &identity, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "no-such-group"));
    ck_assert(!cg_identity_find("4242424", NULL, &identity, &err)); /* of no known group */
    ck_assert(cg_identity_find("root", NULL, &identity, &err));
    ck_assert_uint_eq(identity.uid, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox parts");
    TCase *calls = tcase_create("system calls");
    tcase_add_test(calls, what_no_honest_gateway_tries_ends_the_process);
    tcase_add_test(calls, what_else_is_not_needed_fails);
    tcase_add_test(calls, what_is_needed_goes_on);
    tcase_add_test(calls, network_namespaces_are_entered_only_where_a_probe_needs_it);
    tcase_add_test(calls, the_helper_has_no_network_and_makes_no_processes);
    suite_add_tcase(suite, calls);
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, set_up_files, tear_down_files);
    tcase_add_test(files, files_outside_the_rules_are_out_of_reach);
    suite_add_tcase(suite, files);
    TCase *rights = tcase_create("rights");
    tcase_add_test(rights, capabilities_that_are_given_up_do_not_come_back);
    tcase_add_test(rights, another_user_keeps_only_the_capabilities_that_it_shall);
    tcase_add_test(rights, a_user_that_there_is_not_is_named);
    suite_add_tcase(suite, rights);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
