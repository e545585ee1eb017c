#include "probes/netns.h"

#include "cellgate/cleanup.h"
#include "probes/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>

enum cg_probe_outcome cg_netns_open(const struct cg_probe_policy *policy, const char *path,
                                    int *ret_fd, struct cg_netns_id *ret_id, struct cg_error *err)
{
    cg_auto_close int fd = -1;
    if (!policy->netns) {
        (void)cg_error_set(err, "probes.netns is off");
        return CG_PROBE_DENIED;
    }
    enum cg_probe_outcome outcome = cg_probe_open(policy->roots, path, O_RDONLY, &fd, err);
    if (outcome != CG_PROBE_READ) {
        return outcome;
    }
    struct stat status;
    struct statfs kind;
    if (fstat(fd, &status) != 0 || fstatfs(fd, &kind) != 0 || kind.f_type != NSFS_MAGIC) {
        (void)cg_error_set(err, "%s is no namespace", path);
        return CG_PROBE_MISSING;
    }
    *ret_id = (struct cg_netns_id){status.st_dev, status.st_ino};
    *ret_fd = cg_steal_fd(&fd);
    return CG_PROBE_READ;
}

struct visit {
    int netns_fd, protocol;
    int fd, errnum;
};

static void open_socket(struct visit *visit)
{
    visit->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, visit->protocol);
    visit->errnum = visit->fd < 0 ? errno : 0;
}

static void *enter(void *context)
{
    struct visit *visit = context;
    if (setns(visit->netns_fd, CLONE_NEWNET) != 0) {
        visit->errnum = errno;
    } else {
        open_socket(visit);
    }
    return NULL;
}

enum cg_probe_outcome cg_netns_netlink(int netns_fd, int protocol, int *ret_fd,
                                       struct cg_error *err)
{
    struct visit visit = {.netns_fd = netns_fd, .protocol = protocol, .fd = -1};
    if (netns_fd < 0) {
        open_socket(&visit);
    } else {
        pthread_t thread;
        int errnum = pthread_create(&thread, NULL, enter, &visit);
        if (errnum != 0) {
            (void)cg_error_errno(err, errnum, "start a thread for a network namespace");
            return CG_PROBE_UNREADABLE;
        }
        (void)pthread_join(thread, NULL);
    }
    if (visit.fd < 0) {
        (void)cg_error_errno(err, visit.errnum, "open a netlink socket%s",
                             netns_fd < 0 ? "" : " in the network namespace");
        return cg_probe_outcome_of(visit.errnum);
    }
    *ret_fd = visit.fd;
    return CG_PROBE_READ;
}
