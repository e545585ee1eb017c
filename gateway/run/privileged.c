/* privileged.c - the gateway's side: starting the helper, and asking it. */
#include "run/privileged.h"

#include "base/secret_file.h"
#include "base/thread.h"
#include "cellgate/bytes.h"
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "run/privileged_start.h"

enum { END_MS = 5000 };

struct cg_privileged {
    int socket;
    pid_t pid;
    unsigned confined;
    uid_t uid; /* whom a socket is given to where nobody is named */
    gid_t gid;

    pthread_mutex_t lock; /* one request at a time */
    bool gone;            /* no more are sent; covered by the lock */

    pthread_t watcher;
    bool watching;
    int stop_fd; /* eventfd; ends the watcher */
    atomic_bool *alive;
};

/* --- starting --- */

bool cg_privileged_start(const struct cg_privileged_policy *policy, unsigned wanted, bool strict,
                         struct cg_privileged **ret_helper, bool *ret_is_helper,
                         struct cg_error *err)
{
    struct cg_privileged *helper = calloc(1, sizeof(*helper));
    if (helper == NULL) {
        return cg_error_set(err, "out of memory");
    }
    *helper = (struct cg_privileged){
        .socket = -1, .stop_fd = -1, .uid = policy->gateway_uid, .gid = policy->gateway_gid};
    (void)pthread_mutex_init(&helper->lock, NULL);
    bool is_helper = false;
    bool started =
        cg_privileged_fork(policy, wanted, &helper->socket, &helper->pid, &is_helper, err);
    if (is_helper) {
        (void)pthread_mutex_destroy(&helper->lock);
        free(helper);
        *ret_is_helper = true;
        return started;
    }
    struct cg_privileged_reply hello;
    if (!started || !cg_privileged_hello(helper->socket, &hello, err)) {
        cg_privileged_stop(helper);
        return false;
    }
    helper->confined = hello.ticket;
    if (strict && helper->confined != wanted) {
        (void)cg_error_set(err, "the privileged helper: %s", hello.text);
        cg_privileged_stop(helper);
        return false;
    }
    *ret_is_helper = false;
    *ret_helper = helper;
    return true;
}

pid_t cg_privileged_pid(const struct cg_privileged *helper)
{
    return helper->pid;
}

unsigned cg_privileged_confined(const struct cg_privileged *helper)
{
    return helper->confined;
}

/* --- watching --- */

static void *watch(void *context)
{
    struct cg_privileged *helper = context;
    struct pollfd ends[] = {{.fd = helper->socket}, {.fd = helper->stop_fd, .events = POLLIN}};
    while (poll(ends, 2, -1) < 0) {
        /* interrupted */
    }
    if (ends[1].revents == 0) {
        atomic_store(helper->alive, false);
        CG_LOG(CG_LOG_ERROR, "helper_ended", CG_F_I64("pid", helper->pid),
               CG_F_STR("advice", "sockets in directories or for owners beyond the gateway's "
                                  "rights, and files that only root may read, need it: restart"));
    }
    return NULL;
}

bool cg_privileged_watch(struct cg_privileged *helper, atomic_bool *alive, struct cg_error *err)
{
    helper->alive = alive;
    atomic_store(alive, true);
    helper->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (helper->stop_fd < 0) {
        return cg_error_errno(err, errno, "watch the privileged helper");
    }
    int errnum = cg_thread_start(&helper->watcher, "helper-watch", watch, helper);
    if (errnum != 0) {
        return cg_error_errno(err, errnum, "watch the privileged helper");
    }
    helper->watching = true;
    return true;
}

/* It ends when its socket does; should it hang, whoever started the gateway ends it. */
static void wait_for_end(pid_t pid)
{
    cg_auto_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    if (pidfd < 0 || poll(&end, 1, END_MS) > 0) {
        (void)waitpid(pid, NULL, pidfd < 0 ? WNOHANG : 0);
    }
}

void cg_privileged_stop(struct cg_privileged *helper)
{
    if (helper == NULL) {
        return;
    }
    if (helper->watching) {
        const uint64_t one = 1;
        (void)!write(helper->stop_fd, &one, sizeof(one));
        (void)pthread_join(helper->watcher, NULL);
    }
    cg_cleanup_close(&helper->socket);
    cg_cleanup_close(&helper->stop_fd);
    if (helper->pid > 0) {
        wait_for_end(helper->pid);
    }
    (void)pthread_mutex_destroy(&helper->lock);
    free(helper);
}

/* --- asking --- */

static void set_text(char *to, size_t size, const char *text)
{
    CG_ASSERT(strlen(text) < size);
    memcpy(to, text, strlen(text) + 1);
}

