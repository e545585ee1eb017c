#include "http/stream.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { PIECE_BYTES = 64 << 10 };

/* A stream on its way. */
struct cg_http_flow {
    struct cg_http_stream stream;
    struct cg_http_streams *streams;
    struct MHD_Connection *connection;
    bool asleep;
    bool gone; /* the client has closed its end */
    struct cg_http_flow *next, *previous;
};

static ssize_t read_flow(void *context, uint64_t position, char *out, size_t max)
{
    (void)position;
    struct cg_http_flow *flow = context;
    if (flow->gone) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (flow->streams->stopping) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    ssize_t got = flow->stream.read(flow->stream.context, out, max);
    if (got == 0) {
        flow->asleep = true;
        MHD_suspend_connection(flow->connection);
    }
    return got >= 0                    ? got
           : got == CG_HTTP_STREAM_END ? MHD_CONTENT_READER_END_OF_STREAM
                                       : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void free_flow(void *context)
{
    struct cg_http_flow *flow = context;
    flow->stream.close(flow->stream.context);
    *(flow->previous == NULL ? &flow->streams->first : &flow->previous->next) = flow->next;
    if (flow->next != NULL) {
        flow->next->previous = flow->previous;
    }
    free(flow);
}

struct MHD_Response *cg_http_stream_respond(struct cg_http_streams *streams,
                                            struct MHD_Connection *connection,
                                            const struct cg_http_stream *stream)
{
    struct cg_http_flow *flow = calloc(1, sizeof(*flow));
    if (flow == NULL) {
        stream->close(stream->context);
        return NULL;
    }
    *flow = (struct cg_http_flow){
        .stream = *stream, .streams = streams, .connection = connection, .next = streams->first};
    if (streams->first != NULL) {
        streams->first->previous = flow;
    }
    streams->first = flow;
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES,
                                                                      read_flow, flow, free_flow);
    if (response == NULL) {
        free_flow(flow);
    }
    return response;
}

static bool has_left(const struct cg_http_flow *flow)
{
    char byte;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(flow->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void cg_http_streams_round(struct cg_http_streams *streams)
{
    for (struct cg_http_flow *flow = streams->first; flow != NULL; flow = flow->next) {
        if (flow->asleep) {
            flow->asleep = false;
            flow->gone = has_left(flow);
            MHD_resume_connection(flow->connection);
        }
    }
}

bool cg_http_streams_sleep(const struct cg_http_streams *streams)
{
    const struct cg_http_flow *flow = streams->first;
    while (flow != NULL && !flow->asleep) {
        flow = flow->next;
    }
    return flow != NULL;
}
