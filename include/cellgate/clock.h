/*
 * clock.h - the two clocks, and the seam at which tests put a fake one.
 *
 * The monotonic clock is for waiting and for ages, the real-time clock only for stamping. Both are
 * nanoseconds. Pure modules take a time as an argument; threads that wait hold a struct cg_clock.
 */
#ifndef CELLGATE_CLOCK_H
#define CELLGATE_CLOCK_H

#include <stdint.h>

#define CG_NS_PER_US UINT64_C(1000)
#define CG_NS_PER_MS UINT64_C(1000000)
#define CG_NS_PER_S  UINT64_C(1000000000)

struct cg_clock {
    uint64_t (*monotonic_ns)(const struct cg_clock *clock);
    uint64_t (*realtime_ns)(const struct cg_clock *clock);
};

/* The kernel's clocks. Any thread. */
extern const struct cg_clock cg_clock_system;

static inline uint64_t cg_clock_monotonic(const struct cg_clock *clock)
{
    return clock->monotonic_ns(clock);
}

static inline uint64_t cg_clock_realtime(const struct cg_clock *clock)
{
    return clock->realtime_ns(clock);
}

enum { CG_TIME_TEXT_LEN = 30 };

/*
 * Writes `realtime_ns` as RFC 3339 UTC with nine fractional digits
 * ("2026-11-23T11:00:00.123456789Z", exactly CG_TIME_TEXT_LEN bytes, not terminated). Pure; years
 * 1970 to 2554.
 */
void cg_time_format(uint64_t realtime_ns, char *ret_text);

#endif
