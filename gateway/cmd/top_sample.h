/*
 * top_sample.h - what `cellgate top` shows of a gateway at one moment, and rates from two moments.
 *
 * Taken from the pages of the control socket: /healthz, /v1/exporters, and /v1/cells page by page.
 * Texts are escaped for a terminal and cut to what a column takes. One thread.
 */
#ifndef CELLGATE_CMD_TOP_SAMPLE_H
#define CELLGATE_CMD_TOP_SAMPLE_H

#include "cellgate/error.h"
#include "cellgate/limits.h"

#include <stdint.h>

enum {
    CG_TOP_TEXT_BYTES = 40, /* of a column, end included */
    CG_TOP_ERROR_BYTES = 160,
};
#define CG_TOP_UNKNOWN UINT64_MAX /* of a number: null, or not known */

struct cg_top_rates {
    bool known;           /* there was a moment before, and nothing began anew since */
    double events, bytes; /* a second */
};

struct cg_top_cell {
    char id[CG_ID_BYTES_MAX + 1];
    char run[CG_ID_BYTES_MAX + 1];
    char state[CG_TOP_TEXT_BYTES];
    uint64_t frames, frame_bytes, rejected, sequence, connections;
    uint64_t silent_ms; /* since the last frame */
    uint64_t taken_ns;  /* monotonic: pages come one after the other */
    struct cg_top_rates rates;
};

struct cg_top_exporter {
    char name[CG_EXPORTER_NAME_BYTES_MAX + 1];
    char type[CG_TOP_TEXT_BYTES];
    char state[CG_TOP_TEXT_BYTES];
    char error[CG_TOP_ERROR_BYTES];
    uint64_t delivered, filtered, waiting, dead_lettered;
    uint64_t lag_ms; /* age of the oldest event that waits; 0: none does */
    uint64_t taken_ns;
    struct cg_top_rates rates;
};

struct cg_top_sample {
    char status[CG_TOP_TEXT_BYTES], version[CG_TOP_TEXT_BYTES], node[CG_TOP_ERROR_BYTES];
    char since[CG_TOP_TEXT_BYTES];
    char states[CG_TOP_ERROR_BYTES]; /* "live 3, idle 1, …" */
    uint64_t spool_bytes, spool_bytes_max;
    uint64_t took_ns; /* to take it */

    struct cg_top_cell *cells; /* in the order of their ids */
    size_t cells_count, cells_capacity;
    struct cg_top_exporter *exporters;
    size_t exporters_count;
};

/* Asks for everything. NULL if the gateway does not answer. */
struct cg_top_sample *cg_top_sample_take(const char *socket, struct cg_error *err);
/* NULL is fine. */
void cg_top_sample_free(struct cg_top_sample *sample);
/* Fills in the rates since `before` (NULL: leaves them unknown). */
void cg_top_sample_rate(struct cg_top_sample *sample, const struct cg_top_sample *before);

#endif
