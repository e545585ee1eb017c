#include "spool/runs.h"

#include <stdlib.h>

enum { FIRST_BUCKETS = 64 };

_Static_assert(sizeof(struct cg_run_entry) == 48, "the format is fixed");

void cg_runs_init(struct cg_runs *runs)
{
    *runs = (struct cg_runs){0};
}

void cg_runs_fini(struct cg_runs *runs)
{
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL;) {
            struct cg_spool_run *next = run->next;
            free(run);
            run = next;
        }
    }
    free(runs->buckets);
    cg_runs_init(runs);
}

/* FNV-1a. The ids are the supervisor's, not a guest's, so nobody gains by collisions. */
static uint32_t hash_ids(struct cg_bytes cell, struct cg_bytes run)
{
    uint32_t hash = UINT32_C(2166136261);
    for (size_t i = 0; i < cell.len; i++) {
        hash = (hash ^ (unsigned char)cell.data[i]) * UINT32_C(16777619);
    }
    hash *= UINT32_C(16777619);
    for (size_t i = 0; i < run.len; i++) {
        hash = (hash ^ (unsigned char)run.data[i]) * UINT32_C(16777619);
    }
    return hash;
}

static struct cg_spool_run **bucket_of(const struct cg_runs *runs, uint32_t hash)
{
    return &runs->buckets[hash & (runs->bucket_count - 1)];
}

static bool grow(struct cg_runs *runs)
{
    struct cg_runs bigger = {
        .bucket_count = runs->bucket_count == 0 ? FIRST_BUCKETS : 2 * runs->bucket_count,
        .count = runs->count,
    };
    bigger.buckets = calloc(bigger.bucket_count, sizeof(struct cg_spool_run *));
    if (bigger.buckets == NULL) {
        return false;
    }
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL;) {
            struct cg_spool_run *next = run->next;
            struct cg_spool_run **bucket = bucket_of(&bigger, run->hash);
            run->next = *bucket;
            *bucket = run;
            run = next;
        }
    }
    free(runs->buckets);
    *runs = bigger;
    return true;
}

static bool forget_one(struct cg_runs *runs)
{
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            if (run->opens == 0) {
                cg_runs_remove(runs, run);
                return true;
            }
        }
    }
    return false;
}

struct cg_spool_run *cg_runs_find(const struct cg_runs *runs, struct cg_bytes cell,
                                  struct cg_bytes run)
{
    if (runs->bucket_count == 0) {
        return NULL;
    }
    uint32_t hash = hash_ids(cell, run);
    for (struct cg_spool_run *at = *bucket_of(runs, hash); at != NULL; at = at->next) {
        if (at->hash == hash && cg_bytes_equal(cell, cg_bytes(at->text, at->cell_len)) &&
            cg_bytes_equal(run, cg_bytes(at->text + at->cell_len, at->run_len))) {
            return at;
        }
    }
    return NULL;
}

struct cg_spool_run *cg_runs_get(struct cg_runs *runs, struct cg_bytes cell, struct cg_bytes run)
{
    if (cell.len > CG_RUN_ID_BYTES_MAX || run.len > CG_RUN_ID_BYTES_MAX) {
        return NULL;
    }
    struct cg_spool_run *found = cg_runs_find(runs, cell, run);
    if (found != NULL) {
        return found;
    }
    if (runs->count >= CG_RUNS_MAX && !forget_one(runs)) {
        return NULL;
    }
    if (runs->count >= runs->bucket_count && !grow(runs)) {
        return NULL;
    }
    struct cg_spool_run *made = calloc(1, sizeof(*made) + cell.len + run.len);
    if (made == NULL) {
        return NULL;
    }
    uint32_t hash = hash_ids(cell, run);
    made->hash = hash;
    made->cell_len = (uint8_t)cell.len;
    made->run_len = (uint8_t)run.len;
    memcpy(made->text, cell.data, cell.len);
    memcpy(made->text + cell.len, run.data, run.len);
    struct cg_spool_run **bucket = bucket_of(runs, hash);
    made->next = *bucket;
    *bucket = made;
    runs->count++;
    return made;
}

