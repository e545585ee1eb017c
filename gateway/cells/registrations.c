#include "cells/registrations.h"

#include "base/file.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cells/registration_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum {
    REWRITE_BYTES_MIN = 4 << 20, /* smaller files are not worth replacing */
    REWRITE_GROWTH = 4,          /* replaced when it is that many times what is alive in it */
    READ_BYTES = 65536,
};

struct cg_registrations {
    const struct cg_clock *clock;
    char path[PATH_MAX];   /* "": in memory only */
    _Atomic bool writable; /* whoever asks must not wait for the lock, as it is held over writing */

    pthread_mutex_t lock; /* covers all below */
    pthread_cond_t synced;
    int fd;
    uint64_t bytes; /* of the file */
    bool broken;    /* a write failed: the file may differ from what is known here */

    /* Records are numbered. Everything up to durable_number is on disk; what is above it and not
     * above failed_number never came there. */
    uint64_t written_number, durable_number, failed_number;
    bool syncing; /* some thread is at it, without the lock */
    struct cg_error failure;

    struct cg_registration_table alive;
};

/* --- the file --- */

/* Puts a fresh file with what is alive in the place of the old one; durable when it returns. */
static bool rewrite(struct cg_registrations *journal, struct cg_error *err)
{
    while (journal->syncing) { /* a thread syncs the old file */
        (void)pthread_cond_wait(&journal->synced, &journal->lock);
    }
    char fresh[PATH_MAX];
    int len = snprintf(fresh, sizeof(fresh), "%s.new", journal->path);
    if (len < 0 || (size_t)len >= sizeof(fresh)) {
        return cg_error_set(err, "the path is too long");
    }
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, CG_REGISTRATIONS_BYTES_MAX);
    if (!cg_registration_table_render(&journal->alive, &text)) {
        return cg_error_set(err, "too large, or out of memory");
    }
    cg_auto_close int fd =
        open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make %s", fresh);
    }
    bool done = cg_file_write_all(fd, cg_buf_bytes(&text), err) &&
                (fsync(fd) == 0 || cg_error_errno(err, errno, "sync")) &&
                (rename(fresh, journal->path) == 0 || cg_error_errno(err, errno, "rename"));
    if (!done) {
        (void)unlink(fresh);
        return false;
    }
    if (journal->fd >= 0) {
        (void)close(journal->fd);
    }
    journal->fd = cg_steal_fd(&fd);
    journal->bytes = text.len;
    if (!cg_file_sync_directory(journal->path, err)) {
        journal->broken = true; /* the old file may come back */
        return false;
    }
    journal->broken = false;
    journal->durable_number = journal->written_number;
    atomic_store(&journal->writable, true);
    return true;
}

static bool in_memory(const struct cg_registrations *journal)
{
    return journal->path[0] == '\0';
}

/* Writes lines at the end of the file, all of them or none. */
static bool append_to_file(struct cg_registrations *journal, struct cg_bytes lines,
                           struct cg_error *err)
{
    bool grown = journal->bytes > REWRITE_BYTES_MIN &&
                 journal->bytes / REWRITE_GROWTH > journal->alive.line_bytes;
    if ((journal->broken || grown) && !rewrite(journal, err)) {
        journal->broken = true;
        return false;
    }
    if (!cg_file_write_all(journal->fd, lines, err)) {
        journal->broken = ftruncate(journal->fd, (off_t)journal->bytes) != 0;
        return false;
    }
    journal->bytes += lines.len;
    journal->written_number++;
    return true;
}

static bool append(struct cg_registrations *journal, struct cg_bytes lines, struct cg_error *err)
{
    if (in_memory(journal)) {
        journal->durable_number = ++journal->written_number;
        return true;
    }
    bool done = append_to_file(journal, lines, err);
    atomic_store(&journal->writable, done);
    return done;
}

