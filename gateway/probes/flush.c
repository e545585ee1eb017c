#include "probes/flush.h"

#include "cellgate/cleanup.h"
#include "probes/fc_document.h"
#include "probes/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static const struct cg_bytes request = CG_BYTES("PUT /actions HTTP/1.1\r\n"
                                                "Host: localhost\r\n"
                                                "Accept: application/json\r\n"
                                                "Content-Type: application/json\r\n"
                                                "Content-Length: 30\r\n"
                                                "\r\n"
                                                "{\"action_type\":\"FlushMetrics\"}");

static void end(struct cg_flush *flush)
{
    if (flush->fd >= 0) {
        cg_probe_host_remove(flush->host, flush->fd);
        (void)close(cg_steal_fd(&flush->fd));
    }
}

static void finish(struct cg_flush *flush, enum cg_probe_outcome outcome)
{
    end(flush);
    flush->outcome = outcome;
    cg_probe_answered(flush->instance);
}

static void serve(void *context)
{
    struct cg_flush *flush = context;
    ssize_t got = recv(flush->fd, flush->answer + flush->len, sizeof(flush->answer) - flush->len,
                       MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    flush->len += got > 0 ? (size_t)got : 0;
    uint32_t status = cg_fc_answer_status(cg_bytes(flush->answer, flush->len));
    if (status == 0 && got > 0 && flush->len < sizeof(flush->answer)) {
        return;
    }
    if (status == 204 || status == 200) {
        finish(flush, CG_PROBE_READ);
    } else if (status == 0 || status == UINT32_MAX) {
        (void)cg_error_set(&flush->err, "the API socket gives no answer to FlushMetrics");
        finish(flush, CG_PROBE_MALFORMED);
    } else {
        (void)cg_error_set(&flush->err, "the VMM answers %u to FlushMetrics", status);
        finish(flush, CG_PROBE_UNREADABLE);
    }
}

void cg_flush_init(struct cg_flush *flush, struct cg_probe_host *host,
                   struct cg_probe_instance *instance)
{
    flush->host = host;
    flush->instance = instance;
    flush->source = (struct cg_probe_source){serve, flush};
    flush->fd = -1;
    flush->outcome = CG_PROBE_READ;
}

void cg_flush_fini(struct cg_flush *flush)
{
    end(flush);
}

static bool fail(struct cg_flush *flush, int errnum, const char *what)
{
    (void)cg_error_errno(&flush->err, errnum, "%s the API socket", what);
    flush->outcome = errnum == ECONNREFUSED ? CG_PROBE_MISSING : cg_probe_outcome_of(errnum);
    return false;
}

/* By way of a descriptor of the socket itself, so that what was checked is what is connected to. */
static bool connect_to(struct cg_flush *flush, int socket_fd, int path_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path_fd);
    if (connect(socket_fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return fail(flush, errno, "connect to");
    }
    ssize_t sent = send(socket_fd, request.data, request.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent != (ssize_t)request.len) {
        return fail(flush, sent < 0 ? errno : EIO, "write to");
    }
    return true;
}

bool cg_flush_begin(struct cg_flush *flush, const char *api_socket)
{
    if (flush->fd >= 0) {
        return true; /* one is under way */
    }
    flush->len = 0;
    flush->err = (struct cg_error){0};
    cg_auto_close int path_fd = -1;
    flush->outcome =
        cg_probe_open(flush->host->policy->roots, api_socket, O_PATH, &path_fd, &flush->err);
    if (flush->outcome != CG_PROBE_READ) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return fail(flush, errno, "open a socket for");
    }
    if (!connect_to(flush, fd, path_fd)) {
        return false;
    }
    if (!cg_probe_host_add(flush->host, fd, &flush->source, &flush->err)) {
        flush->outcome = CG_PROBE_UNREADABLE;
        return false;
    }
    flush->fd = cg_steal_fd(&fd);
    return true;
}

void cg_flush_cancel(struct cg_flush *flush)
{
    if (flush->fd >= 0) {
        end(flush);
        flush->outcome = CG_PROBE_TIMEOUT;
        (void)cg_error_set(&flush->err, "the VMM does not answer FlushMetrics");
    }
}
