/*
 * reload_state.h - a reload from the inside: for the files that make it up, and nobody else.
 *
 * reload.c has the order of it; reload_cells.c and reload_exporters.c each have what can fail and
 * be undone, and what follows when nothing can fail any more. Under the gateway's reload lock.
 */
#ifndef CELLGATE_RELOAD_STATE_H
#define CELLGATE_RELOAD_STATE_H

#include "gateway_state.h"

/* A cell that the new configuration has and the old one had not. */
struct cg_new_cell {
    const struct cg_cell_spec *spec;
    bool later; /* its id or its path is that of a cell that ends: it can only be bound then */
    struct cg_cell *cell;
    struct cg_listening listening;
};

enum cg_reload_change {
    CG_CHANGE_KEPT,
    CG_CHANGE_ADDED,
    CG_CHANGE_RESTARTED,
    CG_CHANGE_REMOVED,
    CG_CHANGE_COUNT
};

struct cg_reload_work {
    struct cg_gateway *gateway;
    struct cg_config *config; /* the new one */
    struct cg_buf *problems;

    struct cg_signing_key *key; /* NULL: the same */
    struct cg_ingress_change *ingress;

    struct cg_new_cell *fresh; /* room for all cells of the new configuration */
    size_t fresh_count;
    const struct cg_cell_spec **ending; /* of the old one; room for all */
    size_t ending_count;

    const char *names[CG_CHANGE_COUNT][CG_EXPORTERS_MAX]; /* of exporters, for the report */
    size_t counts[CG_CHANGE_COUNT];
    struct cg_running before[CG_EXPORTERS_MAX]; /* exporters that were restarted, to undo it */
    size_t before_count;
};

/* Adds a line to the problems; always false. */
bool cg_reload_problem(const struct cg_reload_work *reload, size_t line, size_t column,
                       const char *text);

/* --- reload_cells.c --- */

/* Binds what is new, as far as it can be bound beside what is there. */
CG_MUST_USE bool cg_reload_prepare_cells(struct cg_reload_work *reload);
void cg_reload_undo_cells(struct cg_reload_work *reload);
/* The new ones listen, those that vanished end. False: a problem is noted, the rest is done. */
CG_MUST_USE bool cg_reload_change_cells(struct cg_reload_work *reload);

/* --- reload_exporters.c --- */

CG_MUST_USE bool cg_reload_add_exporters(struct cg_reload_work *reload);
CG_MUST_USE bool cg_reload_restart_exporters(struct cg_reload_work *reload);
/* Returns whether all is as it was. */
CG_MUST_USE bool cg_reload_undo_exporters(struct cg_reload_work *reload);
void cg_reload_remove_exporters(struct cg_reload_work *reload);
/* Those that go on keep their connections, unless their files were replaced. */
void cg_reload_refresh_exporters(struct cg_reload_work *reload);

#endif
