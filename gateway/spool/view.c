#include "spool/view.h"

#include "cellgate/cleanup.h"
#include "spool/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { PEEK_EVENTS = 512, PEEK_BYTES = 1024 * 1024 };

struct cg_spool_view {
    struct cg_spool *spool; /* without a committer, and read only */
};

static void close_dir(DIR **dir)
{
    if (*dir != NULL) {
        (void)closedir(*dir);
    }
}
#define auto_dir __attribute__((cleanup(close_dir)))

/* A directory stream of its own. NULL: it cannot be read. */
static DIR *list(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL && fd >= 0) {
        (void)close(fd);
    }
    return dir;
}

static bool open_dirs(struct cg_spool *spool, const char *dir, struct cg_error *err)
{
    const struct {
        int *fd;
        const char *name;
    } parts[] = {{&spool->place.dir_fd, "segments"}, {&spool->positions_fd, "positions"}};
    spool->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->dir_fd < 0) {
        return cg_error_errno(err, errno, "%s", dir);
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        *parts[i].fd =
            openat(spool->dir_fd, parts[i].name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (*parts[i].fd < 0) {
            return cg_error_errno(err, errno, "%s is no spool: %s", dir, parts[i].name);
        }
    }
    return true;
}

bool cg_spool_view_open(const char *dir, struct cg_spool_view **ret_view, struct cg_error *err)
{
    const struct cg_spool_config config = {.bytes_max = UINT64_C(1) << 30};
    struct cg_spool_view *view = calloc(1, sizeof(*view));
    struct cg_spool *spool = view == NULL ? NULL : cg_spool_new(&config);
    if (spool == NULL) {
        free(view);
        return cg_error_set(err, "no memory to look at the spool");
    }
    struct cg_spool_recovery recovery;
    spool->place.read_only = true;
    if (!open_dirs(spool, dir, err) || !cg_spool_recover(spool, &recovery, err)) {
        cg_spool_free(spool);
        free(view);
        return false;
    }
    view->spool = spool;
    *ret_view = view;
    return true;
}

void cg_spool_view_close(struct cg_spool_view *view)
{
    cg_spool_free(view->spool);
    free(view);
}

uint64_t cg_spool_view_first(const struct cg_spool_view *view)
{
    const struct cg_spool *spool = view->spool;
    return spool->segment_count > 0 ? spool->segments[0]->first_index : spool->next_index;
}

uint64_t cg_spool_view_next(const struct cg_spool_view *view)
{
    return view->spool->next_index;
}

/* Of a line like `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; 0 if it is about another file.
 * The device is not compared: stacked file systems show another one here. */
static uint64_t holder_of_line(const char *line, uint64_t inode)
{
    const char *kind = strstr(line, " FLOCK ");
    const char *mode = kind == NULL ? NULL : strstr(kind, " WRITE ");
    if (mode == NULL) {
        return 0;
    }
    char *end;
    uint64_t pid = strtoull(mode + strlen(" WRITE "), &end, 10);
    const char *minor = strchr(end, ':');
    minor = minor == NULL ? NULL : strchr(minor + 1, ':');
    return minor != NULL && strtoull(minor + 1, NULL, 10) == inode ? pid : 0;
}

static void close_file(FILE **file)
{
    if (*file != NULL) {
        (void)fclose(*file);
    }
}

uint64_t cg_spool_view_holder(const struct cg_spool_view *view)
{
    /* Asking flock(2) itself would mean to hold the lock for a moment, in which a gateway that
     * starts would be refused. */
    struct stat lock;
    __attribute__((cleanup(close_file))) FILE *locks = fopen("/proc/locks", "re");
    if (locks == NULL || fstatat(view->spool->dir_fd, "lock", &lock, AT_SYMLINK_NOFOLLOW) != 0) {
        return 0;
    }
    char line[256];
    uint64_t holder = 0;
    while (holder == 0 && fgets(line, sizeof(line), locks) != NULL) {
        holder = holder_of_line(line, lock.st_ino);
    }
    return holder;
}

