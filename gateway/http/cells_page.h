/*
 * cells_page.h - /v1/cells and /v1/cells/{id}. docs/contract.md section 6.
 *
 * The list is in the order of the ids (by bytes) and cut into pages, so that a reader who goes from
 * page to page sees each cell that is there all the time exactly once, whoever comes and goes.
 */
#ifndef CELLGATE_HTTP_CELLS_PAGE_H
#define CELLGATE_HTTP_CELLS_PAGE_H

#include "http/public.h"
#include "http/server.h"

enum { CG_CELLS_PAGE_DEFAULT = 100, CG_CELLS_PAGE_MAX = 1000 };

/* GET /v1/cells with ?state=, ?limit= and ?after=. */
void cg_cells_page_list(const struct cg_gateway_view *view, const struct cg_http_request *request,
                        struct cg_http_answer *answer);
/* GET /v1/cells/{id}: 404 if there is none. */
void cg_cells_page_one(const struct cg_gateway_view *view, const char *cell_id,
                       struct cg_http_answer *answer);

/* --- for tests --- */

/* The cells of one page, in order: the `max` smallest ids behind `after`. Holds references. */
struct cg_cells_selection {
    struct cg_bytes after; /* "" for the beginning */
    int state;             /* enum cg_cell_state; -1: any */
    uint64_t now_ns;
    size_t max;
    size_t count;
    bool more; /* there is another page */
    struct cg_cell *cells[CG_CELLS_PAGE_MAX];
};
/* A visitor for cg_registry_visit; the context is a selection. */
void cg_cells_selection_offer(void *context, const struct cg_cell *cell);
void cg_cells_selection_fini(struct cg_cells_selection *selection);

#endif
