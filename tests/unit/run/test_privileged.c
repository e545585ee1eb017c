/* The helper at work: spoken to directly, as by a gateway that was taken over, and by the steps of
 * an honest one that has given up its rights. */
#include "run/privileged.h"

#include "cellgate/cleanup.h"
#include "ingress/listening.h"
#include "run/privileges.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GOOD = 17, VMM_UID = 12345, VMM_GID = 23456, GATEWAY_UID = 34567, GATEWAY_GID = 34567 };

static char top[64];
static char jail[80];   /* of another user, mode 0700 */
static char secret[80]; /* root's, listed */
static char closed[80]; /* root's, not listed */
static char linked[80]; /* listed, a symlink to `closed` */
static const char *roots[1];
static const char *files[2];
static struct cg_privileged_policy policy;
static struct cg_error err;

static void write_file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "secret", 6), 6);
    (void)close(fd);
}

static void set_up(void)
{
    (void)snprintf(top, sizeof(top), "/tmp/cellgate-privileged-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    ck_assert_int_eq(chmod(top, 0755), 0);
    (void)snprintf(jail, sizeof(jail), "%s/jail", top);
    (void)snprintf(secret, sizeof(secret), "%s/secret", top);
    (void)snprintf(closed, sizeof(closed), "%s/closed", top);
    (void)snprintf(linked, sizeof(linked), "%s/linked", top);
    ck_assert_int_eq(mkdir(jail, 0700), 0);
    write_file(secret);
    write_file(closed);
    ck_assert_int_eq(symlink(closed, linked), 0);
    roots[0] = jail;
    files[0] = secret;
    files[1] = linked;
    policy = (struct cg_privileged_policy){
        .gateway_uid = geteuid() == 0 ? GATEWAY_UID : geteuid(),
        .gateway_gid = geteuid() == 0 ? GATEWAY_GID : getegid(),
        .roots = {roots, 1},
        .uids = {.present = true, .first = VMM_UID, .last = VMM_UID},
        .gids = {.present = true, .first = VMM_GID, .last = VMM_GID},
        .files = files,
        .files_count = 2,
    };
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(jail, VMM_UID, VMM_GID), 0);
    }
    err = (struct cg_error){0};
}

static void tear_down(void)
{
    char link_path[96];
    (void)snprintf(link_path, sizeof(link_path), "%s/link", jail);
    (void)unlink(link_path);
    (void)snprintf(link_path, sizeof(link_path), "%s/journal", top);
    (void)unlink(link_path);
    (void)unlink(secret);
    (void)unlink(closed);
    (void)unlink(linked);
    (void)rmdir(jail);
    ck_assert_msg(rmdir(top) == 0, "something was left in %s", top);
}

/* --- by the protocol --- */

static int speaker;
static pid_t server;

static void start_server(void)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    server = fork();
    if (server == 0) {
        (void)close(ends[0]);
        cg_privileged_serve(ends[1], &policy);
        _exit(GOOD);
    }
    (void)close(ends[1]);
    speaker = ends[0];
}

/* It ends by itself when nobody speaks to it any more. */
static void stop_server(void)
{
    int status = 0;
    (void)close(speaker);
    ck_assert_int_eq(waitpid(server, &status, 0), server);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == GOOD);
}

/* The outcome; a descriptor that came along goes to *ret_fd if that is wanted. */
static enum cg_listening_outcome tell(const struct cg_privileged_request *request,
                                      struct cg_privileged_reply *ret_reply, int *ret_fd)
{
    ck_assert_int_eq(send(speaker, request, sizeof(*request), 0), (ssize_t)sizeof(*request));
    struct iovec into = {.iov_base = ret_reply, .iov_len = sizeof(*ret_reply)};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &into,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ck_assert_int_eq(recvmsg(speaker, &message, 0), (ssize_t)sizeof(*ret_reply));
    bool has_fd = CMSG_FIRSTHDR(&message) != NULL;
    int fd = -1;
    if (has_fd) {
        memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
    }
    if (ret_fd != NULL) {
        *ret_fd = fd;
    } else {
        ck_assert(!has_fd);
    }
    ck_assert((ret_reply->outcome == CG_LISTENING_DONE) == (ret_reply->text[0] == '\0'));
    return (enum cg_listening_outcome)ret_reply->outcome;
}

