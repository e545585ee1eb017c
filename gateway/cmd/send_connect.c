#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "cellgate/limits.h"
#include "cmd/send_guests.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* `base` with "%d" replaced; it is an operator's text, and no format. */
static const char *socket_path(const char *base, uint32_t cell, struct cg_buf *path)
{
    for (const char *at = base; *at != '\0';) {
        if (at[0] == '%' && at[1] == 'd') {
            cg_buf_append_u64(path, cell);
            at += 2;
        } else {
            cg_buf_append_char(path, *at++);
        }
    }
    cg_buf_append_char(path, '_');
    cg_buf_append_u64(path, CG_TELEMETRY_PORT);
    return cg_buf_str(path);
}

/* Puts `path` into an address. One that is too long goes through its directory, which is then open
 * as *ret_dir until the caller has connected. */
static bool make_address(const char *path, struct sockaddr_un *address, int *ret_dir,
                         struct cg_error *err)
{
    if (strlen(path) < sizeof(address->sun_path)) {
        memcpy(address->sun_path, path, strlen(path) + 1);
        return true;
    }
    const char *slash = strrchr(path, '/');
    char directory[PATH_MAX];
    if (slash == NULL || (size_t)(slash - path) >= sizeof(directory)) {
        return cg_error_set(err, "the path is too long");
    }
    memcpy(directory, path, (size_t)(slash - path));
    directory[slash - path] = '\0';
    cg_auto_close int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return cg_error_errno(err, errno, "cannot open the directory");
    }
    int length = snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", dir,
                          slash + 1);
    if (length < 0 || (size_t)length >= sizeof(address->sun_path)) {
        return cg_error_set(err, "the name is too long for a socket");
    }
    *ret_dir = cg_steal_fd(&dir);
    return true;
}

static bool connect_to(const char *path, uint64_t timeout_ns, int *ret_fd, struct cg_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cg_auto_close int dir = -1;
    if (!make_address(path, &address, &dir, err)) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return cg_error_errno(err, errno, "cannot make a socket");
    }
    /* While the backlog is full, a connect waits; it does not wait longer than this. */
    struct timeval timeout = {
        .tv_sec = (time_t)(timeout_ns / CG_NS_PER_S),
        .tv_usec = (suseconds_t)(timeout_ns % CG_NS_PER_S / CG_NS_PER_US),
    };
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return cg_error_errno(err, errno == EAGAIN ? ETIMEDOUT : errno, "cannot connect");
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

bool cg_send_connect(const char *socket_base, uint32_t cell, uint64_t timeout_ns, int *ret_fd,
                     struct cg_error *err)
{
    cg_auto_buf struct cg_buf buf;
    cg_buf_init(&buf, PATH_MAX);
    const char *path = socket_path(socket_base, cell, &buf);
    if (path == NULL) {
        return cg_error_set(err, "the path of the socket is too long");
    }
    return connect_to(path, timeout_ns, ret_fd, err) || cg_error_context(err, "%s", path);
}
