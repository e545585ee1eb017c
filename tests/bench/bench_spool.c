/*
 * bench_spool.c - what an event of 640 bytes costs in the spool, in nanoseconds of CPU.
 *
 *   bench_spool [directory]       default /tmp; "-" for memory
 *
 * stage         begin and end: header, checksum (no write)
 * stage+commit  the same with commits of 256 events to disk or memory
 * all           one thread appends, another borrows batches of 512 and acknowledges them
 * floor         pwrite of the same bytes to a file that is used again and again
 */
#include "spool/crc32c.h"
#include "spool/spool.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { EVENT_BYTES = 640, RECORD_BYTES = 720, PER_COMMIT = 256, EVENTS = 3000000 };

static double cpu_ns(clockid_t clock)
{
    struct timespec at;
    (void)clock_gettime(clock, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static void report(const char *what, double total_ns, double events)
{
    printf("%-34s %8.1f ns/event  %6.2f M events per CPU-second\n", what, total_ns / events,
           events / total_ns * 1e3);
}

static bool stage(struct cg_spool_writer *writer, struct cg_spool_run *run, uint64_t sequence)
{
    char *out = cg_spool_writer_begin(writer);
    if (out == NULL) {
        return false;
    }
    memset(out, 'e', EVENT_BYTES); /* stands in for rendering */
    struct cg_event_meta meta = {.sequence = sequence, .received_ns = 1, .kind = CG_EVENT_GUEST};
    cg_spool_writer_end(writer, EVENT_BYTES, &meta, run);
    return true;
}

struct consumer {
    struct cg_spool *spool;
    struct cg_spool_reader *reader;
    uint64_t count;
};

static void *consume(void *argument)
{
    struct consumer *consumer = argument;
    uint64_t sum = 0;
    for (uint64_t left = EVENTS; left > 0;) {
        struct cg_batch batch;
        (void)cg_spool_reader_wait(consumer->reader, 512, 1 << 20,
                                   cg_clock_monotonic(&cg_clock_system) + CG_NS_PER_MS);
        if (!cg_spool_reader_peek(consumer->reader, 512, 1 << 20, &batch, NULL)) {
            abort();
        }
        for (size_t i = 0; i < batch.count; i++) {
            sum += (unsigned char)batch.events[i].bytes.data[0];
        }
        cg_spool_reader_ack(consumer->reader, batch.count);
        left -= batch.count;
    }
    consumer->count = sum;
    return NULL;
}

static void append_all(struct cg_spool_writer *writer, struct cg_spool_run *run)
{
    for (uint64_t sequence = 1; sequence <= EVENTS;) {
        for (unsigned i = 0; i < PER_COMMIT && sequence <= EVENTS; i++) {
            if (!stage(writer, run, sequence)) {
                break;
            }
            sequence++;
        }
        while (cg_spool_writer_commit(writer, NULL) != CG_APPEND_DONE) {
            (void)usleep(1000); /* full: the reader is behind */
        }
    }
}

static void bench_spool(const char *dir, bool with_reader)
{
    struct cg_spool_config config = {
        .dir = dir,
        .bytes_max = dir == NULL ? UINT64_C(64) << 20 : UINT64_C(1) << 30,
        .sync = CG_SPOOL_SYNC_INTERVAL,
        .sync_interval_ns = 200 * CG_NS_PER_MS,
        .clock = &cg_clock_system,
    };
    struct cg_spool *spool = NULL;
    struct cg_spool_recovery recovery;
    struct cg_spool_writer *writer = NULL;
    struct cg_spool_run *run = NULL;
    struct consumer consumer = {0};
    struct cg_error err = {0};
    if (!cg_spool_open(&config, &spool, &recovery, &err) ||
        !cg_spool_writer_open(spool, &writer, &err) ||
        !cg_spool_run_open(spool, CG_BYTES("cell"), CG_BYTES("run"), &run, &err)) {
        (void)fprintf(stderr, "%s\n", err.text);
        abort();
    }
    consumer.spool = spool;
    pthread_t thread;
    if (with_reader && (!cg_spool_reader_open(spool, "bench", &consumer.reader, &err) ||
                        pthread_create(&thread, NULL, consume, &consumer) != 0)) {
        abort();
    }
    double process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    double own = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    append_all(writer, run);
    own = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - own;
    if (with_reader) {
        (void)pthread_join(thread, NULL);
    }
    process = cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - process;
    const char *where = dir == NULL ? "memory" : "disk";
    char what[64];
    (void)snprintf(what, sizeof(what), "%s, %s", with_reader ? "all" : "stage+commit", where);
    report(what, with_reader ? process : own, EVENTS);
    if (with_reader) {
        (void)snprintf(what, sizeof(what), "  of it the writer, %s", where);
        report(what, own, EVENTS);
        cg_spool_reader_close(consumer.reader);
    }
    cg_spool_writer_close(writer);
    cg_spool_close(spool);
}

static void bench_stage(void)
{
    struct cg_spool_config config = {
        .bytes_max = UINT64_C(64) << 20, .sync = CG_SPOOL_SYNC_NEVER, .clock = &cg_clock_system};
    struct cg_spool *spool = NULL;
    struct cg_spool_recovery recovery;
    struct cg_spool_run *run = NULL;
    if (!cg_spool_open(&config, &spool, &recovery, NULL) ||
        !cg_spool_run_open(spool, CG_BYTES("cell"), CG_BYTES("run"), &run, NULL)) {
        abort();
    }
    double own = 0;
    uint64_t events = 0;
    while (events < EVENTS) {
        struct cg_spool_writer *writer = NULL;
        if (!cg_spool_writer_open(spool, &writer, NULL) || !stage(writer, run, 1)) {
            abort();
        }
        double start = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        while (stage(writer, run, events)) {
            events++;
        }
        own += cpu_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        cg_spool_writer_close(writer); /* what is staged is given up: no write is measured */
    }
    report("stage (with a memset of the event)", own, (double)events);
    cg_spool_close(spool);
}

static void bench_floor(const char *dir)
{
    enum { FILE_BYTES = 64 << 20, CHUNK = PER_COMMIT * RECORD_BYTES };
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/floor", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char *chunk = calloc(1, CHUNK);
    if (fd < 0 || chunk == NULL) {
        abort();
    }
    double own = 0;
    for (unsigned pass = 0; pass < 2; pass++) { /* the first makes the pages */
        own = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint64_t i = 0; i < EVENTS / PER_COMMIT; i++) {
            memset(chunk, 'e', CHUNK);
            off_t at = (off_t)(i % (FILE_BYTES / CHUNK) * CHUNK);
            if (pwrite(fd, chunk, CHUNK, at) != CHUNK) {
                abort();
            }
        }
        own = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - own;
    }
    report("floor: memset and pwrite, disk", own, EVENTS);
    (void)close(fd);
    (void)unlink(path);
    free(chunk);
}

static void bench_crc(void)
{
    static char event[RECORD_BYTES];
    uint32_t crc = 0;
    double own = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < EVENTS; i++) {
        crc = cg_crc32c(crc, event, sizeof(event) - 16);
    }
    own = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - own;
    report(crc == 1 ? "crc32c" : "crc32c of a record", own, EVENTS);
}

int main(int argc, char **argv)
{
    const char *parent = argc > 1 ? argv[1] : "/tmp";
    bench_crc();
    bench_stage();
    bench_spool(NULL, false);
    bench_spool(NULL, true);
    if (strcmp(parent, "-") != 0) {
        char dir[256];
        (void)snprintf(dir, sizeof(dir), "%s/bench-spool-XXXXXX", parent);
        if (mkdtemp(dir) == NULL) {
            perror(dir);
            return 1;
        }
        bench_floor(dir);
        bench_spool(dir, true);
        bench_spool(dir, false);
        (void)printf("left behind: %s\n", dir);
    }
    return 0;
}