bool cg_spool_view_segment(const struct cg_spool_view *view, size_t i,
                           struct cg_view_segment *ret_segment)
{
    const struct cg_spool *spool = view->spool;
    if (i >= spool->segment_count) {
        return false;
    }
    const struct cg_segment *segment = spool->segments[i];
    *ret_segment = (struct cg_view_segment){.first_index = segment->first_index,
                                            .next_index = segment->end_index,
                                            .file_bytes = segment->size};
    cg_segment_name(segment->first_index, ret_segment->file);
    return true;
}

void cg_spool_view_positions(const struct cg_spool_view *view,
                             void (*visit)(void *context, const struct cg_view_position *position),
                             void *context)
{
    auto_dir DIR *dir = list(view->spool->positions_fd);
    if (dir == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (!cg_position_name_valid(entry->d_name)) {
            continue;
        }
        struct cg_position found = {0};
        struct cg_view_position position = {0};
        (void)snprintf(position.name, sizeof(position.name), "%.*s", CG_EXPORTER_NAME_BYTES_MAX,
                       entry->d_name);
        position.damaged =
            cg_position_load(view->spool->positions_fd, entry->d_name, &found) != CG_POSITION_GOOD;
        position.index = found.index;
        visit(context, &position);
    }
}

struct run_visit {
    void (*visit)(void *context, const struct cg_view_run *run);
    void *context;
};

static void visit_run(void *context, struct cg_spool_run *run)
{
    const struct run_visit *visit = context;
    const struct cg_view_run shown = {
        .cell = cg_run_cell(run),
        .run = cg_run_id(run),
        .sequence = cg_spool_run_sequence(run),
        .connection = cg_spool_run_connection(run),
    };
    visit->visit(visit->context, &shown);
}

void cg_spool_view_runs(const struct cg_spool_view *view,
                        void (*visit)(void *context, const struct cg_view_run *run), void *context)
{
    struct run_visit runs = {visit, context};
    cg_runs_visit(&view->spool->runs, visit_run, &runs);
}

void cg_spool_view_damaged(const struct cg_spool_view *view,
                           void (*visit)(void *context, const char *file), void *context)
{
    auto_dir DIR *dir = list(view->spool->place.dir_fd);
    if (dir == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strstr(entry->d_name, ".seg.damaged") != NULL) {
            visit(context, entry->d_name);
        }
    }
}

/* --- reading --- */

/* A place that cannot be read is passed after so many tries; other failures end it. */
static bool peek(struct cg_spool_reader *reader, struct cg_batch *ret_batch, struct cg_error *err)
{
    for (unsigned tries = 0; tries <= CG_SPOOL_READ_TRIES_MAX; tries++) {
        if (cg_spool_reader_peek(reader, PEEK_EVENTS, PEEK_BYTES, ret_batch, err)) {
            return true;
        }
    }
    return false;
}

static bool read_events(struct cg_spool_reader *reader, uint64_t to,
                        bool (*visit)(void *context, const struct cg_event *event), void *context,
                        uint64_t *ret_missing, struct cg_error *err)
{
    uint64_t expected = reader->position.index;
    uint64_t missing = 0;
    bool more = true;
    while (more && reader->position.index < to) {
        struct cg_batch batch;
        if (!peek(reader, &batch, err)) {
            return false;
        }
        more = batch.count > 0 || reader->position.index > expected;
        for (size_t i = 0; more && i < batch.count && batch.events[i].index < to; i++) {
            missing += batch.events[i].index - expected;
            expected = batch.events[i].index + 1;
            more = visit(context, &batch.events[i]);
        }
        cg_spool_reader_ack(reader, batch.count);
    }
    if (more && expected < to) {
        missing += to - expected;
    }
    *ret_missing = missing;
    return true;
}

