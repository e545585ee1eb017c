/*
 * committer.c - the one thread that syncs, saves positions and lets go of what was passed.
 *
 * It sleeps while there is nothing to do. The first commit or ack after that wakes it, and it then
 * works once per interval, so that neither pays for a wake-up each time.
 */
#include "spool/internal.h"

#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    SYNCS_MAX = 64,
    INTERVAL_DEFAULT_MS = 200,
    GROWTH_WINDOW_S = 30,
    FILLING_S = 3600,      /* less than this until it is full is worth a word */
    FILLING_OVER_S = 7200, /* more than this ends it */
};

void cg_committer_notice(struct cg_spool *spool)
{
    if (!spool->dirty) {
        spool->dirty = true;
        if (spool->committer_idle) {
            pthread_cond_signal(&spool->committer_wake);
        }
    }
}

struct pending_sync {
    struct cg_segment *segment; /* only compared: it may be gone when the sync is done */
    uint64_t salt;
    uint64_t end;
    int fd;
};

/* What is to be synced; each with a descriptor of our own, since segments come and go. */
static size_t gather(struct cg_spool *spool, struct pending_sync *pending, bool *ret_dir)
{
    size_t count = 0;
    pthread_mutex_lock(&spool->lock);
    *ret_dir = spool->dir_dirty;
    spool->dir_dirty = false;
    for (size_t i = 0; i < spool->segment_count && count < SYNCS_MAX; i++) {
        struct cg_segment *segment = spool->segments[i];
        if (segment->fd < 0 || segment->synced_end >= segment->end) {
            continue;
        }
        int fd = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
        if (fd >= 0) {
            pending[count++] = (struct pending_sync){segment, segment->salt, segment->end, fd};
        } else {
            spool->dirty = true;
        }
    }
    pthread_mutex_unlock(&spool->lock);
    return count;
}

static void note_synced(struct cg_spool *spool, const struct pending_sync *done)
{
    for (size_t i = 0; i < spool->segment_count; i++) {
        struct cg_segment *segment = spool->segments[i];
        if (segment == done->segment && segment->salt == done->salt) {
            segment->synced_end = done->end;
        }
    }
}

/* lock held */
static void note_sync_failure(struct cg_spool *spool, int failure)
{
    struct cg_error why = {0};
    cg_error_errno(&why, failure, "sync the spool");
    spool->sync_failed = true;
    cg_spool_note_failure(spool, why.text, true);
}

static bool sync_dir(struct cg_spool *spool)
{
    if (fsync(spool->place.dir_fd) == 0) {
        return true;
    }
    int failure = errno;
    pthread_mutex_lock(&spool->lock);
    spool->dir_dirty = true;
    note_sync_failure(spool, failure);
    pthread_mutex_unlock(&spool->lock);
    return false;
}

static bool sync_segment(struct cg_spool *spool, const struct pending_sync *pending)
{
    bool ok = fdatasync(pending->fd) == 0;
    int failure = errno;
    (void)close(pending->fd);
    pthread_mutex_lock(&spool->lock);
    note_synced(spool, pending);
    if (!ok) {
        /* The kernel has forgotten which pages it could not write; trying again on the same file
         * would prove nothing. What follows goes to another one. */
        spool->rotate_wanted = spool->unsynced = true;
        note_sync_failure(spool, failure);
    }
    pthread_mutex_unlock(&spool->lock);
    return ok;
}

static void sync_all(struct cg_spool *spool)
{
    struct pending_sync pending[SYNCS_MAX];
    bool dir;
    size_t count = gather(spool, pending, &dir);
    if (count == 0 && !dir) {
        return;
    }
    uint64_t start = cg_clock_monotonic(&cg_clock_system);
    bool good = !dir || sync_dir(spool);
    for (size_t i = 0; i < count; i++) {
        good = sync_segment(spool, &pending[i]) && good;
    }
    cg_histogram_observe(&spool->sync_durations, cg_clock_monotonic(&cg_clock_system) - start);
    if (!good) {
        cg_metric_add(CG_SERIES_spool_append_failures_io, 1);
    }
}

/* After a failed sync: whether a new segment can be made and synced by now. So the spool recovers
 * also while nobody has anything to append. */
