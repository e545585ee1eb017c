#include "cells/registration_table.h"

#include <stdio.h>
#include <stdlib.h>

static struct cg_alive **bucket_of(struct cg_registration_table *table, enum cg_alive_kind kind,
                                   struct cg_bytes name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ kind; /* FNV-1a */
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ (unsigned char)name.data[i]) * UINT64_C(0x100000001b3);
    }
    return &table->buckets[(hash ^ hash >> 32) & (CG_ALIVE_BUCKETS - 1)];
}

static struct cg_bytes name_of(const struct cg_alive *entry)
{
    return cg_bytes(entry->text + entry->name_at, entry->name_len);
}

static struct cg_alive *find(struct cg_registration_table *table, enum cg_alive_kind kind,
                             struct cg_bytes name)
{
    struct cg_alive *entry = *bucket_of(table, kind, name);
    while (entry != NULL && !(entry->kind == kind && cg_bytes_equal(name_of(entry), name))) {
        entry = entry->bucket_next;
    }
    return entry;
}

void cg_alive_drop(struct cg_registration_table *table, struct cg_alive *entry)
{
    if (entry == NULL) {
        return;
    }
    struct cg_alive **at = bucket_of(table, (enum cg_alive_kind)entry->kind, name_of(entry));
    while (*at != entry) {
        at = &(*at)->bucket_next;
    }
    *at = entry->bucket_next;
    cg_list_remove(&entry->in_kind);
    table->counts[entry->kind]--;
    table->line_bytes -= entry->line_len;
    free(entry);
}

static struct cg_alive *new_entry(enum cg_alive_kind kind, struct cg_bytes name,
                                  struct cg_bytes line)
{
    /* Nearly all names stand in their lines as they are: thousands of them are not kept twice. */
    const char *there = memmem(line.data, line.len, name.data, name.len);
    size_t text_len = there == NULL ? line.len + name.len : line.len;
    struct cg_alive *entry = calloc(1, sizeof(*entry) + text_len);
    if (entry != NULL) {
        entry->kind = (uint8_t)kind;
        entry->line_len = (uint32_t)line.len;
        entry->name_at = (uint32_t)(there == NULL ? line.len : (size_t)(there - line.data));
        entry->name_len = (uint32_t)name.len;
        memcpy(entry->text, line.data, line.len);
        if (there == NULL) {
            memcpy(entry->text + line.len, name.data, name.len);
        }
    }
    return entry;
}

/* In the place of one of the same name. */
static void keep(struct cg_registration_table *table, struct cg_alive *entry)
{
    cg_alive_drop(table, find(table, (enum cg_alive_kind)entry->kind, name_of(entry)));
    struct cg_alive **bucket = bucket_of(table, (enum cg_alive_kind)entry->kind, name_of(entry));
    entry->bucket_next = *bucket;
    *bucket = entry;
    cg_list_append(&table->kinds[entry->kind], &entry->in_kind);
    table->counts[entry->kind]++;
    table->line_bytes += entry->line_len;
}

/* Cell and run as one name; neither has a space in it. */
struct run_name {
    char text[2 * CG_ID_BYTES_MAX + 2];
};

static struct cg_bytes run_name(const char *cell_id, const char *run_id, struct run_name *scratch)
{
    (void)snprintf(scratch->text, sizeof(scratch->text), "%s %s", cell_id, run_id);
    return cg_bytes_str(scratch->text);
}

static bool is_old(const struct cg_registration_table *table, const struct cg_alive *ended)
{
    uint64_t now_ns = cg_clock_realtime(table->clock);
    return now_ns > ended->at_ns &&
           now_ns - ended->at_ns > (uint64_t)CG_ENDED_RUN_AGE_S * CG_NS_PER_S;
}

static void forget_old_runs(struct cg_registration_table *table)
{
    struct cg_list *ended = &table->kinds[CG_ALIVE_ENDED];
    while (!cg_list_is_empty(ended)) {
        struct cg_alive *oldest = CG_LIST_ENTRY(ended->next, struct cg_alive, in_kind);
        if (table->counts[CG_ALIVE_ENDED] <= CG_ENDED_RUNS_MAX && !is_old(table, oldest)) {
            return;
        }
        cg_alive_drop(table, oldest);
    }
}

