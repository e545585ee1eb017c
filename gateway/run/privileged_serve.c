/* privileged_serve.c - the helper's side: it judges each request, does it, and answers. */
#include "run/privileged.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* A directory that is held open for the gateway. */
struct held {
    bool used, making, made;
    uint64_t entered; /* the least is the oldest */
    struct cg_socket_look look;
    char temporary[CG_SOCKET_NAME_BYTES_MAX];
    struct cg_socket_place place;
};

struct server {
    const struct cg_privileged_policy *policy;
    uint64_t entered;
    struct held held[CG_PRIVILEGED_PLACES_MAX];
};

static const struct cg_socket_steps *const steps = &cg_socket_steps_direct;

/* --- what is held --- */

static void let_go(struct held *held)
{
    if (held->used) {
        steps->leave(NULL, &held->place);
        held->used = false;
    }
}

/* A free one, or the oldest: a gateway that forgets what it holds harms itself only. */
static struct held *take_held(struct server *server)
{
    struct held *oldest = &server->held[0];
    for (size_t i = 0; i < CG_PRIVILEGED_PLACES_MAX; i++) {
        struct held *held = &server->held[i];
        if (!held->used) {
            return held;
        }
        oldest = held->entered < oldest->entered ? held : oldest;
    }
    let_go(oldest);
    return oldest;
}

/* --- the requests; each returns a descriptor to send along, or -1 --- */

static int fail(struct cg_privileged_reply *reply, const struct cg_error *err)
{
    reply->outcome = CG_LISTENING_FAILED;
    (void)snprintf(reply->text, sizeof(reply->text), "%s", err->text);
    return -1;
}

static int do_enter(struct server *server, const struct cg_privileged_request *request,
                    struct cg_privileged_reply *reply, struct cg_error *err)
{
    struct held *held = take_held(server);
    held->making = (request->flags & CG_PRIVILEGED_MAKING) != 0;
    held->made = false;
    held->look = (struct cg_socket_look){request->mode, request->uid, request->gid};
    memcpy(held->temporary, request->temporary, sizeof(held->temporary));
    enum cg_listening_outcome outcome =
        steps->enter(NULL, request->path, held->temporary, held->making ? &held->look : NULL,
                     server->policy->roots, &held->place, err);
    if (outcome != CG_LISTENING_DONE) {
        (void)fail(reply, err);
        reply->outcome = outcome;
        return -1;
    }
    held->used = true;
    held->entered = ++server->entered;
    reply->ticket = (uint32_t)(held - server->held);
    return -1;
}

static int do_make(struct server *server, const struct cg_privileged_request *request,
                   struct cg_privileged_reply *reply, struct cg_error *err)
{
    struct held *held = &server->held[request->ticket];
    if (!held->making || held->made) {
        (void)cg_error_set(err, "nothing is to be made there");
        return fail(reply, err);
    }
    struct cg_listening listening = {.fd = -1};
    if (!steps->make(NULL, &held->place, held->temporary, &held->look, &listening, err)) {
        return fail(reply, err);
    }
    held->made = true;
    reply->device = listening.device;
    reply->inode = listening.inode;
    return listening.fd;
}

static int do_put(struct server *server, const struct cg_privileged_request *request,
                  struct cg_privileged_reply *reply, struct cg_error *err)
{
    struct held *held = &server->held[request->ticket];
    if (!held->made) {
        (void)cg_error_set(err, "nothing was made there");
        return fail(reply, err);
    }
    enum cg_listening_outcome outcome = steps->put(NULL, &held->place, held->temporary, err);
    if (outcome != CG_LISTENING_DONE) {
        (void)fail(reply, err);
        reply->outcome = outcome;
    }
    return -1;
}

static int do_find(struct server *server, const struct cg_privileged_request *request,
                   struct cg_privileged_reply *reply, struct cg_error *err)
{
    const struct cg_socket_identity made = {request->device, request->inode};
    if (!steps->find(NULL, &server->held[request->ticket].place, &made)) {
        (void)cg_error_set(err, "its file is gone");
        return fail(reply, err);
    }
    return -1;
}

