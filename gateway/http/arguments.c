#include "http/arguments.h"

#include "cellgate/clock.h"

#include <string.h>

enum { DIGITS_MAX = 18 }; /* as many always fit */

/* Reads the digits at the front; gives what stands behind them, or NULL. */
static const char *read_digits(const char *text, uint64_t *ret_value)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t value = 0;
    if (digits == 0 || digits > DIGITS_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *ret_value = value;
    return text + digits;
}

bool cg_argument_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    const char *rest = read_digits(text, &value);
    if (rest == NULL || *rest != '\0' || value > max) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool cg_argument_duration(const char *text, uint64_t max_ns, uint64_t *ret_ns)
{
    static const struct {
        const char *unit;
        uint64_t ns;
    } units[] = {{"ms", CG_NS_PER_MS}, {"s", CG_NS_PER_S}, {"m", 60 * CG_NS_PER_S}};
    uint64_t value = 0;
    const char *unit = read_digits(text, &value);
    for (size_t i = 0; unit != NULL && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].unit) == 0 && value <= max_ns / units[i].ns) {
            *ret_ns = value * units[i].ns;
            return true;
        }
    }
    return false;
}
