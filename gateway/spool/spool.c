/* spool.c - opening and closing, runs, health. */
#include "spool/spool.h"

#include "cellgate/cleanup.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#define MIB UINT64_C(1048576)

enum { SEGMENTS_MIN = 2, SEGMENTS_USUAL = 16 };

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static bool open_subdir(int parent_fd, const char *name, int *ret_fd, struct cg_error *err)
{
    if (mkdirat(parent_fd, name, 0700) != 0 && errno != EEXIST) {
        return cg_error_errno(err, errno, "make directory %s", name);
    }
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return cg_error_errno(err, errno, "open directory %s", name);
    }
    *ret_fd = fd;
    return true;
}

static bool open_dirs(struct cg_spool *spool, const char *dir, struct cg_error *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return cg_error_errno(err, errno, "make it");
    }
    spool->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->dir_fd < 0) {
        return cg_error_errno(err, errno, "open it");
    }
    spool->lock_fd = openat(spool->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spool->lock_fd < 0) {
        return cg_error_errno(err, errno, "open lock");
    }
    if (flock(spool->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? cg_error_set(err, "another process has it open")
                                    : cg_error_errno(err, errno, "lock it");
    }
    if (!open_subdir(spool->dir_fd, "segments", &spool->place.dir_fd, err) ||
        !open_subdir(spool->dir_fd, "positions", &spool->positions_fd, err)) {
        return false;
    }
    (void)fsync(spool->dir_fd); /* new directories; what fails here fails again at the first sync */
    return true;
}

/* "xxxxxxxx-xxxx-…" to 16 bytes; zeros where the kernel does not tell. */
static void read_boot_id(uint8_t *ret_id)
{
    char text[40] = {0};
    cg_auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    memset(ret_id, 0, CG_UUID_BYTES);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) < 36) {
        return;
    }
    unsigned digits = 0;
    for (const char *at = text; *at != '\0' && digits < 2 * CG_UUID_BYTES; at++) {
        static const char hex[] = "0123456789abcdef";
        const char *digit = strchr(hex, *at);
        if (digit != NULL) {
            ret_id[digits / 2] = (uint8_t)(ret_id[digits / 2] << 4 | (digit - hex));
            digits++;
        }
    }
}

