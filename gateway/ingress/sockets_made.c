#include "ingress/sockets_made.h"

#include "cellgate/buf.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

enum { CHECKSUM_DIGITS = 16 };

/* Points into the text of the file, where each path is terminated. */
struct entry {
    const char *path;
    uint64_t device, inode;
    size_t line; /* the last of several for one path counts */
};

struct cg_sockets_made {
    int fd; /* for appending */
    struct cg_buf text;
    struct entry *entries; /* sorted by path */
    size_t count;
};

/* FNV-1a: tells a cut or overwritten line, not a forged one; the file is ours alone. */
static uint64_t checksum(struct cg_bytes text)
{
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < text.len; i++) {
        value = (value ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001b3);
    }
    return value;
}

static bool append_line(struct cg_buf *out, const char *path, uint64_t device, uint64_t inode)
{
    cg_auto_buf struct cg_buf rest;
    cg_buf_init(&rest, PATH_MAX + 64);
    if (!cg_buf_printf(&rest, "%" PRIu64 " %" PRIu64 " %s", device, inode, path)) {
        return false;
    }
    return cg_buf_printf(out, "%016" PRIx64 " %.*s\n", checksum(cg_buf_bytes(&rest)),
                         CG_BYTES_ARG(cg_buf_bytes(&rest)));
}

/* Reads one line, whose end has become a NUL. */
static bool parse_line(char *line, struct entry *ret_entry)
{
    if (strlen(line) < CHECKSUM_DIGITS + 2 || line[CHECKSUM_DIGITS] != ' ') {
        return false;
    }
    const char *rest = line + CHECKSUM_DIGITS + 1;
    char *end;
    line[CHECKSUM_DIGITS] = '\0';
    uint64_t sum = strtoull(line, &end, 16);
    if (*end != '\0' || sum != checksum(cg_bytes_str(rest))) {
        return false;
    }
    struct entry entry = {.device = strtoull(rest, &end, 10)};
    if (*end != ' ') {
        return false;
    }
    entry.inode = strtoull(end + 1, &end, 10);
    if (end[0] != ' ' || end[1] != '/') {
        return false;
    }
    entry.path = end + 1;
    *ret_entry = entry;
    return true;
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *left = a;
    const struct entry *right = b;
    int order = strcmp(left->path, right->path);
    return order != 0 ? order : (left->line > right->line) - (left->line < right->line);
}

static bool still_there(const struct entry *entry)
{
    struct stat found;
    return lstat(entry->path, &found) == 0 && S_ISSOCK(found.st_mode) &&
           (uint64_t)found.st_dev == entry->device && (uint64_t)found.st_ino == entry->inode;
}

static bool parse(struct cg_sockets_made *made, struct cg_error *err)
{
    size_t lines = 0;
    for (size_t i = 0; i < made->text.len; i++) {
        lines += made->text.data[i] == '\n';
    }
    made->entries = calloc(lines + 1, sizeof(*made->entries));
    if (made->entries == NULL) {
        return cg_error_set(err, "out of memory");
    }
    char *line = made->text.data;
    char *end = line;
    for (size_t i = 0; i < lines; i++, line = end + 1) {
        end = memchr(line, '\n', made->text.len - (size_t)(line - made->text.data));
        CG_ASSERT(end != NULL);
        *end = '\0';
        struct entry entry;
        if (parse_line(line, &entry)) {
            entry.line = i;
            made->entries[made->count++] = entry;
        }
    }
    if (made->count == 0) {
        return true;
    }
    qsort(made->entries, made->count, sizeof(*made->entries), compare_entries);
    size_t kept = 0;
    for (size_t i = 0; i < made->count; i++) {
        bool last =
            i + 1 == made->count || strcmp(made->entries[i].path, made->entries[i + 1].path) != 0;
        if (last && still_there(&made->entries[i])) {
            made->entries[kept++] = made->entries[i];
        }
    }
    made->count = kept;
    return true;
}

