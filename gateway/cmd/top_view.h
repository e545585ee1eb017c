/*
 * top_view.h - a sample of top_sample.h as lines of text, for a screen or a table. Pure.
 */
#ifndef CELLGATE_CMD_TOP_VIEW_H
#define CELLGATE_CMD_TOP_VIEW_H

#include "cellgate/buf.h"
#include "cmd/top_sample.h"

enum cg_top_order {
    CG_TOP_BUSY,   /* the busiest cells first */
    CG_TOP_SILENT, /* those that are silent first, the longest silence before others */
    CG_TOP_ID,
};

struct cg_top_view {
    enum cg_top_order order;
    size_t first; /* how many cells are scrolled past; brought into range by render */
    /* A screen of so many lines and columns, drawn with ANSI sequences. */
    bool screen;
    size_t lines, columns;
    size_t cells_max;   /* without a screen */
    const char *notice; /* for the last line of a screen: what went wrong; NULL: nothing */
    size_t page;        /* set by render: cells that fit */
};

/* Puts the cells into the view's order (rates are known by then). */
void cg_top_view_sort(const struct cg_top_view *view, struct cg_top_sample *sample);
/* Appends the screen or table. The sample is sorted. */
void cg_top_view_render(struct cg_top_view *view, const struct cg_top_sample *sample,
                        struct cg_buf *out);

#endif
