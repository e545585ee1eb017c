/*
 * reloads.h - reloading as the HTTP side knows it: how to ask for one, and how the last one went.
 *
 * docs/contract.md section 6. Any thread.
 */
#ifndef CELLGATE_HTTP_RELOADS_H
#define CELLGATE_HTTP_RELOADS_H

#include "cellgate/buf.h"
#include "cellgate/error.h"

enum cg_reload_outcome {
    CG_RELOAD_DONE,
    CG_RELOAD_REFUSED, /* nothing has changed */
    CG_RELOAD_FAILED,  /* it could not be undone: some of it is in force */
};

/* Reloads, and waits for it. DONE: *ret_report is a JSON object that says what has changed;
 * otherwise *ret_problems has a line for each problem ("file:line:column: text"). */
typedef enum cg_reload_outcome cg_reload(void *context, struct cg_buf *ret_report,
                                         struct cg_buf *ret_problems);

/* How the last one went. */
struct cg_reload_state {
    bool any;
    enum cg_reload_outcome outcome;
    uint64_t realtime_ns;
    struct cg_buf problems; /* lines, as above */
};

enum { CG_RELOAD_PROBLEMS_BYTES_MAX = 1 << 20, CG_RELOAD_REPORT_BYTES_MAX = 64 << 10 };

struct cg_reloads;
CG_MUST_USE bool cg_reloads_new(struct cg_reloads **ret_reloads, struct cg_error *err);
void cg_reloads_free(struct cg_reloads *reloads); /* NULL is fine */

void cg_reloads_note(struct cg_reloads *reloads, enum cg_reload_outcome outcome,
                     uint64_t realtime_ns, struct cg_bytes problems);
/* False after one that was not done, until one is. */
bool cg_reloads_good(struct cg_reloads *reloads);
/* A copy; the caller ends the buffer. */
void cg_reloads_state(struct cg_reloads *reloads, struct cg_reload_state *ret_state);

/* Writes the lines as a JSON array of texts, what peers may have put there escaped. */
void cg_reloads_append_problems(struct cg_bytes problems, struct cg_buf *out);

#endif
