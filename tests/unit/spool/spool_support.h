/*
 * spool_support.h - what the spool's tests share: a temporary directory, events whose content can
 * be checked from their index alone, and reading everything back.
 */
#ifndef CELLGATE_TESTS_SPOOL_SUPPORT_H
#define CELLGATE_TESTS_SPOOL_SUPPORT_H

#include "cellgate/limits.h"
#include "spool/spool.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char test_dir[64];

static void make_test_dir(void)
{
    (void)snprintf(test_dir, sizeof(test_dir), "/tmp/cellgate-spool-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(test_dir));
}

static void remove_files(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
    (void)rmdir(path);
}

static void remove_test_dir(void)
{
    static const char *const subdirs[] = {"/s/segments", "/s/positions", "/s", ""};
    for (size_t i = 0; i < sizeof(subdirs) / sizeof(subdirs[0]); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s%s", test_dir, subdirs[i]);
        remove_files(path);
    }
}

static const char *spool_path(const char *below)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, 256, "%s/s%s", test_dir, below);
    return path;
}

static struct cg_spool_config test_config(void)
{
    static char dir[96];
    (void)snprintf(dir, sizeof(dir), "%s/s", test_dir);
    return (struct cg_spool_config){
        .dir = dir,
        .bytes_max = 16 * 1024 * 1024,
        .segment_bytes = 1024 * 1024,
        .sync = CG_SPOOL_SYNC_INTERVAL,
        .sync_interval_ns = 20 * CG_NS_PER_MS,
        .clock = &cg_clock_system,
    };
}

static struct cg_spool *open_spool(const struct cg_spool_config *config,
                                   struct cg_spool_recovery *ret_recovery)
{
    struct cg_error err = {0};
    struct cg_spool *spool = NULL;
    struct cg_spool_recovery recovery;
    ck_assert_msg(cg_spool_open(config, &spool, &recovery, &err), "%s", err.text);
    if (ret_recovery != NULL) {
        *ret_recovery = recovery;
    }
    return spool;
}

static struct cg_spool_reader *open_reader(struct cg_spool *spool, const char *name)
{
    struct cg_error err = {0};
    struct cg_spool_reader *reader = NULL;
    ck_assert_msg(cg_spool_reader_open(spool, name, &reader, &err), "%s", err.text);
    return reader;
}

static struct cg_spool_writer *open_writer(struct cg_spool *spool)
{
    struct cg_error err = {0};
    struct cg_spool_writer *writer = NULL;
    ck_assert_msg(cg_spool_writer_open(spool, &writer, &err), "%s", err.text);
    return writer;
}

static struct cg_spool_run *open_run(struct cg_spool *spool, const char *cell)
{
    struct cg_error err = {0};
    struct cg_spool_run *run = NULL;
    ck_assert_msg(cg_spool_run_open(spool, cg_bytes_str(cell), CG_BYTES("run"), &run, &err), "%s",
                  err.text);
    return run;
}

/* An event of a cell: everything in it follows from cell and sequence, so that a change shows. */
static size_t render_event(char *out, const char *cell, uint64_t sequence,
                           struct cg_event_meta *ret_meta)
{
    size_t cell_len = strlen(cell);
    size_t body = (size_t)(sequence * 7919 % 900);
    size_t at = 0;
    memcpy(out, cell, cell_len);
    at += cell_len;
    memcpy(out + at, "run", 3);
    at += 3;
    for (size_t i = 0; i < body; i++) {
        out[at++] = (char)('a' + (sequence + i) % 26);
    }
    *ret_meta = (struct cg_event_meta){
        .sequence = sequence,
        .received_ns = 1000 + sequence,
        .connection = (uint32_t)(1 + sequence / 100),
        .pid = (uint32_t)(sequence * 3),
        .kind = (uint8_t)(CG_EVENT_GUEST + sequence % 3),
        .severity = (uint8_t)(sequence % 2),
    };
    ret_meta->text[CG_TEXT_CELL] = (struct cg_event_span){0, (uint16_t)cell_len};
    ret_meta->text[CG_TEXT_RUN] = (struct cg_event_span){(uint16_t)cell_len, 3};
    ret_meta->text[CG_TEXT_COMM] = (struct cg_event_span){(uint16_t)(at - at % 2), 0};
    return at;
}

static void check_event(const struct cg_event *event)
{
    static _Thread_local char expected[CG_EVENT_BYTES_MAX + 1];
    char cell[64] = {0};
    struct cg_bytes text = cg_event_get(event, CG_TEXT_CELL);
    ck_assert_uint_lt(text.len, sizeof(cell));
    memcpy(cell, text.data, text.len);
    struct cg_event_meta meta;
    size_t len = render_event(expected, cell, event->meta.sequence, &meta);
    ck_assert_uint_eq(event->bytes.len, len);
    ck_assert_int_eq(memcmp(event->bytes.data, expected, len), 0);
    ck_assert_uint_eq(event->meta.received_ns, meta.received_ns);
    ck_assert_uint_eq(event->meta.connection, meta.connection);
    ck_assert_uint_eq(event->meta.pid, meta.pid);
    ck_assert_uint_eq(event->meta.kind, meta.kind);
    ck_assert_uint_eq(event->meta.severity, meta.severity);
    ck_assert_int_eq(memcmp(event->meta.text, meta.text, sizeof(meta.text)), 0);
}

/* False: no room before a commit. */
static bool stage(struct cg_spool_writer *writer, const char *cell, struct cg_spool_run *run,
                  uint64_t sequence)
{
    char *out = cg_spool_writer_begin(writer);
    if (out == NULL) {
        return false;
    }
    struct cg_event_meta meta;
    size_t len = render_event(out, cell, sequence, &meta);
    cg_spool_writer_end(writer, len, &meta, run);
    return true;
}

static void commit(struct cg_spool_writer *writer)
{
    struct cg_error err = {0};
    ck_assert_msg(cg_spool_writer_commit(writer, &err) == CG_APPEND_DONE, "%s", err.text);
}

/* Appends sequences first to last, `per_commit` at a time. */
static void append(struct cg_spool_writer *writer, const char *cell, struct cg_spool_run *run,
                   uint64_t first, uint64_t last, uint64_t per_commit)
{
    for (uint64_t sequence = first; sequence <= last; sequence++) {
        if (!stage(writer, cell, run, sequence)) {
            commit(writer);
            ck_assert(stage(writer, cell, run, sequence));
        }
        if (sequence % per_commit == 0) {
            commit(writer);
        }
    }
    commit(writer);
}

static struct cg_batch peek(struct cg_spool_reader *reader, uint64_t events_max, uint64_t bytes_max)
{
    struct cg_error err = {0};
    struct cg_batch batch = {0};
    ck_assert_msg(cg_spool_reader_peek(reader, events_max, bytes_max, &batch, &err), "%s",
                  err.text);
    return batch;
}

/* Reads and acks sequences first to last of one run, checking each. */
static void expect(struct cg_spool_reader *reader, uint64_t first, uint64_t last)
{
    while (first <= last) {
        struct cg_batch batch = peek(reader, 100, 1 << 20);
        ck_assert_uint_gt(batch.count, 0);
        uint64_t count = 0;
        for (; count < batch.count && first <= last; count++, first++) {
            check_event(&batch.events[count]);
            ck_assert_uint_eq(batch.events[count].meta.sequence, first);
        }
        cg_spool_reader_ack(reader, count);
    }
}

#endif
