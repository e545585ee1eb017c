#include "ingress/handover.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

struct socket {
    uint64_t cookie;
    int fd; /* -1: taken */
};

struct file {
    uint64_t device, inode;
};

struct cg_handover {
    struct cg_buf bytes; /* that the table points into */
    struct cg_handover_table table;
    const struct cg_handover_cell **by_base; /* sorted */
    struct file *files;                      /* of listening sockets that came, sorted */
    size_t files_count;
    struct socket *sockets; /* sorted by cookie */
    size_t sockets_count;
};

uint64_t cg_handover_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* --- the table's descriptor --- */

bool cg_handover_keep_table(struct cg_bytes table, int *ret_fd, struct cg_error *err)
{
    cg_auto_close int fd = memfd_create("cellgate-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make memory for the table");
    }
    for (size_t at = 0; at < table.len;) {
        ssize_t wrote = write(fd, table.data + at, table.len - at);
        if (wrote < 0 && errno != EINTR) {
            return cg_error_errno(err, errno, "write the table");
        }
        at += wrote > 0 ? (size_t)wrote : 0;
    }
    if (fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        return cg_error_errno(err, errno, "seal the table");
    }
    *ret_fd = cg_steal_fd(&fd);
    return true;
}

static bool is_table(int fd)
{
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && fcntl(fd, F_GET_SEALS) == SEALS &&
           found.st_size <= CG_HANDOVER_BYTES_MAX;
}

static bool load_table(int fd, struct cg_handover *handover, struct cg_error *err)
{
    struct stat found;
    if (fstat(fd, &found) != 0 || !cg_buf_reserve(&handover->bytes, (size_t)found.st_size)) {
        return cg_error_set(err, "out of memory for the table");
    }
    while (handover->bytes.len < (size_t)found.st_size) {
        ssize_t got =
            pread(fd, handover->bytes.data + handover->bytes.len,
                  (size_t)found.st_size - handover->bytes.len, (off_t)handover->bytes.len);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            return cg_error_set(err, "the table cannot be read");
        }
        handover->bytes.len += got > 0 ? (size_t)got : 0;
    }
    return cg_handover_table_read(cg_buf_bytes(&handover->bytes), &handover->table, err);
}

/* --- the set --- */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int by_cookie(const void *left, const void *right)
{
    return compare_numbers(((const struct socket *)left)->cookie,
                           ((const struct socket *)right)->cookie);
}

static int by_identity(const void *left, const void *right)
{
    const struct file *a = left;
    const struct file *b = right;
    int device = compare_numbers(a->device, b->device);
    return device != 0 ? device : compare_numbers(a->inode, b->inode);
}

static int compare_bytes(struct cg_bytes a, struct cg_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.data, b.data, len);
    return order != 0 ? order : compare_numbers(a.len, b.len);
}

static int by_base(const void *left, const void *right)
{
    return compare_bytes((*(const struct cg_handover_cell *const *)left)->vsock_uds_base,
                         (*(const struct cg_handover_cell *const *)right)->vsock_uds_base);
}

static struct socket *find_socket(const struct cg_handover *handover, uint64_t cookie)
{
    const struct socket wanted = {.cookie = cookie};
    struct socket *found = handover->sockets_count == 0
                               ? NULL
                               : bsearch(&wanted, handover->sockets, handover->sockets_count,
                                         sizeof(wanted), by_cookie);
    return found == NULL || found->fd < 0 ? NULL : found;
}

static bool index_cells(struct cg_handover *handover)
{
    size_t count = handover->table.cells_count;
    handover->by_base = calloc(count + 1, sizeof(const struct cg_handover_cell *));
    handover->files = calloc(count + 1, sizeof(handover->files[0]));
    if (handover->by_base == NULL || handover->files == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct cg_handover_cell *cell = &handover->table.cells[i];
        handover->by_base[i] = cell;
        if (find_socket(handover, cell->cookie) != NULL) {
            handover->files[handover->files_count++] =
                (struct file){.device = cell->device, .inode = cell->inode};
        }
    }
    qsort(handover->by_base, count, sizeof(const struct cg_handover_cell *), by_base);
    qsort(handover->files, handover->files_count, sizeof(struct file), by_identity);
    return true;
}

