/*
 * jsonl.c - one event a line, into a file or to stdout. docs/contract.md section 7.
 *
 * A file is acknowledged when it is on disk. Whatever goes wrong in the middle of a batch, the file
 * is cut back to the end of the last whole batch, since the batch will come again; a line that a
 * crash left unfinished is cut off when the file is opened. The file is locked, because two writers
 * would cut off each other's lines. Pipes, terminals and sockets get the lines as they are: nothing
 * is cut, synced or rotated, and a reader that stands still cannot hold up a shutdown.
 *
 * The smallest complete exporter, and the one to copy: exporters/README.md goes through it.
 */
#include "base/file.h"
#include "cellgate/cleanup.h"
#include "cellgate/exporter.h"
#include "cellgate/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>

enum {
    CHUNK_BYTES = 256 * 1024, /* for one write: still in the cache when the kernel copies */
    KEEP_MAX = 999,
    ROTATED_SUFFIX_BYTES_MAX = 8,
};

struct jsonl_rotate {
    uint64_t bytes; /* 0: never */
    uint64_t keep;
};

struct jsonl_config {
    const char *path; /* "-": stdout */
    struct jsonl_rotate rotate;
    bool sync;
    uint64_t mode;
};

struct jsonl {
    const struct jsonl_config *config;
    int fd;                 /* -1: to be opened before the next batch */
    bool regular;           /* a file: can be cut back, synced and rotated */
    bool nonblocking;       /* its writes return when they cannot go on */
    bool torn;              /* a stream: its last line is not whole */
    int cancel_fd;          /* eventfd; readable once cancelled */
    _Atomic bool cancelled; /* the same, without a system call */
    _Atomic bool reopen;
    char *chunk; /* CHUNK_BYTES */
};

/* --- opening --- */

/* Cuts a regular file back to the end of its last whole line. What is cut must look like an event
 * of ours, so that a file named by mistake is left alone. */
static bool cut_unfinished_line(struct jsonl *jsonl, off_t size, struct cg_error *err)
{
    off_t end;
    if (!cg_file_lines_end(jsonl->fd, size, CG_EVENT_BYTES_MAX, &end, err)) {
        return false;
    }
    if (end == size) {
        return true;
    }
    char first;
    if (pread(jsonl->fd, &first, 1, end) != 1 || first != '{') {
        return cg_error_set(err, "does not end in a line, and not in part of an event either; "
                                 "it is left as it is");
    }
    if (ftruncate(jsonl->fd, end) != 0) {
        return cg_error_errno(err, errno, "truncate");
    }
    return true;
}

/* A pipe or a terminal gets a description of its own: O_NONBLOCK on the one we inherited would be
 * seen by everybody who shares it. */
static bool open_stdout(struct jsonl *jsonl, struct cg_error *err)
{
    struct stat st;
    if (fstat(STDOUT_FILENO, &st) != 0) {
        return cg_error_errno(err, errno, "stdout");
    }
    cg_auto_close int fd = -1;
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    jsonl->nonblocking = fd >= 0;
    if (fd < 0) {
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    }
    if (fd < 0) {
        return cg_error_errno(err, errno, "stdout");
    }
    jsonl->regular = false;
    jsonl->fd = cg_steal_fd(&fd);
    return true;
}

static int open_or_make(const struct jsonl_config *config, bool *ret_made)
{
    const int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = open(config->path, flags);
    if (fd < 0 && errno == ENOENT) {
        fd = open(config->path, flags | O_CREAT | O_EXCL, (mode_t)config->mode);
        *ret_made = fd >= 0;
    }
    return fd;
}

static bool prepare_file(struct jsonl *jsonl, const struct stat *st, bool made,
                         struct cg_error *err)
{
    if (flock(jsonl->fd, LOCK_EX | LOCK_NB) != 0) {
        return cg_error_errno(err, errno, "lock (does another process write it?)");
    }
    if (made) {
        if (fchmod(jsonl->fd, (mode_t)jsonl->config->mode) != 0) { /* whatever the umask */
            return cg_error_errno(err, errno, "mode");
        }
        return cg_file_sync_directory(jsonl->config->path, err);
    }
    return cut_unfinished_line(jsonl, st->st_size, err);
}