struct cg_alive *cg_alive_socket(struct cg_registration_table *table, const char *path)
{
    return find(table, CG_ALIVE_SOCKET, cg_bytes_str(path));
}

struct cg_alive *cg_alive_put(struct cg_registration_table *table, const char *cell_id)
{
    return find(table, CG_ALIVE_PUT, cg_bytes_str(cell_id));
}

struct cg_alive *cg_alive_put_of(struct cg_registration_table *table, const char *cell_id,
                                 const char *run_id)
{
    struct cg_alive *put = cg_alive_put(table, cell_id);
    if (put == NULL) {
        return NULL;
    }
    cg_auto_record struct cg_record record;
    cg_alive_read(put, &record);
    return strcmp(record.registration.spec.run_id, run_id) == 0 ? put : NULL;
}

struct cg_alive *cg_alive_ended(struct cg_registration_table *table, const char *cell_id,
                                const char *run_id)
{
    struct run_name scratch;
    struct cg_alive *entry = find(table, CG_ALIVE_ENDED, run_name(cell_id, run_id, &scratch));
    return entry == NULL || is_old(table, entry) ? NULL : entry;
}

void cg_alive_read(const struct cg_alive *entry, struct cg_record *ret_record)
{
    /* It was a good one when it was taken. */
    CG_ASSERT(cg_record_parse(cg_bytes(entry->text, entry->line_len), ret_record));
}

/* Takes up what a record says. Lines without an entry of their own only take something away. */
bool cg_registration_table_take(struct cg_registration_table *table, const struct cg_record *record,
                                struct cg_bytes line)
{
    struct run_name scratch;
    struct cg_alive *entry = NULL;
    struct cg_alive *put;
    switch (record->type) {
    case CG_RECORD_FORMAT:
        return true;
    case CG_RECORD_SOCKET:
        entry = new_entry(CG_ALIVE_SOCKET, cg_bytes_str(record->socket.path), line);
        break;
    case CG_RECORD_UNMADE:
        cg_alive_drop(table, find(table, CG_ALIVE_SOCKET, cg_bytes_str(record->socket.path)));
        return true;
    case CG_RECORD_PUT:
        entry = new_entry(CG_ALIVE_PUT, cg_bytes_str(record->registration.spec.cell_id), line);
        break;
    case CG_RECORD_ENDED:
        entry =
            new_entry(CG_ALIVE_ENDED, run_name(record->cell_id, record->run_id, &scratch), line);
        if (entry != NULL) {
            entry->at_ns = record->at_ns;
            put = cg_alive_put_of(table, record->cell_id, record->run_id);
            if (put != NULL) {
                put->ending = true;
            }
        }
        break;
    case CG_RECORD_GONE:
        put = cg_alive_put_of(table, record->cell_id, record->run_id);
        if (put != NULL) {
            cg_alive_drop(table, put);
        }
        return true;
    }
    if (entry == NULL) {
        return false;
    }
    keep(table, entry);
    forget_old_runs(table);
    return true;
}

bool cg_registration_table_render(const struct cg_registration_table *table, struct cg_buf *out)
{
    const struct cg_record format = {.type = CG_RECORD_FORMAT};
    (void)cg_record_render(&format, out);
    for (size_t i = 0; i < CG_ALIVE_COUNT; i++) {
        const struct cg_list *head = &table->kinds[i];
        for (struct cg_list *at = head->next; at != head; at = at->next) {
            const struct cg_alive *entry = CG_LIST_ENTRY(at, struct cg_alive, in_kind);
            (void)cg_buf_append(out, cg_bytes(entry->text, entry->line_len));
        }
    }
    return !out->failed;
}

void cg_registration_table_init(struct cg_registration_table *table, const struct cg_clock *clock)
{
    *table = (struct cg_registration_table){.clock = clock};
    for (size_t i = 0; i < CG_ALIVE_COUNT; i++) {
        cg_list_init(&table->kinds[i]);
    }
}

void cg_registration_table_fini(struct cg_registration_table *table)
{
    for (size_t i = 0; i < CG_ALIVE_COUNT; i++) {
        struct cg_list *head = &table->kinds[i];
        for (struct cg_list *at = head->next; at != head;) {
            struct cg_alive *entry = CG_LIST_ENTRY(at, struct cg_alive, in_kind);
            at = at->next;
            free(entry);
        }
    }
}