static struct cg_privileged_request entering(const char *dir, const char *name)
{
    struct cg_privileged_request request = {
        .magic = CG_PRIVILEGED_MAGIC,
        .op = CG_PRIVILEGED_ENTER,
        .flags = CG_PRIVILEGED_MAKING,
        .mode = 0600,
        .uid = policy.gateway_uid,
        .gid = policy.gateway_gid,
        .temporary = ".cellgate-0123456789abcdef",
    };
    (void)snprintf(request.path, sizeof(request.path), "%s/%s_9001", dir, name);
    return request;
}

static struct cg_privileged_request plain(enum cg_privileged_op op, uint32_t ticket)
{
    return (struct cg_privileged_request){
        .magic = CG_PRIVILEGED_MAGIC, .op = (uint32_t)op, .ticket = ticket};
}

START_TEST(the_helper_refuses_what_lies_outside_the_roots)
{
    struct cg_privileged_reply reply;
    struct cg_privileged_request request = entering("/etc", "a");
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FORBIDDEN);
    ck_assert_ptr_nonnull(strstr(reply.text, "ingress.roots"));
    char dir[160];
    (void)snprintf(dir, sizeof(dir), "%s/../", jail);
    request = entering(dir, "a");
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FORBIDDEN);
    request = entering(top, "a");
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FORBIDDEN);
    request = entering(jail, "a");
    request.uid = 0;
    request.gid = 0;
    if (policy.gateway_uid != 0) {
        ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FORBIDDEN);
    }
}
END_TEST

START_TEST(the_helper_follows_no_symlink_out_of_a_root)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/link", jail);
    ck_assert_int_eq(symlink("/etc", path), 0);
    struct cg_privileged_reply reply;
    struct cg_privileged_request request = entering(path, "a");
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_BAD_PATH);
}
END_TEST

START_TEST(the_helper_goes_on_after_bytes_that_are_no_request)
{
    static char noise[2 * sizeof(struct cg_privileged_request)];
    memset(noise, 0xa5, sizeof(noise));
    const size_t sizes[] = {1, 7, 8, sizeof(struct cg_privileged_request), sizeof(noise)};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct cg_privileged_reply reply;
        ck_assert_int_eq(send(speaker, noise, sizes[i], 0), (ssize_t)sizes[i]);
        ck_assert_int_eq(recv(speaker, &reply, sizeof(reply), 0), (ssize_t)sizeof(reply));
        ck_assert_uint_eq(reply.outcome, CG_LISTENING_FORBIDDEN);
    }
    struct cg_privileged_reply reply;
    struct cg_privileged_request request = entering(jail, "a");
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_DONE);
}
END_TEST

START_TEST(steps_out_of_order_are_refused)
{
    struct cg_privileged_reply reply;
    struct cg_privileged_request request = plain(CG_PRIVILEGED_MAKE, 3);
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FAILED);
    struct cg_privileged_request enter = entering(jail, "a");
    ck_assert_int_eq(tell(&enter, &reply, NULL), CG_LISTENING_DONE);
    uint32_t ticket = reply.ticket;
    request = plain(CG_PRIVILEGED_PUT, ticket);
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FAILED);
    request = plain(CG_PRIVILEGED_LEAVE, ticket);
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_DONE);
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FAILED);
}
END_TEST

START_TEST(the_oldest_directory_is_let_go_when_there_are_too_many)
{
    struct cg_privileged_reply reply;
    struct cg_privileged_request enter = entering(jail, "a");
    for (unsigned i = 0; i < 3 * CG_PRIVILEGED_PLACES_MAX; i++) {
        ck_assert_int_eq(tell(&enter, &reply, NULL), CG_LISTENING_DONE);
        ck_assert_uint_eq(reply.ticket, i % CG_PRIVILEGED_PLACES_MAX);
    }
}
END_TEST

START_TEST(a_listed_file_is_opened_and_no_other)
{
    struct cg_privileged_reply reply;
    struct cg_privileged_request request = plain(CG_PRIVILEGED_OPEN, 0);
    memcpy(request.path, secret, strlen(secret));
    int fd = -1;
    ck_assert_int_eq(tell(&request, &reply, &fd), CG_LISTENING_DONE);
    char text[16];
    ck_assert_int_eq(read(fd, text, sizeof(text)), 6);
    (void)close(fd);
    memset(request.path, 0, sizeof(request.path));
    memcpy(request.path, closed, strlen(closed));
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FORBIDDEN);
    memset(request.path, 0, sizeof(request.path));
    memcpy(request.path, linked, strlen(linked));
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_FAILED); /* a symlink */
}
END_TEST