static void mend(struct cg_spool *spool)
{
    struct cg_error why = {0};
    pthread_mutex_lock(&spool->append_lock);
    bool good = cg_spool_make_room(spool, CG_RECORD_BYTES_MAX, &why) == CG_APPEND_DONE;
    if (good && (fsync(spool->place.dir_fd) != 0 || fdatasync(spool->current->fd) != 0)) {
        good = cg_error_errno(&why, errno, "sync the spool");
    }
    pthread_mutex_lock(&spool->lock);
    spool->rotate_wanted = !good;
    spool->sync_failed = !good;
    if (good) {
        cg_spool_note_success(spool);
    } else {
        cg_spool_note_failure(spool, why.text, true);
    }
    pthread_mutex_unlock(&spool->lock);
    pthread_mutex_unlock(&spool->append_lock);
}

/* Worth showing, but events are appended all the same. */
static void note_trouble(struct cg_spool *spool, const struct cg_error *why)
{
    pthread_mutex_lock(&spool->lock);
    (void)snprintf(spool->last_error, sizeof(spool->last_error), "%s", why->text);
    pthread_mutex_unlock(&spool->lock);
}

/* It is tried again in the next round. */
static void note_unsaved(struct cg_spool *spool, const char *name)
{
    pthread_mutex_lock(&spool->lock);
    for (size_t i = 0; i < spool->reader_count; i++) {
        if (strcmp(spool->readers[i]->name, name) == 0) {
            spool->readers[i]->saved = (struct cg_position){0};
        }
    }
    spool->dirty = true;
    pthread_mutex_unlock(&spool->lock);
}

static void save_positions(struct cg_spool *spool)
{
    struct {
        char name[CG_EXPORTER_NAME_BYTES_MAX + 1];
        struct cg_position position;
    } changed[CG_READERS_MAX];
    size_t count = 0;
    pthread_mutex_lock(&spool->save_lock);
    pthread_mutex_lock(&spool->lock);
    for (size_t i = 0; i < spool->reader_count; i++) {
        struct cg_spool_reader *reader = spool->readers[i];
        if (reader->position.index != reader->saved.index) {
            memcpy(changed[count].name, reader->name, sizeof(reader->name));
            changed[count++].position = reader->saved = reader->position;
        }
    }
    pthread_mutex_unlock(&spool->lock);
    for (size_t i = 0; i < count; i++) {
        struct cg_error why = {0};
        /* Not synced: a power cut may set a reader back, which repeats events and loses none. */
        if (!cg_position_save(spool->positions_fd, changed[i].name, &changed[i].position, false,
                              &why)) {
            note_trouble(spool, &why);
            note_unsaved(spool, changed[i].name);
        }
    }
    pthread_mutex_unlock(&spool->save_lock);
}

void cg_spool_save_reader(struct cg_spool *spool, struct cg_spool_reader *reader)
{
    if (spool->positions_fd < 0 || spool->place.read_only) {
        return;
    }
    pthread_mutex_lock(&spool->save_lock);
    pthread_mutex_lock(&spool->lock);
    struct cg_position position = reader->saved = reader->position;
    pthread_mutex_unlock(&spool->lock);
    struct cg_error why = {0};
    if (!cg_position_save(spool->positions_fd, reader->name, &position, true, &why)) {
        note_trouble(spool, &why);
    }
    pthread_mutex_unlock(&spool->save_lock);
}

/* Passed segments go, and files that are full and synced are closed. */
static void let_go(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->append_lock);
    cg_spool_retire_passed(spool);
    cg_spool_write_gaps(spool);
    pthread_mutex_lock(&spool->lock);
    for (size_t i = 0; spool->place.dir_fd >= 0 && i < spool->segment_count; i++) {
        struct cg_segment *segment = spool->segments[i];
        if (segment != spool->current && segment->fd >= 0 &&
            (segment->synced_end >= segment->end || spool->config.sync != CG_SPOOL_SYNC_INTERVAL)) {
            (void)close(segment->fd);
            segment->fd = -1;
        }
    }
    pthread_mutex_unlock(&spool->lock);
    pthread_mutex_unlock(&spool->append_lock);
}

uint64_t cg_spool_held_bytes(const struct cg_spool *spool)
{
    uint64_t most = 0;
    for (size_t i = 0; i < spool->reader_count; i++) {
        const struct cg_position *position = &spool->readers[i]->position;
        uint64_t held = position->index < spool->next_index
                            ? spool->end_bytes - cg_position_bytes(position)
                            : 0;
        most = held > most ? held : most;
    }
    return most;
}