/* Sends a request and waits for its reply; *ret_fd is what came along, or -1. */
static bool exchange(struct cg_privileged *helper, const struct cg_privileged_request *request,
                     struct cg_privileged_reply *ret_reply, int *ret_fd)
{
    (void)pthread_mutex_lock(&helper->lock);
    bool done = !helper->gone &&
                send(helper->socket, request, sizeof(*request), MSG_NOSIGNAL) ==
                    (ssize_t)sizeof(*request) &&
                cg_privileged_receive(helper->socket, (enum cg_privileged_op)request->op, ret_reply,
                                      ret_fd);
    helper->gone = !done;
    (void)pthread_mutex_unlock(&helper->lock);
    return done;
}

/* The same, with the outcome in errors and metrics. */
static enum cg_listening_outcome ask(struct cg_privileged *helper,
                                     struct cg_privileged_request *request,
                                     struct cg_privileged_reply *ret_reply, int *ret_fd,
                                     struct cg_error *err)
{
    cg_auto_close int fd = -1;
    request->magic = CG_PRIVILEGED_MAGIC;
    if (!exchange(helper, request, ret_reply, &fd)) {
        cg_metric_add(CG_SERIES_helper_requests_failed, 1);
        (void)cg_error_set(err, "this needs the privileged helper, which has ended: restart the "
                                "gateway");
        return CG_LISTENING_FAILED;
    }
    if (ret_reply->outcome != CG_LISTENING_DONE) {
        cg_metric_add(CG_SERIES_helper_requests_refused, 1);
        (void)cg_error_set(err, "%s", ret_reply->text);
        return (enum cg_listening_outcome)ret_reply->outcome;
    }
    cg_metric_add(CG_SERIES_helper_requests_done, 1);
    if (ret_fd != NULL) {
        *ret_fd = cg_steal_fd(&fd);
    }
    return CG_LISTENING_DONE;
}

int cg_privileged_open_file(void *helper, const char *path)
{
    struct cg_privileged_request request = {.op = CG_PRIVILEGED_OPEN};
    struct cg_privileged_reply reply;
    int fd = -1;
    if (strlen(path) < sizeof(request.path)) {
        set_text(request.path, sizeof(request.path), path);
        (void)ask(helper, &request, &reply, &fd, NULL);
    }
    if (fd < 0) {
        errno = EACCES; /* as without a helper */
    }
    return fd;
}

/* --- the steps --- */

static const struct cg_socket_steps *const direct = &cg_socket_steps_direct;

static bool is_helped(const struct cg_socket_place *place)
{
    return place->dir_fd < 0;
}

/* An owner that only a privileged process can name; a directory that is not ours to write, or in
 * which only a file's owner may rename it. */
static bool needs_help(const struct cg_socket_place *place, const struct cg_socket_look *look)
{
    struct stat dir;
    return (look->uid != (uid_t)-1 && look->uid != geteuid()) ||
           (look->gid != (gid_t)-1 && look->gid != getegid()) || fstat(place->dir_fd, &dir) != 0 ||
           ((dir.st_mode & S_ISVTX) != 0 && dir.st_uid != geteuid()) ||
           faccessat(place->dir_fd, ".", W_OK | X_OK, AT_EACCESS) != 0;
}

static enum cg_listening_outcome enter_helped(struct cg_privileged *helper, const char *path,
                                              const char *temporary,
                                              const struct cg_socket_look *look,
                                              struct cg_socket_place *ret_place,
                                              struct cg_error *err)
{
    struct cg_privileged_request request = {.op = CG_PRIVILEGED_ENTER};
    if (strlen(path) >= sizeof(request.path)) {
        (void)cg_error_set(err, "the path is too long");
        return CG_LISTENING_BAD_PATH;
    }
    set_text(request.path, sizeof(request.path), path);
    if (look != NULL) {
        request.flags = CG_PRIVILEGED_MAKING;
        request.mode = look->mode;
        request.uid = look->uid == (uid_t)-1 ? helper->uid : look->uid;
        request.gid = look->gid == (gid_t)-1 ? helper->gid : look->gid;
        set_text(request.temporary, sizeof(request.temporary), temporary);
    }
    struct cg_privileged_reply reply;
    enum cg_listening_outcome outcome = ask(helper, &request, &reply, NULL, err);
    if (outcome == CG_LISTENING_DONE) {
        ret_place->dir_fd = -1;
        ret_place->ticket = reply.ticket;
        set_text(ret_place->path, sizeof(ret_place->path), path);
        ret_place->name = strrchr(ret_place->path, '/') + 1;
    }
    return outcome;
}

