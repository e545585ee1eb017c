/*
 * handing.c - sockets and connections go over to another process, and come from one.
 *
 * docs/contract.md section 1.
 */
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "ingress/frame.h"
#include "ingress/ingress_state.h"

#include <stdio.h>
#include <stdlib.h>

/* --- what was handed over --- */

/* Of whichever run listened where the cell does. */
static const struct cg_handover_cell *find_at(const struct cg_ingress *ingress,
                                              const struct cg_cell *cell)
{
    return ingress->config.handover == NULL
               ? NULL
               : cg_handover_find(ingress->config.handover, cell->vsock_uds_base);
}

static bool is_of(const struct cg_handover_cell *left, const struct cg_cell *cell)
{
    return cg_bytes_equal(left->cell_id, cell->identity.cell_id) &&
           cg_bytes_equal(left->run_id, cell->identity.run_id);
}

const struct cg_handover_cell *cg_ingress_find_left(const struct cg_ingress *ingress,
                                                    const struct cg_cell *cell)
{
    const struct cg_handover_cell *left = find_at(ingress, cell);
    return left != NULL && is_of(left, cell) ? left : NULL;
}

bool cg_ingress_resume_listening(struct cg_ingress *ingress, const struct cg_cell *cell,
                                 const struct cg_listening_request *request,
                                 struct cg_listening *ret_listening)
{
    const struct cg_handover_cell *left = find_at(ingress, cell);
    struct cg_listening listening = {.fd = -1};
    if (left != NULL) {
        listening = (struct cg_listening){
            .fd = cg_handover_take(ingress->config.handover, left->cookie),
            .device = (dev_t)left->device,
            .inode = (ino_t)left->inode,
        };
    }
    if (listening.fd < 0) {
        return false;
    }
    struct cg_error err;
    bool same = is_of(left, cell) && left->mode == cell->socket_mode &&
                left->uid == cell->socket_uid && left->gid == cell->socket_gid;
    if (same && cg_listening_resume(request, ingress->config.registrations, &listening, &err)) {
        *ret_listening = listening;
        return true;
    }
    cg_ingress_unbind(ingress, cell, &listening);
    return false;
}

void cg_ingress_resume_counters(const struct cg_ingress *ingress, struct cg_cell *cell,
                                const struct cg_handover_cell *left)
{
    atomic_store(&cell->frames, left->frames);
    atomic_store(&cell->frame_bytes, left->frame_bytes);
    atomic_store(&cell->frames_rejected, left->frames_rejected);
    atomic_store(&cell->connections_refused, left->connections_refused);
    if (left->connections_opened > atomic_load(&cell->connections_opened)) {
        atomic_store(&cell->connections_opened, left->connections_opened);
    }
    if (left->last_frame_ns <= cg_clock_monotonic(ingress->config.clock)) {
        atomic_store(&cell->last_frame_ns, left->last_frame_ns);
    }
}

/* NULL: there is no memory, or the frame's first bytes are none. */
static struct cg_connection *make_resumed(struct cg_channel *channel,
                                          const struct cg_handover_connection *left, int fd)
{
    struct cg_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        return NULL;
    }
    *connection = (struct cg_connection){
        .channel = channel,
        .fd = fd,
        .ordinal = left->ordinal,
        .frames = left->frames,
        .bytes = left->bytes,
        .resumed = true,
        .state = CG_CONNECTION_OPEN,
    };
    cg_list_init(&connection->in_channel);
    cg_list_init(&connection->in_draining);
    struct cg_bytes body;
    size_t needed = 0;
    if (left->partial.len > 0) {
        connection->partial = cg_frame_next(left->partial, &body, &needed) == CG_FRAME_PARTIAL
                                  ? cg_partial_new(left->partial, needed)
                                  : NULL;
        if (connection->partial == NULL) {
            free(connection);
            return NULL;
        }
    }
    return connection;
}

void cg_ingress_resume_connections(struct cg_ingress *ingress, struct cg_channel *channel,
                                   const struct cg_handover_cell *left)
{
    for (uint32_t i = 0; i < left->connections_count; i++) {
        int fd = cg_handover_take(ingress->config.handover, left->connections[i].cookie);
        struct cg_connection *connection =
            fd < 0 ? NULL : make_resumed(channel, &left->connections[i], fd);
        if (connection == NULL) {
            cg_cleanup_close(&fd);
            continue;
        }
        atomic_fetch_add(&channel->cell->connections, 1);
        atomic_fetch_add(&ingress->shared.connections, 1);
        ingress->resumed.connections++;
        cg_reader_give(channel->reader, connection);
    }
}

static void remove_unused(void *context, const struct cg_handover_cell *left)
{
    struct cg_ingress *ingress = context;
    char base[CG_HANDOVER_BASE_BYTES_MAX + 1];
    (void)snprintf(base, sizeof(base), "%.*s", CG_BYTES_ARG(left->vsock_uds_base));
    const struct cg_cell cell = {.vsock_uds_base = base};
    const struct cg_listening listening = {
        .fd = -1, .device = (dev_t)left->device, .inode = (ino_t)left->inode};
    cg_ingress_remove_socket(ingress, &cell, &listening);
    ingress->resumed.cells_unused++;
}

