#include "probes/output.h"

#include "event/json_write.h"

#include <stdlib.h>

static const struct cg_bytes truncated = CG_BYTES("truncated");

void cg_output_init(struct cg_output *output)
{
    cg_buf_init(&output->text, CG_OUTPUT_TEXT_BYTES_MAX);
    output->count = 0;
    output->refused = 0;
    output->open = false;
    output->wrapper = NULL;
}

void cg_output_fini(struct cg_output *output)
{
    cg_buf_fini(&output->text);
}

void cg_output_clear(struct cg_output *output)
{
    cg_buf_clear(&output->text);
    output->count = 0;
    output->refused = 0;
    output->open = false;
    output->wrapper = NULL;
}

void cg_output_open(struct cg_output *output, struct cg_bytes key)
{
    size_t escaped_len = cg_json_escaped_len(key);
    bool fits = output->count < CG_OUTPUT_MEMBERS_MAX && escaped_len <= CG_OUTPUT_KEY_BYTES_MAX &&
                (output->wrapper != NULL || !cg_bytes_equal(key, truncated));
    output->open = fits;
    if (!fits) {
        output->refused++;
        return;
    }
    struct cg_output_member *member = &output->members[output->count++];
    *member = (struct cg_output_member){.key = (uint32_t)output->text.len,
                                        .key_len = (uint32_t)key.len,
                                        .escaped_len = (uint32_t)escaped_len};
    cg_buf_append(&output->text, key);
    member->value = (uint32_t)output->text.len;
}

void cg_output_close(struct cg_output *output)
{
    if (output->open) {
        struct cg_output_member *member = &output->members[output->count - 1];
        member->value_len = (uint32_t)(output->text.len - member->value);
    }
}

void cg_output_u64(struct cg_output *output, const char *key, uint64_t value)
{
    cg_output_open(output, cg_bytes_str(key));
    cg_buf_append_u64(&output->text, value);
    cg_output_close(output);
}

void cg_output_bool(struct cg_output *output, const char *key, bool value)
{
    cg_output_open(output, cg_bytes_str(key));
    cg_buf_append_str(&output->text, value ? "true" : "false");
    cg_output_close(output);
}

void cg_output_text(struct cg_output *output, const char *key, struct cg_bytes value)
{
    cg_output_open(output, cg_bytes_str(key));
    cg_json_append_string(&output->text, value);
    cg_output_close(output);
}

/* --- the object --- */

static struct cg_bytes key_of(const struct cg_output *output, const struct cg_output_member *member)
{
    return cg_bytes(output->text.data + member->key, member->key_len);
}

static int compare_keys(const void *left, const void *right, void *context)
{
    const struct cg_output *output = context;
    const struct cg_output_member *a = left;
    const struct cg_output_member *b = right;
    struct cg_bytes x = key_of(output, a);
    struct cg_bytes y = key_of(output, b);
    int order = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);
    order = order != 0 ? order : (x.len > y.len) - (x.len < y.len);
    return order != 0 ? order : (a->key > b->key) - (a->key < b->key);
}

/* Of equal keys only the last stays. */
static void drop_repeated(struct cg_output *output)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < output->count; i++) {
        bool again =
            i + 1 < output->count && cg_bytes_equal(key_of(output, &output->members[i]),
                                                    key_of(output, &output->members[i + 1]));
        if (!again) {
            output->members[kept++] = output->members[i];
        }
    }
    output->count = kept;
}

static size_t size_of(const struct cg_output_member *member)
{
    return member->escaped_len + member->value_len + sizeof("\"\":,") - 1;
}

/* What remains beside the members, at most, when some are dropped: `"truncated":{…}` with all its
 * names. */
enum {
    DIGITS_MAX = 20,
    TRUNCATED_BYTES_MAX = 64 + CG_OUTPUT_NAMED_MAX * (CG_OUTPUT_KEY_BYTES_MAX + 32),
};
_Static_assert(TRUNCATED_BYTES_MAX < 8192, "there is room for nothing else");

