/*
 * fuzz_json.c - any bytes through the JSON reader and everything that is built on it: what it
 * accepts must be whole and consistent, and canonical bytes must be their own canonical form.
 */
#include "event/canonical.h"
#include "event/json.h"
#include "event/json_write.h"
#include "event/verify.h"

#include "base/utf8.h"

#include <stdint.h>

enum { BYTES_MAX = 65536, OUTPUT_BYTES_MAX = 2 * BYTES_MAX };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cg_json_limits limits = {
    .bytes_max = OUTPUT_BYTES_MAX, .nodes_max = BYTES_MAX, .levels_max = 127};

/* Every node lies within the text and ends behind its contents; every string says valid UTF-8 that
 * can be written and read again. */
static void check_nodes(const struct cg_json *json)
{
    struct cg_buf said;
    struct cg_buf written;
    cg_buf_init(&said, OUTPUT_BYTES_MAX);
    cg_buf_init(&written, CG_JSON_ESCAPE_GROWTH * OUTPUT_BYTES_MAX);
    for (uint32_t i = 0; i < json->count; i++) {
        const struct cg_json_node *node = &json->nodes[i];
        CG_ASSERT((size_t)node->start + node->len <= json->text.len);
        CG_ASSERT(node->next > i && node->next <= json->count);
        if (node->type != CG_JSON_STRING) {
            continue;
        }
        cg_buf_clear(&said);
        cg_buf_clear(&written);
        CG_ASSERT(cg_json_decode(json, i, &said));
        CG_ASSERT(cg_utf8_valid(cg_buf_bytes(&said)));
        CG_ASSERT(cg_json_is(json, i, cg_buf_bytes(&said)) && cg_json_compare(json, i, i) == 0);
        CG_ASSERT(node->has_nul == (said.len > 0 && memchr(said.data, '\0', said.len) != NULL));
        CG_ASSERT(cg_json_append_string(&written, cg_buf_bytes(&said)));
        CG_ASSERT(written.len == cg_json_escaped_len(cg_buf_bytes(&said)) + 2);
        if (!node->escaped) {
            CG_ASSERT(written.len == (size_t)node->len + 2);
        }
    }
    cg_buf_fini(&said);
    cg_buf_fini(&written);
}

static bool canonicalise(struct cg_canonical *canonical, const struct cg_json *json,
                         struct cg_buf *out)
{
    struct cg_attributes attributes;
    struct cg_error err = {0};
    return cg_canonical_inspect(canonical, json, 0, &attributes, &err) &&
           cg_canonical_render(canonical, json, &attributes, out, &err);
}

static void check_canonical(const struct cg_json *json)
{
    struct cg_canonical canonical = {0};
    struct cg_json again;
    struct cg_buf first;
    struct cg_buf second;
    cg_json_init(&again, limits);
    cg_buf_init(&first, OUTPUT_BYTES_MAX);
    cg_buf_init(&second, OUTPUT_BYTES_MAX);
    if (canonicalise(&canonical, json, &first)) {
        CG_ASSERT(first.len <= json->text.len + 128);
        CG_ASSERT(cg_json_parse(&again, cg_buf_bytes(&first), NULL));
        CG_ASSERT(canonicalise(&canonical, &again, &second));
        CG_ASSERT(cg_bytes_equal(cg_buf_bytes(&first), cg_buf_bytes(&second)));
    }
    cg_json_fini(&again);
    cg_canonical_fini(&canonical);
    cg_buf_fini(&first);
    cg_buf_fini(&second);
}

/* Without a key nothing is good, whatever it says. */
static void check_verdict(const struct cg_json *json)
{
    struct cg_keyring *ring;
    struct cg_verifier verifier;
    struct cg_judgement judgement;
    CG_ASSERT(cg_keyring_new(&ring, NULL));
    cg_verifier_init(&verifier, ring, OUTPUT_BYTES_MAX);
    cg_verifier_judge(&verifier, json, 0, &judgement);
    CG_ASSERT(judgement.kind != CG_JUDGED_OK && judgement.kind != CG_JUDGED_MISMATCH);
    cg_verifier_fini(&verifier);
    cg_keyring_free(ring);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > BYTES_MAX) {
        return 0;
    }
    struct cg_json json;
    struct cg_error err = {0};
    cg_json_init(&json, limits);
    if (cg_json_parse(&json, cg_bytes(data, size), &err)) {
        check_nodes(&json);
        check_canonical(&json);
        check_verdict(&json);
    } else {
        CG_ASSERT(json.count == 0 && err.text[0] != '\0');
    }
    cg_json_fini(&json);
    return 0;
}