/* Waits until everything written so far is on disk: one of those who wait does it for all. */
static bool sync_written(struct cg_registrations *journal, struct cg_error *err)
{
    const uint64_t mine = journal->written_number;
    while (journal->durable_number < mine) {
        if (journal->failed_number >= mine) {
            *err = journal->failure;
            return false;
        }
        if (journal->syncing) {
            (void)pthread_cond_wait(&journal->synced, &journal->lock);
            continue;
        }
        journal->syncing = true;
        const uint64_t upto = journal->written_number;
        const int fd = journal->fd;
        (void)pthread_mutex_unlock(&journal->lock);
        int errnum = fdatasync(fd) == 0 ? 0 : errno;
        (void)pthread_mutex_lock(&journal->lock);
        journal->syncing = false;
        if (errnum == 0) {
            journal->durable_number = upto;
        } else {
            /* What the kernel says of a later sync of this file is worth nothing. */
            (void)cg_error_errno(&journal->failure, errnum, "sync");
            journal->failed_number = upto;
            journal->broken = true;
            atomic_store(&journal->writable, false);
        }
        (void)pthread_cond_broadcast(&journal->synced);
    }
    return true;
}

/* --- recording --- */

/* Renders a record, appends it and takes it up. */
static bool record_locked(struct cg_registrations *journal, const struct cg_record *record,
                          struct cg_error *err)
{
    bool of_socket = record->type == CG_RECORD_SOCKET || record->type == CG_RECORD_UNMADE;
    if (in_memory(journal) && of_socket) {
        return true; /* only a later start asks for them, and it will not find them */
    }
    cg_auto_buf struct cg_buf line;
    cg_buf_init(&line, CG_RECORD_LINE_BYTES_MAX);
    if (!cg_record_render(record, &line)) {
        return cg_error_set(err, "too long, or out of memory");
    }
    if (!append(journal, cg_buf_bytes(&line), err)) {
        return false;
    }
    if (!cg_registration_table_take(&journal->alive, record, cg_buf_bytes(&line))) {
        journal->broken = true; /* the file says what is not known here */
        atomic_store(&journal->writable, false);
        return cg_error_set(err, "out of memory");
    }
    return true;
}

static bool record_it(struct cg_registrations *journal, const struct cg_record *record,
                      struct cg_error *err)
{
    (void)pthread_mutex_lock(&journal->lock);
    bool done = record_locked(journal, record, err);
    (void)pthread_mutex_unlock(&journal->lock);
    return done || cg_error_context(err, "journal of registrations");
}

bool cg_registrations_making(struct cg_registrations *journal, const char *path,
                             const char *temporary, struct cg_error *err)
{
    const struct cg_record record = {.type = CG_RECORD_SOCKET,
                                     .socket = {.path = path, .temporary = temporary}};
    return record_it(journal, &record, err);
}

bool cg_registrations_put(struct cg_registrations *journal, const struct cg_socket_made *socket,
                          const struct cg_kept_registration *registration, struct cg_error *err)
{
    const struct cg_record made = {.type = CG_RECORD_SOCKET, .socket = *socket};
    if (registration == NULL) {
        return record_it(journal, &made, err);
    }
    const struct cg_record put = {.type = CG_RECORD_PUT, .registration = *registration};
    struct cg_error failure = {0};
    (void)pthread_mutex_lock(&journal->lock);
    bool done = record_locked(journal, &made, &failure) && record_locked(journal, &put, &failure);
    if (done && !sync_written(journal, &failure)) {
        cg_alive_drop(&journal->alive, cg_alive_put(&journal->alive, registration->spec.cell_id));
        done = false;
    }
    (void)pthread_mutex_unlock(&journal->lock);
    return done || cg_error_set(err, "journal of registrations: %s", failure.text);
}

void cg_registrations_unmade(struct cg_registrations *journal, const char *path)
{
    const struct cg_record record = {.type = CG_RECORD_UNMADE, .socket = {.path = path}};
    (void)record_it(journal, &record, NULL);
}

/* Takes back what was not kept. */
static void unend(struct cg_registrations *journal, const char *cell_id, const char *run_id)
{
    cg_alive_drop(&journal->alive, cg_alive_ended(&journal->alive, cell_id, run_id));
    struct cg_alive *put = cg_alive_put_of(&journal->alive, cell_id, run_id);
    if (put != NULL) {
        put->ending = false;
    }
}

