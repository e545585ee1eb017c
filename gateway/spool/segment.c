#include "spool/segment.h"

#include "cellgate/cleanup.h"
#include "spool/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

static const char segment_magic[8] = {'C', 'G', 'S', 'P', 'O', 'O', 'L', '\n'};

void cg_segment_name(uint64_t first_index, char ret_name[CG_SEGMENT_NAME_BYTES])
{
    (void)snprintf(ret_name, CG_SEGMENT_NAME_BYTES, "%020" PRIu64 ".seg", first_index);
}

bool cg_segment_parse_name(const char *name, uint64_t *ret_first_index)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(name[i] - '0'), &value)) {
            return false;
        }
    }
    if (strcmp(name + 20, ".seg") != 0) {
        return false;
    }
    *ret_first_index = value;
    return true;
}

static uint32_t header_crc(const struct cg_segment_header *header)
{
    struct cg_segment_header copy = *header;
    copy.header_crc = 0;
    return cg_crc32c(0, &copy, sizeof(copy));
}

bool cg_segment_write(const struct cg_segment *segment, const void *data, size_t len,
                      uint64_t offset, size_t *ret_written, struct cg_error *err)
{
    size_t written = 0;
    while (written < len) {
        ssize_t n = pwrite(segment->fd, (const char *)data + written, len - written,
                           (off_t)(offset + written));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int failure = n == 0 ? ENOSPC : errno;
            *ret_written = written;
            (void)cg_error_errno(err, failure, "write to the spool");
            errno = failure;
            return false;
        }
        written += (size_t)n;
    }
    return true;
}

bool cg_segment_scrub(struct cg_segment *segment, struct cg_error *err)
{
    static const char zeros[64 * 1024];
    for (uint64_t at = segment->end; at < segment->scrub_end;) {
        uint64_t left = segment->scrub_end - at;
        size_t len = left < sizeof(zeros) ? (size_t)left : sizeof(zeros);
        size_t written;
        if (!cg_segment_write(segment, zeros, len, at, &written, err)) {
            return false;
        }
        at += len;
    }
    segment->scrub_end = 0;
    return true;
}

/* Writes a header with a new salt, and makes the struct agree. */
static bool begin_life(const struct cg_segment_place *place, struct cg_segment *segment,
                       uint64_t first_index, struct cg_error *err)
{
    struct cg_segment_header header = {
        .version = CG_SEGMENT_VERSION,
        .first_index = first_index,
        .size = segment->size,
    };
    memcpy(header.magic, segment_magic, sizeof(segment_magic));
    memcpy(header.instance, place->instance, CG_UUID_BYTES);
    memcpy(header.boot_id, place->boot_id, CG_UUID_BYTES);
    if (getrandom(&header.salt, sizeof(header.salt), 0) != (ssize_t)sizeof(header.salt)) {
        return cg_error_errno(err, errno, "random bytes");
    }
    header.header_crc = header_crc(&header);
    size_t written;
    if (!cg_segment_write(segment, &header, sizeof(header), 0, &written, err)) {
        return false;
    }
    segment->first_index = segment->end_index = first_index;
    segment->salt = header.salt;
    segment->end = CG_SEGMENT_HEADER_BYTES;
    segment->synced_end = 0;
    segment->scrub_end = 0;
    return true;
}

static bool open_file(const struct cg_segment_place *place, uint64_t first_index, int flags,
                      int *ret_fd, struct cg_error *err)
{
    char name[CG_SEGMENT_NAME_BYTES];
    cg_segment_name(first_index, name);
    int fd = openat(place->dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return cg_error_errno(err, errno, "open segment %s", name);
    }
    *ret_fd = fd;
    return true;
}

/* Returns false, with errno as it is. */
static bool remove_failed(const struct cg_segment_place *place, struct cg_segment *segment)
{
    int failure = errno;
    cg_segment_remove(place, segment);
    errno = failure;
    return false;
}

bool cg_segment_create(const struct cg_segment_place *place, uint64_t first_index,
                       struct cg_segment **ret_segment, struct cg_error *err)
{
    struct cg_segment *segment = calloc(1, sizeof(*segment));
    if (segment == NULL) {
        return cg_error_set(err, "no memory for a segment");
    }
    segment->fd = -1;
    segment->size = place->size;
    segment->first_index = first_index;
    if (place->dir_fd < 0) {
        segment->fd = memfd_create("cellgate-spool", MFD_CLOEXEC);
        if (segment->fd < 0) {
            (void)cg_error_errno(err, errno, "memfd");
        }
    } else if (!open_file(place, first_index, O_RDWR | O_CREAT | O_TRUNC, &segment->fd, err)) {
        segment->fd = -1;
    }
    if (segment->fd < 0) {
        int failure = errno;
        cg_segment_free(segment);
        errno = failure;
        return false;
    }
    /* Room is taken now, so that a full disk shows here and not in the middle of a record. Some
     * file systems cannot; then it shows there, and is handled too. */
    if (place->dir_fd >= 0 && fallocate(segment->fd, 0, 0, (off_t)segment->size) != 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EROFS)) {
        cg_error_errno(err, errno, "make room for a segment");
        return remove_failed(place, segment);
    }
    if (!begin_life(place, segment, first_index, err)) {
        return remove_failed(place, segment);
    }
    *ret_segment = segment;
    return true;
}

