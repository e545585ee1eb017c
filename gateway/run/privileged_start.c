#include "run/privileged_start.h"

#include "cellgate/cleanup.h"
#include "run/landlock.h"
#include "run/privileges.h"
#include "run/sanitized.h"
#include "run/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

enum { HELLO = 0, SOCKET_FD = 3 };

/* --- the helper confines itself --- */

static bool allow_directory_of(const struct cg_landlock *landlock, const char *path,
                               enum cg_landlock_access access, struct cg_error *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int len = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    (void)snprintf(dir, sizeof(dir), "%.*s", len, slash == NULL ? "." : path);
    return cg_landlock_allow(landlock, dir, access, err);
}

static bool restrict_files(const struct cg_privileged_policy *policy, struct cg_error *err)
{
    __attribute__((cleanup(cg_landlock_fini))) struct cg_landlock landlock = {.fd = -1};
    bool good = cg_landlock_init(&landlock, false, err);
    for (size_t i = 0; good && i < policy->roots.count; i++) {
        good = cg_landlock_allow(&landlock, policy->roots.items[i], CG_LANDLOCK_SOCKETS, err);
    }
    for (size_t i = 0; good && policy->roots.count == 0 && i < policy->cells_count; i++) {
        good = allow_directory_of(&landlock, policy->cells[i].base, CG_LANDLOCK_SOCKETS, err);
    }
    for (size_t i = 0; good && i < policy->files_count; i++) {
        good = allow_directory_of(&landlock, policy->files[i], CG_LANDLOCK_READ, err);
    }
    /* The runtime of a sanitizer looks at its own threads. */
    good = good && (!CG_SANITIZED || cg_landlock_allow(&landlock, "/proc", CG_LANDLOCK_READ, err));
    return good && cg_landlock_restrict(&landlock, err);
}

/* What must be had in any case. */
static bool give_up_rights(struct cg_error *err)
{
    const uint64_t kept =
        CG_CAPABILITY(CAP_CHOWN) | CG_CAPABILITY(CAP_FOWNER) | CG_CAPABILITY(CAP_DAC_OVERRIDE);
    (void)setgroups(0, NULL); /* without the right to it, there are none to speak of */
    return cg_dumps_forbid(err) && cg_capabilities_keep(kept, err) && cg_privileges_forbid_new(err);
}

/* Returns what is in force. */
static unsigned confine(const struct cg_privileged_policy *policy, unsigned wanted,
                        struct cg_error *err)
{
    unsigned confined = 0;
    if ((wanted & CG_CONFINED_LANDLOCK) != 0 && restrict_files(policy, err)) {
        confined |= CG_CONFINED_LANDLOCK;
    }
    if ((wanted & CG_CONFINED_SECCOMP) != 0 && cg_seccomp_helper(err)) {
        confined |= CG_CONFINED_SECCOMP;
    }
    return confined;
}

/* Nothing that the gateway has open, but for its words on stderr, is the helper's. */
static bool keep_only(int socket)
{
    return dup3(socket, SOCKET_FD, O_CLOEXEC) == SOCKET_FD &&
           close_range(SOCKET_FD + 1, ~0U, 0) == 0;
}

static bool be_helper(const struct cg_privileged_policy *policy, unsigned wanted, int socket,
                      struct cg_error *err)
{
    (void)prctl(PR_SET_NAME, "cellgate-helper", 0, 0, 0);
    if ((socket != SOCKET_FD && !keep_only(socket)) ||
        (socket == SOCKET_FD && close_range(SOCKET_FD + 1, ~0U, 0) != 0)) {
        return cg_error_errno(err, errno, "the privileged helper: close descriptors");
    }
    if (!give_up_rights(err)) {
        return cg_error_context(err, "the privileged helper");
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    struct cg_error missing = {0};
    struct cg_privileged_reply hello = {.magic = CG_PRIVILEGED_MAGIC, .op = HELLO};
    hello.ticket = confine(policy, wanted, &missing);
    memcpy(hello.text, missing.text, sizeof(hello.text) - 1);
    if (send(SOCKET_FD, &hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello)) {
        cg_privileged_serve(SOCKET_FD, policy);
    }
    return true;
}

/* --- the gateway --- */

bool cg_privileged_fork(const struct cg_privileged_policy *policy, unsigned wanted, int *ret_socket,
                        pid_t *ret_pid, bool *ret_is_helper, struct cg_error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return cg_error_errno(err, errno, "make a socket for the privileged helper");
    }
    cg_auto_close int ours = ends[0];
    cg_auto_close int theirs = ends[1];
    pid_t pid = fork();
    if (pid < 0) {
        return cg_error_errno(err, errno, "fork the privileged helper");
    }
    *ret_is_helper = pid == 0;
    if (pid == 0) {
        cg_cleanup_close(&ours);
        ours = -1;
        int socket = cg_steal_fd(&theirs);
        return be_helper(policy, wanted, socket, err);
    }
    *ret_pid = pid;
    *ret_socket = cg_steal_fd(&ours);
    return true;
}

bool cg_privileged_receive(int socket, enum cg_privileged_op op,
                           struct cg_privileged_reply *ret_reply, int *ret_fd)
{
    char bytes[sizeof(*ret_reply) + 1];
    struct iovec into = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &into,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t len;
    do {
        len = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (len < 0 && errno == EINTR);
    cg_auto_close int fd = -1;
    const struct cmsghdr *header = len < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    }
    if (len <= 0 || !cg_privileged_reply_read(bytes, (size_t)len, op, ret_reply)) {
        return false;
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

bool cg_privileged_hello(int socket, struct cg_privileged_reply *ret_hello, struct cg_error *err)
{
    int fd = -1;
    if (!cg_privileged_receive(socket, (enum cg_privileged_op)HELLO, ret_hello, &fd)) {
        return cg_error_set(err, "the privileged helper ended at its start; it says why on stderr");
    }
    cg_cleanup_close(&fd);
    return true;
}