bool cg_spool_view_read(struct cg_spool_view *view, uint64_t from, uint64_t to,
                        bool (*visit)(void *context, const struct cg_event *event), void *context,
                        uint64_t *ret_missing, struct cg_error *err)
{
    static const char name[] = "view"; /* of no position: there is none in a view */
    uint64_t first = cg_spool_view_first(view);
    from = from > first ? from : first;
    to = to < view->spool->next_index ? to : view->spool->next_index;
    struct cg_spool_reader *reader;
    if (!cg_spool_reader_open(view->spool, name, &reader, err)) {
        return false;
    }
    reader->position = (struct cg_position){.index = from};
    uint64_t missing = 0;
    bool good = read_events(reader, to, visit, context, &missing, err);
    cg_spool_reader_close(reader);
    cg_spool_reader_forget(view->spool, name);
    if (good) {
        *ret_missing = missing;
    }
    return good;
}

struct time_search {
    uint64_t realtime_ns;
    uint64_t index;       /* found */
    uint64_t received_ns; /* of the first event seen; 0: none */
    bool found;
};

static bool search_time(void *context, const struct cg_event *event)
{
    struct time_search *search = context;
    if (search->received_ns == 0) {
        search->received_ns = event->meta.received_ns;
    }
    search->found = event->meta.received_ns >= search->realtime_ns;
    search->index = event->index;
    return !search->found;
}

static bool only_first(void *context, const struct cg_event *event)
{
    (void)search_time(context, event);
    return false;
}

bool cg_spool_view_at(struct cg_spool_view *view, uint64_t realtime_ns, uint64_t *ret_index,
                      struct cg_error *err)
{
    const struct cg_spool *spool = view->spool;
    uint64_t from = cg_spool_view_first(view);
    uint64_t missing;
    /* The last segment that begins before that time is the first to be gone through. */
    for (size_t i = spool->segment_count; i > 0; i--) {
        struct time_search search = {.realtime_ns = realtime_ns};
        if (!cg_spool_view_read(view, spool->segments[i - 1]->first_index, spool->next_index,
                                only_first, &search, &missing, err)) {
            return false;
        }
        if (search.received_ns != 0 && !search.found) {
            from = spool->segments[i - 1]->first_index;
            break;
        }
    }
    struct time_search search = {.realtime_ns = realtime_ns};
    if (!cg_spool_view_read(view, from, spool->next_index, search_time, &search, &missing, err)) {
        return false;
    }
    *ret_index = search.found ? search.index : spool->next_index;
    return true;
}

/* --- the one change --- */

bool cg_spool_view_rewind(struct cg_spool_view *view, const char *name, uint64_t index,
                          struct cg_error *err)
{
    const struct cg_spool *spool = view->spool;
    cg_auto_close int lock_fd = openat(spool->dir_fd, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (lock_fd < 0) {
        return cg_error_errno(err, errno, "open the spool's lock");
    }
    if (flock(lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? cg_error_set(err, "a gateway has the spool open; stop it first")
                   : cg_error_errno(err, errno, "lock the spool");
    }
    struct cg_position position;
    enum cg_position_found found = cg_position_name_valid(name)
                                       ? cg_position_load(spool->positions_fd, name, &position)
                                       : CG_POSITION_NONE;
    if (found == CG_POSITION_NONE) {
        return cg_error_set(err, "no exporter of that name has a position in this spool");
    }
    if (index < cg_spool_view_first(view)) {
        return cg_error_set(err, "event %" PRIu64 " is not kept any more; the oldest is %" PRIu64,
                            index, cg_spool_view_first(view));
    }
    if (found == CG_POSITION_GOOD && index >= position.index) {
        return cg_error_set(err, "it stands at %" PRIu64 " already, and is only ever set back",
                            position.index);
    }
    const struct cg_position back = {.index = index};
    return cg_position_save(spool->positions_fd, name, &back, true, err);
}