START_TEST(a_socket_is_made_put_and_removed)
{
    struct cg_privileged_reply reply;
    struct cg_privileged_request request = entering(jail, "a");
    if (geteuid() == 0) {
        request.uid = VMM_UID;
        request.gid = VMM_GID;
    }
    char path[PATH_MAX];
    memcpy(path, request.path, sizeof(path));
    struct stat found;
    int fd = -1;
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_DONE);
    uint32_t ticket = reply.ticket;
    request = plain(CG_PRIVILEGED_MAKE, ticket);
    ck_assert_int_eq(tell(&request, &reply, &fd), CG_LISTENING_DONE);
    ck_assert_int_ge(fd, 0);
    struct cg_privileged_request removal = plain(CG_PRIVILEGED_REMOVE, ticket);
    removal.device = reply.device;
    removal.inode = reply.inode;
    ck_assert_int_ne(lstat(path, &found), 0);
    request = plain(CG_PRIVILEGED_PUT, ticket);
    ck_assert_int_eq(tell(&request, &reply, NULL), CG_LISTENING_DONE);
    ck_assert_int_eq(lstat(path, &found), 0);
    ck_assert(S_ISSOCK(found.st_mode) && (found.st_mode & 07777) == 0600);
    if (geteuid() == 0) {
        ck_assert_uint_eq(found.st_uid, VMM_UID);
        ck_assert_uint_eq(found.st_gid, VMM_GID);
    }
    /* Another socket's identity removes nothing, nor does "abandoned" while it listens. */
    removal.inode++;
    ck_assert_int_eq(tell(&removal, &reply, NULL), CG_LISTENING_DONE);
    removal.inode--;
    removal.flags = CG_PRIVILEGED_ABANDONED;
    ck_assert_int_eq(tell(&removal, &reply, NULL), CG_LISTENING_DONE);
    ck_assert_int_eq(lstat(path, &found), 0);
    (void)close(fd);
    ck_assert_int_eq(tell(&removal, &reply, NULL), CG_LISTENING_DONE);
    ck_assert_int_ne(lstat(path, &found), 0);
}
END_TEST

/* --- by a gateway that has given up its rights --- */

static void expect(bool condition, const char *what)
{
    if (!condition) {
        (void)dprintf(STDERR_FILENO, "not so: %s (errno %d, %s)\n", what, errno, err.text);
        _exit(1);
    }
}
#define EXPECT(condition) expect((condition), #condition)

static struct cg_privileged *start_helper(void)
{
    struct cg_privileged *helper = NULL;
    bool is_helper = false;
    bool started = cg_privileged_start(&policy, CG_CONFINED_SECCOMP | CG_CONFINED_LANDLOCK, false,
                                       &helper, &is_helper, &err);
    if (is_helper) {
        _exit(started ? GOOD : 1);
    }
    EXPECT(started);
    const struct cg_identity gateway = {.uid = GATEWAY_UID, .gid = GATEWAY_GID};
    EXPECT(cg_identity_become(&gateway, (gid_t)-1, &err));
    EXPECT(cg_capabilities_keep(0, &err));
    return helper;
}

/* Runs `body` in a child that may give up its rights. */
static void in_child(void (*body)(void))
{
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: only root can have a helper with more rights\n");
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        body();
        _exit(GOOD);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == GOOD, "status %#x", (unsigned)status);
}

static struct cg_listening_request listening_request(struct cg_privileged *helper, char base[96],
                                                     uid_t uid, gid_t gid)
{
    (void)snprintf(base, 96, "%s/a.vsock", jail);
    return (struct cg_listening_request){
        .vsock_uds_base = base,
        .look = {.mode = 0600, .uid = uid, .gid = gid},
        .roots = {roots, 1},
        .files = cg_privileged_socket_files(helper),
    };
}

static struct cg_registrations *open_journal(void)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/journal", top);
    struct cg_registrations *journal = NULL;
    struct cg_registrations_found found;
    EXPECT(cg_registrations_open(path, &cg_clock_system, &journal, &found, &err));
    return journal;
}

