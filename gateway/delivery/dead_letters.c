#include "delivery/dead_letters.h"

#include "base/file.h"
#include "cellgate/cleanup.h"
#include "delivery/letter_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

enum {
    FILE_MODE = 0600,
    LOCK_TRIES = 16, /* each of them lost to another who replaced the file just then */
};

/* --- the numbers --- */

static void count_line(struct cg_dead_letters *letters, const struct cg_letter_scan *scan)
{
    if (!cg_letter_is_live(scan->state)) {
        letters->dead_bytes += scan->len;
        return;
    }
    letters->letters++;
    letters->replaying += scan->state == CG_LETTER_REDO;
}

static bool count_lines(struct cg_dead_letters *letters, struct cg_error *err)
{
    cg_auto_letter_scan struct cg_letter_scan scan;
    cg_letter_scan_init(&scan, letters->fd, 0, letters->end);
    letters->letters = letters->replaying = 0;
    letters->dead_bytes = 0;
    letters->bytes = (uint64_t)letters->end;
    for (;;) {
        switch (cg_letter_scan_next(&scan, err)) {
        case CG_LETTER_LINE:
            count_line(letters, &scan);
            break;
        case CG_LETTER_LINE_FOREIGN:
            break;
        case CG_LETTER_LINE_END:
            return true;
        case CG_LETTER_LINE_FAILED:
            return false;
        }
    }
}

/* --- the file --- */

/* Cuts the file back to the end of its last whole line. */
static bool cut_unfinished_line(int fd, off_t *ret_end, struct cg_error *err)
{
    struct stat st;
    off_t end = 0;
    if (fstat(fd, &st) != 0) {
        return cg_error_errno(err, errno, "fstat");
    }
    if (!S_ISREG(st.st_mode)) {
        return cg_error_set(err, "not a regular file");
    }
    if (!cg_file_lines_end(fd, st.st_size, CG_LETTER_BYTES_MAX, &end, err)) {
        return false;
    }
    if (end < st.st_size && ftruncate(fd, end) != 0) {
        return cg_error_errno(err, errno, "truncate");
    }
    *ret_end = end;
    return true;
}

/* Opens the file that stands at the path and locks it. Between the two somebody may have put
 * another one there; then it is that one. */
static bool open_locked(const char *path, int *ret_fd, bool *ret_busy, struct cg_error *err)
{
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        struct stat mine, there;
        cg_auto_close int fd = open(
            path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, FILE_MODE);
        if (fd < 0) {
            return cg_error_errno(err, errno, "open");
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            *ret_busy = errno == EWOULDBLOCK;
            return *ret_busy ? cg_error_set(err, "another process has it")
                             : cg_error_errno(err, errno, "lock");
        }
        if (fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_ino == there.st_ino &&
            mine.st_dev == there.st_dev) {
            *ret_fd = cg_steal_fd(&fd);
            return true;
        }
    }
    return cg_error_set(err, "it is replaced again and again");
}

static bool open_file(struct cg_dead_letters *letters, bool *ret_busy, struct cg_error *err)
{
    cg_auto_close int fd = -1;
    off_t end = 0;
    if (!open_locked(letters->path, &fd, ret_busy, err) || !cut_unfinished_line(fd, &end, err) ||
        !cg_file_sync_directory(letters->path, err)) {
        return cg_error_context(err, "dead letters %s", letters->path);
    }
    letters->fd = cg_steal_fd(&fd);
    letters->end = end;
    letters->generation++;
    if (!count_lines(letters, err)) {
        (void)close(cg_steal_fd(&letters->fd));
        return cg_error_context(err, "dead letters %s", letters->path);
    }
    return true;
}

static bool ensure_open(struct cg_dead_letters *letters, struct cg_error *err)
{
    bool busy = false;
    return letters->fd >= 0 || open_file(letters, &busy, err);
}

