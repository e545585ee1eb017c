/*
 * connection.h - a cell's channel, and the guest connections on it.
 *
 * A channel is where a cell's bytes come from: its listening socket and what its reader keeps for
 * it. A connection knows its channel and never the socket it was accepted from, so that channels of
 * another kind need nothing here but a way to be accepted from. Both are small: there are
 * thousands, and most are idle.
 *
 * A connection is made by the acceptor and belongs to the channel's reader from then on.
 */
#ifndef CELLGATE_CONNECTION_H
#define CELLGATE_CONNECTION_H

#include "base/list.h"
#include "base/timers.h"
#include "cellgate/log.h"
#include "cellgate/metrics.h"
#include "cells/life.h"
#include "cells/reading.h"
#include "cells/registry.h"
#include "ingress/decode.h"
#include "ingress/listening.h"
#include "ingress/overflow.h"
#include "ingress/partial.h"
#include "ingress/rate.h"

struct cg_reader;

/* Why a connection ended; contract section 4, stream_closed. */
enum cg_close_reason {
    CG_CLOSE_EOF,
    CG_CLOSE_WIRE_ERROR,
    CG_CLOSE_UNSUPPORTED_VERSION,
    CG_CLOSE_STALLED,
    CG_CLOSE_DEREGISTERED,
    CG_CLOSE_SHUTDOWN,
    CG_CLOSE_REASON_COUNT
};
const char *cg_close_reason_name(enum cg_close_reason reason);
enum cg_metric_series cg_close_reason_series(enum cg_close_reason reason);
/* The counter of a refused frame, and what the refusal does to its connection. */
enum cg_metric_series cg_refusal_series(enum cg_refusal refusal);
enum cg_close_reason cg_refusal_close_reason(enum cg_refusal refusal);
enum cg_life_drop cg_refusal_drop(enum cg_refusal refusal);

/* Why a connection was closed as soon as it was accepted. */
enum cg_connect_refusal {
    CG_CONNECT_CAP,         /* the cell has max_connections */
    CG_CONNECT_DESCRIPTORS, /* the process has none left */
    CG_CONNECT_MEMORY,
    CG_CONNECT_PEER, /* the process that connects may not */
    CG_CONNECT_REFUSAL_COUNT
};

/* What acceptor and readers share. */
struct cg_ingress_shared {
    _Atomic uint32_t connections;        /* open now */
    _Atomic uint32_t draining;           /* closed by us and being read to their end */
    _Atomic uint64_t boot_grace_ns;      /* for cells that are adopted from now on */
    struct cg_log_limit log_limit;       /* all cells together */
    struct cg_log_limit pause_log_limit; /* of a spool that is full */
    struct cg_overflow overflow;
};

struct cg_channel {
    /* Constant. */
    struct cg_cell *cell; /* a reference */
    struct cg_reader *reader;
    struct cg_channel *next, *previous; /* the ingress's list of all */
    struct cg_listening listening;
    struct cg_channel_log *_Atomic log; /* channel_log.c; NULL: it was never spoken of */

    /* Notes to the reader from other threads, under its inbox's lock. */
    struct cg_list in_notes;
    uint32_t refused[CG_CONNECT_REFUSAL_COUNT];
    struct cg_farewell *farewell; /* leaving.c: somebody waits for the end of the run */
    _Atomic bool forgotten;       /* the run is over, and the channel the reader's own */
    struct cg_list observed;      /* readings of the probes, the oldest first */
    uint16_t readings_count;      /* in `observed` and `readings` */
    uint32_t readings_refused;    /* there were too many already */

    /* The reader's. */
    struct cg_life life;
    struct cg_timer timer;    /* of the life */
    struct cg_list in_reader; /* from adoption to the end of the run */
    struct cg_list in_leaving;
    struct cg_list connections;
    struct cg_list in_paused; /* while it is over its rate or share */
    uint64_t pause_ends_ns;
    enum cg_life_pause pause;
    struct cg_rate_bucket bucket;
    struct cg_list readings;    /* taken up, and to be told */
    struct cg_witness *witness; /* NULL: the cell has no probes */
    uint32_t connections_count; /* in `connections` */
    uint32_t partial_bytes;
    uint32_t draining;
    bool corroborated; /* for the last time */
    bool end_told;     /* run_ended is staged */
};

enum cg_connection_state {
    CG_CONNECTION_OPEN,
    CG_CONNECTION_SUSPENDED, /* not watched: its cell is over its rate or share */
    CG_CONNECTION_DRAINING,  /* closed by us; what still comes is discarded */
    CG_CONNECTION_CLOSED,    /* its memory goes at the end of the turn */
};

struct cg_connection {
    struct cg_channel *channel;
    int fd;
    uint32_t ordinal; /* within the run, from 1 */
    uint8_t state;    /* enum cg_connection_state */
    bool shut;        /* by us, at the gateway's end: what it holds is the last of it */
    bool resumed;     /* of a gateway before this one; in the inbox `partial` is of no set yet */
    uint32_t discarded_bytes;
    uint32_t held_bytes;       /* of a run that is over: what is still to be read */
    struct cg_list in_channel; /* or in the reader's inbox, or among its closed ones */
    struct cg_list in_draining;
    uint64_t drain_ends_ns;
    struct cg_partial *partial; /* a frame received in part, or NULL */
    uint64_t frames, bytes;     /* accepted */
};

/* Takes a reference to the cell; the listening descriptor becomes the channel's. NULL: no memory,
 * and nothing is taken. */
struct cg_channel *cg_channel_new(struct cg_cell *cell, struct cg_reader *reader,
                                  const struct cg_listening *listening);
/* No connection is left. Closes the listening descriptor if it is open. */
void cg_channel_free(struct cg_channel *channel);

/* What lines about a cell are about, each limited for itself. */
enum cg_line_kind { CG_LINE_FRAME, CG_LINE_CONNECTION, CG_LINE_OTHER, CG_LINE_KIND_COUNT };

/* True if a line about this cell may go to the log now; *ret_suppressed is then how many about it,
 * of any kind, did not since the last. Reader and acceptor, each with kinds of its own. */
bool cg_channel_may_log(struct cg_channel *channel, enum cg_line_kind kind,
                        struct cg_ingress_shared *shared, uint64_t now_ns,
                        uint64_t *ret_suppressed);
/* Writes how many lines were suppressed that no later line has counted. Before the channel is
 * freed. */
void cg_channel_end_log(struct cg_channel *channel);

#endif
