#include "http/listen.h"

#include "cellgate/bytes.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

enum { BACKLOG = 512 };

static const char unix_prefix[] = "unix:";

/* The path of a "unix:" address, or NULL. */
static const char *unix_path(const char *address)
{
    size_t len = sizeof(unix_prefix) - 1;
    return strncmp(address, unix_prefix, len) == 0 ? address + len : NULL;
}

/* Whether the path is a socket that refuses connections: left behind by a process that is gone. */
static bool is_abandoned(const struct sockaddr_un *address)
{
    struct stat info;
    if (lstat(address->sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) {
        return false;
    }
    cg_auto_close int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return probe >= 0 && connect(probe, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
           errno == ECONNREFUSED;
}

/* After bind and before listen: nobody can have connected yet, and the umask has no say. The
 * directory is the operator's, so the path is what was bound. */
static bool admit(const char *path, const struct cg_http_socket *who)
{
    return (who->group == (gid_t)-1 || lchown(path, (uid_t)-1, who->group) == 0) &&
           chmod(path, who->mode) == 0;
}

static bool listen_unix(const char *path, const struct cg_http_socket *who, int *ret_fd,
                        struct cg_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return cg_error_set(err, "%s: the path of a Unix socket is at most %zu bytes long", path,
                            sizeof(address.sun_path) - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make a socket");
    }
    if (is_abandoned(&address)) {
        (void)unlink(path);
    }
    /* On the descriptor before bind: the file is nobody else's from the beginning. */
    if (fchmod(fd, 0600) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return cg_error_errno(err, errno, "listen on %s", path);
    }
    if (!admit(path, who) || listen(fd, BACKLOG) != 0) {
        int errnum = errno;
        (void)unlink(path);
        return cg_error_errno(err, errnum, "listen on %s", path);
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

/* getaddrinfo would take 70000 for 4464. */
static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && text[digits] == '\0' && strtoul(text, NULL, 10) <= 65535;
}

/* Splits "host:port" and "[v6]:port" in place. */
static bool split_address(char *address, const char **ret_host, const char **ret_port)
{
    char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || !is_port(colon + 1)) {
        return false;
    }
    *colon = '\0';
    *ret_port = colon + 1;
    *ret_host = address;
    if (address[0] == '[') {
        if (colon[-1] != ']') {
            return false;
        }
        colon[-1] = '\0';
        *ret_host = address + 1;
        return true;
    }
    return strchr(address, ':') == NULL;
}

static bool name_socket(int fd, char ret_name[CG_ADDRESS_TEXT_MAX], struct cg_error *err)
{
    struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(bound);
    char host[64];
    char port[8];
    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0) {
        return cg_error_errno(err, errno, "getsockname");
    }
    int status = getnameinfo((struct sockaddr *)&bound, len, host, sizeof(host), port, sizeof(port),
                             NI_NUMERICHOST | NI_NUMERICSERV);
    if (status != 0) {
        return cg_error_set(err, "getnameinfo: %s", gai_strerror(status));
    }
    (void)snprintf(ret_name, CG_ADDRESS_TEXT_MAX, bound.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
                   host, port);
    return true;
}

static bool listen_on(const struct addrinfo *found, int *ret_fd, struct cg_error *err)
{
    const int one = 1;
    cg_auto_close int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        return cg_error_errno(err, errno, "listen");
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

static void free_addresses(struct addrinfo **addresses)
{
    if (*addresses != NULL) {
        freeaddrinfo(*addresses);
    }
}

static bool listen_tcp(const char *text, int *ret_fd, char ret_name[CG_ADDRESS_TEXT_MAX],
                       struct cg_error *err)
{
    char copy[CG_ADDRESS_TEXT_MAX];
    const char *host = NULL;
    const char *port = NULL;
    if (strlen(text) >= sizeof(copy)) {
        return cg_error_set(err, "the address is too long");
    }
    memcpy(copy, text, strlen(text) + 1);
    if (!split_address(copy, &host, &port)) {
        return cg_error_set(err, "not HOST:PORT, [V6]:PORT or unix:/path");
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    __attribute__((cleanup(free_addresses))) struct addrinfo *found = NULL;
    int status = getaddrinfo(host, port, &hints, &found);
    if (status != 0) {
        return cg_error_set(err, "%s", gai_strerror(status));
    }
    cg_auto_close int fd = -1;
    if (!listen_on(found, &fd, err) || !name_socket(fd, ret_name, err)) {
        return false;
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

bool cg_http_listen(const char *address, const struct cg_http_socket *socket, int *ret_fd,
                    char ret_name[CG_ADDRESS_TEXT_MAX], struct cg_error *err)
{
    static const struct cg_http_socket usual = {.mode = 0660, .group = (gid_t)-1};
    const char *path = unix_path(address);
    bool listening = path != NULL ? listen_unix(path, socket == NULL ? &usual : socket, ret_fd, err)
                                  : listen_tcp(address, ret_fd, ret_name, err);
    if (!listening) {
        return cg_error_context(err, "listen %s", address);
    }
    if (path != NULL) {
        (void)snprintf(ret_name, CG_ADDRESS_TEXT_MAX, "%s", address);
    }
    return true;
}

/* "unix:/path", or "unix:" for one without a name. */
static bool name_unix(int fd, char ret_name[CG_ADDRESS_TEXT_MAX], struct cg_error *err)
{
    struct sockaddr_un bound = {.sun_family = AF_UNSPEC};
    socklen_t len = sizeof(bound);
    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0) {
        return cg_error_errno(err, errno, "getsockname");
    }
    size_t path_len = len > offsetof(struct sockaddr_un, sun_path) && bound.sun_path[0] == '/'
                          ? strnlen(bound.sun_path, len - offsetof(struct sockaddr_un, sun_path))
                          : 0;
    (void)snprintf(ret_name, CG_ADDRESS_TEXT_MAX, "%s%.*s", unix_prefix, (int)path_len,
                   bound.sun_path);
    return true;
}

bool cg_http_listen_inherited(int fd, char ret_name[CG_ADDRESS_TEXT_MAX], struct cg_error *err)
{
    int listens = 0;
    int family = AF_UNSPEC;
    socklen_t len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0 || listens == 0) {
        return cg_error_set(err, "the socket that was passed does not listen");
    }
    len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        return cg_error_errno(err, errno, "look at the socket that was passed");
    }
    return family == AF_UNIX ? name_unix(fd, ret_name, err) : name_socket(fd, ret_name, err);
}

void cg_http_unlisten(const char *address)
{
    const char *path = unix_path(address);
    if (path != NULL) {
        (void)unlink(path);
    }
}