void cg_spool_free(struct cg_spool *spool)
{
    for (size_t i = 0; i < spool->segment_count; i++) {
        cg_segment_free(spool->segments[i]);
    }
    for (size_t i = 0; i < spool->spare_count; i++) {
        cg_segment_free(spool->spares[i]);
    }
    free(spool->segments);
    cg_tail_fini(&spool->tail);
    cg_runs_fini(&spool->runs);
    const int fds[] = {spool->positions_fd, spool->place.dir_fd, spool->lock_fd, spool->dir_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    (void)pthread_cond_destroy(&spool->committer_wake);
    (void)pthread_mutex_destroy(&spool->append_lock);
    (void)pthread_mutex_destroy(&spool->lock);
    (void)pthread_mutex_destroy(&spool->save_lock);
    free(spool);
}

struct cg_spool *cg_spool_new(const struct cg_spool_config *config)
{
    struct cg_spool *spool = calloc(1, sizeof(*spool));
    pthread_condattr_t attributes;
    if (spool == NULL || pthread_condattr_init(&attributes) != 0) {
        free(spool);
        return NULL;
    }
    spool->config = *config;
    spool->config.dir = NULL; /* borrowed for open only */
    if (spool->config.clock == NULL) {
        spool->config.clock = &cg_clock_system;
    }
    spool->place.size = config->segment_bytes != 0
                            ? config->segment_bytes
                            : clamp(config->bytes_max / SEGMENTS_USUAL, MIB, 64 * MIB);
    spool->bytes_max = clamp(config->bytes_max, SEGMENTS_MIN * spool->place.size, UINT64_MAX);
    spool->dir_fd = spool->lock_fd = spool->positions_fd = spool->place.dir_fd = -1;
    spool->appendable = true;
    spool->fs_room = UINT64_MAX;
    (void)pthread_mutex_init(&spool->append_lock, NULL);
    (void)pthread_mutex_init(&spool->lock, NULL);
    (void)pthread_mutex_init(&spool->save_lock, NULL);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&spool->committer_wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    cg_runs_init(&spool->runs);
    cg_tail_init(&spool->tail);
    return spool;
}

bool cg_spool_open(const struct cg_spool_config *config, struct cg_spool **ret_spool,
                   struct cg_spool_recovery *ret_recovery, struct cg_error *err)
{
    struct cg_spool *spool = cg_spool_new(config);
    if (spool == NULL) {
        return cg_error_set(err, "no memory for the spool");
    }
    if (config->boot_id != NULL) {
        memcpy(spool->place.boot_id, config->boot_id, CG_UUID_BYTES);
        spool->config.boot_id = NULL; /* borrowed for this call */
    } else {
        read_boot_id(spool->place.boot_id);
    }
    struct cg_spool_recovery recovery;
    bool ok = getrandom(spool->place.instance, CG_UUID_BYTES, 0) == CG_UUID_BYTES ||
              cg_error_errno(err, errno, "random bytes");
    ok = ok && (config->dir == NULL || open_dirs(spool, config->dir, err)) &&
         cg_spool_recover(spool, &recovery, err);
    if (ok && spool->head_due) {
        cg_spool_begin_head(spool);
    }
    ok = ok && cg_committer_start(spool, err);
    if (!ok) {
        cg_error_context(err, "spool %s", config->dir != NULL ? config->dir : "in memory");
        cg_spool_free(spool);
        return false;
    }
    *ret_recovery = recovery;
    *ret_spool = spool;
    return true;
}

/* Whether the disk has all there is. */
static bool sync_the_rest(const struct cg_spool *spool)
{
    if (spool->config.sync == CG_SPOOL_SYNC_NEVER || spool->unsynced || spool->head_due) {
        return false;
    }
    for (size_t i = 0; i < spool->segment_count; i++) {
        const struct cg_segment *segment = spool->segments[i];
        if (segment->fd >= 0 && fdatasync(segment->fd) != 0) {
            return false;
        }
    }
    return fsync(spool->place.dir_fd) == 0;
}

void cg_spool_close(struct cg_spool *spool)
{
    CG_ASSERT(spool->reader_count == 0 && spool->writer_count == 0 && spool->tap_count == 0);
    cg_committer_stop(spool);
    if (spool->place.dir_fd >= 0) {
        if (spool->current != NULL) {
            /* Room that was taken ahead goes back. If it does not, the next start finds the end. */
            (void)!ftruncate(spool->current->fd, (off_t)spool->current->end);
        }
        if (sync_the_rest(spool)) {
            cg_clean_mark_leave(spool->dir_fd, spool->next_index);
        }
    }
    cg_spool_free(spool);
}

/* --- runs --- */

bool cg_spool_run_open(struct cg_spool *spool, struct cg_bytes cell_id, struct cg_bytes run_id,
                       struct cg_spool_run **ret_run, struct cg_error *err)
{
    pthread_mutex_lock(&spool->lock);
    struct cg_spool_run *run = cg_runs_get(&spool->runs, cell_id, run_id);
    if (run != NULL) {
        bool unknown = cg_spool_run_sequence(run) == 0 && run->opens == 0;
        if (spool->unsure && unknown) {
            cg_spool_skip_numbers(spool, run);
            cg_spool_more_losses(spool);
        }
        run->opens++;
    }
    pthread_mutex_unlock(&spool->lock);
    if (run == NULL) {
        return cg_error_set(err, "no memory for a run of the spool, or %d are open", CG_RUNS_MAX);
    }
    *ret_run = run;
    return true;
}

/* lock held */
static void let_go(struct cg_spool *spool, struct cg_spool_run *run)
{
    CG_ASSERT(run->opens > 0);
    run->opens--;
    bool empty = cg_spool_run_sequence(run) == 0 && cg_spool_run_connection(run) == 0;
    if (run->opens == 0 && (run->over || empty)) {
        cg_runs_remove(&spool->runs, run);
    }
}

void cg_spool_run_close(struct cg_spool *spool, struct cg_spool_run *run)
{
    pthread_mutex_lock(&spool->lock);
    let_go(spool, run);
    pthread_mutex_unlock(&spool->lock);
}

void cg_spool_run_end(struct cg_spool *spool, struct cg_spool_run *run)
{
    pthread_mutex_lock(&spool->append_lock);
    cg_spool_append_run_end(spool, run);
    pthread_mutex_lock(&spool->lock);
    run->over = true;
    let_go(spool, run);
    cg_committer_notice(spool);
    pthread_mutex_unlock(&spool->lock);
    pthread_mutex_unlock(&spool->append_lock);
}

void cg_spool_runs_settled(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    spool->unsure = false;
    pthread_mutex_unlock(&spool->lock);
}

size_t cg_spool_run_take_losses(struct cg_spool *spool, struct cg_spool_run *run,
                                struct cg_spool_loss ret_losses[CG_SPOOL_LOSSES_MAX])
{
    pthread_mutex_lock(&spool->lock);
    cg_losses_pass(run->losses, cg_spool_wanted_index(spool));
    size_t count = cg_losses_take(run->losses, ret_losses);
    pthread_mutex_unlock(&spool->lock);
    return count;
}

void cg_spool_more_losses(struct cg_spool *spool)
{
    atomic_fetch_add_explicit(&spool->losses_generation, 1, memory_order_relaxed);
}

uint64_t cg_spool_losses(const struct cg_spool *spool)
{
    return atomic_load_explicit(&spool->losses_generation, memory_order_relaxed);
}

bool cg_spool_run_over_share(struct cg_spool *spool, struct cg_spool_run *run)
{
    if (cg_spool_run_room(spool, run) > 0) {
        return false; /* what is known is never too low */
    }
    pthread_mutex_lock(&spool->lock);
    uint64_t held = cg_run_held_bytes(run, cg_spool_wanted_index(spool));
    pthread_mutex_unlock(&spool->lock);
    return held >= spool->config.cell_share_bytes;
}

uint64_t cg_spool_run_room(const struct cg_spool *spool, const struct cg_spool_run *run)
{
    uint64_t share = spool->config.cell_share_bytes;
    uint64_t held = atomic_load_explicit(&run->held_bytes, memory_order_relaxed);
    return share == 0 ? UINT64_MAX : share > held ? share - held : 0;
}

uint64_t cg_spool_run_sequence(const struct cg_spool_run *run)
{
    return atomic_load_explicit(&run->sequence, memory_order_relaxed);
}

uint32_t cg_spool_run_connection(const struct cg_spool_run *run)
{
    return atomic_load_explicit(&run->connection, memory_order_relaxed);
}

uint16_t cg_spool_run_silence(struct cg_spool *spool, const struct cg_spool_run *run)
{
    pthread_mutex_lock(&spool->lock);
    uint16_t silence = run->silence;
    pthread_mutex_unlock(&spool->lock);
    return silence;
}

bool cg_spool_run_below(struct cg_spool *spool, struct cg_bytes cell_id, struct cg_bytes run_id,
                        uint64_t index, uint64_t *ret_sequence, bool *ret_all)
{
    pthread_mutex_lock(&spool->lock);
    const struct cg_spool_run *run = cg_runs_find(&spool->runs, cell_id, run_id);
    if (run != NULL) {
        *ret_sequence = cg_run_sequence_below(run, index);
        *ret_all = *ret_sequence == cg_spool_run_sequence(run);
    }
    pthread_mutex_unlock(&spool->lock);
    return run != NULL;
}

bool cg_spool_run_last_index(struct cg_spool *spool, struct cg_bytes cell_id,
                             struct cg_bytes run_id, uint64_t *ret_index)
{
    pthread_mutex_lock(&spool->lock);
    const struct cg_spool_run *run = cg_runs_find(&spool->runs, cell_id, run_id);
    if (run != NULL) {
        *ret_index = run->last_index;
    }
    pthread_mutex_unlock(&spool->lock);
    return run != NULL;
}

/* --- health --- */

void cg_spool_note_failure(struct cg_spool *spool, const char *text, bool io)
{
    spool->appendable = false;
    (void)snprintf(spool->last_error, sizeof(spool->last_error), "%s", text);
    if (io && !spool->degraded) {
        spool->degraded = true;
        struct cg_spool_notice notice = {.kind = CG_SPOOL_DEGRADED};
        (void)snprintf(notice.text, sizeof(notice.text), "%s", text);
        cg_spool_notify(spool, &notice);
    }
}

void cg_spool_note_success(struct cg_spool *spool)
{
    if (spool->appendable || spool->sync_failed) {
        return; /* after a failed sync it is the next good one that counts */
    }
    spool->appendable = true;
    if (spool->degraded) {
        spool->degraded = false;
        cg_spool_notify(spool, &(struct cg_spool_notice){.kind = CG_SPOOL_RECOVERED});
    }
}

uint64_t cg_spool_room(const struct cg_spool *spool, uint64_t bytes)
{
    uint64_t room = spool->bytes_max > bytes ? spool->bytes_max - bytes : 0;
    return room < spool->fs_room ? room : spool->fs_room;
}

void cg_spool_status(struct cg_spool *spool, struct cg_spool_status *ret_status)
{
    pthread_mutex_lock(&spool->lock);
    uint64_t bytes = spool->segment_count > 0 ? spool->end_bytes - spool->segments[0]->base : 0;
    uint64_t room = cg_spool_room(spool, bytes);
    ret_status->bytes = bytes;
    ret_status->bytes_max = spool->bytes_max;
    ret_status->held_bytes = cg_spool_held_bytes(spool);
    ret_status->segments = spool->segment_count;
    ret_status->next_index = spool->next_index;
    ret_status->seconds_until_full =
        spool->growth >= 1 ? (double)room / spool->growth : (double)INFINITY;
    ret_status->appendable = spool->appendable;
    memcpy(ret_status->last_error, spool->last_error, sizeof(spool->last_error));
    pthread_mutex_unlock(&spool->lock);
}

const struct cg_histogram *cg_spool_sync_durations(const struct cg_spool *spool)
{
    return &spool->sync_durations;
}