bool cg_dead_letters_open(struct cg_dead_letters *letters, const char *path, const char *exporter,
                          uint64_t bytes_max, struct cg_error *err)
{
    *letters = (struct cg_dead_letters){
        .path = path, .exporter = exporter, .bytes_max = bytes_max, .fd = -1};
    pthread_mutex_init(&letters->mutex, NULL);
    cg_buf_init(&letters->line, CG_LETTER_BYTES_MAX);
    bool busy = false;
    if (path == NULL) {
        return true;
    }
    if (!open_file(letters, &busy, err)) {
        return busy;
    }
    /* Without room for the new file the old one does as well. */
    struct cg_error ignored;
    bool compacted = cg_dead_letters_compact(letters, &ignored);
    (void)compacted;
    return true;
}

void cg_dead_letters_close(struct cg_dead_letters *letters)
{
    cg_dead_letters_reopen(letters);
    cg_buf_fini(&letters->line);
    pthread_mutex_destroy(&letters->mutex);
}

void cg_dead_letters_reopen(struct cg_dead_letters *letters)
{
    pthread_mutex_lock(&letters->mutex);
    if (letters->fd >= 0) {
        (void)close(cg_steal_fd(&letters->fd));
    }
    pthread_mutex_unlock(&letters->mutex);
}

/* --- taking out what is done with --- */

bool cg_dead_letters_compact(struct cg_dead_letters *letters, struct cg_error *err)
{
    pthread_mutex_lock(&letters->mutex);
    bool good =
        letters->fd < 0 || letters->dead_bytes == 0 || cg_dead_letters_compact_locked(letters, err);
    pthread_mutex_unlock(&letters->mutex);
    return good;
}

/* --- keeping --- */

/* Writes all lines behind the end, which stays where it is. */
static enum cg_keep write_lines(struct cg_dead_letters *letters, const struct cg_batch *batch,
                                enum cg_letter_reason reason, const struct cg_verdict *verdict,
                                uint64_t realtime_ns, off_t *ret_end, struct cg_error *err)
{
    off_t end = letters->end;
    if (lseek(letters->fd, end, SEEK_SET) != end) {
        (void)cg_error_errno(err, errno, "seek");
        return CG_KEEP_FAILED;
    }
    for (size_t i = 0; i < batch->count; i++) {
        struct cg_buf *line = &letters->line;
        cg_buf_clear(line);
        if (!cg_letter_write(line, letters->exporter, &batch->events[i], reason, verdict,
                             realtime_ns)) {
            (void)cg_error_set(err, "no memory for a line");
            return CG_KEEP_FAILED;
        }
        end += (off_t)line->len;
        if (letters->bytes_max > 0 && (uint64_t)end > letters->bytes_max) {
            (void)cg_error_set(
                err, "full: %llu letters have %llu of %llu bytes; replay or drop some",
                (unsigned long long)letters->letters, (unsigned long long)letters->end,
                (unsigned long long)letters->bytes_max);
            return CG_KEEP_FULL;
        }
        if (!cg_file_write_all(letters->fd, cg_buf_bytes(line), err)) {
            return CG_KEEP_FAILED;
        }
    }
    *ret_end = end;
    return CG_KEEP_DONE;
}

/* mutex held */
static enum cg_keep keep(struct cg_dead_letters *letters, const struct cg_batch *batch,
                         enum cg_letter_reason reason, const struct cg_verdict *verdict,
                         uint64_t realtime_ns, struct cg_error *err)
{
    off_t end = 0;
    enum cg_keep outcome = write_lines(letters, batch, reason, verdict, realtime_ns, &end, err);
    if (outcome == CG_KEEP_DONE && fdatasync(letters->fd) != 0) {
        (void)cg_error_errno(err, errno, "sync");
        outcome = CG_KEEP_FAILED;
    }
    if (outcome == CG_KEEP_DONE) {
        letters->end = end;
        letters->bytes = (uint64_t)end;
        letters->letters += batch->count;
    } else if (ftruncate(letters->fd, letters->end) != 0) {
        (void)close(cg_steal_fd(&letters->fd)); /* opening it again cuts off the unfinished line */
    }
    return outcome;
}