bool cg_registrations_end(struct cg_registrations *journal, const char *cell_id, const char *run_id,
                          struct cg_error *err)
{
    const struct cg_record record = {.type = CG_RECORD_ENDED,
                                     .cell_id = cell_id,
                                     .run_id = run_id,
                                     .at_ns = cg_clock_realtime(journal->clock)};
    struct cg_error failure = {0};
    (void)pthread_mutex_lock(&journal->lock);
    bool done = record_locked(journal, &record, &failure);
    if (done && !sync_written(journal, &failure)) {
        unend(journal, cell_id, run_id);
        done = false;
    }
    (void)pthread_mutex_unlock(&journal->lock);
    return done || cg_error_set(err, "journal of registrations: %s", failure.text);
}

void cg_registrations_gone(struct cg_registrations *journal, const char *cell_id,
                           const char *run_id)
{
    const struct cg_record record = {.type = CG_RECORD_GONE, .cell_id = cell_id, .run_id = run_id};
    (void)pthread_mutex_lock(&journal->lock);
    struct cg_alive *put = cg_alive_put_of(&journal->alive, cell_id, run_id);
    if (put != NULL && !record_locked(journal, &record, NULL)) {
        cg_alive_drop(&journal->alive,
                      put); /* the next writing that succeeds is a fresh file, without it */
        journal->broken = true;
    }
    (void)pthread_mutex_unlock(&journal->lock);
}

bool cg_registrations_mend(struct cg_registrations *journal, struct cg_error *err)
{
    (void)pthread_mutex_lock(&journal->lock);
    bool done = atomic_load(&journal->writable) || rewrite(journal, err);
    (void)pthread_mutex_unlock(&journal->lock);
    return done || cg_error_context(err, "journal of registrations");
}

/* --- asking --- */

bool cg_registrations_writable(struct cg_registrations *journal)
{
    return atomic_load(&journal->writable);
}

bool cg_registrations_ended(struct cg_registrations *journal, const char *cell_id,
                            const char *run_id)
{
    (void)pthread_mutex_lock(&journal->lock);
    bool ended = cg_alive_ended(&journal->alive, cell_id, run_id) != NULL;
    (void)pthread_mutex_unlock(&journal->lock);
    return ended;
}

void cg_registrations_run_of(struct cg_registrations *journal, const char *cell_id,
                             char *ret_run_id)
{
    ret_run_id[0] = '\0';
    (void)pthread_mutex_lock(&journal->lock);
    const struct cg_alive *put = cg_alive_put(&journal->alive, cell_id);
    if (put != NULL) {
        cg_auto_record struct cg_record record;
        cg_alive_read(put, &record);
        (void)snprintf(ret_run_id, CG_ID_BYTES_MAX + 1, "%s", record.registration.spec.run_id);
    }
    (void)pthread_mutex_unlock(&journal->lock);
}

void cg_registrations_visit_sockets(struct cg_registrations *journal,
                                    void (*visit)(void *context,
                                                  const struct cg_socket_made *socket),
                                    void *context)
{
    (void)pthread_mutex_lock(&journal->lock);
    struct cg_list *head = &journal->alive.kinds[CG_ALIVE_SOCKET];
    for (struct cg_list *at = head->next; at != head; at = at->next) {
        const struct cg_alive *entry = CG_LIST_ENTRY(at, struct cg_alive, in_kind);
        cg_auto_record struct cg_record record;
        cg_alive_read(entry, &record);
        visit(context, &record.socket);
    }
    (void)pthread_mutex_unlock(&journal->lock);
}

/* Lines are copied first, because the visitor changes what is alive. */
bool cg_registrations_restore(struct cg_registrations *journal,
                              void (*visit)(void *context,
                                            const struct cg_kept_registration *registration,
                                            bool ended),
                              void *context, struct cg_error *err)
{
    cg_auto_buf struct cg_buf lines;
    cg_buf_init(&lines, CG_REGISTRATIONS_BYTES_MAX);
    (void)pthread_mutex_lock(&journal->lock);
    struct cg_list *head = &journal->alive.kinds[CG_ALIVE_PUT];
    for (struct cg_list *at = head->next; at != head; at = at->next) {
        const struct cg_alive *entry = CG_LIST_ENTRY(at, struct cg_alive, in_kind);
        (void)cg_buf_append_char(&lines, entry->ending ? '1' : '0');
        (void)cg_buf_append(&lines, cg_bytes(entry->text, entry->line_len));
    }
    (void)pthread_mutex_unlock(&journal->lock);
    if (lines.failed) {
        return cg_error_set(err, "journal of registrations: out of memory");
    }
    for (struct cg_bytes rest = cg_buf_bytes(&lines); rest.len > 0;) {
        const char *end = memchr(rest.data, '\n', rest.len);
        CG_ASSERT(end != NULL);
        size_t len = (size_t)(end - rest.data) + 1;
        cg_auto_record struct cg_record record;
        bool parsed = cg_record_parse(cg_bytes(rest.data + 1, len - 1), &record);
        CG_ASSERT(parsed);
        visit(context, &record.registration, rest.data[0] == '1');
        rest = cg_bytes(rest.data + len, rest.len - len);
    }
    return true;
}