static bool open_path(struct jsonl *jsonl, struct cg_error *err)
{
    bool made = false;
    cg_auto_close int fd = open_or_make(jsonl->config, &made);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return cg_error_errno(err, errno, "open");
    }
    jsonl->regular = S_ISREG(st.st_mode);
    jsonl->nonblocking = true;
    if (!jsonl->regular) {
        /* Read-write, we would be our own reader and never learn that nobody else is. */
        (void)close(cg_steal_fd(&fd));
        fd = open(jsonl->config->path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) {
            return cg_error_errno(err, errno, errno == ENXIO ? "nobody reads it" : "open");
        }
    }
    jsonl->fd = cg_steal_fd(&fd);
    if (jsonl->regular && !prepare_file(jsonl, &st, made, err)) {
        (void)close(cg_steal_fd(&jsonl->fd));
        return false;
    }
    return true;
}

static bool is_stdout(const struct jsonl_config *config)
{
    return strcmp(config->path, "-") == 0;
}

static bool open_target(struct jsonl *jsonl, struct cg_error *err)
{
    if (is_stdout(jsonl->config)) {
        return open_stdout(jsonl, err);
    }
    return open_path(jsonl, err) || cg_error_context(err, "%s", jsonl->config->path);
}

static void close_target(struct jsonl *jsonl)
{
    if (jsonl->fd >= 0) {
        (void)close(cg_steal_fd(&jsonl->fd));
    }
}

/* --- rotation --- */

/* events.jsonl -> events.jsonl.1 -> … -> events.jsonl.<keep>, the oldest being replaced. A name
 * that is missing, because a crash came between two renames, is no error. */
static bool rotate(struct jsonl *jsonl, struct cg_error *err)
{
    const struct jsonl_config *config = jsonl->config;
    size_t name_bytes = strlen(config->path) + ROTATED_SUFFIX_BYTES_MAX;
    cg_auto_free char *from = malloc(name_bytes);
    cg_auto_free char *to = malloc(name_bytes);
    if (from == NULL || to == NULL) {
        return cg_error_set(err, "no memory");
    }
    close_target(jsonl);
    for (uint64_t k = config->rotate.keep; k > 0; k--) {
        (void)snprintf(to, name_bytes, "%s.%u", config->path, (unsigned)k);
        if (k > 1) {
            (void)snprintf(from, name_bytes, "%s.%u", config->path, (unsigned)(k - 1));
        } else {
            (void)snprintf(from, name_bytes, "%s", config->path);
        }
        if (rename(from, to) != 0 && errno != ENOENT) {
            return cg_error_errno(err, errno, "rename %s to %s", from, to);
        }
    }
    return open_target(jsonl, err);
}

/* --- writing --- */

/* Waits until the target takes bytes. False if it was cancelled instead. */
static bool wait_writable(struct jsonl *jsonl)
{
    struct pollfd fds[] = {
        {.fd = jsonl->cancel_fd, .events = POLLIN},
        {.fd = jsonl->fd, .events = POLLOUT},
    };
    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    return fds[0].revents == 0;
}

/* Writes all of it; 0, or an errno (ECANCELED when cancelled). */
static int write_all(struct jsonl *jsonl, const char *data, size_t len)
{
    while (len > 0) {
        if (atomic_load_explicit(&jsonl->cancelled, memory_order_relaxed) ||
            (!jsonl->regular && !wait_writable(jsonl))) {
            return ECANCELED;
        }
        /* What is known to be writable takes PIPE_BUF bytes without blocking. */
        size_t most = jsonl->regular || jsonl->nonblocking || len < PIPE_BUF ? len : PIPE_BUF;
        ssize_t wrote = write(jsonl->fd, data, most);
        if (wrote < 0 && errno != EINTR && errno != EAGAIN) {
            return errno;
        }
        if (wrote > 0) {
            jsonl->torn = data[wrote - 1] != '\n';
            data += wrote;
            len -= (size_t)wrote;
        }
    }
    return 0;
}