/* To remove one: the helper first, who can also see whether somebody listens on another's. */
static enum cg_listening_outcome enter_to_remove(struct cg_privileged *helper, const char *path,
                                                 struct cg_strings roots,
                                                 struct cg_socket_place *ret_place,
                                                 struct cg_error *err)
{
    if (enter_helped(helper, path, NULL, NULL, ret_place, NULL) == CG_LISTENING_DONE) {
        return CG_LISTENING_DONE;
    }
    return direct->enter(NULL, path, NULL, NULL, roots, ret_place, err);
}

static enum cg_listening_outcome enter(void *context, const char *path, const char *temporary,
                                       const struct cg_socket_look *look, struct cg_strings roots,
                                       struct cg_socket_place *ret_place, struct cg_error *err)
{
    if (look == NULL) {
        return enter_to_remove(context, path, roots, ret_place, err);
    }
    enum cg_listening_outcome outcome =
        direct->enter(NULL, path, temporary, look, roots, ret_place, err);
    if (outcome == CG_LISTENING_FORBIDDEN || outcome == CG_LISTENING_TAKEN) {
        return outcome;
    }
    if (outcome == CG_LISTENING_DONE) {
        if (!needs_help(ret_place, look)) {
            return CG_LISTENING_DONE;
        }
        direct->leave(NULL, ret_place);
    }
    return enter_helped(context, path, temporary, look, ret_place, err);
}

static bool find_made(void *context, const struct cg_socket_place *place,
                      const struct cg_socket_identity *made)
{
    if (!is_helped(place)) {
        return direct->find(NULL, place, made);
    }
    struct cg_privileged_request request = {
        .op = CG_PRIVILEGED_FIND,
        .ticket = place->ticket,
        .device = made->device,
        .inode = made->inode,
    };
    struct cg_privileged_reply reply;
    return ask(context, &request, &reply, NULL, NULL) == CG_LISTENING_DONE;
}

static void remove_made(void *context, const struct cg_socket_place *place, const char *name,
                        const struct cg_socket_identity *made, bool abandoned)
{
    if (!is_helped(place)) {
        direct->remove(NULL, place, name, made, abandoned);
        return;
    }
    struct cg_privileged_request request = {
        .op = CG_PRIVILEGED_REMOVE,
        .ticket = place->ticket,
        .flags = abandoned ? CG_PRIVILEGED_ABANDONED : 0,
        .device = made->device,
        .inode = made->inode,
    };
    if (strcmp(name, place->name) != 0) {
        if (strlen(name) >= sizeof(request.temporary)) {
            return;
        }
        request.flags |= CG_PRIVILEGED_TEMPORARY;
        set_text(request.temporary, sizeof(request.temporary), name);
    }
    struct cg_privileged_reply reply;
    (void)ask(context, &request, &reply, NULL, NULL);
}

static bool make(void *context, const struct cg_socket_place *place, const char *temporary,
                 const struct cg_socket_look *look, struct cg_listening *ret_listening,
                 struct cg_error *err)
{
    if (!is_helped(place)) {
        return direct->make(NULL, place, temporary, look, ret_listening, err);
    }
    struct cg_privileged_request request = {.op = CG_PRIVILEGED_MAKE, .ticket = place->ticket};
    struct cg_privileged_reply reply;
    int fd = -1;
    if (ask(context, &request, &reply, &fd, err) != CG_LISTENING_DONE) {
        return false;
    }
    const struct cg_socket_identity made = {reply.device, reply.inode};
    if (fd < 0) { /* there was no descriptor free to take it */
        remove_made(context, place, temporary, &made, false);
        return cg_error_set(err, "the socket that the privileged helper made did not arrive");
    }
    *ret_listening = (struct cg_listening){.fd = fd, .device = reply.device, .inode = reply.inode};
    return true;
}

static enum cg_listening_outcome put(void *context, const struct cg_socket_place *place,
                                     const char *temporary, struct cg_error *err)
{
    if (!is_helped(place)) {
        return direct->put(NULL, place, temporary, err);
    }
    struct cg_privileged_request request = {.op = CG_PRIVILEGED_PUT, .ticket = place->ticket};
    struct cg_privileged_reply reply;
    return ask(context, &request, &reply, NULL, err);
}

static void leave(void *context, const struct cg_socket_place *place)
{
    if (!is_helped(place)) {
        direct->leave(NULL, place);
        return;
    }
    struct cg_privileged_request request = {.op = CG_PRIVILEGED_LEAVE, .ticket = place->ticket};
    struct cg_privileged_reply reply;
    (void)ask(context, &request, &reply, NULL, NULL);
}

static const struct cg_socket_steps assisted_steps = {
    .enter = enter,
    .make = make,
    .put = put,
    .find = find_made,
    .remove = remove_made,
    .leave = leave,
};

struct cg_socket_files cg_privileged_socket_files(struct cg_privileged *helper)
{
    return (struct cg_socket_files){.steps = &assisted_steps, .context = helper};
}
