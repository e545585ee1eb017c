#include "event/keyring.h"

#include "cellgate/log.h"
#include "event/base64url.h"
#include "event/json.h"

#include <sodium.h>
#include <stdlib.h>

enum { MODES = CG_SIGNING_ED25519 + 1, SHOWN_KID_MAX = 80 };

struct entry {
    struct cg_bytes kid; /* in the set's `kids` */
    struct cg_bytes key; /* in the set's `keys` */
};

/* The keys of one mode. */
struct set {
    struct entry *entries;
    size_t count;
    struct cg_buf kids;
    uint8_t *keys; /* locked memory */
};

struct cg_keyring {
    struct set sets[MODES];
};

static void fini_set(struct set *set)
{
    free(set->entries);
    cg_buf_fini(&set->kids);
    sodium_free(set->keys);
}

static void cleanup_json(struct cg_json *json)
{
    cg_json_fini(json);
}

static void cleanup_locked(char **memory)
{
    sodium_free(*memory);
}

bool cg_keyring_new(struct cg_keyring **ret_ring, struct cg_error *err)
{
    struct cg_keyring *ring = sodium_init() < 0 ? NULL : calloc(1, sizeof(*ring));
    if (ring == NULL) {
        return cg_error_set(err, "the keyring cannot be made");
    }
    *ret_ring = ring;
    return true;
}

void cg_keyring_free(struct cg_keyring *ring)
{
    for (int i = 0; ring != NULL && i < MODES; i++) {
        fini_set(&ring->sets[i]);
    }
    free(ring);
}

/* Decodes the key at `node` to the end of the set's keys; `scratch` has room for its text. */
static const char *decode_key(const struct cg_json *json, uint32_t node, enum cg_signing_mode mode,
                              char *scratch, uint8_t *out, size_t max, size_t *ret_len)
{
    if (cg_json_type(json, node) != CG_JSON_STRING) {
        return "the key is no text";
    }
    struct cg_buf said = {.data = scratch, .cap = json->text.len, .max = json->text.len};
    CG_ASSERT(cg_json_decode(json, node, &said));
    if (!cg_base64url_decode(cg_buf_bytes(&said), out, max, ret_len)) {
        return "the key is not base64url";
    }
    if (*ret_len == 0) {
        return "the key is empty";
    }
    if (mode == CG_SIGNING_ED25519 &&
        (*ret_len != CG_ED25519_PUBLIC_BYTES || crypto_core_ed25519_is_valid_point(out) != 1)) {
        return "this is no Ed25519 public key of 32 bytes";
    }
    return NULL;
}

static bool fill_set(struct set *set, const struct cg_json *json, enum cg_signing_mode mode,
                     char *scratch, struct cg_error *err)
{
    size_t keys_len = 0;
    for (uint32_t kid = 1; kid < json->count; kid = json->nodes[kid + 1].next) {
        struct entry *entry = &set->entries[set->count];
        size_t key_len = 0;
        size_t kid_at = set->kids.len;
        CG_ASSERT(cg_json_decode(json, kid, &set->kids));
        entry->kid = cg_bytes(set->kids.data + kid_at, set->kids.len - kid_at);
        const char *problem = decode_key(json, kid + 1, mode, scratch, set->keys + keys_len,
                                         json->text.len - keys_len, &key_len);
        if (problem != NULL) {
            char shown[SHOWN_KID_MAX];
            (void)cg_text_escape(entry->kid, shown, sizeof(shown));
            return cg_error_set(err, "kid \"%s\": %s", shown, problem);
        }
        entry->key = cg_bytes(set->keys + keys_len, key_len);
        keys_len += key_len;
        set->count++;
    }
    return true;
}

/* Makes the room for all keys at once, since the entries point into it, and fills it. On failure
 * the set is the caller's to end. */
static bool make_set(struct set *set, const struct cg_json *json, enum cg_signing_mode mode,
                     struct cg_error *err)
{
    size_t room = json->text.len;
    __attribute__((cleanup(cleanup_locked))) char *scratch = sodium_malloc(room);
    cg_buf_init(&set->kids, room);
    set->keys = sodium_malloc(room);
    set->entries = calloc(json->nodes[0].count + (size_t)1, sizeof(*set->entries));
    if (scratch == NULL || set->keys == NULL || set->entries == NULL ||
        !cg_buf_reserve(&set->kids, room)) {
        return cg_error_set(err, "no memory for the keys");
    }
    return fill_set(set, json, mode, scratch, err);
}

bool cg_keyring_add(struct cg_keyring *ring, enum cg_signing_mode mode, struct cg_bytes text,
                    struct cg_error *err)
{
    struct set *set = &ring->sets[mode];
    CG_ASSERT(mode != CG_SIGNING_OFF && set->entries == NULL);
    __attribute__((cleanup(cleanup_json))) struct cg_json json;
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = CG_KEYRING_TEXT_BYTES_MAX,
                                                .nodes_max = 2 * CG_KEYRING_KEYS_MAX + 1,
                                                .levels_max = 1,
                                                .unique_members = true});
    if (!cg_json_parse(&json, text, err)) {
        return false;
    }
    if (cg_json_type(&json, 0) != CG_JSON_OBJECT) {
        return cg_error_set(err, "a keys file is a JSON object, kid -> base64url");
    }
    if (!make_set(set, &json, mode, err)) {
        fini_set(set);
        *set = (struct set){0};
        return false;
    }
    return true;
}

bool cg_keyring_find(const struct cg_keyring *ring, enum cg_signing_mode mode, struct cg_bytes kid,
                     struct cg_bytes *ret_key)
{
    const struct set *set = &ring->sets[mode];
    for (size_t i = 0; i < set->count; i++) {
        if (cg_bytes_equal(set->entries[i].kid, kid)) {
            *ret_key = set->entries[i].key;
            return true;
        }
    }
    return false;
}
