/*
 * spool_account.h - what a receiver got of one run, and what was named to it as lost.
 */
#ifndef CELLGATE_TESTS_SPOOL_ACCOUNT_H
#define CELLGATE_TESTS_SPOOL_ACCOUNT_H

#include "spool_support.h"

#include <stdbool.h>

static struct cg_spool_config tight_config(void)
{
    struct cg_spool_config config = test_config();
    config.segment_bytes = 64 * 1024;
    config.bytes_max = 512 * 1024;
    config.sync = CG_SPOOL_SYNC_NEVER;
    return config;
}

enum { SEQUENCES_MAX = 20000 };

/* Of one run: what was delivered, and what was named as lost. */
struct account {
    bool delivered[SEQUENCES_MAX];
    bool named[SEQUENCES_MAX];
};

enum {
    OVERFLOW = 1 << CG_SPOOL_LOSS_OVERFLOW,
    QUOTA = 1 << CG_SPOOL_LOSS_QUOTA,
    DAMAGE = 1 << CG_SPOOL_LOSS_DAMAGE,
};

/* Takes what is named, for these reasons and no other. */
static void name_losses(struct cg_spool *spool, struct cg_spool_run *run, unsigned reasons,
                        struct account *account)
{
    struct cg_spool_loss losses[CG_SPOOL_LOSSES_MAX];
    size_t count = cg_spool_run_take_losses(spool, run, losses);
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg((reasons >> losses[i].reason & 1) != 0, "reason %d", (int)losses[i].reason);
        ck_assert_uint_le(losses[i].first, losses[i].last);
        ck_assert_uint_lt(losses[i].last, SEQUENCES_MAX);
        for (uint64_t sequence = losses[i].first; sequence <= losses[i].last; sequence++) {
            account->named[sequence] = true;
        }
    }
}

static void deliver(struct cg_spool_reader *reader, uint64_t events, struct account *of_a)
{
    while (events > 0) {
        struct cg_batch batch = peek(reader, events < 100 ? events : 100, 1 << 20);
        if (batch.count == 0) {
            return;
        }
        for (size_t i = 0; i < batch.count; i++) {
            check_event(&batch.events[i]);
            if (cg_bytes_equal(cg_event_get(&batch.events[i], CG_TEXT_CELL), CG_BYTES("a"))) {
                of_a->delivered[batch.events[i].meta.sequence] = true;
            }
        }
        cg_spool_reader_ack(reader, batch.count);
        events -= batch.count;
    }
}

static uint64_t check_whole(const struct account *account, uint64_t last)
{
    uint64_t named = 0;
    for (uint64_t sequence = 1; sequence <= last; sequence++) {
        ck_assert_msg(account->delivered[sequence] || account->named[sequence],
                      "%" PRIu64 " is lost without a name", sequence);
        named += account->named[sequence] && !account->delivered[sequence] ? 1 : 0;
    }
    return named;
}

/* An event that tells what its run had lost. */
static void tell(struct cg_spool_writer *writer, const char *cell, struct cg_spool_run *run,
                 uint64_t sequence)
{
    char *out = cg_spool_writer_begin(writer);
    ck_assert_ptr_nonnull(out);
    struct cg_event_meta meta;
    size_t len = render_event(out, cell, sequence, &meta);
    meta.tells_losses = true;
    cg_spool_writer_end(writer, len, &meta, run);
    commit(writer);
}

#endif
