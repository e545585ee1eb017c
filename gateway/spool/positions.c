#include "spool/positions.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "spool/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* As it lies in the file, little-endian. */
struct position_file {
    char magic[8];
    uint64_t index;
    uint64_t segment;
    uint64_t offset;
    uint32_t reserved;
    uint32_t crc; /* of all before it */
};
_Static_assert(sizeof(struct position_file) == 40, "the format is fixed");

static const char position_magic[8] = {'C', 'G', 'P', 'O', 'S', '1', '\r', '\n'};

bool cg_position_name_valid(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = strlen(name);
    return len > 0 && len <= CG_EXPORTER_NAME_BYTES_MAX && name[0] != '.' &&
           strspn(name, allowed) == len;
}

static uint32_t file_crc(const struct position_file *file)
{
    return cg_crc32c(0, file, offsetof(struct position_file, crc));
}

bool cg_position_save(int dir_fd, const char *name, const struct cg_position *position,
                      bool durable, struct cg_error *err)
{
    struct position_file file = {
        .index = position->index, .segment = position->segment, .offset = position->offset};
    memcpy(file.magic, position_magic, sizeof(position_magic));
    file.crc = file_crc(&file);

    char temporary[CG_EXPORTER_NAME_BYTES_MAX + 2];
    (void)snprintf(temporary, sizeof(temporary), ".%s", name);
    cg_auto_close int fd =
        openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return cg_error_errno(err, errno, "save the position of %s", name);
    }
    ssize_t n = write(fd, &file, sizeof(file));
    if (n != (ssize_t)sizeof(file)) {
        return cg_error_errno(err, n < 0 ? errno : ENOSPC, "save the position of %s", name);
    }
    if ((durable && fdatasync(fd) != 0) || renameat(dir_fd, temporary, dir_fd, name) != 0 ||
        (durable && fsync(dir_fd) != 0)) {
        return cg_error_errno(err, errno, "save the position of %s", name);
    }
    return true;
}

enum cg_position_found cg_position_load(int dir_fd, const char *name,
                                        struct cg_position *ret_position)
{
    cg_auto_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct position_file file;
    if (fd < 0) {
        return errno == ENOENT ? CG_POSITION_NONE : CG_POSITION_DAMAGED;
    }
    if (read(fd, &file, sizeof(file)) != (ssize_t)sizeof(file) ||
        memcmp(file.magic, position_magic, sizeof(position_magic)) != 0 ||
        file.crc != file_crc(&file)) {
        return CG_POSITION_DAMAGED;
    }
    *ret_position =
        (struct cg_position){.index = file.index, .segment = file.segment, .offset = file.offset};
    return CG_POSITION_GOOD;
}

static void close_dir(DIR **dir)
{
    if (*dir != NULL) {
        (void)closedir(*dir);
    }
}

uint64_t cg_position_greatest(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    __attribute__((cleanup(close_dir))) DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        (void)close(fd);
        return 0;
    }
    uint64_t greatest = 0;
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        struct cg_position position;
        if (cg_position_name_valid(entry->d_name) &&
            cg_position_load(dir_fd, entry->d_name, &position) == CG_POSITION_GOOD &&
            position.index > greatest) {
            greatest = position.index;
        }
    }
    return greatest;
}