/* --- opening --- */

static bool read_file(const char *path, struct cg_buf *out, struct cg_error *err)
{
    cg_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT || cg_error_errno(err, errno, "open");
    }
    for (;;) {
        if (!cg_buf_reserve(out, READ_BYTES)) {
            return cg_error_set(err, "too large, or out of memory");
        }
        ssize_t got = read(fd, out->data + out->len, READ_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got == 0 || cg_error_errno(err, errno, "read");
        }
        out->len += (size_t)got;
    }
}

static bool replay(struct cg_registrations *journal, struct cg_bytes text,
                   struct cg_registrations_found *found, struct cg_error *err)
{
    while (text.len > 0) {
        const char *end = memchr(text.data, '\n', text.len);
        if (end == NULL) {
            found->torn_bytes = text.len;
            return true;
        }
        struct cg_bytes line = cg_bytes(text.data, (size_t)(end - text.data) + 1);
        text = cg_bytes(text.data + line.len, text.len - line.len);
        cg_auto_record struct cg_record record;
        if (!cg_record_parse(line, &record)) {
            found->damaged_records++;
        } else if (record.type == CG_RECORD_FORMAT && record.version != CG_RECORD_VERSION) {
            return cg_error_set(err, "was written by another version of cellgate");
        } else if (!cg_registration_table_take(&journal->alive, &record, line)) {
            return cg_error_set(err, "out of memory");
        }
    }
    return true;
}

static bool load(struct cg_registrations *journal, struct cg_registrations_found *found,
                 struct cg_error *err)
{
    if (in_memory(journal)) {
        return true;
    }
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, CG_REGISTRATIONS_BYTES_MAX);
    return read_file(journal->path, &text, err) &&
           replay(journal, cg_buf_bytes(&text), found, err) && rewrite(journal, err);
}

bool cg_registrations_open(const char *path, const struct cg_clock *clock,
                           struct cg_registrations **ret_journal,
                           struct cg_registrations_found *ret_found, struct cg_error *err)
{
    struct cg_registrations *journal = calloc(1, sizeof(*journal));
    if (journal == NULL) {
        return cg_error_set(err, "journal of registrations: out of memory");
    }
    journal->clock = clock;
    journal->fd = -1;
    atomic_init(&journal->writable, true);
    (void)pthread_mutex_init(&journal->lock, NULL);
    (void)pthread_cond_init(&journal->synced, NULL);
    cg_registration_table_init(&journal->alive, clock);
    int len = snprintf(journal->path, sizeof(journal->path), "%s", path == NULL ? "" : path);
    struct cg_registrations_found found = {0};
    (void)pthread_mutex_lock(&journal->lock);
    bool done = len < (int)sizeof(journal->path) ? load(journal, &found, err)
                                                 : cg_error_set(err, "the path is too long");
    (void)pthread_mutex_unlock(&journal->lock);
    if (!done) {
        cg_registrations_close(journal);
        return cg_error_context(err, "journal of registrations %s", path);
    }
    found.registrations = journal->alive.counts[CG_ALIVE_PUT];
    found.ended_runs = journal->alive.counts[CG_ALIVE_ENDED];
    found.sockets = journal->alive.counts[CG_ALIVE_SOCKET];
    *ret_journal = journal;
    *ret_found = found;
    return true;
}

void cg_registrations_close(struct cg_registrations *journal)
{
    if (journal == NULL) {
        return;
    }
    cg_registration_table_fini(&journal->alive);
    if (journal->fd >= 0) {
        (void)close(journal->fd);
    }
    (void)pthread_cond_destroy(&journal->synced);
    (void)pthread_mutex_destroy(&journal->lock);
    free(journal);
}
