/*
 * rate.h - a cell's frames per second: a bucket that may go into debt. Pure; time is an argument.
 *
 * A read brings as many frames as it brings; they are all taken, and what they cost beyond the
 * bucket is a debt that must be paid by time before the cell is read again. So nothing is dropped,
 * and in the long run the rate holds exactly. Times are monotonic nanoseconds.
 */
#ifndef CELLGATE_RATE_H
#define CELLGATE_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* The same for all cells. A cost of 0: unlimited. */
struct cg_rate {
    uint64_t frame_cost_ns;
    int64_t burst_ns; /* what a full bucket holds, in time */
};

/* One cell's: the moment at which the bucket is empty and without debt. */
struct cg_rate_bucket {
    int64_t clear_ns;
};

struct cg_rate cg_rate_make(uint64_t frames_per_second, uint64_t frames_burst);
/* A full bucket. */
void cg_rate_bucket_init(struct cg_rate_bucket *bucket);
void cg_rate_take(const struct cg_rate *rate, struct cg_rate_bucket *bucket, uint64_t frames,
                  uint64_t now_ns);
bool cg_rate_in_debt(const struct cg_rate *rate, const struct cg_rate_bucket *bucket,
                     uint64_t now_ns);

#endif
