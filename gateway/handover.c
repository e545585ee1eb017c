/*
 * handover.c - an upgrade that no guest notices. docs/contract.md section 1.
 *
 * At the end the listening sockets and the connections go into systemd's descriptor store, with a
 * table that says what each of them is; at the next start they come back as descriptors that were
 * passed. The store drops silently what it has no room for. So the last thing to be stored is one
 * end of a socket pair, the witness: if the other end is not hung up once everything has been
 * heard, all that went before it was kept.
 */
#include "ingress/handover.h"
#include "cellgate/cleanup.h"
#include "cellgate/log.h"
#include "gateway_state.h"
#include "run/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { BARRIER_MS = 5000 };

/* --- the end --- */

static bool is_wished(struct cg_gateway *gateway)
{
    enum cg_handover_when when = (enum cg_handover_when)gateway->current->shutdown.handover;
    return when != CG_HANDOVER_OFF && cg_notify_may_store(when == CG_HANDOVER_AUTO);
}

static bool is_hung_up(int fd)
{
    char byte;
    return recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

/* Stores it all; on failure perhaps some of it. */
static bool store(struct cg_gateway *gateway, size_t *ret_count, struct cg_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return cg_error_errno(err, errno, "make a witness");
    }
    cg_auto_close int kept = pair[0];
    cg_auto_close int witness = pair[1];
    cg_auto_buf struct cg_buf table;
    cg_buf_init(&table, CG_HANDOVER_BYTES_MAX);
    cg_auto_free int *fds = NULL;
    cg_auto_close int table_fd = -1;
    if (!cg_ingress_give(gateway->ingress, cg_handover_cookie(witness), &table, &fds, ret_count,
                         err) ||
        !cg_handover_keep_table(cg_buf_bytes(&table), &table_fd, err) ||
        !cg_notify_store(&table_fd, 1, CG_INHERITED_STORE, err) ||
        !cg_notify_store(fds, *ret_count, CG_INHERITED_STORE, err) ||
        !cg_notify_store(&witness, 1, CG_INHERITED_STORE, err)) {
        return false;
    }
    cg_cleanup_close(&witness);
    witness = -1;
    if (!cg_notify_barrier(BARRIER_MS * CG_NS_PER_MS)) {
        return cg_error_set(err, "nobody has heard of it in time");
    }
    return !is_hung_up(kept) ||
           cg_error_set(err,
                        "the store is too small: FileDescriptorStoreMax= of the unit must be "
                        "%zu at least",
                        *ret_count + 2);
}

bool cg_gateway_hand_over(struct cg_gateway *gateway, uint64_t deadline_ns)
{
    struct cg_error err = {0};
    size_t count = 0;
    if (!is_wished(gateway)) {
        return false;
    }
    bool stored = cg_ingress_quiesce(gateway->ingress, deadline_ns)
                      ? store(gateway, &count, &err)
                      : cg_error_set(&err, "the spool has not taken what was read in time");
    if (!stored) {
        cg_notify_unstore(CG_INHERITED_STORE);
        CG_LOG(CG_LOG_WARNING, "not_handed_over", CG_F_STR("reason", err.text));
        return false;
    }
    CG_LOG(CG_LOG_INFO, "handed_over", CG_F_U64("sockets", count),
           CG_F_U64("connections", cg_ingress_connections(gateway->ingress)));
    cg_ingress_abandon(gateway->ingress);
    return true;
}

/* --- the start --- */

struct cg_handover *cg_gateway_take_over(struct cg_gateway *gateway)
{
    struct cg_inherited *inherited = gateway->source.inherited;
    size_t count = cg_inherited_count(inherited, CG_INHERITED_STORE);
    if (count == 0) {
        return NULL;
    }
    /* From here on bytes are read from them, so that what is stored says what was. */
    cg_notify_unstore(CG_INHERITED_STORE);
    if (!cg_notify_barrier(BARRIER_MS * CG_NS_PER_MS)) {
        CG_LOG(CG_LOG_WARNING, "store_not_emptied");
    }
    struct cg_handover *handover = NULL;
    struct cg_error err = {0};
    cg_auto_free int *fds = calloc(count, sizeof(*fds));
    if (fds == NULL) {
        return NULL; /* they are closed with all that nobody takes */
    }
    (void)cg_inherited_take(inherited, CG_INHERITED_STORE, fds, count);
    if (!cg_handover_open(fds, count, &handover, &err)) {
        CG_LOG(CG_LOG_ERROR, "handover_refused", CG_F_STR("reason", err.text),
               CG_F_U64("closed", count));
    }
    return handover;
}

void cg_gateway_end_taking_over(struct cg_gateway *gateway)
{
    struct cg_resumed resumed;
    cg_ingress_end_resuming(gateway->ingress, &resumed);
    if (resumed.cells + resumed.cells_unused + resumed.sockets_unused > 0) {
        CG_LOG(CG_LOG_INFO, "taken_over", CG_F_U64("cells", resumed.cells),
               CG_F_U64("connections", resumed.connections),
               CG_F_U64("cells_removed", resumed.cells_unused),
               CG_F_U64("sockets_closed", resumed.sockets_unused));
    }
}
