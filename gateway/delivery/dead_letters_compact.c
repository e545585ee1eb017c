/* dead_letters_compact.c - a new file of letters without those that are done with. */
#include "base/file.h"
#include "cellgate/cleanup.h"
#include "delivery/dead_letters.h"
#include "delivery/letter_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { FILE_MODE = 0600 };

static bool copy_range(int from, off_t offset, off_t len, int to, struct cg_error *err)
{
    char piece[16 * 1024];
    while (len > 0) {
        size_t wanted = len < (off_t)sizeof(piece) ? (size_t)len : sizeof(piece);
        ssize_t got = pread(from, piece, wanted, offset);
        if (got <= 0) {
            return cg_error_errno(err, got < 0 ? errno : EIO, "read");
        }
        if (!cg_file_write_all(to, cg_bytes(piece, (size_t)got), err)) {
            return false;
        }
        offset += got;
        len -= got;
    }
    return true;
}

/* Copies all but the letters that may go, those that stand together in one go. */
static bool copy_live(struct cg_dead_letters *letters, int to, struct cg_error *err)
{
    cg_auto_letter_scan struct cg_letter_scan scan;
    off_t from = 0;
    cg_letter_scan_init(&scan, letters->fd, 0, letters->end);
    for (;;) {
        enum cg_letter_line line = cg_letter_scan_next(&scan, err);
        bool goes = line == CG_LETTER_LINE && !cg_letter_is_live(scan.state);
        off_t upto = line == CG_LETTER_LINE_END ? letters->end : scan.offset;
        if (line == CG_LETTER_LINE_FAILED) {
            return false;
        }
        if (line == CG_LETTER_LINE_END || goes) {
            if (!copy_range(letters->fd, from, upto - from, to, err)) {
                return false;
            }
            from = upto + (goes ? scan.len : 0);
        }
        if (line == CG_LETTER_LINE_END) {
            return true;
        }
    }
}

/* Makes the new file beside the old one, locked before anybody else can see it. */
static bool make_compacted(struct cg_dead_letters *letters, const char *beside, int *ret_fd,
                           struct cg_error *err)
{
    (void)unlink(beside); /* a kill may have left one */
    cg_auto_close int fd =
        open(beside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make %s", beside);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        return cg_error_errno(err, errno, "lock %s", beside);
    }
    if (!copy_live(letters, fd, err)) {
        return false;
    }
    if (fsync(fd) != 0) {
        return cg_error_errno(err, errno, "sync %s", beside);
    }
    if (rename(beside, letters->path) != 0) {
        return cg_error_errno(err, errno, "rename %s", beside);
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

bool cg_dead_letters_compact_locked(struct cg_dead_letters *letters, struct cg_error *err)
{
    cg_auto_free char *beside = NULL;
    int fd = -1;
    if (asprintf(&beside, "%s.new", letters->path) < 0) {
        beside = NULL;
        return cg_error_set(err, "dead letters %s: no memory", letters->path);
    }
    if (!make_compacted(letters, beside, &fd, err)) {
        (void)unlink(beside);
        return cg_error_context(err, "dead letters %s", letters->path);
    }
    letters->end = lseek(fd, 0, SEEK_CUR);
    letters->dead_bytes = 0;
    letters->bytes = (uint64_t)letters->end;
    letters->generation++;
    (void)close(letters->fd);
    letters->fd = fd;
    return cg_file_sync_directory(letters->path, err);
}