static bool read_all(const char *path, struct cg_buf *out, struct cg_error *err)
{
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT || cg_error_errno(err, errno, "open");
    }
    for (;;) {
        if (!cg_buf_reserve(out, 65536)) {
            return cg_error_set(err, "too large, or out of memory");
        }
        ssize_t got = read(fd, out->data + out->len, 65536);
        if (got <= 0) {
            return got == 0 || cg_error_errno(err, errno, "read");
        }
        out->len += (size_t)got;
    }
}

static bool write_all(int fd, struct cg_bytes bytes, struct cg_error *err)
{
    while (bytes.len > 0) {
        ssize_t written = write(fd, bytes.data, bytes.len);
        if (written < 0) {
            return cg_error_errno(err, errno, "write");
        }
        bytes = cg_bytes(bytes.data + written, bytes.len - (size_t)written);
    }
    return true;
}

/* Puts a file with the lines that still matter in the place of the old one. */
static bool rewrite(struct cg_sockets_made *made, const char *path, struct cg_error *err)
{
    char fresh[PATH_MAX];
    int len = snprintf(fresh, sizeof(fresh), "%s.new", path);
    if (len < 0 || (size_t)len >= sizeof(fresh)) {
        return cg_error_set(err, "the path is too long");
    }
    cg_auto_buf struct cg_buf lines;
    cg_buf_init(&lines, CG_SOCKETS_MADE_BYTES_MAX);
    for (size_t i = 0; i < made->count; i++) {
        append_line(&lines, made->entries[i].path, made->entries[i].device, made->entries[i].inode);
    }
    if (lines.failed) {
        return cg_error_set(err, "too large, or out of memory");
    }
    cg_auto_close int fd =
        open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make %s", fresh);
    }
    if (!write_all(fd, cg_buf_bytes(&lines), err)) {
        return false;
    }
    if (rename(fresh, path) != 0) {
        return cg_error_errno(err, errno, "rename %s", fresh);
    }
    made->fd = cg_steal_fd(&fd);
    return true;
}

bool cg_sockets_made_open(const char *path, struct cg_sockets_made **ret_made, struct cg_error *err)
{
    struct cg_sockets_made *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return cg_error_set(err, "out of memory");
    }
    made->fd = -1;
    cg_buf_init(&made->text, CG_SOCKETS_MADE_BYTES_MAX);
    if (!read_all(path, &made->text, err) || !parse(made, err) || !rewrite(made, path, err)) {
        cg_sockets_made_close(made);
        return cg_error_context(err, "record of sockets %s", path);
    }
    *ret_made = made;
    return true;
}

void cg_sockets_made_close(struct cg_sockets_made *made)
{
    if (made == NULL) {
        return;
    }
    if (made->fd >= 0) {
        (void)close(made->fd);
    }
    cg_buf_fini(&made->text);
    free(made->entries);
    free(made);
}

bool cg_sockets_made_has(const struct cg_sockets_made *made, const char *path, dev_t device,
                         ino_t inode)
{
    size_t low = 0;
    size_t high = made->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct entry *entry = &made->entries[middle];
        int order = strcmp(path, entry->path);
        if (order == 0) {
            return entry->device == (uint64_t)device && entry->inode == (uint64_t)inode;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return false;
}

bool cg_sockets_made_add(struct cg_sockets_made *made, const char *path, dev_t device, ino_t inode,
                         struct cg_error *err)
{
    cg_auto_buf struct cg_buf line;
    cg_buf_init(&line, PATH_MAX + 128);
    if (!append_line(&line, path, (uint64_t)device, (uint64_t)inode)) {
        return cg_error_set(err, "record of sockets: out of memory");
    }
    return write_all(made->fd, cg_buf_bytes(&line), err) ||
           cg_error_context(err, "record of sockets");
}

bool cg_sockets_made_clear(struct cg_sockets_made *made, struct cg_error *err)
{
    made->count = 0;
    if (ftruncate(made->fd, 0) != 0) {
        return cg_error_errno(err, errno, "record of sockets: truncate");
    }
    return true;
}
