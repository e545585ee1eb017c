/* channel_log.c - how much the log may say of one cell, and the count of what it did not say. */
#include "ingress/connection.h"

#include "cellgate/clock.h"

#include <stdlib.h>

enum { LOG_PERIOD_S = 10, LOG_LINES_PER_KIND = 3 };

/* Made at a cell's first line: most cells never get one. Each kind has a limit of its own, so that
 * a guest's broken frames do not hide that its connections are refused. */
struct cg_channel_log {
    struct cg_log_limit limits[CG_LINE_KIND_COUNT];
};

/* The readers and the acceptor may come first at the same time. */
static struct cg_channel_log *get_log(struct cg_channel *channel)
{
    struct cg_channel_log *log = atomic_load(&channel->log);
    if (log != NULL) {
        return log;
    }
    struct cg_channel_log *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return NULL;
    }
    for (unsigned i = 0; i < CG_LINE_KIND_COUNT; i++) {
        made->limits[i].period_ns = LOG_PERIOD_S * CG_NS_PER_S;
        made->limits[i].burst = LOG_LINES_PER_KIND;
    }
    if (atomic_compare_exchange_strong(&channel->log, &log, made)) {
        return made;
    }
    free(made);
    return log;
}

static uint64_t take_suppressed(struct cg_channel_log *log, enum cg_line_kind kind)
{
    return atomic_exchange(&log->limits[kind].suppressed, 0);
}

bool cg_channel_may_log(struct cg_channel *channel, enum cg_line_kind kind,
                        struct cg_ingress_shared *shared, uint64_t now_ns, uint64_t *ret_suppressed)
{
    CG_ASSERT(kind < CG_LINE_KIND_COUNT);
    struct cg_channel_log *log = get_log(channel);
    uint64_t suppressed = 0;
    if (log != NULL && !cg_log_limit_pass(&log->limits[kind], now_ns, &suppressed)) {
        return false;
    }
    uint64_t of_all; /* each is counted with its own cell */
    if (!cg_log_limit_pass(&shared->log_limit, now_ns, &of_all)) {
        if (log != NULL) {
            cg_log_limit_return(&log->limits[kind], suppressed);
        }
        return false;
    }
    for (unsigned i = 0; log != NULL && i < CG_LINE_KIND_COUNT; i++) {
        suppressed += take_suppressed(log, i);
    }
    *ret_suppressed = suppressed;
    return true;
}

void cg_channel_end_log(struct cg_channel *channel)
{
    struct cg_channel_log *log = atomic_load(&channel->log);
    if (log == NULL) {
        return;
    }
    uint64_t frames = take_suppressed(log, CG_LINE_FRAME);
    uint64_t connections = take_suppressed(log, CG_LINE_CONNECTION);
    uint64_t others = take_suppressed(log, CG_LINE_OTHER);
    if (frames + connections + others > 0) {
        CG_LOG(
            CG_LOG_WARNING, "lines_suppressed", CG_F_BYTES("cell", channel->cell->identity.cell_id),
            CG_F_BYTES("run", channel->cell->identity.run_id), CG_F_U64("frames_rejected", frames),
            CG_F_U64("connections_refused", connections), CG_F_U64("others", others));
    }
}
