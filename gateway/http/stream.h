/*
 * stream.h - answers that go on: a body in chunks, as its source has something to say.
 *
 * Of one server, and its thread's alone. While the source has nothing, the connection sleeps
 * (suspended in libmicrohttpd) and the source is asked again in the next round; a client that takes
 * nothing is not waited for, nor is its source asked. A sleeping connection's end would not be
 * seen, so each round looks for it.
 */
#ifndef CELLGATE_HTTP_STREAM_H
#define CELLGATE_HTTP_STREAM_H

#include "cellgate/error.h"

#include <stddef.h>
#include <sys/types.h>

enum { CG_HTTP_STREAM_END = -1, CG_HTTP_STREAM_BROKEN = -2 };

/* Where an answer's body comes from. Functions are called on the server's thread and do not block.
 */
struct cg_http_stream {
    void *context;
    /* Writes at most `max` bytes; 0: nothing now; END: that was all; BROKEN: the client sees that
     * the answer was cut. NULL: there is no stream. */
    ssize_t (*read)(void *context, char *out, size_t max);
    /* Once, whatever has become of the answer. */
    void (*close)(void *context);
};

struct MHD_Connection;
struct MHD_Response;
struct cg_http_flow;

struct cg_http_streams {
    struct cg_http_flow *first;
    bool stopping; /* no source is asked any more: each stream ends well */
};

/* The response that carries the stream, which is taken over in any case; NULL without memory. */
struct MHD_Response *cg_http_stream_respond(struct cg_http_streams *streams,
                                            struct MHD_Connection *connection,
                                            const struct cg_http_stream *stream);
/* Wakes those that sleep. */
void cg_http_streams_round(struct cg_http_streams *streams);
/* Whether rounds are wanted. */
bool cg_http_streams_sleep(const struct cg_http_streams *streams);

static inline bool cg_http_streams_empty(const struct cg_http_streams *streams)
{
    return streams->first == NULL;
}

#endif
