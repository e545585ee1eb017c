#include "cellgate/clock.h"

#include "cellgate/error.h"

#include <string.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    CG_ASSERT(clock_gettime(id, &now) == 0);
    return (uint64_t)now.tv_sec * CG_NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t system_monotonic(const struct cg_clock *clock)
{
    (void)clock;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t system_realtime(const struct cg_clock *clock)
{
    (void)clock;
    return read_clock(CLOCK_REALTIME);
}

static void write_digits(char *at, unsigned width, uint64_t value)
{
    for (unsigned i = width; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
}

void cg_time_format(uint64_t realtime_ns, char *ret_text)
{
    uint64_t seconds = realtime_ns / CG_NS_PER_S;
    uint64_t in_day = seconds % 86400;

    /* Days since 1970 to a Gregorian date: years counted from March make the leap day the last day
     * of the year, and 400 years have 146,097 days. */
    uint64_t days = seconds / 86400 + 719468;
    uint64_t era = days / 146097;
    uint64_t day_of_era = days % 146097;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t month_from_march = (5 * day_of_year + 2) / 153;
    uint64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    uint64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    uint64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);

    memcpy(ret_text, "0000-00-00T00:00:00.000000000Z", CG_TIME_TEXT_LEN);
    write_digits(ret_text, 4, year);
    write_digits(ret_text + 5, 2, month);
    write_digits(ret_text + 8, 2, day);
    write_digits(ret_text + 11, 2, in_day / 3600);
    write_digits(ret_text + 14, 2, in_day / 60 % 60);
    write_digits(ret_text + 17, 2, in_day % 60);
    write_digits(ret_text + 20, 9, realtime_ns % CG_NS_PER_S);
}

const struct cg_clock cg_clock_system = {
    .monotonic_ns = system_monotonic,
    .realtime_ns = system_realtime,
};
