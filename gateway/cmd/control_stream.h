/*
 * control_stream.h - an answer of the control socket that goes on, line by line: /v1/tap.
 *
 * The body comes in chunks; what matters is that the end of the last one can be told from a
 * gateway that went away in the middle. One thread.
 */
#ifndef CELLGATE_CMD_CONTROL_STREAM_H
#define CELLGATE_CMD_CONTROL_STREAM_H

#include "cellgate/buf.h"
#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdint.h>

struct cg_control_stream {
    int fd;
    struct cg_buf raw;   /* read and not yet decoded */
    uint64_t chunk_left; /* bytes of the chunk that is being read */
    bool in_chunk, ended;
    struct cg_buf body; /* decoded and not yet taken */
    size_t taken;       /* of it */
};

/* Asks, and reads the head of the answer; an answer other than 200 is an error. The caller ends the
 * stream with _close in any case. */
CG_MUST_USE bool cg_control_stream_open(struct cg_control_stream *stream, const char *socket,
                                        const char *target, struct cg_error *err);
void cg_control_stream_close(struct cg_control_stream *stream);

/* Takes up what the socket has, without waiting; `ended` is then set if that was all. False: it was
 * cut. Call it when stream->fd is readable. */
CG_MUST_USE bool cg_control_stream_read(struct cg_control_stream *stream, struct cg_error *err);
/* The next whole line, without its end; at the end of the stream also a last one without. False if
 * there is none. Borrowed until the next read. */
bool cg_control_stream_line(struct cg_control_stream *stream, struct cg_bytes *ret_line);

#endif
