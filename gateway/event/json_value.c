/* What the nodes of json.h say: texts, numbers, members. */
#include "event/json.h"

#include <stdlib.h>

enum { UTF8_BYTES_MAX = 4, ORDER_FIRST = 32 };

/* Walks over what a string says, a character at a time; the reader has checked it all. */
struct cursor {
    const char *at;
    const char *end;
};

static struct cursor cursor_of(const struct cg_json *json, uint32_t node)
{
    struct cg_bytes raw = cg_json_raw(json, node);
    return (struct cursor){.at = raw.data, .end = raw.data + raw.len};
}

static uint32_t hex4(const char *digits)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = digits[i];
        value = value * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static size_t encode_utf8(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Takes one escape, or one byte that stands for itself; writes what it says. */
static size_t cursor_take(struct cursor *cursor, char out[UTF8_BYTES_MAX])
{
    char c = *cursor->at++;
    if (c != '\\') {
        out[0] = c;
        return 1;
    }
    c = *cursor->at++;
    if (c == 'u') {
        uint32_t code = hex4(cursor->at);
        cursor->at += 4;
        if (code >= 0xd800 && code <= 0xdfff) {
            code = 0x10000 + ((code - 0xd800) << 10) + (hex4(cursor->at + 2) - 0xdc00);
            cursor->at += 6;
        }
        return encode_utf8(code, out);
    }
    static const char letters[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    const char *letter = strchr(letters, c);
    if (letter != NULL) {
        c = meanings[letter - letters];
    }
    out[0] = c;
    return 1;
}

bool cg_json_is(const struct cg_json *json, uint32_t node, struct cg_bytes text)
{
    if (json->nodes[node].type != CG_JSON_STRING) {
        return false;
    }
    if (!json->nodes[node].escaped) {
        return cg_bytes_equal(cg_json_raw(json, node), text);
    }
    size_t matched = 0;
    for (struct cursor cursor = cursor_of(json, node); cursor.at < cursor.end;) {
        char piece[UTF8_BYTES_MAX];
        size_t len = cursor_take(&cursor, piece);
        if (len > text.len - matched || memcmp(text.data + matched, piece, len) != 0) {
            return false;
        }
        matched += len;
    }
    return matched == text.len;
}

static int compare_raw(struct cg_bytes a, struct cg_bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

int cg_json_compare(const struct cg_json *json, uint32_t a, uint32_t b)
{
    if (!json->nodes[a].escaped && !json->nodes[b].escaped) {
        return compare_raw(cg_json_raw(json, a), cg_json_raw(json, b));
    }
    struct cursor cursors[2] = {cursor_of(json, a), cursor_of(json, b)};
    char piece[2][UTF8_BYTES_MAX];
    size_t len[2] = {0, 0};
    size_t used[2] = {0, 0};
    for (;;) {
        for (int i = 0; i < 2; i++) {
            if (used[i] == len[i] && cursors[i].at < cursors[i].end) {
                len[i] = cursor_take(&cursors[i], piece[i]);
                used[i] = 0;
            }
        }
        bool ended[2] = {used[0] == len[0], used[1] == len[1]};
        if (ended[0] || ended[1]) {
            return ended[1] - ended[0];
        }
        unsigned char left = (unsigned char)piece[0][used[0]++];
        unsigned char right = (unsigned char)piece[1][used[1]++];
        if (left != right) {
            return left < right ? -1 : 1;
        }
    }
}

bool cg_json_decode(const struct cg_json *json, uint32_t node, struct cg_buf *out)
{
    CG_ASSERT(json->nodes[node].type == CG_JSON_STRING);
    struct cg_bytes raw = cg_json_raw(json, node);
    if (!json->nodes[node].escaped) {
        return cg_buf_append(out, raw);
    }
    /* What is said is never longer than how it is written. */
    if (!cg_buf_reserve(out, raw.len)) {
        return false;
    }
    for (struct cursor cursor = cursor_of(json, node); cursor.at < cursor.end;) {
        char piece[UTF8_BYTES_MAX];
        size_t len = cursor_take(&cursor, piece);
        memcpy(out->data + out->len, piece, len);
        out->len += len;
    }
    return true;
}

uint32_t cg_json_find(const struct cg_json *json, uint32_t object, struct cg_bytes name)
{
    uint32_t found = 0;
    if (json->nodes[object].type != CG_JSON_OBJECT) {
        return 0;
    }
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        if (cg_json_is(json, key, name)) {
            found = key + 1;
        }
    }
    return found;
}

/* The value of digits alone; false if there are others, none, too many, or a 0 too much in front.
 */
static bool read_digits(struct cg_bytes digits, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (digits.len == 0 || (digits.len > 1 && digits.data[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.data[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value)) {
            return false;
        }
    }
    *ret_value = value;
    return true;
}

bool cg_json_u64(const struct cg_json *json, uint32_t node, uint64_t *ret_value)
{
    return json->nodes[node].type == CG_JSON_NUMBER &&
           read_digits(cg_json_raw(json, node), ret_value);
}

bool cg_json_i64(const struct cg_json *json, uint32_t node, int64_t *ret_value)
{
    struct cg_bytes token = cg_json_raw(json, node);
    uint64_t magnitude = 0;
    if (json->nodes[node].type != CG_JSON_NUMBER) {
        return false;
    }
    if (token.data[0] != '-') {
        if (!read_digits(token, &magnitude) || magnitude > INT64_MAX) {
            return false;
        }
        *ret_value = (int64_t)magnitude;
        return true;
    }
    if (!read_digits(cg_bytes(token.data + 1, token.len - 1), &magnitude) || magnitude == 0 ||
        magnitude > (uint64_t)INT64_MAX + 1) {
        return false;
    }
    *ret_value = -(int64_t)(magnitude - 1) - 1;
    return true;
}

static int compare_keys(const void *left, const void *right, void *context)
{
    const struct cg_json *json = *(const struct cg_json **)context;
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    int order = cg_json_compare(json, a, b);
    return order != 0 ? order : (a > b) - (a < b);
}

bool cg_json_order_push(struct cg_json_order *order, const struct cg_json *json, uint32_t object)
{
    uint32_t count = json->nodes[object].count;
    if (count == 0) {
        return true;
    }
    if (count > order->cap - order->count) {
        /* Every key in the list is a node of its own, so the sum fits. */
        uint32_t cap = order->cap < ORDER_FIRST ? ORDER_FIRST : order->cap;
        while (cap < order->count + count) {
            cap = cap > UINT32_MAX / 2 ? UINT32_MAX : cap * 2;
        }
        uint32_t *keys = reallocarray(order->keys, cap, sizeof(*keys));
        if (keys == NULL) {
            return false;
        }
        order->keys = keys;
        order->cap = cap;
    }
    uint32_t *list = order->keys + order->count;
    uint32_t taken = 0;
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        list[taken++] = key;
    }
    CG_ASSERT(taken == count);
    if (count > 1) {
        qsort_r(list, count, sizeof(*list), compare_keys, &json);
    }
    order->count += count;
    return true;
}

void cg_json_order_fini(struct cg_json_order *order)
{
    free(order->keys);
    *order = (struct cg_json_order){0};
}

bool cg_json_repeated(const struct cg_json *json, uint32_t object, struct cg_json_order *scratch,
                      uint32_t *ret_key)
{
    uint32_t first = scratch->count;
    if (!cg_json_order_push(scratch, json, object)) {
        return false;
    }
    uint32_t repeated = 0;
    for (uint32_t i = first + 1; i < scratch->count; i++) {
        uint32_t key = scratch->keys[i];
        if (cg_json_compare(json, scratch->keys[i - 1], key) == 0 &&
            (repeated == 0 || key < repeated)) {
            repeated = key;
        }
    }
    scratch->count = first;
    *ret_key = repeated;
    return true;
}
