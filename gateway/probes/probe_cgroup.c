/*
 * probe_cgroup.c - what the kernel counts of a VMM's cgroup (v2).
 *
 * Reads the files of one directory, those that are there. memory.events and cgroup.events are
 * watched with inotify: when the kernel says that one has changed, and oom_kill or max has risen or
 * populated has changed, there is a reading at once.
 */
#include "probes/cgroup_files.h"
#include "probes/paths.h"

#include "base/list.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>

static const struct file {
    const char *name;
    const char *member;
    enum cg_cgroup_format format;
} files[] = {
    {"cgroup.events", "cgroup_events", CG_CGROUP_FLAT},
    {"cpu.pressure", "cpu_pressure", CG_CGROUP_PRESSURE},
    {"cpu.stat", "cpu_stat", CG_CGROUP_FLAT},
    {"io.pressure", "io_pressure", CG_CGROUP_PRESSURE},
    {"io.stat", "io_stat", CG_CGROUP_NESTED},
    {"memory.current", "memory_current", CG_CGROUP_NUMBER},
    {"memory.events", "memory_events", CG_CGROUP_FLAT},
    {"memory.peak", "memory_peak", CG_CGROUP_NUMBER},
    {"memory.pressure", "memory_pressure", CG_CGROUP_PRESSURE},
    {"pids.current", "pids_current", CG_CGROUP_NUMBER},
    {"pids.events", "pids_events", CG_CGROUP_FLAT},
};
enum { FILES = sizeof(files) / sizeof(files[0]) };

/* Members that are facts for the witness. */
static const struct fact_member {
    const char *file;
    struct cg_bytes key;
    enum cg_fact fact;
} fact_members[] = {
    {"cpu.stat", CG_BYTES("usage_usec"), CG_FACT_CGROUP_CPU_USEC},
    {"memory.events", CG_BYTES("max"), CG_FACT_CGROUP_MEMORY_MAX_EVENTS},
    {"memory.events", CG_BYTES("oom_kill"), CG_FACT_CGROUP_OOM_KILLS},
    {"pids.events", CG_BYTES("max"), CG_FACT_CGROUP_PIDS_MAX_EVENTS},
};
enum { FACT_MEMBERS = sizeof(fact_members) / sizeof(fact_members[0]) };

/* Files whose changes the kernel announces. */
static const char *const announced[] = {"cgroup.events", "memory.events"};
enum { ANNOUNCED = sizeof(announced) / sizeof(announced[0]), WATCH_BUCKETS = 1024 };

/* One announced file of one cgroup. */
struct file_watch {
    struct cg_list in_bucket;
    struct cgroup *cgroup;
    int wd; /* -1: none */
    dev_t device;
    ino_t inode;
};

struct cgroups {
    struct cg_probe_host *host;
    int inotify_fd;
    struct cg_probe_source source;
    struct cg_list by_wd[WATCH_BUCKETS];
};

struct cgroup {
    struct cgroups *all;
    struct cg_probe_instance *instance;
    const char *path;
    struct file_watch watches[ANNOUNCED];
    /* What a hurried reading is compared with. */
    uint64_t oom_kills, max_events, populated;
};

/* --- announcements --- */

static void forget(struct file_watch *watch)
{
    cg_list_remove(&watch->in_bucket);
    watch->wd = -1;
}

static void hear(struct cgroups *all, const struct inotify_event *event)
{
    struct cg_list *bucket = &all->by_wd[(unsigned)event->wd % WATCH_BUCKETS];
    struct cg_list *next;
    for (struct cg_list *at = bucket->next; at != bucket; at = next) {
        next = at->next;
        struct file_watch *watch = CG_LIST_ENTRY(at, struct file_watch, in_bucket);
        if (watch->wd != event->wd) {
            continue;
        }
        if ((event->mask & IN_IGNORED) != 0) {
            forget(watch);
        } else {
            cg_probe_hurry(watch->cgroup->instance);
        }
    }
}

static void serve(void *context)
{
    struct cgroups *all = context;
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t got = read(all->inotify_fd, buffer, sizeof(buffer));
    for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= got;) {
        const struct inotify_event *event = (const void *)(buffer + at);
        at += (ssize_t)(sizeof(*event) + event->len);
        if (event->wd >= 0) { /* -1: some were lost; the next tick reads them all the same */
            hear(all, event);
        }
    }
}

/* Watches the file of a cgroup that is there, unless that very file is watched already. Without an
 * announcement the interval still brings the reading, so a failure is none. */
