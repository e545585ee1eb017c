#include "delivery/backoff.h"

#include "cellgate/error.h"

void cg_jitter_init(struct cg_jitter *jitter, uint64_t seed)
{
    jitter->state = seed;
}

static uint64_t jitter_bits(struct cg_jitter *jitter)
{
    /* SplitMix64: a counter with an odd step, scrambled by two multiplications. */
    jitter->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t bits = jitter->state;
    bits = (bits ^ (bits >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ (bits >> 27)) * UINT64_C(0x94d049bb133111eb);
    return bits ^ (bits >> 31);
}

uint64_t cg_jitter_upto(struct cg_jitter *jitter, uint64_t max)
{
    /* The upper half of a 128-bit product maps 2^64 values onto max + 1; the bias is below
     * max / 2^64, which nobody can see in a delay. */
    return (uint64_t)(((unsigned __int128)jitter_bits(jitter) * ((unsigned __int128)max + 1)) >>
                      64);
}

void cg_backoff_init(struct cg_backoff *backoff, uint64_t initial_ns, uint64_t max_ns,
                     uint64_t floor_percent)
{
    CG_ASSERT(floor_percent <= 100);
    *backoff = (struct cg_backoff){
        .initial_ns = initial_ns,
        .max_ns = max_ns < initial_ns ? initial_ns : max_ns,
        .floor_percent = floor_percent,
    };
}

void cg_backoff_reset(struct cg_backoff *backoff)
{
    backoff->attempts = 0;
}

uint64_t cg_backoff_next(struct cg_backoff *backoff, struct cg_jitter *jitter)
{
    uint64_t bound = backoff->max_ns;
    if (backoff->attempts < 63 && backoff->initial_ns <= backoff->max_ns >> backoff->attempts) {
        bound = backoff->initial_ns << backoff->attempts;
        backoff->attempts++;
    }
    uint64_t floor = (uint64_t)((unsigned __int128)bound * backoff->floor_percent / 100);
    return floor + cg_jitter_upto(jitter, bound - floor);
}
