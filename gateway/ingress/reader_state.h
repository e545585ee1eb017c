/*
 * reader_state.h - a reader from the inside: for the files that make it up, and nobody else.
 *
 * reader.c reads and turns, closing.c ends connections, pausing.c leaves cells alone for a while,
 * telling.c makes events of what cells go through, observing.c of what probes read of them,
 * leaving.c ends runs, changing.c takes up what a reload has changed, resting.c leaves everything
 * to another process. All on the reader's thread.
 */
#ifndef CELLGATE_READER_STATE_H
#define CELLGATE_READER_STATE_H

#include "base/loop.h"
#include "ingress/pipeline.h"
#include "ingress/reader.h"

#include <pthread.h>

enum {
    CG_READ_BYTES_MAX = 256 * 1024, /* of one cell in one turn */
    CG_HEADROOM_BYTES = CG_FRAME_PREFIX_BYTES + CG_FRAME_BODY_BYTES_MAX,
};

/* What a turn adds to the metrics, once. */
struct cg_reader_tally {
    uint64_t frames, bytes;
};

/* A read that the spool stopped: what is left of it, in the reader's buffer. */
struct cg_reader_blocked {
    struct cg_connection *connection; /* NULL: none */
    struct cg_bytes stream;
    uint64_t received_ns;
};

struct cg_reader {
    const struct cg_ingress_config *config;
    struct cg_ingress_shared *shared;
    struct cg_spool *spool;
    struct cg_pipeline *pipeline;
    struct cg_loop loop;
    struct cg_ingress_settings settings;
    struct cg_rate rate;        /* by the settings */
    size_t read_bytes;          /* by the mode of signing */
    uint64_t partial_bytes_max; /* this thread's share */

    pthread_mutex_t inbox_lock;
    struct cg_list inbox; /* connections */
    struct cg_list notes; /* channels of which another thread had to say something */
    struct cg_reader_change *_Atomic change; /* NULL: none is waiting; written under the lock */
    pthread_cond_t changed;                  /* it was taken up */
    _Atomic int order;                       /* enum cg_reader_order */
    _Atomic uint64_t order_deadline_ns;
    _Atomic uint64_t turns;

    uint64_t now_ns;         /* monotonic, of this turn */
    struct cg_list channels; /* adopted */
    struct cg_list leaving;  /* of them: their run is over */
    struct cg_list ended;    /* channels whose memory goes at the end of the turn */
    struct cg_timers timers; /* of the channels' lives */
    struct cg_life_event event;
    uint64_t losses_seen;    /* cg_spool_losses at the last look */
    uint64_t look_at_ns;     /* the next, also while nobody speaks */
    bool untold;             /* the spool has no room for an event that is due */
    struct cg_list paused;   /* channels over rate or share, the first to be looked at first */
    struct cg_list draining; /* connections, the first to be given up first */
    struct cg_list closed;   /* connections whose memory goes at the end of the turn */
    struct cg_partials partials;
    struct cg_reader_tally tally;
    bool unlimited; /* the last reading before the end knows no rate */
    bool quiet;     /* at rest: nothing is staged, nothing held but first parts of frames */

    /* While the spool refuses, nothing is read, and the time does not count against guests. */
    bool stalled;
    uint64_t stalled_since_ns, stalled_total_ns, retry_at_ns;
    struct cg_reader_blocked blocked;

    /* A partly held frame is put in front of the bytes that complete it. */
    char buffer[CG_HEADROOM_BYTES + CG_READ_BYTES_MAX];
};

/* Monotonic time, but for the time in which the spool refused and nothing was read. */
static inline uint64_t cg_reader_reading_time(const struct cg_reader *reader)
{
    return reader->now_ns - reader->stalled_total_ns;
}

/* --- closing.c --- */

/* The connection counts as closed from here on, whatever is still read from it. */
void cg_reader_close(struct cg_reader *reader, struct cg_connection *connection,
                     enum cg_close_reason reason);
/* The same, with a line for the log. */
void cg_reader_refuse(struct cg_reader *reader, struct cg_connection *connection,
                      enum cg_refusal refusal, const char *why);
void cg_reader_close_stalled(struct cg_reader *reader, struct cg_connection *connection,
                             const char *why);
void cg_reader_close_all(struct cg_reader *reader);