enum cg_keep cg_dead_letters_keep(struct cg_dead_letters *letters, const struct cg_batch *batch,
                                  enum cg_letter_reason reason, const struct cg_verdict *verdict,
                                  uint64_t realtime_ns, struct cg_error *err)
{
    if (letters->path == NULL) {
        return CG_KEEP_DONE;
    }
    enum cg_keep outcome = CG_KEEP_FAILED;
    pthread_mutex_lock(&letters->mutex);
    if (ensure_open(letters, err)) {
        outcome = keep(letters, batch, reason, verdict, realtime_ns, err);
        if (outcome == CG_KEEP_FULL && letters->dead_bytes > 0) {
            outcome = !cg_dead_letters_compact_locked(letters, err)
                          ? CG_KEEP_FAILED
                          : keep(letters, batch, reason, verdict, realtime_ns, err);
        }
        if (outcome != CG_KEEP_DONE) {
            (void)cg_error_context(err, "dead letters %s", letters->path);
        }
    }
    pthread_mutex_unlock(&letters->mutex);
    return outcome;
}

/* --- changing a letter's state --- */

/* mutex held; the caller syncs */
static bool write_state(struct cg_dead_letters *letters, off_t offset, off_t len,
                        enum cg_letter_state from, enum cg_letter_state to, struct cg_error *err)
{
    const char *name = cg_letter_state_name(to);
    if (pwrite(letters->fd, name, CG_LETTER_STATE_LEN, offset + CG_LETTER_STATE_OFFSET) !=
        CG_LETTER_STATE_LEN) {
        return cg_error_errno(err, errno, "write");
    }
    letters->replaying += (to == CG_LETTER_REDO) - (uint64_t)(from == CG_LETTER_REDO);
    if (cg_letter_is_live(from) && !cg_letter_is_live(to)) {
        letters->letters--;
        letters->dead_bytes += len;
    }
    return true;
}

static bool read_line(const struct cg_dead_letters *letters, off_t offset,
                      enum cg_letter_state *ret_state, struct cg_error *err)
{
    char begin[CG_LETTER_STATE_OFFSET + CG_LETTER_STATE_LEN + CG_ID_BYTES_MAX];
    struct cg_bytes id;
    ssize_t got = pread(letters->fd, begin, sizeof(begin), offset);
    if (got < 0 || !cg_letter_peek(cg_bytes(begin, (size_t)got), ret_state, &id)) {
        return cg_error_errno(err, got < 0 ? errno : EIO, "read");
    }
    return true;
}

bool cg_dead_letters_settle(struct cg_dead_letters *letters, const struct cg_letters_taken *taken,
                            size_t first, size_t count, enum cg_letter_state state,
                            struct cg_error *err)
{
    bool good = true;
    CG_ASSERT(first + count <= taken->count);
    pthread_mutex_lock(&letters->mutex);
    if (letters->fd < 0 || taken->generation != letters->generation) {
        good = cg_error_set(err, "the file was replaced");
    }
    for (size_t i = first; good && i < first + count; i++) {
        enum cg_letter_state now = CG_LETTER_KEPT;
        good = read_line(letters, taken->places[i].offset, &now, err) &&
               (now == CG_LETTER_GONE || write_state(letters, taken->places[i].offset,
                                                     (off_t)taken->places[i].len, now, state, err));
    }
    if (good && fdatasync(letters->fd) != 0) {
        good = cg_error_errno(err, errno, "sync");
    }
    pthread_mutex_unlock(&letters->mutex);
    return good || cg_error_context(err, "dead letters %s", letters->path);
}

/* --- taking --- */

