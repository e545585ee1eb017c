#include "ingress/reader_state.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* docs/contract.md section 1. */
enum {
    DISCARD_BYTES_MAX = 1 << 20,
    DRAINING_PER_CELL_MAX = 1,
    DRAINING_MAX = 256,
};

void cg_reader_drop_partial(struct cg_reader *reader, struct cg_connection *connection)
{
    connection->channel->partial_bytes -=
        (uint32_t)cg_partial_drop(&reader->partials, &connection->partial);
}

/* The descriptor is closed now, the memory at the end of the turn: the turn may still know it. */
static void finish(struct cg_reader *reader, struct cg_connection *connection)
{
    struct cg_channel *channel = connection->channel;
    if (connection->state == CG_CONNECTION_DRAINING) {
        channel->draining--;
        atomic_fetch_sub_explicit(&reader->shared->draining, 1, memory_order_relaxed);
        cg_list_remove(&connection->in_draining);
    }
    if (reader->blocked.connection == connection) {
        reader->blocked.connection = NULL;
    }
    (void)close(connection->fd);
    connection->fd = -1;
    connection->state = CG_CONNECTION_CLOSED;
    cg_list_remove(&connection->in_channel);
    if (cg_list_is_empty(&channel->connections)) {
        cg_reader_set_paused(reader, channel, false);
    }
    cg_list_append(&reader->closed, &connection->in_channel);
}

/* Whether this end may be a gentle one: shutdown, read to the end, close. */
static bool may_drain(struct cg_reader *reader, const struct cg_channel *channel)
{
    if (channel->draining >= DRAINING_PER_CELL_MAX) {
        return false;
    }
    uint32_t before = atomic_fetch_add_explicit(&reader->shared->draining, 1, memory_order_relaxed);
    if (before >= DRAINING_MAX) {
        atomic_fetch_sub_explicit(&reader->shared->draining, 1, memory_order_relaxed);
        return false;
    }
    return true;
}

static void begin_draining(struct cg_reader *reader, struct cg_connection *connection)
{
    bool watched = connection->state == CG_CONNECTION_OPEN ||
                   cg_loop_add(&reader->loop, connection->fd, connection, NULL);
    (void)shutdown(connection->fd, SHUT_WR);
    connection->channel->draining++;
    connection->state = CG_CONNECTION_DRAINING;
    connection->drain_ends_ns = reader->now_ns + reader->config->drain_timeout_ns;
    cg_list_append(&reader->draining, &connection->in_draining);
    if (!watched) {
        finish(reader, connection);
    }
}

/* The connection counts as closed from here on, whatever is still read from it. */
void cg_reader_close(struct cg_reader *reader, struct cg_connection *connection,
                     enum cg_close_reason reason)
{
    struct cg_channel *channel = connection->channel;
    CG_LOG(CG_LOG_DEBUG, "connection_closed", CG_F_BYTES("cell", channel->cell->identity.cell_id),
           CG_F_U64("connection", connection->ordinal),
           CG_F_STR("reason", cg_close_reason_name(reason)), CG_F_U64("frames", connection->frames),
           CG_F_U64("bytes", connection->bytes));
    cg_metric_add(cg_close_reason_series(reason), 1);
    cg_reader_drop_partial(reader, connection);
    channel->connections_count--;
    atomic_fetch_sub_explicit(&channel->cell->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&reader->shared->connections, 1, memory_order_relaxed);
    cg_reader_tell_stream(reader, connection, cg_close_reason_name(reason));
    if (reason != CG_CLOSE_EOF && reason != CG_CLOSE_SHUTDOWN && may_drain(reader, channel)) {
        begin_draining(reader, connection);
    } else {
        finish(reader, connection);
    }
}

void cg_reader_refuse(struct cg_reader *reader, struct cg_connection *connection,
                      enum cg_refusal refusal, const char *why)
{
    struct cg_channel *channel = connection->channel;
    cg_metric_add(cg_refusal_series(refusal), 1);
    cg_life_drop(&channel->life, cg_refusal_drop(refusal), 1);
    uint64_t suppressed;
    if (cg_channel_may_log(channel, CG_LINE_FRAME, reader->shared, reader->now_ns, &suppressed)) {
        CG_LOG(CG_LOG_WARNING, "frame_rejected",
               CG_F_BYTES("cell", channel->cell->identity.cell_id),
               CG_F_BYTES("run", channel->cell->identity.run_id),
               CG_F_U64("connection", connection->ordinal),
               CG_F_STR("reason", cg_refusal_name(refusal)), CG_F_STR("detail", why),
               CG_F_U64("suppressed", suppressed));
    }
    cg_reader_close(reader, connection, cg_refusal_close_reason(refusal));
}

void cg_reader_close_stalled(struct cg_reader *reader, struct cg_connection *connection,
                             const char *why)
{
    struct cg_channel *channel = connection->channel;
    uint64_t suppressed;
    if (cg_channel_may_log(channel, CG_LINE_OTHER, reader->shared, reader->now_ns, &suppressed)) {
        CG_LOG(CG_LOG_WARNING, "connection_stalled",
               CG_F_BYTES("cell", channel->cell->identity.cell_id),
               CG_F_U64("connection", connection->ordinal), CG_F_STR("detail", why),
               CG_F_U64("suppressed", suppressed));
    }
    cg_reader_close(reader, connection, CG_CLOSE_STALLED);
}

void cg_reader_discard(struct cg_reader *reader, struct cg_connection *connection)
{
    ssize_t got = recv(connection->fd, reader->buffer, sizeof(reader->buffer), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    connection->discarded_bytes += got > 0 ? (uint32_t)got : 0;
    if (got <= 0 || connection->discarded_bytes >= DISCARD_BYTES_MAX) {
        finish(reader, connection);
    }
}

void cg_reader_end_draining(struct cg_reader *reader)
{
    while (!cg_list_is_empty(&reader->draining)) {
        struct cg_connection *connection =
            CG_LIST_ENTRY(reader->draining.next, struct cg_connection, in_draining);
        if (connection->drain_ends_ns > reader->now_ns) {
            return;
        }
        finish(reader, connection);
    }
}

void cg_reader_bury(struct cg_reader *reader)
{
    while (!cg_list_is_empty(&reader->closed)) {
        struct cg_list *node = reader->closed.next;
        cg_list_remove(node);
        free(CG_LIST_ENTRY(node, struct cg_connection, in_channel));
    }
}

void cg_reader_close_all(struct cg_reader *reader)
{
    while (!cg_list_is_empty(&reader->draining)) {
        finish(reader, CG_LIST_ENTRY(reader->draining.next, struct cg_connection, in_draining));
    }
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        struct cg_list *head = &CG_LIST_ENTRY(at, struct cg_channel, in_reader)->connections;
        while (!cg_list_is_empty(head)) {
            cg_reader_close(reader, CG_LIST_ENTRY(head->next, struct cg_connection, in_channel),
                            CG_CLOSE_SHUTDOWN);
        }
    }
    cg_reader_bury(reader);
}
