#include "run/value.h"

#include "cellgate/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first, which is the order in which a value is tried on the way out. */
static const struct unit duration_units[] = {
    {"d", 86400 * CG_NS_PER_S},
    {"h", 3600 * CG_NS_PER_S},
    {"m", 60 * CG_NS_PER_S},
    {"s", CG_NS_PER_S},
    {"ms", CG_NS_PER_MS},
    {"us", CG_NS_PER_US},
    {"ns", 1},
    {NULL, 0},
};

static const struct unit size_units[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", UINT64_C(1) << 30},
    {"MiB", UINT64_C(1) << 20},
    {"KiB", UINT64_C(1) << 10},
    {"TB", UINT64_C(1000000000000)},
    {"GB", UINT64_C(1000000000)},
    {"MB", UINT64_C(1000000)},
    {"kB", UINT64_C(1000)},
    {"B", 1},
    {"", 1},
    {NULL, 0},
};

static bool equals(struct cg_bytes text, const char *word)
{
    return cg_bytes_equal(text, cg_bytes_str(word));
}

static size_t count_digits(struct cg_bytes text)
{
    size_t digits = 0;
    while (digits < text.len && isdigit((unsigned char)text.data[digits])) {
        digits++;
    }
    return digits;
}

bool cg_value_integer(struct cg_bytes text, uint64_t *ret_value)
{
    if (text.len == 0 || count_digits(text) != text.len || (text.len > 1 && text.data[0] == '0')) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value)) {
            return false;
        }
    }
    *ret_value = value;
    return true;
}

static bool parse_with_unit(struct cg_bytes text, const struct unit *units, uint64_t *ret_value)
{
    size_t digits = count_digits(text);
    uint64_t number;
    if (!cg_value_integer(cg_bytes(text.data, digits), &number)) {
        return false;
    }
    size_t at = digits;
    while (at < text.len && text.data[at] == ' ') {
        at++;
    }
    struct cg_bytes name = cg_bytes(text.data + at, text.len - at);
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (equals(name, unit->name)) {
            uint64_t value;
            if (__builtin_mul_overflow(number, unit->factor, &value)) {
                return false;
            }
            *ret_value = value;
            return true;
        }
    }
    return false;
}

bool cg_value_duration(struct cg_bytes text, uint64_t *ret_ns)
{
    if (equals(text, "0")) {
        *ret_ns = 0;
        return true;
    }
    return parse_with_unit(text, duration_units, ret_ns);
}

bool cg_value_size(struct cg_bytes text, uint64_t *ret_bytes)
{
    return parse_with_unit(text, size_units, ret_bytes);
}

bool cg_value_bool(struct cg_bytes text, bool *ret_value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true},   {"yes", true}, {"on", true},
                 {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i].word) == text.len &&
            strncasecmp(words[i].word, text.data, text.len) == 0) {
            *ret_value = words[i].value;
            return true;
        }
    }
    return false;
}

bool cg_value_file_mode(struct cg_bytes text, uint64_t *ret_mode)
{
    size_t at = text.len > 1 && text.data[0] == '0' && text.data[1] == 'o' ? 2 : 1;
    if (text.len != at + 3 || text.data[0] != '0') {
        return false;
    }
    uint64_t mode = 0;
    for (; at < text.len; at++) {
        if (text.data[at] < '0' || text.data[at] > '7') {
            return false;
        }
        mode = mode * 8 + (uint64_t)(text.data[at] - '0');
    }
    *ret_mode = mode;
    return true;
}

bool cg_value_name(struct cg_bytes text, const struct cg_option_name *names, int *ret_value)
{
    for (const struct cg_option_name *name = names; name->name != NULL; name++) {
        if (equals(text, name->name)) {
            *ret_value = name->value;
            return true;
        }
    }
    return false;
}

static void write_with_unit(uint64_t value, const struct unit *units, struct cg_buf *out)
{
    const struct unit *unit = units;
    while (value % unit->factor != 0) {
        unit++;
    }
    (void)cg_buf_append_u64(out, value / unit->factor);
    (void)cg_buf_append_str(out, unit->name);
}

void cg_value_write_duration(uint64_t ns, struct cg_buf *out)
{
    if (ns == 0) {
        (void)cg_buf_append_char(out, '0');
    } else {
        write_with_unit(ns, duration_units, out);
    }
}

void cg_value_write_size(uint64_t bytes, struct cg_buf *out)
{
    if (bytes == 0) {
        (void)cg_buf_append_char(out, '0');
    } else {
        write_with_unit(bytes, size_units, out);
    }
}

void cg_value_write_text(struct cg_bytes text, struct cg_buf *out)
{
    (void)cg_buf_append_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '"' || c == '\\') {
            (void)cg_buf_append_char(out, '\\');
            (void)cg_buf_append_char(out, (char)c);
        } else if (c < 0x20 || c == 0x7F) {
            (void)cg_buf_printf(out, "\\u%04x", c);
        } else {
            (void)cg_buf_append_char(out, (char)c);
        }
    }
    (void)cg_buf_append_char(out, '"');
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance, a row at a time, with neighbours exchanged counting once. */
unsigned cg_value_distance(struct cg_bytes a, struct cg_bytes b)
{
    if (a.len >= CG_DISTANCE_FAR || b.len >= CG_DISTANCE_FAR) {
        return CG_DISTANCE_FAR;
    }
    unsigned before[CG_DISTANCE_FAR + 1] = {0};
    unsigned row[CG_DISTANCE_FAR + 1] = {0};
    unsigned next[CG_DISTANCE_FAR + 1] = {0};
    for (unsigned j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= a.len; i++) {
        next[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            unsigned replaced = row[j - 1] + (a.data[i - 1] != b.data[j - 1]);
            next[j] = least(replaced, least(row[j], next[j - 1]) + 1);
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] &&
                a.data[i - 2] == b.data[j - 1]) {
                next[j] = least(next[j], before[j - 2] + 1);
            }
        }
        memcpy(before, row, sizeof(row));
        memcpy(row, next, sizeof(next));
    }
    return row[b.len];
}

bool cg_value_resembles(struct cg_bytes typed, struct cg_bytes known, unsigned *ret_distance)
{
    unsigned distance = cg_value_distance(typed, known);
    size_t longer = typed.len > known.len ? typed.len : known.len;
    if ((size_t)distance * 3 > longer + 1) {
        return false;
    }
    *ret_distance = distance;
    return true;
}