void cg_runs_remove(struct cg_runs *runs, struct cg_spool_run *run)
{
    struct cg_spool_run **at = bucket_of(runs, run->hash);
    while (*at != run) {
        CG_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = run->next;
    runs->count--;
    free(run);
}

/* Keeps a mark that all readers have passed, and behind it one that they have not. */
static void mark(struct cg_spool_run *run, uint64_t wanted_index)
{
    if (run->marks[1].index >= wanted_index && run->marks[1].sequence != 0) {
        return; /* somebody has still to pass it */
    }
    run->marks[0] = run->marks[1];
    run->marks[1] = (struct cg_run_mark){
        .index = run->last_index,
        .sequence = atomic_load_explicit(&run->sequence, memory_order_relaxed),
    };
}

uint64_t cg_run_sequence_below(const struct cg_spool_run *run, uint64_t index)
{
    uint64_t sequence = atomic_load_explicit(&run->sequence, memory_order_relaxed);
    if (sequence == 0 || run->last_index < index) {
        return sequence;
    }
    for (size_t i = CG_RUN_MARKS; i > 0; i--) {
        const struct cg_run_mark *passed = &run->marks[i - 1];
        if (passed->sequence != 0 && passed->index < index) {
            return passed->sequence;
        }
    }
    return 0;
}

void cg_run_advance(struct cg_spool_run *run, uint64_t sequence, uint32_t connection,
                    uint16_t silence, uint64_t index, uint64_t wanted_index)
{
    if (silence != 0 && index >= run->last_index) {
        run->silence = silence;
    }
    run->last_index = index > run->last_index ? index : run->last_index;
    if (sequence > atomic_load_explicit(&run->sequence, memory_order_relaxed)) {
        atomic_store_explicit(&run->sequence, sequence, memory_order_relaxed);
    }
    if (connection > atomic_load_explicit(&run->connection, memory_order_relaxed)) {
        atomic_store_explicit(&run->connection, connection, memory_order_relaxed);
    }
    mark(run, wanted_index);
}

static size_t entry_bytes(size_t cell_len, size_t run_len)
{
    return (sizeof(struct cg_run_entry) + cell_len + run_len + 7) & ~(size_t)7;
}

bool cg_run_write(const struct cg_spool_run *run, struct cg_buf *out)
{
    static const char zeros[8];
    const struct cg_run_entry entry = {
        .sequence = atomic_load_explicit(&run->sequence, memory_order_relaxed),
        .connection = atomic_load_explicit(&run->connection, memory_order_relaxed),
        .cell_len = run->cell_len,
        .run_len = run->run_len,
        .silence = run->silence,
    };
    size_t texts = (size_t)run->cell_len + run->run_len;
    cg_buf_append(out, cg_bytes(&entry, sizeof(entry)));
    cg_buf_append(out, cg_bytes(run->text, texts));
    return cg_buf_append(
        out, cg_bytes(zeros, entry_bytes(run->cell_len, run->run_len) - sizeof(entry) - texts));
}

bool cg_runs_write(const struct cg_runs *runs, size_t part_bytes_max, struct cg_buf *out,
                   struct cg_buf *ends)
{
    size_t part_start = out->len;
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (const struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            if (out->len + entry_bytes(run->cell_len, run->run_len) - part_start > part_bytes_max) {
                cg_buf_append(ends, cg_bytes(&out->len, sizeof(out->len)));
                part_start = out->len;
            }
            cg_run_write(run, out);
        }
    }
    cg_buf_append(ends, cg_bytes(&out->len, sizeof(out->len)));
    return !out->failed && !ends->failed;
}

bool cg_run_entry_next(struct cg_bytes *payload, struct cg_run_entry *ret_entry,
                       struct cg_bytes *ret_cell, struct cg_bytes *ret_run)
{
    struct cg_run_entry entry;
    if (payload->len < sizeof(entry)) {
        return false;
    }
    memcpy(&entry, payload->data, sizeof(entry));
    size_t bytes = entry_bytes(entry.cell_len, entry.run_len);
    if (payload->len < bytes) {
        return false;
    }
    *ret_entry = entry;
    *ret_cell = cg_bytes(payload->data + sizeof(entry), entry.cell_len);
    *ret_run = cg_bytes(ret_cell->data + entry.cell_len, entry.run_len);
    payload->data += bytes;
    payload->len -= bytes;
    return true;
}
