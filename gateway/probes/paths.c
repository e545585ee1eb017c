#include "probes/paths.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum cg_probe_outcome cg_probe_outcome_of(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
    case ENODEV:
    case ENXIO:
        return CG_PROBE_MISSING;
    case EACCES:
    case EPERM:
    case ELOOP:
    case EXDEV:
        return CG_PROBE_DENIED;
    case EOPNOTSUPP:
    case ENOSYS:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
        return CG_PROBE_UNSUPPORTED;
    default:
        return CG_PROBE_UNREADABLE;
    }
}

/* What is left of the path below the root, or NULL. */
static const char *beneath(const char *root, const char *path)
{
    size_t len = strlen(root);
    while (len > 0 && root[len - 1] == '/') {
        len--;
    }
    return strncmp(path, root, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

enum cg_probe_outcome cg_probe_open(struct cg_strings roots, const char *path, int flags,
                                    int *ret_fd, struct cg_error *err)
{
    const char *root = roots.count == 0 ? "/" : NULL;
    for (size_t i = 0; i < roots.count && root == NULL; i++) {
        root = beneath(roots.items[i], path) != NULL ? roots.items[i] : NULL;
    }
    if (root == NULL) {
        (void)cg_error_set(err, "%s is not beneath one of probes.roots", path);
        return CG_PROBE_DENIED;
    }
    cg_auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        int errnum = errno;
        (void)cg_error_errno(err, errnum, "open %s", root);
        return cg_probe_outcome_of(errnum);
    }
    int careful = (flags & O_PATH) != 0 ? 0 : O_NONBLOCK | O_NOCTTY;
    const struct open_how how = {
        .flags = (uint64_t)(flags | careful | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, root_fd, beneath(root, path), &how, sizeof(how));
    if (fd < 0) {
        int errnum = errno;
        (void)cg_error_errno(err, errnum, "open %s", path);
        return cg_probe_outcome_of(errnum);
    }
    *ret_fd = fd;
    return CG_PROBE_READ;
}

/* Up to one byte more than may be, so that a longer file shows. */
static ssize_t read_all(int fd, char *bytes, size_t bytes_max)
{
    size_t len = 0;
    while (len < bytes_max) {
        ssize_t got = pread(fd, bytes + len, bytes_max - len, (off_t)len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        len += (size_t)got;
    }
    return (ssize_t)len;
}

enum cg_probe_outcome cg_probe_read_file(int dir_fd, const char *name, char *ret_bytes,
                                         size_t bytes_max, size_t *ret_len, struct cg_error *err)
{
    cg_auto_close int fd =
        openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT) {
        return CG_PROBE_NO_NEWS;
    }
    struct stat status;
    ssize_t len = -1;
    if (fd >= 0 && fstat(fd, &status) == 0) {
        if (!S_ISREG(status.st_mode)) {
            (void)cg_error_set(err, "%s is no regular file", name);
            return CG_PROBE_DENIED;
        }
        len = read_all(fd, ret_bytes, bytes_max);
    }
    if (len < 0 && errno == EOPNOTSUPP) {
        return CG_PROBE_NO_NEWS;
    }
    if (len < 0) {
        int errnum = errno;
        (void)cg_error_errno(err, errnum, "read %s", name);
        return cg_probe_outcome_of(errnum);
    }
    if ((size_t)len == bytes_max) {
        (void)cg_error_set(err, "%s has %zu bytes or more", name, bytes_max);
        return CG_PROBE_MALFORMED;
    }
    *ret_len = (size_t)len;
    return CG_PROBE_READ;
}