/* Gathers lines into chunks: about as fast as an iovec of 640-byte events, and simpler. */
static int write_batch(struct jsonl *jsonl, const struct cg_batch *batch)
{
    size_t used = 0;
    if (jsonl->torn && !jsonl->regular) {
        jsonl->chunk[used++] = '\n'; /* ends what a failed write left behind */
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct cg_bytes bytes = batch->events[i].bytes;
        if (bytes.len + 1 > CHUNK_BYTES - used) {
            int failure = write_all(jsonl, jsonl->chunk, used);
            if (failure != 0) {
                return failure;
            }
            used = 0;
        }
        memcpy(jsonl->chunk + used, bytes.data, bytes.len);
        used += bytes.len;
        jsonl->chunk[used++] = '\n';
    }
    int failure = write_all(jsonl, jsonl->chunk, used);
    if (failure == 0 && jsonl->regular && jsonl->config->sync && fdatasync(jsonl->fd) != 0) {
        failure = errno;
    }
    return failure;
}

/* --- the verdict --- */

static void fail(struct cg_verdict *ret_verdict, enum cg_verdict_kind kind, const char *text)
{
    ret_verdict->kind = kind;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "%.*s",
                   CG_VERDICT_DETAIL_MAX - 1, text);
}

/* What passes by itself (a full disk that somebody clears) against what somebody must mend. */
static enum cg_verdict_kind kind_of(int failure)
{
    switch (failure) {
    case EPIPE:
    case EROFS:
    case EACCES:
    case EPERM:
    case EBADF:
    case EFBIG:
        return CG_VERDICT_CONFIG;
    default:
        return CG_VERDICT_BACKOFF;
    }
}

/* Opens, reopens or rotates, as is due before a batch of `bytes`. On success the target is open,
 * and *ret_size is the size of a regular file. */
static bool ready_target(struct jsonl *jsonl, uint64_t bytes, off_t *ret_size, struct cg_error *err)
{
    if (atomic_exchange(&jsonl->reopen, false) && !is_stdout(jsonl->config)) {
        close_target(jsonl);
    }
    if (jsonl->fd < 0 && !open_target(jsonl, err)) {
        return false;
    }
    if (!jsonl->regular) {
        return true;
    }
    struct stat st;
    if (fstat(jsonl->fd, &st) != 0) {
        return cg_error_errno(err, errno, "%s", jsonl->config->path);
    }
    uint64_t limit = jsonl->config->rotate.bytes;
    if (limit > 0 && st.st_size > 0 && (uint64_t)st.st_size + bytes > limit) {
        if (!rotate(jsonl, err)) {
            return false;
        }
        st.st_size = 0;
    }
    *ret_size = st.st_size;
    return true;
}

static void jsonl_deliver(void *exporter, const struct cg_batch *batch,
                          struct cg_verdict *ret_verdict)
{
    struct jsonl *jsonl = exporter;
    struct cg_error err = {0};
    off_t size = 0;
    if (!ready_target(jsonl, batch->bytes + batch->count, &size, &err)) {
        fail(ret_verdict, CG_VERDICT_CONFIG, err.text);
        return;
    }
    int failure = write_batch(jsonl, batch);
    if (failure == 0) {
        ret_verdict->kind = CG_VERDICT_DELIVERED;
        return;
    }
    (void)cg_error_errno(&err, failure, "write to %s", jsonl->config->path);
    fail(ret_verdict, kind_of(failure), err.text);
    if (jsonl->regular && ftruncate(jsonl->fd, size) != 0) {
        close_target(jsonl); /* opening it again cuts off the unfinished line at least */
    }
}

/* --- life --- */

static void free_jsonl(struct jsonl *jsonl)
{
    close_target(jsonl);
    if (jsonl->cancel_fd >= 0) {
        (void)close(jsonl->cancel_fd);
    }
    free(jsonl->chunk);
    free(jsonl);
}

