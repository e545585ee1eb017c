#include "spool/runs.h"

#include <stdlib.h>

enum { FIRST_BUCKETS = 64 };

_Static_assert(sizeof(struct cg_run_entry) == 48, "the format is fixed");

void cg_runs_init(struct cg_runs *runs)
{
    *runs = (struct cg_runs){0};
}

static void free_run(struct cg_spool_run *run)
{
    free(run->held);
    free(run->losses);
    free(run);
}

void cg_runs_fini(struct cg_runs *runs)
{
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL;) {
            struct cg_spool_run *next = run->next;
            free_run(run);
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
        if (at->hash == hash && cg_bytes_equal(cell, cg_run_cell(at)) &&
            cg_bytes_equal(run, cg_run_id(at))) {
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
    free_run(run);
}

void cg_runs_visit(const struct cg_runs *runs,
                   void (*visit)(void *context, struct cg_spool_run *run), void *context)
{
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            visit(context, run);
        }
    }
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

/* --- what it holds --- */

static void set_held(struct cg_spool_run *run)
{
    atomic_store_explicit(&run->held_bytes, run->bytes - run->bytes_passed, memory_order_relaxed);
}

uint64_t cg_run_held_bytes(struct cg_spool_run *run, uint64_t wanted_index)
{
    struct cg_run_held *held = run->held;
    if (run->last_index < wanted_index) {
        run->bytes_passed = run->bytes;
        if (held != NULL) {
            held->count = 0;
        }
    } else if (held != NULL && held->count > 0 && held->marks[0].index < wanted_index) {
        size_t passed = 1;
        while (passed < held->count && held->marks[passed].index < wanted_index) {
            passed++;
        }
        run->bytes_passed = held->marks[passed - 1].bytes;
        held->count -= passed;
        memmove(held->marks, held->marks + passed, held->count * sizeof(held->marks[0]));
    }
    set_held(run);
    return run->bytes - run->bytes_passed;
}

/* A new mark; when there is no room for it the newest moves, which makes the figure coarser. */
static void mark_held(struct cg_spool_run *run, uint64_t index)
{
    if (run->held == NULL) {
        run->held = calloc(1, sizeof(*run->held));
        if (run->held == NULL) {
            return; /* it is known again when all is passed */
        }
    }
    struct cg_run_held *held = run->held;
    held->count -= held->count == CG_HELD_MARKS ? 1 : 0;
    held->marks[held->count].index = index;
    held->marks[held->count].bytes = run->bytes;
    held->count++;
}

void cg_run_hold(struct cg_spool_run *run, uint64_t bytes, uint64_t index, uint64_t wanted_index,
                 uint64_t step_bytes)
{
    (void)cg_run_held_bytes(run, wanted_index);
    run->bytes += bytes;
    const struct cg_run_held *held = run->held;
    uint64_t marked =
        held != NULL && held->count > 0 ? held->marks[held->count - 1].bytes : run->bytes_passed;
    if (run->bytes - marked >= step_bytes) {
        mark_held(run, index);
    }
    set_held(run);
}

void cg_run_hold_recovered(struct cg_spool_run *run, uint64_t bytes, uint64_t index)
{
    run->bytes = bytes;
    run->bytes_passed = 0;
    if (run->held != NULL) {
        run->held->count = 0;
    }
    if (bytes > 0) {
        mark_held(run, index);
    }
    set_held(run);
}

/* --- as records --- */

static size_t entry_bytes(size_t cell_len, size_t run_len)
{
    return (sizeof(struct cg_run_entry) + cell_len + run_len + 7) & ~(size_t)7;
}

static bool write_entry(const struct cg_spool_run *run, const struct cg_run_entry *entry,
                        struct cg_buf *out)
{
    static const char zeros[8];
    size_t texts = (size_t)run->cell_len + run->run_len;
    cg_buf_append(out, cg_bytes(entry, sizeof(*entry)));
    cg_buf_append(out, cg_bytes(run->text, texts));
    return cg_buf_append(
        out, cg_bytes(zeros, entry_bytes(run->cell_len, run->run_len) - sizeof(*entry) - texts));
}