/* Sockets are set in order, the table is read, and all else closed. */
static bool sort_out(struct cg_handover *handover, const int *fds, size_t count,
                     struct cg_error *err)
{
    int table_fd = -1;
    for (size_t i = 0; i < count; i++) {
        uint64_t cookie = cg_handover_cookie(fds[i]);
        if (cookie != 0 && handover->sockets != NULL) {
            handover->sockets[handover->sockets_count++] =
                (struct socket){.cookie = cookie, .fd = fds[i]};
        } else if (cookie == 0 && table_fd < 0 && is_table(fds[i])) {
            table_fd = fds[i];
        } else {
            (void)close(fds[i]);
        }
    }
    if (handover->sockets != NULL) {
        qsort(handover->sockets, handover->sockets_count, sizeof(struct socket), by_cookie);
    }
    bool loaded = table_fd >= 0 ? load_table(table_fd, handover, err)
                                : cg_error_set(err, "no table came with them");
    cg_cleanup_close(&table_fd);
    if (loaded && (handover->sockets == NULL || !index_cells(handover))) {
        return cg_error_set(err, "out of memory for what was handed over");
    }
    return loaded;
}

bool cg_handover_open(const int *fds, size_t count, struct cg_handover **ret_handover,
                      struct cg_error *err)
{
    struct cg_handover *handover = calloc(1, sizeof(*handover));
    if (handover == NULL) {
        for (size_t i = 0; i < count; i++) {
            (void)close(fds[i]);
        }
        return cg_error_set(err, "out of memory for what was handed over");
    }
    cg_buf_init(&handover->bytes, CG_HANDOVER_BYTES_MAX);
    handover->sockets = calloc(count + 1, sizeof(handover->sockets[0]));
    if (!sort_out(handover, fds, count, err)) {
        (void)cg_handover_close(handover);
        return false;
    }
    /* It has told what it was for: that everything before it was kept. */
    int witness = cg_handover_take(handover, handover->table.witness_cookie);
    cg_cleanup_close(&witness);
    *ret_handover = handover;
    return true;
}

const struct cg_handover_cell *cg_handover_find(const struct cg_handover *handover,
                                                const char *vsock_uds_base)
{
    const struct cg_handover_cell wanted = {.vsock_uds_base = cg_bytes_str(vsock_uds_base)};
    const struct cg_handover_cell *key = &wanted;
    const struct cg_handover_cell *const *found =
        bsearch(&key, handover->by_base, handover->table.cells_count,
                sizeof(const struct cg_handover_cell *), by_base);
    return found == NULL ? NULL : *found;
}

bool cg_handover_holds(const struct cg_handover *handover, uint64_t device, uint64_t inode)
{
    const struct file wanted = {.device = device, .inode = inode};
    return handover->files_count > 0 && bsearch(&wanted, handover->files, handover->files_count,
                                                sizeof(wanted), by_identity) != NULL;
}

int cg_handover_take(struct cg_handover *handover, uint64_t cookie)
{
    struct socket *found = find_socket(handover, cookie);
    return found == NULL ? -1 : cg_steal_fd(&found->fd);
}

void cg_handover_visit_unused(struct cg_handover *handover,
                              void (*visit)(void *context, const struct cg_handover_cell *cell),
                              void *context)
{
    for (size_t i = 0; i < handover->table.cells_count; i++) {
        if (find_socket(handover, handover->table.cells[i].cookie) != NULL) {
            visit(context, &handover->table.cells[i]);
        }
    }
}

size_t cg_handover_close(struct cg_handover *handover)
{
    size_t closed = 0;
    if (handover == NULL) {
        return 0;
    }
    for (size_t i = 0; i < handover->sockets_count; i++) {
        closed += handover->sockets[i].fd >= 0;
        cg_cleanup_close(&handover->sockets[i].fd);
    }
    cg_handover_table_fini(&handover->table);
    cg_buf_fini(&handover->bytes);
    free(handover->by_base);
    free(handover->files);
    free(handover->sockets);
    free(handover);
    return closed;
}
