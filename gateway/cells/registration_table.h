/*
 * registration_table.h - what is alive in the journal of registrations, by kind and name.
 *
 * An entry holds the line that said it, which is what a fresh file gets. Not locked here.
 */
#ifndef CELLGATE_REGISTRATION_TABLE_H
#define CELLGATE_REGISTRATION_TABLE_H

#include "base/list.h"
#include "cells/registration_record.h"

enum { CG_ALIVE_BUCKETS = 16384 };

/* In the order in which a file says them. */
enum cg_alive_kind {
    CG_ALIVE_SOCKET, /* named by its path */
    CG_ALIVE_PUT,    /* a registration, by its cell */
    CG_ALIVE_ENDED,  /* an ended run, by cell and run */
    CG_ALIVE_COUNT
};

struct cg_alive {
    struct cg_alive *bucket_next;
    struct cg_list in_kind; /* in the order of their records */
    uint64_t at_ns;         /* CG_ALIVE_ENDED: when, real time */
    uint32_t line_len;
    uint32_t name_at, name_len; /* in `text` */
    uint8_t kind;               /* enum cg_alive_kind */
    bool ending;                /* CG_ALIVE_PUT: its run is over */
    char text[];                /* the line; behind it the name, if that is not in the line */
};

struct cg_registration_table {
    const struct cg_clock *clock;
    struct cg_list kinds[CG_ALIVE_COUNT];
    size_t counts[CG_ALIVE_COUNT];
    uint64_t line_bytes; /* of all entries */
    struct cg_alive *buckets[CG_ALIVE_BUCKETS];
};

void cg_registration_table_init(struct cg_registration_table *table, const struct cg_clock *clock);
void cg_registration_table_fini(struct cg_registration_table *table);

/* Takes up what a record, whose line this is, says. False: no memory. */
CG_MUST_USE bool cg_registration_table_take(struct cg_registration_table *table,
                                            const struct cg_record *record, struct cg_bytes line);
/* Everything as lines, so that reading them gives the same again. Returns !out->failed. */
bool cg_registration_table_render(const struct cg_registration_table *table, struct cg_buf *out);

/* NULL if it is not there. */
struct cg_alive *cg_alive_socket(struct cg_registration_table *table, const char *path);
struct cg_alive *cg_alive_put(struct cg_registration_table *table, const char *cell_id);
/* The registration of the cell, if it is of this run. */
struct cg_alive *cg_alive_put_of(struct cg_registration_table *table, const char *cell_id,
                                 const char *run_id);
/* The run if it has ended not too long ago. */
struct cg_alive *cg_alive_ended(struct cg_registration_table *table, const char *cell_id,
                                const char *run_id);
/* NULL is fine. */
void cg_alive_drop(struct cg_registration_table *table, struct cg_alive *entry);

/* What the line of an entry says; end it with cg_record_fini. */
void cg_alive_read(const struct cg_alive *entry, struct cg_record *ret_record);

#endif