bool cg_run_write(const struct cg_spool_run *run, struct cg_buf *out)
{
    const struct cg_run_entry entry = {
        .sequence = atomic_load_explicit(&run->sequence, memory_order_relaxed),
        .connection = atomic_load_explicit(&run->connection, memory_order_relaxed),
        .cell_len = run->cell_len,
        .run_len = run->run_len,
        .silence = run->silence,
        .held_bytes = atomic_load_explicit(&run->held_bytes, memory_order_relaxed),
    };
    return write_entry(run, &entry, out);
}

/* Ends the part before an entry of this run if the entry would not fit into it. */
static void part(const struct cg_spool_run *run, size_t part_bytes_max, size_t *part_start,
                 const struct cg_buf *out, struct cg_buf *ends)
{
    if (out->len + entry_bytes(run->cell_len, run->run_len) - *part_start > part_bytes_max) {
        cg_buf_append(ends, cg_bytes(&out->len, sizeof(out->len)));
        *part_start = out->len;
    }
}

bool cg_runs_write(const struct cg_runs *runs, size_t part_bytes_max, struct cg_buf *out,
                   struct cg_buf *ends)
{
    size_t part_start = out->len;
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (const struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            part(run, part_bytes_max, &part_start, out, ends);
            cg_run_write(run, out);
        }
    }
    cg_buf_append(ends, cg_bytes(&out->len, sizeof(out->len)));
    return !out->failed && !ends->failed;
}

/* What has come at least so far on the way from untold to told is left out. */
static void write_losses(const struct cg_spool_run *run, unsigned end_state, size_t part_bytes_max,
                         size_t *part_start, struct cg_buf *out, struct cg_buf *ends)
{
    for (size_t i = 0; run->losses != NULL && i < run->losses->count; i++) {
        const struct cg_loss_range *range = &run->losses->ranges[i];
        if (range->state >= end_state) {
            continue;
        }
        const struct cg_run_entry entry = {
            .sequence = range->first,
            .cell_len = run->cell_len,
            .run_len = run->run_len,
            .loss_last = range->last,
            .loss_told_index = range->told_index,
            .loss_reason = range->reason,
            .loss_state = range->state,
        };
        part(run, part_bytes_max, part_start, out, ends);
        write_entry(run, &entry, out);
    }
}

static bool write_all_losses(const struct cg_runs *runs, unsigned end_state, size_t part_bytes_max,
                             struct cg_buf *out, struct cg_buf *ends)
{
    size_t part_start = out->len;
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (const struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            write_losses(run, end_state, part_bytes_max, &part_start, out, ends);
        }
    }
    if (out->len > part_start) {
        cg_buf_append(ends, cg_bytes(&out->len, sizeof(out->len)));
    }
    return !out->failed && !ends->failed;
}

bool cg_runs_write_losses(const struct cg_runs *runs, uint64_t wanted_index, size_t part_bytes_max,
                          struct cg_buf *out, struct cg_buf *ends)
{
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            cg_losses_pass(run->losses, wanted_index);
        }
    }
    return write_all_losses(runs, CG_LOSS_TOLD + 1, part_bytes_max, out, ends);
}

bool cg_runs_write_unfinished(const struct cg_runs *runs, size_t part_bytes_max, struct cg_buf *out,
                              struct cg_buf *ends)
{
    return write_all_losses(runs, CG_LOSS_TOLD, part_bytes_max, out, ends);
}

void cg_runs_untell(const struct cg_runs *runs, uint64_t first, uint64_t end)
{
    for (size_t i = 0; i < runs->bucket_count; i++) {
        for (struct cg_spool_run *run = runs->buckets[i]; run != NULL; run = run->next) {
            cg_losses_untell(run->losses, first, end);
        }
    }
}

bool cg_run_apply_loss(struct cg_spool_run *run, const struct cg_run_entry *entry)
{
    if (entry->loss_reason >= CG_SPOOL_LOSS_COUNT || entry->loss_state > CG_LOSS_TOLD ||
        entry->sequence == 0 || entry->sequence > entry->loss_last) {
        return true; /* of a later version */
    }
    const struct cg_loss_range range = {
        .first = entry->sequence,
        .last = entry->loss_last,
        .told_index = entry->loss_told_index,
        .reason = entry->loss_reason,
        .state = entry->loss_state,
    };
    return cg_losses_recover(&run->losses, &range);
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