static void make_in_the_jail(void)
{
    struct cg_registrations *journal = open_journal();
    struct cg_privileged *helper = start_helper();
    char base[96];
    struct cg_listening_request request =
        listening_request(helper, base, (uid_t)VMM_UID, (gid_t)VMM_GID);
    struct cg_listening listening;
    EXPECT(access(jail, X_OK) != 0); /* beyond the rights of the gateway */
    EXPECT(cg_listening_open(&request, journal, NULL, &listening, &err) == CG_LISTENING_DONE);
    EXPECT(listening.fd >= 0 && listening.inode != 0);
    struct cg_listening second;
    EXPECT(cg_listening_open(&request, journal, NULL, &second, &err) == CG_LISTENING_TAKEN);
    cg_listening_unlink(&listening, &request);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s_9001", base);
    cg_registrations_unmade(journal, path);
    EXPECT(cg_listening_open(&request, journal, NULL, &second, &err) == CG_LISTENING_DONE);
    /* As a gateway that died leaves it. */
    cg_listening_close(&second);
    cg_listening_sweep(journal, request.roots, request.files, NULL);
    EXPECT(cg_listening_open(&request, journal, NULL, &second, &err) == CG_LISTENING_DONE);
    cg_listening_unlink(&second, &request);
    int fd = cg_privileged_open_file(helper, secret);
    EXPECT(fd >= 0);
    EXPECT(cg_privileged_open_file(helper, closed) < 0 && errno == EACCES);
    EXPECT(open(secret, O_RDONLY | O_CLOEXEC) < 0);
    cg_registrations_close(journal);
    cg_privileged_stop(helper);
}

START_TEST(a_directory_of_another_user_gets_its_socket_from_the_helper)
{
    in_child(make_in_the_jail);
}
END_TEST

static void make_while_killed(void)
{
    struct cg_privileged *helper = NULL;
    bool is_helper = false;
    EXPECT(cg_privileged_start(&policy, CG_CONFINED_SECCOMP, false, &helper, &is_helper, &err));
    if (is_helper) {
        _exit(GOOD);
    }
    atomic_bool alive;
    EXPECT(cg_privileged_watch(helper, &alive, &err));
    EXPECT(atomic_load(&alive));
    EXPECT(kill(cg_privileged_pid(helper), SIGKILL) == 0);
    while (atomic_load(&alive)) {
        (void)poll(NULL, 0, 1);
    }
    struct cg_registrations *journal = open_journal();
    char base[96];
    struct cg_listening_request request =
        listening_request(helper, base, (uid_t)VMM_UID, (gid_t)VMM_GID);
    struct cg_listening listening;
    EXPECT(cg_listening_open(&request, journal, NULL, &listening, &err) == CG_LISTENING_FAILED);
    EXPECT(strstr(err.text, "privileged helper") != NULL);
    /* What the gateway may do itself goes on. */
    request.look.uid = (uid_t)-1;
    request.look.gid = (gid_t)-1;
    EXPECT(cg_listening_open(&request, journal, NULL, &listening, &err) == CG_LISTENING_DONE);
    cg_listening_unlink(&listening, &request);
    cg_registrations_close(journal);
    cg_privileged_stop(helper);
}

START_TEST(a_killed_helper_is_seen_and_said)
{
    in_child(make_while_killed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("privileged");
    TCase *protocol = tcase_create("by the protocol");
    tcase_add_checked_fixture(protocol, set_up, tear_down);
    tcase_add_checked_fixture(protocol, start_server, stop_server);
    tcase_add_test(protocol, the_helper_refuses_what_lies_outside_the_roots);
    tcase_add_test(protocol, the_helper_follows_no_symlink_out_of_a_root);
    tcase_add_test(protocol, the_helper_goes_on_after_bytes_that_are_no_request);
    tcase_add_test(protocol, steps_out_of_order_are_refused);
    tcase_add_test(protocol, the_oldest_directory_is_let_go_when_there_are_too_many);
    tcase_add_test(protocol, a_listed_file_is_opened_and_no_other);
    tcase_add_test(protocol, a_socket_is_made_put_and_removed);
    suite_add_tcase(suite, protocol);
    TCase *steps = tcase_create("by a gateway without rights");
    tcase_add_checked_fixture(steps, set_up, tear_down);
    tcase_add_test(steps, a_directory_of_another_user_gets_its_socket_from_the_helper);
    tcase_add_test(steps, a_killed_helper_is_seen_and_said);
    suite_add_tcase(suite, steps);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
