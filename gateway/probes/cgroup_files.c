#include "probes/cgroup_files.h"

#include <stdlib.h>

/* --- pieces --- */

/* Takes the piece up to `end` off the front of *text, and the end with it; all if there is none. */
static struct cg_bytes take_until(struct cg_bytes *text, char end)
{
    const char *found = text->len == 0 ? NULL : memchr(text->data, end, text->len);
    struct cg_bytes piece =
        cg_bytes(text->data, found == NULL ? text->len : (size_t)(found - text->data));
    size_t taken = piece.len + (found == NULL ? 0 : 1);
    *text = cg_bytes(text->data + taken, text->len - taken);
    return piece;
}

static bool read_u64(struct cg_bytes text, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(text.data[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret_value = value;
    return text.len > 0;
}

/* "1.5" is 150, "12.34" is 1234. */
static bool read_hundredths(struct cg_bytes text, uint64_t *ret_value)
{
    struct cg_bytes whole = take_until(&text, '.');
    uint64_t integer = 0;
    uint64_t fraction = 0;
    if (!read_u64(whole, &integer) || integer > UINT32_MAX || text.len > 2 ||
        (text.len > 0 && !read_u64(text, &fraction))) {
        return false;
    }
    *ret_value = integer * 100 + (text.len == 1 ? fraction * 10 : fraction);
    return true;
}

/* What may become a key of JSON without an escape. */
static bool is_key(struct cg_bytes key)
{
    for (size_t i = 0; i < key.len; i++) {
        char c = key.data[i];
        if (c <= ' ' || c > '~' || c == '"' || c == '\\') {
            return false;
        }
    }
    return key.len > 0 && key.len <= CG_CGROUP_KEY_BYTES_MAX;
}

static int compare_keys(struct cg_bytes a, struct cg_bytes b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_pairs(const void *a, const void *b)
{
    return compare_keys(((const struct cg_cgroup_pair *)a)->key,
                        ((const struct cg_cgroup_pair *)b)->key);
}

/* Sorts them; false if two have the same key. */
static bool sort_pairs(struct cg_cgroup_pair *pairs, size_t count)
{
    qsort(pairs, count, sizeof(*pairs), compare_pairs);
    for (size_t i = 1; i < count; i++) {
        if (cg_bytes_equal(pairs[i - 1].key, pairs[i].key)) {
            return false;
        }
    }
    return true;
}

static void append_pairs(const struct cg_cgroup_pair *pairs, size_t count, struct cg_buf *out)
{
    cg_buf_append_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        cg_buf_append_str(out, i == 0 ? "\"" : ",\"");
        cg_buf_append(out, pairs[i].key);
        cg_buf_append_str(out, "\":");
        cg_buf_append_u64(out, pairs[i].value);
    }
    cg_buf_append_char(out, '}');
}

/* --- flat keyed --- */

bool cg_cgroup_flat_parse(struct cg_bytes text, struct cg_cgroup_pair *ret_pairs, size_t *ret_count)
{
    size_t count = 0;
    while (text.len > 0) {
        struct cg_bytes line = take_until(&text, '\n');
        struct cg_bytes key = take_until(&line, ' ');
        if (count == CG_CGROUP_KEYS_MAX || !is_key(key) ||
            !read_u64(line, &ret_pairs[count].value)) {
            return false;
        }
        ret_pairs[count++].key = key;
    }
    *ret_count = count;
    return sort_pairs(ret_pairs, count);
}

bool cg_cgroup_pairs_find(const struct cg_cgroup_pair *pairs, size_t count, struct cg_bytes key,
                          uint64_t *ret_value)
{
    for (size_t i = 0; i < count; i++) {
        if (cg_bytes_equal(pairs[i].key, key)) {
            *ret_value = pairs[i].value;
            return true;
        }
    }
    return false;
}

static bool append_flat(struct cg_bytes text, struct cg_buf *out)
{
    struct cg_cgroup_pair pairs[CG_CGROUP_KEYS_MAX];
    size_t count = 0;
    if (!cg_cgroup_flat_parse(text, pairs, &count)) {
        return false;
    }
    append_pairs(pairs, count, out);
    return true;
}

/* --- nested keyed --- */

struct line {
    struct cg_bytes name;
    struct cg_bytes rest;
};

static int compare_lines(const void *a, const void *b)
{
    return compare_keys(((const struct line *)a)->name, ((const struct line *)b)->name);
}

/* `averages`: what begins with "avg" is in hundredths. */
static bool append_line(struct cg_bytes rest, bool averages, struct cg_buf *out)
{
    struct cg_cgroup_pair pairs[CG_CGROUP_KEYS_MAX];
    size_t count = 0;
    while (rest.len > 0) {
        struct cg_bytes value = take_until(&rest, ' ');
        if (value.len == 0) {
            continue; /* the kernel ends some lines in a space */
        }
        struct cg_bytes key = take_until(&value, '=');
        if (count == CG_CGROUP_KEYS_MAX || !is_key(key)) {
            return false;
        }
        bool average = averages && cg_bytes_starts(key, CG_BYTES("avg"));
        bool good = average ? read_hundredths(value, &pairs[count].value)
                            : read_u64(value, &pairs[count].value);
        if (!good && averages) {
            return false;
        }
        pairs[count].key = key;
        count += good ? 1 : 0;
    }
    if (!sort_pairs(pairs, count)) {
        return false;
    }
    append_pairs(pairs, count, out);
    return true;
}

static bool append_nested(struct cg_bytes text, bool averages, struct cg_buf *out)
{
    struct line lines[CG_CGROUP_LINES_MAX];
    size_t count = 0;
    while (text.len > 0) {
        struct cg_bytes rest = take_until(&text, '\n');
        struct cg_bytes name = take_until(&rest, ' ');
        if (count == CG_CGROUP_LINES_MAX || !is_key(name)) {
            return false;
        }
        lines[count++] = (struct line){name, rest};
    }
    qsort(lines, count, sizeof(lines[0]), compare_lines);
    cg_buf_append_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && cg_bytes_equal(lines[i - 1].name, lines[i].name)) {
            return false;
        }
        cg_buf_append_str(out, i == 0 ? "\"" : ",\"");
        cg_buf_append(out, lines[i].name);
        cg_buf_append_str(out, "\":");
        if (!append_line(lines[i].rest, averages, out)) {
            return false;
        }
    }
    cg_buf_append_char(out, '}');
    return true;
}

static bool append_number(struct cg_bytes text, struct cg_buf *out)
{
    uint64_t value = 0;
    struct cg_bytes line = take_until(&text, '\n');
    if (text.len > 0 || !read_u64(line, &value)) {
        return false;
    }
    cg_buf_append_u64(out, value);
    return true;
}

bool cg_cgroup_append(enum cg_cgroup_format format, struct cg_bytes text, struct cg_buf *out)
{
    switch (format) {
    case CG_CGROUP_NUMBER:
        return append_number(text, out);
    case CG_CGROUP_FLAT:
        return append_flat(text, out);
    case CG_CGROUP_NESTED:
        return append_nested(text, false, out);
    case CG_CGROUP_PRESSURE:
        return append_nested(text, true, out);
    }
    return false;
}