static bool jsonl_open(const void *config, const struct cg_exporter_env *env, void **ret_exporter,
                       struct cg_error *err)
{
    (void)env;
    struct jsonl *jsonl = calloc(1, sizeof(*jsonl));
    if (jsonl == NULL) {
        return cg_error_set(err, "no memory");
    }
    jsonl->config = config;
    jsonl->fd = -1;
    jsonl->chunk = malloc(CHUNK_BYTES);
    jsonl->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool ready = jsonl->chunk != NULL && jsonl->cancel_fd >= 0;
    if (!ready) {
        (void)cg_error_errno(err, errno, "jsonl");
    }
    if (!ready || !open_target(jsonl, err)) {
        free_jsonl(jsonl);
        return false;
    }
    *ret_exporter = jsonl;
    return true;
}

static void jsonl_cancel(void *exporter)
{
    struct jsonl *jsonl = exporter;
    atomic_store(&jsonl->cancelled, true);
    (void)eventfd_write(jsonl->cancel_fd, 1);
}

static void jsonl_reopen(void *exporter)
{
    struct jsonl *jsonl = exporter;
    atomic_store(&jsonl->reopen, true);
}

static void jsonl_close(void *exporter)
{
    free_jsonl(exporter);
}

/* --- options --- */

static bool jsonl_validate(const void *config, struct cg_error *err)
{
    const struct jsonl_config *jsonl = config;
    if (is_stdout(jsonl) && jsonl->rotate.bytes > 0) {
        return cg_error_set(err, "rotate needs a file, but path is \"-\" (stdout)");
    }
    return true;
}

static const struct cg_option rotate_options[] = {
    {.key = "bytes",
     .type = CG_OPTION_SIZE,
     .offset = offsetof(struct jsonl_rotate, bytes),
     .help = "A batch that would make the file larger than this starts a new one; 0: never."},
    {.key = "keep",
     .type = CG_OPTION_INTEGER,
     .offset = offsetof(struct jsonl_rotate, keep),
     .min = 1,
     .max = KEEP_MAX,
     .fallback = "5",
     .help = "How many older files stay, as PATH.1 (the youngest) to PATH.N."},
    {0},
};

static const struct cg_option jsonl_options[] = {
    {.key = "path",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct jsonl_config, path),
     .required = true,
     .written = true,
     .unique = true,
     .help = "The file, which is never opened through a symbolic link; \"-\" is stdout. No two "
             "exporters may have the same."},
    {.key = "rotate",
     .type = CG_OPTION_SECTION,
     .offset = offsetof(struct jsonl_config, rotate),
     .fields = rotate_options,
     .help = "Rotation by size; SIGUSR1 opens the file anew for those who rotate it themselves."},
    {.key = "sync",
     .type = CG_OPTION_BOOL,
     .offset = offsetof(struct jsonl_config, sync),
     .fallback = "true",
     .help = "Acknowledge a batch only when the disk has it (fdatasync)."},
    {.key = "mode",
     .type = CG_OPTION_FILE_MODE,
     .offset = offsetof(struct jsonl_config, mode),
     .fallback = "0640",
     .help = "Permissions of a file that is made; one that exists keeps its own."},
    {0},
};

extern const struct cg_exporter_ops cg_exporter_jsonl;

const struct cg_exporter_ops cg_exporter_jsonl = {
    .type = "jsonl",
    .summary = "One event a line, into a file with rotation by size, or to stdout.",
    .options = jsonl_options,
    .config_size = sizeof(struct jsonl_config),
    .validate = jsonl_validate,
    /* Larger than others': each batch costs an fdatasync. */
    .batch_events = 4096,
    .batch_bytes = UINT64_C(4) << 20,
    .open = jsonl_open,
    .deliver = jsonl_deliver,
    .cancel = jsonl_cancel,
    .reopen = jsonl_reopen,
    .close = jsonl_close,
};