/* Says so once when the spool will soon be full. lock held. */
static void tell_filling(struct cg_spool *spool)
{
    uint64_t bytes = spool->segment_count > 0 ? spool->end_bytes - spool->segments[0]->base : 0;
    double seconds =
        spool->growth >= 1 ? (double)cg_spool_room(spool, bytes) / spool->growth : FILLING_OVER_S;
    if (!spool->filling_told && seconds < FILLING_S) {
        spool->filling_told = true;
        cg_spool_notify(
            spool, &(struct cg_spool_notice){.kind = CG_SPOOL_FILLING, .count = (uint64_t)seconds});
    } else if (seconds >= FILLING_OVER_S) {
        spool->filling_told = false;
    }
}

static void measure_growth(struct cg_spool *spool, uint64_t *held, uint64_t *measured_ns)
{
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    double seconds = (double)(now_ns - *measured_ns) / (double)CG_NS_PER_S;
    uint64_t fs_room = cg_spool_disk_room(spool);
    pthread_mutex_lock(&spool->lock);
    uint64_t held_now = cg_spool_held_bytes(spool);
    if (seconds > 0) {
        double rate = ((double)held_now - (double)*held) / seconds;
        double weight = seconds / (seconds + GROWTH_WINDOW_S);
        spool->growth += weight * (rate - spool->growth);
    }
    spool->fs_room = fs_room;
    tell_filling(spool);
    pthread_mutex_unlock(&spool->lock);
    *held = held_now;
    *measured_ns = now_ns;
}

static void round_of_work(struct cg_spool *spool)
{
    if (spool->config.sync == CG_SPOOL_SYNC_INTERVAL && spool->place.dir_fd >= 0) {
        bool failed = spool->sync_failed; /* only this thread sets and clears it */
        sync_all(spool);
        if (failed) {
            mend(spool);
        }
    }
    if (spool->positions_fd >= 0) {
        save_positions(spool);
    }
    let_go(spool);
    if (spool->config.notice != NULL) {
        cg_spool_tell_notices(spool);
    }
}

/* Until there is work and the interval is over, or stop. lock held. */
static void wait_for_work(struct cg_spool *spool, uint64_t not_before_ns)
{
    while (!spool->stopping) {
        atomic_fetch_add_explicit(&spool->committer_turns, 1, memory_order_relaxed);
        uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
        /* A rate that was measured has to fade again, also while nothing happens. */
        bool something =
            spool->dirty || spool->sync_failed || spool->growth >= 1 || spool->growth <= -1;
        if (something && now_ns >= not_before_ns) {
            return;
        }
        if (something) {
            struct timespec at = {.tv_sec = (time_t)(not_before_ns / CG_NS_PER_S),
                                  .tv_nsec = (long)(not_before_ns % CG_NS_PER_S)};
            (void)pthread_cond_timedwait(&spool->committer_wake, &spool->lock, &at);
        } else {
            spool->committer_idle = true;
            (void)pthread_cond_wait(&spool->committer_wake, &spool->lock);
            spool->committer_idle = false;
        }
    }
}

static void *committer_main(void *argument)
{
    struct cg_spool *spool = argument;
    uint64_t interval_ns = spool->config.sync_interval_ns;
    if (interval_ns == 0) {
        interval_ns = INTERVAL_DEFAULT_MS * CG_NS_PER_MS;
    }
    uint64_t held = 0;
    uint64_t measured_ns = cg_clock_monotonic(&cg_clock_system);
    uint64_t not_before_ns = measured_ns + interval_ns;
    bool stopping = false;
    while (!stopping) {
        pthread_mutex_lock(&spool->lock);
        wait_for_work(spool, not_before_ns);
        stopping = spool->stopping;
        spool->dirty = false;
        pthread_mutex_unlock(&spool->lock);
        round_of_work(spool);
        measure_growth(spool, &held, &measured_ns);
        not_before_ns = cg_clock_monotonic(&cg_clock_system) + interval_ns;
    }
    return NULL;
}

uint64_t cg_spool_turns(const struct cg_spool *spool)
{
    return atomic_load_explicit(&spool->committer_turns, memory_order_relaxed);
}

void cg_spool_poke(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    pthread_cond_signal(&spool->committer_wake);
    pthread_mutex_unlock(&spool->lock);
}

bool cg_committer_start(struct cg_spool *spool, struct cg_error *err)
{
    int failure = cg_thread_start(&spool->committer, "spool", committer_main, spool);
    if (failure != 0) {
        return cg_error_errno(err, failure, "start the spool's committer");
    }
    return true;
}

void cg_committer_stop(struct cg_spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    spool->stopping = true;
    pthread_cond_signal(&spool->committer_wake);
    pthread_mutex_unlock(&spool->lock);
    (void)pthread_join(spool->committer, NULL);
}
