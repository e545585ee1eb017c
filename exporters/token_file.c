#include "exporters/token_file.h"

#include "base/secret_file.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <unistd.h>

void cg_token_file_init(struct cg_token_file *file, const char *path)
{
    memset(file, 0, sizeof(*file));
    file->path = path;
}

static void wipe(struct cg_token_file *file)
{
    explicit_bzero(file->token, sizeof(file->token));
    file->len = 0;
}

void cg_token_file_fini(struct cg_token_file *file)
{
    wipe(file);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool check_file(const char *path, const struct stat *st, struct cg_error *err)
{
    if (!S_ISREG(st->st_mode)) {
        return cg_error_set(err, "%s: not a regular file", path);
    }
    if ((st->st_mode & 077) != 0) {
        return cg_error_set(err, "%s: group or others have access (mode %04o, wanted 0600)", path,
                            (unsigned)st->st_mode & 07777);
    }
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        return cg_error_set(err, "%s: owned by user %u, neither root nor this process", path,
                            (unsigned)st->st_uid);
    }
    return true;
}

/* Fills token[0 .. len]; one byte more than allowed tells a file that is too long. */
static bool read_all(struct cg_token_file *file, int fd, struct cg_error *err)
{
    while (file->len < sizeof(file->token)) {
        ssize_t got = read(fd, file->token + file->len, sizeof(file->token) - file->len);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return cg_error_errno(err, errno, "%s", file->path);
        }
        if (got == 0) {
            return true;
        }
        file->len += (size_t)got;
    }
    return cg_error_set(err, "%s: longer than %d bytes", file->path, CG_TOKEN_BYTES_MAX);
}

static bool is_white(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool trim_and_check(struct cg_token_file *file, struct cg_error *err)
{
    while (file->len > 0 && is_white(file->token[file->len - 1])) {
        file->len--;
    }
    size_t start = 0;
    while (start < file->len && is_white(file->token[start])) {
        start++;
    }
    file->len -= start;
    memmove(file->token, file->token + start, file->len);
    memset(file->token + file->len, 0, sizeof(file->token) - file->len);
    if (file->len == 0) {
        return cg_error_set(err, "%s: no token in it", file->path);
    }
    for (size_t i = 0; i < file->len; i++) {
        if (file->token[i] <= 0x20 || file->token[i] >= 0x7f) {
            return cg_error_set(err, "%s: the token has a byte that is not visible ASCII",
                                file->path);
        }
    }
    return true;
}

static bool load(struct cg_token_file *file, struct cg_error *err)
{
    cg_auto_close int fd = cg_secret_file_open(file->path);
    if (fd < 0) {
        return cg_error_errno(err, errno, "%s", file->path);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return cg_error_errno(err, errno, "%s", file->path);
    }
    if (!check_file(file->path, &st, err) || !read_all(file, fd, err) ||
        !trim_and_check(file, err)) {
        return false;
    }
    file->seen = st;
    return true;
}

bool cg_token_file_refresh(struct cg_token_file *file, struct cg_error *err)
{
    struct stat now;
    if (file->len > 0 && lstat(file->path, &now) == 0 && same_file(&now, &file->seen)) {
        return true;
    }
    wipe(file);
    if (!load(file, err)) {
        wipe(file);
        return false;
    }
    return true;
}
