/*
 * fill_spool.c - makes a spool with a large backlog, as fast as the disk takes it.
 *
 *   fill_spool DIRECTORY BYTES
 *
 * Events of 640 bytes of eight cells, as a gateway would have left them when it was killed.
 */
#include "spool/spool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EVENT_BYTES = 640, RECORD_BYTES = 720, PER_COMMIT = 512, CELLS = 8 };

static void stage(struct cg_spool_writer *writer, struct cg_spool_run *const *runs, uint64_t number)
{
    char *out = cg_spool_writer_begin(writer);
    while (out == NULL) {
        struct cg_error err = {0};
        if (cg_spool_writer_commit(writer, &err) != CG_APPEND_DONE) {
            (void)fprintf(stderr, "fill_spool: %s\n", err.text);
            exit(1);
        }
        out = cg_spool_writer_begin(writer);
    }
    unsigned cell = (unsigned)(number / PER_COMMIT % CELLS);
    memset(out, ' ', EVENT_BYTES);
    memcpy(out, "{}", 2);
    out[8] = (char)('0' + cell);
    memcpy(out + 16, "run", 3);
    struct cg_event_meta meta = {.sequence = number + 1,
                                 .received_ns = 1 + number,
                                 .kind = CG_EVENT_GUEST,
                                 .text = {[CG_TEXT_CELL] = {8, 1}, [CG_TEXT_RUN] = {16, 3}}};
    cg_spool_writer_end(writer, EVENT_BYTES, &meta, runs[cell]);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fputs("usage: fill_spool DIRECTORY BYTES\n", stderr);
        return 64;
    }
    uint64_t bytes = strtoull(argv[2], NULL, 10);
    const struct cg_spool_config config = {
        .dir = argv[1], .bytes_max = 2 * bytes, .sync = CG_SPOOL_SYNC_NEVER};
    struct cg_spool *spool = NULL;
    struct cg_spool_recovery recovery;
    struct cg_spool_writer *writer = NULL;
    struct cg_spool_run *runs[CELLS];
    struct cg_error err = {0};
    if (!cg_spool_open(&config, &spool, &recovery, &err) ||
        !cg_spool_writer_open(spool, &writer, &err)) {
        (void)fprintf(stderr, "fill_spool: %s\n", err.text);
        return 1;
    }
    for (unsigned cell = 0; cell < CELLS; cell++) {
        char id = (char)('0' + cell);
        if (!cg_spool_run_open(spool, cg_bytes(&id, 1), CG_BYTES("run"), &runs[cell], &err)) {
            (void)fprintf(stderr, "fill_spool: %s\n", err.text);
            return 1;
        }
    }
    for (uint64_t number = 0; number < bytes / RECORD_BYTES; number++) {
        stage(writer, runs, number);
    }
    if (cg_spool_writer_commit(writer, &err) != CG_APPEND_DONE) {
        (void)fprintf(stderr, "fill_spool: %s\n", err.text);
        return 1;
    }
    (void)printf("%" PRIu64 "\n", bytes / RECORD_BYTES);
    (void)fflush(stdout);
    _exit(0); /* as if killed */
}