bool cg_segment_recycle(const struct cg_segment_place *place, struct cg_segment *segment,
                        uint64_t first_index, struct cg_error *err)
{
    uint64_t old_index = segment->first_index;
    if (segment->fd < 0 && !open_file(place, old_index, O_RDWR, &segment->fd, err)) {
        return false;
    }
    if (!begin_life(place, segment, first_index, err)) {
        return false;
    }
    if (place->dir_fd >= 0) {
        char from[CG_SEGMENT_NAME_BYTES];
        char to[CG_SEGMENT_NAME_BYTES];
        cg_segment_name(old_index, from);
        cg_segment_name(first_index, to);
        if (renameat(place->dir_fd, from, place->dir_fd, to) != 0) {
            segment->first_index = segment->end_index = old_index;
            return cg_error_errno(err, errno, "rename segment %s", from);
        }
    }
    return true;
}

void cg_segment_remove(const struct cg_segment_place *place, struct cg_segment *segment)
{
    if (place->dir_fd >= 0) {
        char name[CG_SEGMENT_NAME_BYTES];
        cg_segment_name(segment->first_index, name);
        (void)unlinkat(place->dir_fd, name, 0);
    }
    cg_segment_free(segment);
}

void cg_segment_free(struct cg_segment *segment)
{
    if (segment != NULL) {
        if (segment->fd >= 0) {
            (void)close(segment->fd);
        }
        free(segment);
    }
}

static enum cg_segment_read judge(const struct cg_segment_header *header, uint64_t first_index)
{
    if (memcmp(header->magic, segment_magic, sizeof(segment_magic)) != 0 ||
        header->header_crc != header_crc(header)) {
        return CG_SEGMENT_DAMAGED;
    }
    if (header->version > CG_SEGMENT_VERSION) {
        return CG_SEGMENT_NEWER;
    }
    return header->first_index == first_index ? CG_SEGMENT_GOOD : CG_SEGMENT_UNBORN;
}

/* Whether nothing was ever written to the file: whoever made it was killed before the header. */
static bool is_blank(int fd)
{
    static const char zeros[16 * 1024];
    char piece[sizeof(zeros)];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, piece, sizeof(piece), at)) > 0) {
        if (memcmp(piece, zeros, (size_t)got) != 0) {
            return false;
        }
        at += got;
    }
    return got == 0;
}

enum cg_segment_read cg_segment_open(const struct cg_segment_place *place, uint64_t first_index,
                                     struct cg_segment **ret_segment,
                                     struct cg_segment_header *ret_header, struct cg_error *err)
{
    cg_auto_close int fd = -1;
    int flags = (place->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK;
    if (!open_file(place, first_index, flags, &fd, err)) {
        /* A link or a directory under such a name is not ours; a bad sector under it is damage. */
        return errno == EIO || errno == ELOOP || errno == EISDIR || errno == ENXIO
                   ? CG_SEGMENT_DAMAGED
                   : CG_SEGMENT_FAILED;
    }
    struct stat status;
    if (fstat(fd, &status) != 0) {
        cg_error_errno(err, errno, "look at a segment");
        return CG_SEGMENT_FAILED;
    }
    if (!S_ISREG(status.st_mode)) {
        return CG_SEGMENT_DAMAGED;
    }
    struct cg_segment_header header = {0};
    if (pread(fd, &header, sizeof(header), 0) < 0 && errno != EIO) {
        cg_error_errno(err, errno, "read a segment");
        return CG_SEGMENT_FAILED;
    }
    enum cg_segment_read verdict = judge(&header, first_index);
    if (verdict == CG_SEGMENT_DAMAGED && is_blank(fd)) {
        return CG_SEGMENT_UNBORN;
    }
    if (verdict != CG_SEGMENT_GOOD) {
        return verdict;
    }
    struct cg_segment *segment = calloc(1, sizeof(*segment));
    if (segment == NULL) {
        cg_error_set(err, "no memory for a segment");
        return CG_SEGMENT_FAILED;
    }
    segment->first_index = segment->end_index = first_index;
    segment->salt = header.salt;
    segment->size = (uint64_t)status.st_size;
    segment->end = segment->synced_end =
        segment->size & ~UINT64_C(7); /* where a record may begin */
    segment->fd = cg_steal_fd(&fd);
    *ret_header = header;
    *ret_segment = segment;
    return CG_SEGMENT_GOOD;
}

bool cg_segment_open_again(const struct cg_segment_place *place, const struct cg_segment *segment,
                           int *ret_fd, struct cg_error *err)
{
    return open_file(place, segment->first_index, O_RDWR, ret_fd, err);
}

bool cg_segment_reopen(const struct cg_segment_place *place, const struct cg_segment *segment,
                       int *ret_fd, struct cg_error *err)
{
    if (place->dir_fd >= 0) {
        return open_file(place, segment->first_index, O_RDONLY, ret_fd, err);
    }
    int fd = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return cg_error_errno(err, errno, "duplicate a segment's descriptor");
    }
    *ret_fd = fd;
    return true;
}