static void watch_file(struct cgroup *cgroup, int dir_fd, unsigned which)
{
    struct file_watch *watch = &cgroup->watches[which];
    struct stat status;
    if (fstatat(dir_fd, announced[which], &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(status.st_mode) ||
        (watch->wd >= 0 && watch->device == status.st_dev && watch->inode == status.st_ino)) {
        return;
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, announced[which]);
    int wd = inotify_add_watch(cgroup->all->inotify_fd, path, IN_MODIFY | IN_DONT_FOLLOW);
    if (wd < 0) {
        return;
    }
    cg_list_remove(&watch->in_bucket);
    watch->wd = wd;
    watch->device = status.st_dev;
    watch->inode = status.st_ino;
    cg_list_append(&cgroup->all->by_wd[(unsigned)wd % WATCH_BUCKETS], &watch->in_bucket);
}

/* --- reading --- */

static void note_facts(const char *file, struct cg_bytes text, struct cg_probe_sink *sink)
{
    struct cg_cgroup_pair pairs[CG_CGROUP_KEYS_MAX];
    size_t count = 0;
    if (!cg_cgroup_flat_parse(text, pairs, &count)) {
        return;
    }
    for (size_t i = 0; i < FACT_MEMBERS; i++) {
        uint64_t value = 0;
        if (strcmp(fact_members[i].file, file) == 0 &&
            cg_cgroup_pairs_find(pairs, count, fact_members[i].key, &value)) {
            cg_facts_set(&sink->facts, fact_members[i].fact, value);
        }
    }
}

static uint64_t find_populated(struct cg_bytes text)
{
    struct cg_cgroup_pair pairs[CG_CGROUP_KEYS_MAX];
    size_t count = 0;
    uint64_t value = 0;
    if (cg_cgroup_flat_parse(text, pairs, &count)) {
        (void)cg_cgroup_pairs_find(pairs, count, CG_BYTES("populated"), &value);
    }
    return value;
}

/* *ret_read has a bit for each file that was read. */
static enum cg_probe_outcome read_files(int dir_fd, struct cg_probe_sink *sink, unsigned *ret_read,
                                        uint64_t *ret_populated, struct cg_error *err)
{
    unsigned read = 0;
    char bytes[CG_CGROUP_FILE_BYTES_MAX];
    for (size_t i = 0; i < FILES; i++) {
        const struct file *file = &files[i];
        size_t len = 0;
        enum cg_probe_outcome outcome =
            cg_probe_read_file(dir_fd, file->name, bytes, sizeof(bytes), &len, err);
        if (outcome == CG_PROBE_NO_NEWS) {
            continue;
        }
        if (outcome != CG_PROBE_READ) {
            return outcome;
        }
        struct cg_bytes text = cg_bytes(bytes, len);
        cg_output_open(&sink->output, cg_bytes_str(file->member));
        if (!cg_cgroup_append(file->format, text, &sink->output.text)) {
            (void)cg_error_set(err, "%s has another format", file->name);
            return CG_PROBE_MALFORMED;
        }
        cg_output_close(&sink->output);
        note_facts(file->name, text, sink);
        if (strcmp(file->name, "cgroup.events") == 0) {
            *ret_populated = find_populated(text);
        }
        read |= 1U << i;
    }
    if (read == 0) {
        (void)cg_error_set(err, "no file of a cgroup is there");
        return CG_PROBE_MISSING;
    }
    *ret_read = read;
    return CG_PROBE_READ;
}

static void list_files(unsigned read, struct cg_output *inputs)
{
    bool first = true;
    cg_output_open(inputs, CG_BYTES("files"));
    for (size_t i = 0; i < FILES; i++) {
        if ((read & 1U << i) != 0) {
            cg_buf_append_str(&inputs->text, first ? "[\"" : "\",\"");
            cg_buf_append_str(&inputs->text, files[i].name);
            first = false;
        }
    }
    cg_buf_append_str(&inputs->text, "\"]");
    cg_output_close(inputs);
}

/* Whether what the kernel announced is worth telling; remembers what it is now. */
static bool is_news(struct cgroup *cgroup, const struct cg_facts *facts, uint64_t populated)
{
    uint64_t oom_kills = facts->value[CG_FACT_CGROUP_OOM_KILLS];
    uint64_t max_events = facts->value[CG_FACT_CGROUP_MEMORY_MAX_EVENTS];
    bool news = oom_kills > cgroup->oom_kills || max_events > cgroup->max_events ||
                populated != cgroup->populated;
    cgroup->oom_kills = oom_kills;
    cgroup->max_events = max_events;
    cgroup->populated = populated;
    return news;
}

static enum cg_probe_outcome read_cgroup(void *state, const struct cg_probe_turn *turn,
                                         struct cg_probe_sink *sink, struct cg_error *err)
{
    struct cgroup *cgroup = state;
    cg_auto_close int dir_fd = -1;
    unsigned read = 0;
    uint64_t populated = 0;
    enum cg_probe_outcome outcome = cg_probe_open(cgroup->all->host->policy->roots, cgroup->path,
                                                  O_RDONLY | O_DIRECTORY, &dir_fd, err);
    if (outcome != CG_PROBE_READ) {
        return outcome;
    }
    for (unsigned i = 0; i < ANNOUNCED; i++) {
        watch_file(cgroup, dir_fd, i);
    }
    outcome = read_files(dir_fd, sink, &read, &populated, err);
    if (outcome != CG_PROBE_READ) {
        return outcome;
    }
    bool news = is_news(cgroup, &sink->facts, populated);
    if (turn->why == CG_PROBE_BASE) {
        return CG_PROBE_READ;
    }
    if (turn->why == CG_PROBE_HURRIED && !news) {
        return CG_PROBE_NO_NEWS;
    }
    cg_output_text(&sink->inputs, "cgroupLeaf", cg_bytes_str(cgroup->path));
    list_files(read, &sink->inputs);
    cg_output_text(&sink->inputs, "trigger", cg_bytes_str(cg_probe_why_name(turn->why)));
    cg_probe_emit(sink);
    return CG_PROBE_READ;
}

/* --- life --- */

static void *attach(void *shared, struct cg_probe_instance *instance,
                    const struct cg_probe_spec *spec)
{
    struct cgroup *cgroup = calloc(1, sizeof(*cgroup));
    if (cgroup == NULL) {
        return NULL;
    }
    cgroup->all = shared;
    cgroup->instance = instance;
    cgroup->path = spec->text[CG_PROBE_CGROUP_PATH];
    for (unsigned i = 0; i < ANNOUNCED; i++) {
        cgroup->watches[i].cgroup = cgroup;
        cgroup->watches[i].wd = -1;
        cg_list_init(&cgroup->watches[i].in_bucket);
    }
    return cgroup;
}

/* Two cells may look at one cgroup, and then have one watch number. */
static bool is_shared(const struct file_watch *watch)
{
    const struct cg_list *bucket = &watch->cgroup->all->by_wd[(unsigned)watch->wd % WATCH_BUCKETS];
    for (const struct cg_list *at = bucket->next; at != bucket; at = at->next) {
        const struct file_watch *other =
            CG_LIST_ENTRY((uintptr_t)at, const struct file_watch, in_bucket);
        if (other != watch && other->wd == watch->wd) {
            return true;
        }
    }
    return false;
}

static void detach(void *state)
{
    struct cgroup *cgroup = state;
    for (unsigned i = 0; i < ANNOUNCED; i++) {
        struct file_watch *watch = &cgroup->watches[i];
        if (watch->wd >= 0) {
            if (!is_shared(watch)) {
                (void)inotify_rm_watch(cgroup->all->inotify_fd, watch->wd);
            }
            forget(watch);
        }
    }
    free(cgroup);
}

static void stop(void *shared)
{
    struct cgroups *all = shared;
    if (all->inotify_fd >= 0) {
        cg_probe_host_remove(all->host, all->inotify_fd);
        (void)close(all->inotify_fd);
    }
    free(all);
}

static bool start(struct cg_probe_host *host, void **ret_shared, struct cg_error *err)
{
    struct cgroups *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return cg_error_set(err, "out of memory for the cgroup probe");
    }
    all->host = host;
    all->source = (struct cg_probe_source){serve, all};
    for (unsigned i = 0; i < WATCH_BUCKETS; i++) {
        cg_list_init(&all->by_wd[i]);
    }
    all->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (all->inotify_fd >= 0 && !cg_probe_host_add(host, all->inotify_fd, &all->source, err)) {
        (void)close(all->inotify_fd);
        all->inotify_fd = -1;
        stop(all);
        return false;
    }
    *ret_shared = all; /* without inotify the intervals do */
    return true;
}

const struct cg_probe_ops cg_probe_cgroup = {
    .probe = CG_PROBE_CGROUP,
    .readings = CG_SERIES_probe_readings_cgroup,
    .errors = CG_SERIES_probe_errors_cgroup_missing,
    .start = start,
    .stop = stop,
    .attach = attach,
    .detach = detach,
    .read = read_cgroup,
};