static int do_remove(struct server *server, const struct cg_privileged_request *request,
                     struct cg_privileged_reply *reply, struct cg_error *err)
{
    (void)reply;
    (void)err;
    const struct held *held = &server->held[request->ticket];
    const struct cg_socket_identity made = {request->device, request->inode};
    bool temporary = (request->flags & CG_PRIVILEGED_TEMPORARY) != 0;
    steps->remove(NULL, &held->place, temporary ? request->temporary : held->place.name, &made,
                  (request->flags & CG_PRIVILEGED_ABANDONED) != 0);
    return -1;
}

static int do_leave(struct server *server, const struct cg_privileged_request *request,
                    struct cg_privileged_reply *reply, struct cg_error *err)
{
    (void)reply;
    (void)err;
    let_go(&server->held[request->ticket]);
    return -1;
}

/* No component may be a symlink: a directory on the way may be the gateway's own. */
static int do_open(struct server *server, const struct cg_privileged_request *request,
                   struct cg_privileged_reply *reply, struct cg_error *err)
{
    (void)server;
    const struct open_how how = {
        .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    cg_auto_close int fd = (int)syscall(SYS_openat2, AT_FDCWD, request->path, &how, sizeof(how));
    struct stat found;
    if (fd < 0 || fstat(fd, &found) != 0) {
        (void)cg_error_errno(err, errno, "open it");
        return fail(reply, err);
    }
    if (!S_ISREG(found.st_mode)) {
        (void)cg_error_set(err, "not a regular file");
        return fail(reply, err);
    }
    return cg_steal_fd(&fd);
}

static const struct {
    bool ticket; /* names a directory that is held */
    int (*run)(struct server *server, const struct cg_privileged_request *request,
               struct cg_privileged_reply *reply, struct cg_error *err);
} operations[] = {
    [CG_PRIVILEGED_ENTER] = {false, do_enter}, [CG_PRIVILEGED_MAKE] = {true, do_make},
    [CG_PRIVILEGED_PUT] = {true, do_put},      [CG_PRIVILEGED_REMOVE] = {true, do_remove},
    [CG_PRIVILEGED_FIND] = {true, do_find},    [CG_PRIVILEGED_LEAVE] = {true, do_leave},
    [CG_PRIVILEGED_OPEN] = {false, do_open},
};

/* --- the loop --- */

static bool send_reply(int socket, const struct cg_privileged_reply *reply, int fd)
{
    struct iovec bytes = {.iov_base = (void *)(uintptr_t)reply, .iov_len = sizeof(*reply)};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(*reply);
}

static bool answer(struct server *server, int socket, const void *bytes, size_t len)
{
    struct cg_privileged_request request = {0};
    struct cg_privileged_reply reply = {.magic = CG_PRIVILEGED_MAGIC, .outcome = CG_LISTENING_DONE};
    struct cg_error err = {0};
    cg_auto_close int fd = -1;
    if (!cg_privileged_judge(server->policy, bytes, len, &request, &err)) {
        (void)cg_error_context(&err, "refused by the privileged helper");
        (void)fail(&reply, &err);
        reply.outcome = CG_LISTENING_FORBIDDEN;
    } else if (operations[request.op].ticket && !server->held[request.ticket].used) {
        (void)cg_error_set(&err, "the directory is no longer held");
        (void)fail(&reply, &err);
    } else {
        fd = operations[request.op].run(server, &request, &reply, &err);
    }
    /* A request too damaged to say what it is gets its number back, whatever it is. */
    if (len >= offsetof(struct cg_privileged_request, ticket)) {
        memcpy(&reply.op, (const char *)bytes + offsetof(struct cg_privileged_request, op),
               sizeof(reply.op));
    }
    return send_reply(socket, &reply, fd);
}

void cg_privileged_serve(int socket, const struct cg_privileged_policy *policy)
{
    static struct server server; /* some 300 KiB: not on a stack */
    server = (struct server){.policy = policy};
    char bytes[sizeof(struct cg_privileged_request) + 1]; /* one more: too long is seen */
    for (;;) {
        ssize_t len = recv(socket, bytes, sizeof(bytes), 0);
        if (len < 0 && errno == EINTR) {
            continue;
        }
        if (len <= 0 || !answer(&server, socket, bytes, (size_t)len)) {
            break;
        }
    }
    for (size_t i = 0; i < CG_PRIVILEGED_PLACES_MAX; i++) {
        let_go(&server.held[i]);
    }
}
