/* resting.c - a reader comes to rest, and leaves its connections to another process. */
#include "ingress/reader_state.h"

#include <stdlib.h>
#include <unistd.h>

/* Connections that we have closed are read no further: the guest knows of it. */
static void end_closed(struct cg_reader *reader)
{
    for (struct cg_list *at = reader->draining.next; at != &reader->draining; at = at->next) {
        CG_LIST_ENTRY(at, struct cg_connection, in_draining)->drain_ends_ns = reader->now_ns;
    }
    cg_reader_end_draining(reader);
    cg_reader_bury(reader);
}

bool cg_reader_quiesce(struct cg_reader *reader, uint64_t deadline_ns)
{
    reader->now_ns = cg_clock_monotonic(reader->config->clock);
    reader->unlimited = true; /* no silence is told, and no rate holds anybody, in what is left */
    cg_reader_empty_inbox(reader);
    while ((reader->stalled || !cg_list_is_empty(&reader->leaving)) &&
           reader->now_ns < deadline_ns) {
        (void)cg_reader_turn(reader, deadline_ns);
    }
    if (reader->stalled || !cg_list_is_empty(&reader->leaving)) {
        return false;
    }
    cg_reader_tell_the_rest(reader, deadline_ns);
    end_closed(reader);
    cg_reader_bury_ended(reader);
    return !reader->stalled && cg_spool_writer_staged(reader->pipeline->writer) == 0;
}

bool cg_reader_is_quiet(const struct cg_reader *reader)
{
    return reader->quiet;
}

static void abandon(struct cg_reader *reader, struct cg_channel *channel)
{
    while (!cg_list_is_empty(&channel->connections)) {
        struct cg_connection *connection =
            CG_LIST_ENTRY(channel->connections.next, struct cg_connection, in_channel);
        cg_reader_drop_partial(reader, connection);
        (void)close(connection->fd);
        cg_list_remove(&connection->in_channel);
        channel->connections_count--;
        atomic_fetch_sub(&channel->cell->connections, 1);
        atomic_fetch_sub(&reader->shared->connections, 1);
        free(connection);
    }
}

void cg_reader_abandon(struct cg_reader *reader)
{
    for (struct cg_list *at = reader->channels.next; at != &reader->channels; at = at->next) {
        abandon(reader, CG_LIST_ENTRY(at, struct cg_channel, in_reader));
    }
}