void cg_ingress_end_resuming(struct cg_ingress *ingress, struct cg_resumed *ret_resumed)
{
    if (ingress->config.handover != NULL) {
        cg_handover_visit_unused(ingress->config.handover, remove_unused, ingress);
        ingress->resumed.sockets_unused = cg_handover_close(ingress->config.handover);
        ingress->config.handover = NULL;
    }
    *ret_resumed = ingress->resumed;
}

/* --- handing over --- */

bool cg_ingress_quiesce(struct cg_ingress *ingress, uint64_t deadline_ns)
{
    cg_ingress_begin_end(ingress);
    cg_acceptor_stop(ingress->acceptor); /* who connects from here on waits in the socket */
    cg_ingress_end_workers(ingress, CG_READER_QUIESCE, deadline_ns);
    bool quiet = true;
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        quiet = cg_reader_is_quiet(ingress->workers[i].reader) && quiet;
    }
    return quiet;
}

static bool is_given(const struct cg_connection *connection)
{
    return connection->state == CG_CONNECTION_OPEN || connection->state == CG_CONNECTION_SUSPENDED;
}

/* No other thread is left that could change a channel. */
static void give_channel(const struct cg_channel *channel, struct cg_buf *table, int *fds,
                         size_t *count)
{
    const struct cg_cell *cell = channel->cell;
    struct cg_handover_cell given = {
        .cell_id = cell->identity.cell_id,
        .run_id = cell->identity.run_id,
        .vsock_uds_base = cg_bytes_str(cell->vsock_uds_base),
        .cookie = cg_handover_cookie(channel->listening.fd),
        .device = (uint64_t)channel->listening.device,
        .inode = (uint64_t)channel->listening.inode,
        .mode = (uint32_t)cell->socket_mode,
        .uid = (uint32_t)cell->socket_uid,
        .gid = (uint32_t)cell->socket_gid,
        .frames = atomic_load(&cell->frames),
        .frame_bytes = atomic_load(&cell->frame_bytes),
        .frames_rejected = atomic_load(&cell->frames_rejected),
        .connections_refused = atomic_load(&cell->connections_refused),
        .last_frame_ns = atomic_load(&cell->last_frame_ns),
        .connections_opened = atomic_load(&cell->connections_opened),
    };
    const struct cg_list *head = &channel->connections;
    for (struct cg_list *at = head->next; at != head; at = at->next) {
        given.connections_count +=
            is_given(CG_LIST_ENTRY(at, struct cg_connection, in_channel)) ? 1 : 0;
    }
    cg_handover_table_add_cell(&given, table);
    fds[(*count)++] = channel->listening.fd;
    for (struct cg_list *at = head->next; at != head; at = at->next) {
        const struct cg_connection *connection =
            CG_LIST_ENTRY(at, struct cg_connection, in_channel);
        if (!is_given(connection)) {
            continue;
        }
        const struct cg_partial *partial = connection->partial;
        const struct cg_handover_connection stream = {
            .cookie = cg_handover_cookie(connection->fd),
            .ordinal = connection->ordinal,
            .frames = connection->frames,
            .bytes = connection->bytes,
            .partial = partial == NULL ? cg_bytes(NULL, 0) : cg_bytes(partial->bytes, partial->len),
        };
        cg_handover_table_add_connection(&stream, table);
        fds[(*count)++] = connection->fd;
    }
}

bool cg_ingress_give(struct cg_ingress *ingress, uint64_t witness_cookie, struct cg_buf *ret_table,
                     int **ret_fds, size_t *ret_count, struct cg_error *err)
{
    size_t most = 0;
    uint32_t cells = 0;
    for (const struct cg_channel *at = ingress->channels; at != NULL; at = at->next) {
        most += 1 + at->connections_count;
        cells++;
    }
    cg_auto_free int *fds = calloc(most + 1, sizeof(*fds));
    if (fds == NULL) {
        return cg_error_set(err, "out of memory for the table");
    }
    size_t count = 0;
    cg_handover_table_begin(witness_cookie, cells, ret_table);
    for (const struct cg_channel *at = ingress->channels; at != NULL; at = at->next) {
        give_channel(at, ret_table, fds, &count);
    }
    CG_ASSERT(count <= most);
    if (!cg_handover_table_seal(ret_table)) {
        return cg_error_set(err, "the table is too large");
    }
    *ret_fds = cg_steal_ptr(fds);
    *ret_count = count;
    return true;
}

void cg_ingress_abandon(struct cg_ingress *ingress)
{
    for (unsigned i = 0; i < ingress->config.threads; i++) {
        cg_reader_abandon(ingress->workers[i].reader);
    }
    for (struct cg_channel *at = ingress->channels; at != NULL; at = at->next) {
        cg_listening_close(&at->listening);
    }
}
