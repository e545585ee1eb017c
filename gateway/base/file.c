#include "base/file.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>

enum { READ_BYTES = 4096 };

bool cg_file_write_all(int fd, struct cg_bytes bytes, struct cg_error *err)
{
    while (bytes.len > 0) {
        ssize_t wrote = write(fd, bytes.data, bytes.len);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return cg_error_errno(err, wrote < 0 ? errno : EIO, "write");
        }
        bytes = cg_bytes(bytes.data + wrote, bytes.len - (size_t)wrote);
    }
    return true;
}

bool cg_file_lines_end(int fd, off_t size, off_t line_bytes_max, off_t *ret_end,
                       struct cg_error *err)
{
    char piece[READ_BYTES];
    off_t end = size;
    while (end > 0) {
        off_t start = end > READ_BYTES ? end - READ_BYTES : 0;
        ssize_t got = pread(fd, piece, (size_t)(end - start), start);
        if (got != end - start) {
            return cg_error_errno(err, got < 0 ? errno : EIO, "read");
        }
        const char *newline = memrchr(piece, '\n', (size_t)got);
        if (newline != NULL) {
            end = start + (newline - piece) + 1;
            break;
        }
        end = start;
        if (size - end > line_bytes_max) {
            break;
        }
    }
    if (size - end > line_bytes_max) {
        return cg_error_set(err, "what follows its last whole line is too long to be ours");
    }
    *ret_end = end;
    return true;
}

bool cg_file_sync_directory(const char *path, struct cg_error *err)
{
    const char *slash = strrchr(path, '/');
    cg_auto_free char *directory =
        slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    if (directory == NULL) {
        return cg_error_set(err, "no memory");
    }
    cg_auto_close int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        return cg_error_errno(err, errno, "sync directory %s", directory);
    }
    return true;
}
