#include "ingress/rate.h"

#include "cellgate/clock.h"

/* Half the range: sums and differences of two such values cannot overflow. */
static const int64_t time_max_ns = INT64_MAX / 4;

static int64_t bounded_product(uint64_t a, uint64_t b)
{
    uint64_t product;
    bool overflow = __builtin_mul_overflow(a, b, &product);
    return overflow || product > (uint64_t)time_max_ns ? time_max_ns : (int64_t)product;
}

struct cg_rate cg_rate_make(uint64_t frames_per_second, uint64_t frames_burst)
{
    struct cg_rate rate = {0};
    if (frames_per_second > 0) {
        rate.frame_cost_ns = CG_NS_PER_S / frames_per_second;
        rate.burst_ns = bounded_product(frames_burst, rate.frame_cost_ns);
    }
    return rate;
}

void cg_rate_bucket_init(struct cg_rate_bucket *bucket)
{
    bucket->clear_ns = -2 * time_max_ns;
}

void cg_rate_take(const struct cg_rate *rate, struct cg_rate_bucket *bucket, uint64_t frames,
                  uint64_t now_ns)
{
    if (rate->frame_cost_ns == 0) {
        return;
    }
    int64_t full_ns = (int64_t)now_ns - rate->burst_ns;
    int64_t from_ns = bucket->clear_ns > full_ns ? bucket->clear_ns : full_ns;
    bucket->clear_ns = from_ns + bounded_product(frames, rate->frame_cost_ns);
}

bool cg_rate_in_debt(const struct cg_rate *rate, const struct cg_rate_bucket *bucket,
                     uint64_t now_ns)
{
    return rate->frame_cost_ns != 0 && bucket->clear_ns > (int64_t)now_ns;
}
