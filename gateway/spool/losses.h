/*
 * losses.h - which sequence numbers of one run were lost, until an event that says so has been
 * delivered. Pure.
 *
 * docs/contract.md section 3: a hole in the numbers without a name is a loss nobody knows of. So a
 * range is remembered here, at the head of each new segment and, when one is added, behind the
 * newest record, from the moment it is lost: first untold, then taken by whoever will tell it, then
 * told by the event of some index. If that event is lost as well the range is untold again; when
 * every reader has passed it the range is forgotten. Ranges that touch are joined; so are, when
 * there are too many, the last two, which then name more than was lost. Under the spool's lock.
 */
#ifndef CELLGATE_LOSSES_H
#define CELLGATE_LOSSES_H

#include "spool/spool.h"

struct cg_loss_range {
    uint64_t first, last;
    uint64_t told_index;
    uint8_t reason; /* enum cg_spool_loss_reason */
    uint8_t state;  /* enum cg_loss_state */
};

enum cg_loss_state { CG_LOSS_UNTOLD, CG_LOSS_TAKEN, CG_LOSS_TOLD };

struct cg_losses {
    size_t count;
    struct cg_loss_range ranges[CG_SPOOL_LOSSES_MAX];
};

/* Adds an untold range; *losses is allocated with the first (free(3) it). False: no memory. */
CG_MUST_USE bool cg_losses_add(struct cg_losses **losses, enum cg_spool_loss_reason reason,
                               uint64_t first, uint64_t last);
/* Hands out what is untold, unless what was handed out before is not told yet. Returns how many;
 * `losses` may be NULL in this and all below. */
size_t cg_losses_take(struct cg_losses *losses, struct cg_spool_loss *ret_losses);
/* The event of that index tells what was taken. */
void cg_losses_told(struct cg_losses *losses, uint64_t index);
/* The same at recovery, where all that is untold may have been taken before. */
void cg_losses_recover_told(struct cg_losses *losses, uint64_t index);
/* A range as a record has it; it stands for those within it that had not been told. As above. */
CG_MUST_USE bool cg_losses_recover(struct cg_losses **losses, const struct cg_loss_range *range);
/* Whoever had taken what is not told yet is gone: it is untold. */
void cg_losses_untake(struct cg_losses *losses);
/* The events with indices of [first, end) are lost themselves. */
void cg_losses_untell(struct cg_losses *losses, uint64_t first, uint64_t end);
/* Every reader has acknowledged what lies below `wanted_index`. */
void cg_losses_pass(struct cg_losses *losses, uint64_t wanted_index);

#endif
