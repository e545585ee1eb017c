/*
 * send_guests.h - many simulated guests on one thread: connecting, sending at a rate, closing.
 *
 * What is counted, and what it means:
 *  - `sent` are frames all of whose bytes the peer's socket took;
 *  - `lost` are frames that were due and could not be sent, because the connection could not be
 *    made or broke. With no number of frames given, a connection that breaks or cannot be made has
 *    lost the one that it could not send;
 *  - `resets` are connections that the peer closed with bytes unread, `unclosed` those that it had
 *    not closed in time after their end: of these nobody can say how many frames arrived.
 */
#ifndef CELLGATE_SEND_GUESTS_H
#define CELLGATE_SEND_GUESTS_H

#include "cmd/send_frames.h"

#include <signal.h>
#include <stdint.h>

#define CG_SEND_UNLIMITED UINT64_MAX

struct cg_send_plan {
    const char *socket_base; /* "%d" in it stands for the cell's number, from 0 */
    uint32_t cells;
    uint32_t connections; /* of each cell */
    uint64_t frames;      /* of each connection, or CG_SEND_UNLIMITED */
    uint64_t rate;        /* frames per second in all; 0: as fast as they go */
    uint64_t duration_ns; /* after which no frame is begun; 0: no end */
    uint64_t hold_ns;     /* how long a connection stays open after its last frame */
    uint64_t timeout_ns;  /* for connecting, for the last bytes, and for the peer's close */
    uint32_t reconnects;  /* at most, of each connection */
    bool progress;        /* a line on stderr */
    const struct cg_send_source *source; /* not empty unless frames is 0 */
    struct cg_bytes malformed;           /* sent behind the last frame; may be empty */
    const volatile sig_atomic_t *stop;   /* no frame is begun once it is set */
};

struct cg_send_result {
    uint64_t connections; /* made */
    uint64_t reconnects;
    uint64_t connect_failures;
    uint64_t sent;
    uint64_t lost;
    uint64_t malformed; /* sent whole */
    uint64_t bytes;
    uint64_t resets;
    uint64_t unclosed;
    uint64_t elapsed_ns;
    char trouble[CG_ERROR_TEXT_MAX]; /* the first, for people; empty if there was none */
};

/* Plays the plan to its end. Fails only for what keeps it from starting. */
CG_MUST_USE bool cg_send_play(const struct cg_send_plan *plan, struct cg_send_result *ret_result,
                              struct cg_error *err);

/* Connects to `<base>_9001` of that cell; paths may be longer than a socket address. The descriptor
 * is the caller's. */
CG_MUST_USE bool cg_send_connect(const char *socket_base, uint32_t cell, uint64_t timeout_ns,
                                 int *ret_fd, struct cg_error *err);

#endif