void cg_reader_drop_partial(struct cg_reader *reader, struct cg_connection *connection);
/* Reads on from a connection that we have closed. */
void cg_reader_discard(struct cg_reader *reader, struct cg_connection *connection);
/* Gives up those that do not come to their end. */
void cg_reader_end_draining(struct cg_reader *reader);
/* Frees the connections that were closed in this turn. */
void cg_reader_bury(struct cg_reader *reader);

/* --- telling.c --- */

/* Any thread, under the inbox's lock: the reader looks at the channel. */
void cg_reader_note(struct cg_reader *reader, struct cg_channel *channel);
/* Stages reader->event; after a commit if it takes one. */
enum cg_told cg_reader_tell_event(struct cg_reader *reader, struct cg_channel *channel);
/* Takes up what other threads noted; moves new connections to `ret_connections`, and to
 * `ret_forgotten` the channels whose run is over (in_leaving). */
void cg_reader_take_notes(struct cg_reader *reader, struct cg_list *ret_connections,
                          struct cg_list *ret_forgotten);
/* The channel is among the reader's, whoever speaks of it first. */
void cg_reader_know(struct cg_reader *reader, struct cg_channel *channel);
/* Looks at the channel again when it may have something to tell. */
void cg_reader_schedule(struct cg_reader *reader, struct cg_channel *channel);
/* Tells what is due of a channel, and schedules the rest. `flush`: limits in time do not count.
 * False: the spool has no room, and it is told when it has. */
bool cg_reader_tell(struct cg_reader *reader, struct cg_channel *channel, bool flush);
/* Tells what is due of all. */
void cg_reader_tell_due(struct cg_reader *reader);
/* A last try for everything, also what the limits hold back. False: there is no room. */
bool cg_reader_tell_all(struct cg_reader *reader);
/* Notes that a connection was opened, or closed for `reason`, and tells it if it may be told. */
void cg_reader_tell_stream(struct cg_reader *reader, const struct cg_connection *connection,
                           const char *reason);
/* Takes up what the spool has lost of the cells' runs, if it has anything new. */
void cg_reader_look_for_losses(struct cg_reader *reader);
void cg_reader_report_unsigned(struct cg_reader *reader, struct cg_channel *channel,
                               uint64_t count);

/* --- observing.c --- */

/* Under the inbox's lock: takes up the readings that came for the channel. */
void cg_reader_take_readings(struct cg_channel *channel);
/* Tells the readings that were taken up. False: the spool has no room for one. */
bool cg_reader_tell_readings(struct cg_reader *reader, struct cg_channel *channel);
/* Tells what the guest declared beside what the host saw; nothing for a cell without probes.
 * `over`: for the last time. False: the spool has no room. */
bool cg_reader_corroborate(struct cg_reader *reader, struct cg_channel *channel, bool over);

/* --- leaving.c --- */

/* The channel's run is over: reads and closes what it has, over the next turns. */
void cg_reader_begin_leaving(struct cg_reader *reader, struct cg_channel *channel);
void cg_reader_tend_leaving(struct cg_reader *reader);
/* Frees the channels that have ended, or, at the reader's own end, all that are its own. */
void cg_reader_bury_ended(struct cg_reader *reader);
void cg_reader_end_leaving(struct cg_reader *reader);

/* --- changing.c --- */

/* What follows from the settings and the signer. */
void cg_reader_settle(struct cg_reader *reader);
/* Takes up a change that is waiting. */
void cg_reader_take_change(struct cg_reader *reader);

/* --- reader.c, for leaving.c and resting.c --- */

void cg_reader_empty_inbox(struct cg_reader *reader);
/* The last events of cells whose runs go on after us; waits for a full spool. */
void cg_reader_tell_the_rest(struct cg_reader *reader, uint64_t deadline_ns);

void cg_reader_read(struct cg_reader *reader, struct cg_connection *connection, size_t bytes_max);

/* --- pausing.c --- */

/* Says of a cell whether it is read. */
void cg_reader_set_paused(struct cg_reader *reader, struct cg_channel *channel, bool paused);
/* Leaves a cell alone for a moment. */
void cg_reader_pause(struct cg_reader *reader, struct cg_channel *channel, enum cg_life_pause why);
/* Whether the cell holds all of the spool that it may, and is to be left alone. */
bool cg_reader_over_share(struct cg_reader *reader, const struct cg_channel *channel);
void cg_reader_end_pauses(struct cg_reader *reader);
void cg_reader_resume_channel(struct cg_reader *reader, struct cg_channel *channel);
/* Publishes what is staged. False: the spool refused, and nothing is read until it does not. */
bool cg_reader_commit(struct cg_reader *reader);

#endif
