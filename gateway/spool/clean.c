/*
 * clean.c - the mark of a clean end: <dir>/clean.
 *
 * It says that everything up to some index is on disk, so that another boot afterwards was no power
 * cut. It is gone as soon as the spool is open, and counts only if its index is the one that
 * recovery finds.
 */
#include "spool/internal.h"

#include "cellgate/cleanup.h"
#include "spool/crc32c.h"

#include <fcntl.h>
#include <unistd.h>

static const char mark_name[] = "clean";
static const char mark_magic[8] = {'C', 'G', 'E', 'N', 'D', '1', '\r', '\n'};

/* As it lies in the file, little-endian. */
struct clean_mark {
    char magic[8];
    uint64_t next_index;
    uint32_t reserved;
    uint32_t crc; /* of all before it */
};
_Static_assert(sizeof(struct clean_mark) == 24, "the format is fixed");

static uint32_t mark_crc(const struct clean_mark *mark)
{
    return cg_crc32c(0, mark, offsetof(struct clean_mark, crc));
}

bool cg_clean_mark_take(int dir_fd, uint64_t next_index)
{
    struct clean_mark mark = {0};
    cg_auto_close int fd =
        openat(dir_fd, mark_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    bool good = read(fd, &mark, sizeof(mark)) == (ssize_t)sizeof(mark) &&
                memcmp(mark.magic, mark_magic, sizeof(mark_magic)) == 0 &&
                mark.crc == mark_crc(&mark) && mark.next_index == next_index;
    (void)unlinkat(dir_fd, mark_name, 0);
    (void)fsync(dir_fd);
    return good;
}

void cg_clean_mark_leave(int dir_fd, uint64_t next_index)
{
    struct clean_mark mark = {.next_index = next_index};
    memcpy(mark.magic, mark_magic, sizeof(mark_magic));
    mark.crc = mark_crc(&mark);
    cg_auto_close int fd =
        openat(dir_fd, mark_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    /* Without the mark the next boot counts as a power cut, which skips numbers and loses none. */
    if (fd >= 0 && write(fd, &mark, sizeof(mark)) == (ssize_t)sizeof(mark) && fdatasync(fd) == 0) {
        (void)fsync(dir_fd);
    }
}