/* mutex held */
static bool take(struct cg_dead_letters *letters, size_t bytes_max, struct cg_letters_taken *taken,
                 struct cg_error *err)
{
    cg_auto_letter_scan struct cg_letter_scan scan;
    cg_letter_scan_init(&scan, letters->fd, taken->from, letters->end);
    while (taken->count < taken->count_max) {
        enum cg_letter_line line = cg_letter_scan_next(&scan, err);
        if (line == CG_LETTER_LINE_FAILED) {
            return false;
        }
        if (line == CG_LETTER_LINE_END) {
            taken->from = letters->end;
            return true;
        }
        bool wanted = line == CG_LETTER_LINE && scan.state == CG_LETTER_REDO;
        if (wanted && taken->count > 0 && taken->text.len + (size_t)scan.len > bytes_max) {
            return true;
        }
        if (wanted) {
            if (!cg_buf_append(&taken->text, scan.line)) {
                return cg_error_set(err, "no memory for letters");
            }
            taken->places[taken->count++] = (struct cg_letter_place){scan.offset, (size_t)scan.len};
        }
        taken->from = scan.offset + scan.len;
    }
    return true;
}

bool cg_dead_letters_take(struct cg_dead_letters *letters, size_t bytes_max,
                          struct cg_letters_taken *taken, struct cg_error *err)
{
    taken->count = 0;
    cg_buf_clear(&taken->text);
    if (letters->path == NULL) {
        return true;
    }
    pthread_mutex_lock(&letters->mutex);
    bool good = ensure_open(letters, err);
    if (good) {
        if (taken->generation != letters->generation) {
            taken->from = 0;
        }
        taken->generation = letters->generation;
        good = take(letters, bytes_max, taken, err) ||
               cg_error_context(err, "dead letters %s", letters->path);
    }
    pthread_mutex_unlock(&letters->mutex);
    if (!good) {
        taken->count = 0;
    }
    return good;
}

/* --- marking --- */

static int compare_ids(const void *a, const void *b)
{
    const struct cg_bytes *x = a;
    const struct cg_bytes *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = len == 0 ? 0 : memcmp(x->data, y->data, len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

void cg_letter_ids_sort(struct cg_letter_ids *ids)
{
    if (ids->count > 1) {
        qsort(ids->items, ids->count, sizeof(ids->items[0]), compare_ids);
    }
}

bool cg_letter_ids_have(const struct cg_letter_ids *ids, struct cg_bytes id)
{
    return ids->count == 0 ||
           bsearch(&id, ids->items, ids->count, sizeof(ids->items[0]), compare_ids) != NULL;
}

/* mutex held */
static bool mark(struct cg_dead_letters *letters, const struct cg_letter_ids *ids,
                 enum cg_letter_state state, uint64_t *ret_marked, struct cg_error *err)
{
    cg_auto_letter_scan struct cg_letter_scan scan;
    uint64_t marked = 0;
    cg_letter_scan_init(&scan, letters->fd, 0, letters->end);
    for (;;) {
        enum cg_letter_line line = cg_letter_scan_next(&scan, err);
        if (line == CG_LETTER_LINE_FAILED) {
            return false;
        }
        if (line == CG_LETTER_LINE_END) {
            break;
        }
        if (line != CG_LETTER_LINE || !cg_letter_is_live(scan.state) ||
            !cg_letter_ids_have(ids, scan.id)) {
            continue;
        }
        if (scan.state != state &&
            !write_state(letters, scan.offset, scan.len, scan.state, state, err)) {
            return false;
        }
        marked++;
    }
    if (fdatasync(letters->fd) != 0) {
        return cg_error_errno(err, errno, "sync");
    }
    *ret_marked = marked;
    return true;
}

bool cg_dead_letters_mark(struct cg_dead_letters *letters, const struct cg_letter_ids *ids,
                          enum cg_letter_state state, uint64_t *ret_marked, struct cg_error *err)
{
    CG_ASSERT(letters->path != NULL && (state == CG_LETTER_REDO || state == CG_LETTER_GONE));
    pthread_mutex_lock(&letters->mutex);
    bool good =
        ensure_open(letters, err) && (mark(letters, ids, state, ret_marked, err) ||
                                      cg_error_context(err, "dead letters %s", letters->path));
    pthread_mutex_unlock(&letters->mutex);
    return good;
}