static struct cg_output_member *find_largest(struct cg_output *output)
{
    struct cg_output_member *largest = NULL;
    for (unsigned i = 0; i < output->count; i++) {
        struct cg_output_member *member = &output->members[i];
        if (!member->dropped && (largest == NULL || size_of(member) > size_of(largest))) {
            largest = member;
        }
    }
    return largest;
}

static void drop_largest(struct cg_output *output, size_t bytes_max)
{
    size_t bytes = 2 + (output->wrapper == NULL ? 0 : strlen(output->wrapper) + sizeof("{\"\":}"));
    for (unsigned i = 0; i < output->count; i++) {
        bytes += size_of(&output->members[i]);
    }
    if (bytes <= bytes_max && output->refused == 0) {
        return;
    }
    /* The list grows by each name, at most to its own maximum. */
    size_t list = sizeof("\"truncated\":{\"*\":},") + DIGITS_MAX;
    while (bytes + list > bytes_max) {
        struct cg_output_member *largest = find_largest(output);
        CG_ASSERT(largest != NULL);
        largest->dropped = true;
        bytes -= size_of(largest);
        list += largest->escaped_len + sizeof("\"\":,") + DIGITS_MAX;
        list = list < TRUNCATED_BYTES_MAX ? list : TRUNCATED_BYTES_MAX;
    }
}

static void append_key(struct cg_buf *out, struct cg_bytes key)
{
    if (out->len > 0 && out->data[out->len - 1] != '{') {
        cg_buf_append_char(out, ',');
    }
    cg_json_append_string(out, key);
    cg_buf_append_char(out, ':');
}

/* The list is itself a member, and stands where its key belongs. */
static void append_truncated(const struct cg_output *output, struct cg_buf *out)
{
    uint64_t dropped = 0;
    for (unsigned i = 0; i < output->count; i++) {
        dropped += output->members[i].dropped ? 1 : 0;
    }
    if (dropped + output->refused == 0) {
        return;
    }
    append_key(out, truncated);
    cg_buf_append_char(out, '{');
    uint64_t others = dropped > CG_OUTPUT_NAMED_MAX ? dropped - CG_OUTPUT_NAMED_MAX : 0;
    others += output->refused;
    if (others > 0) {
        append_key(out, CG_BYTES("*"));
        cg_buf_append_u64(out, others);
    }
    unsigned named = 0;
    for (unsigned i = 0; i < output->count && named < CG_OUTPUT_NAMED_MAX; i++) {
        const struct cg_output_member *member = &output->members[i];
        if (member->dropped) {
            append_key(out, key_of(output, member));
            cg_buf_append_u64(out, member->value_len);
            named++;
        }
    }
    cg_buf_append_char(out, '}');
}

static bool comes_before(struct cg_bytes a, struct cg_bytes b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order != 0 ? order < 0 : a.len < b.len;
}

static void append_members(const struct cg_output *output, bool list, struct cg_buf *out)
{
    cg_buf_append_char(out, '{');
    for (unsigned i = 0; i < output->count; i++) {
        const struct cg_output_member *member = &output->members[i];
        if (list && !comes_before(key_of(output, member), truncated)) {
            append_truncated(output, out);
            list = false;
        }
        if (!member->dropped) {
            append_key(out, key_of(output, member));
            cg_buf_append(out, cg_bytes(output->text.data + member->value, member->value_len));
        }
    }
    if (list) {
        append_truncated(output, out);
    }
    cg_buf_append_char(out, '}');
}

bool cg_output_render(struct cg_output *output, size_t bytes_max, struct cg_buf *out)
{
    if (output->text.failed) {
        return false;
    }
    qsort_r(output->members, output->count, sizeof(output->members[0]), compare_keys, output);
    drop_repeated(output);
    drop_largest(output, bytes_max);
    if (output->wrapper == NULL) {
        append_members(output, true, out);
        return !out->failed;
    }
    CG_ASSERT(comes_before(cg_bytes_str(output->wrapper), truncated));
    cg_buf_append_char(out, '{');
    append_key(out, cg_bytes_str(output->wrapper));
    append_members(output, false, out);
    append_truncated(output, out);
    return cg_buf_append_char(out, '}');
}
