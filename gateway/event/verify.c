#include "event/verify.h"

#include "event/base64url.h"

#include <sodium.h>

/* The members of an envelope. */
enum member {
    MEMBER_EVENT,
    MEMBER_KID,
    MEMBER_ALGORITHM,
    MEMBER_SIGNATURE,
    MEMBER_NOT_BEFORE,
    MEMBER_NOT_AFTER,
    MEMBERS
};

static const struct {
    struct cg_bytes name;
    bool required;
} members[MEMBERS] = {
    [MEMBER_EVENT] = {CG_BYTES("event"), true},
    [MEMBER_KID] = {CG_BYTES("signerKid"), true},
    [MEMBER_ALGORITHM] = {CG_BYTES("algorithm"), true},
    [MEMBER_SIGNATURE] = {CG_BYTES("signature"), true},
    [MEMBER_NOT_BEFORE] = {CG_BYTES("notBefore"), false},
    [MEMBER_NOT_AFTER] = {CG_BYTES("notAfter"), false},
};

/* Where the members of an envelope stand; 0 for what is absent or null. */
struct envelope {
    uint32_t node[MEMBERS];
    uint32_t unknown;
};

void cg_verifier_init(struct cg_verifier *verifier, const struct cg_keyring *ring,
                      size_t event_bytes_max)
{
    *verifier = (struct cg_verifier){.ring = ring};
    cg_buf_init(&verifier->bytes, event_bytes_max);
    cg_buf_init(&verifier->text, event_bytes_max);
}

void cg_verifier_fini(struct cg_verifier *verifier)
{
    cg_canonical_fini(&verifier->canonical);
    cg_buf_fini(&verifier->bytes);
    cg_buf_fini(&verifier->text);
}

const char *cg_judgement_name(enum cg_judgement_kind kind)
{
    static const char *const names[CG_JUDGEMENT_COUNT] = {
        [CG_JUDGED_OK] = "signed",
        [CG_JUDGED_UNSIGNED] = "unsigned",
        [CG_JUDGED_MALFORMED] = "malformed",
        [CG_JUDGED_ALGORITHM] = "unknown algorithm",
        [CG_JUDGED_KID] = "unknown kid",
        [CG_JUDGED_SIGNATURE] = "the signature is not base64url of the right length",
        [CG_JUDGED_NUMBER] = "no canonical form",
        [CG_JUDGED_MISMATCH] = "the signature is not that of this event",
    };
    return names[kind];
}

static bool find_members(struct cg_verifier *verifier, const struct cg_json *json, uint32_t node,
                         struct envelope *ret_envelope, struct cg_error *err)
{
    uint32_t repeated = 0;
    if (!cg_json_repeated(json, node, &verifier->canonical.order, &repeated)) {
        return cg_error_set(err, "no memory");
    }
    if (repeated != 0) {
        return cg_error_set(err, "a member of the envelope is repeated");
    }
    struct envelope found = {0};
    for (uint32_t key = node + 1; key < json->nodes[node].next; key = json->nodes[key + 1].next) {
        size_t which = 0;
        while (which < MEMBERS && !cg_json_is(json, key, members[which].name)) {
            which++;
        }
        if (which == MEMBERS) {
            found.unknown = found.unknown == 0 ? key : found.unknown;
        } else if (cg_json_type(json, key + 1) != CG_JSON_NULL) {
            found.node[which] = key + 1;
        }
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        if (found.node[i] == 0 && members[i].required) {
            return cg_error_set(err, "the envelope has no %s", members[i].name.data);
        }
        if (found.node[i] != 0 && i != MEMBER_EVENT &&
            cg_json_type(json, found.node[i]) != CG_JSON_STRING) {
            return cg_error_set(err, "the envelope's %s is no text", members[i].name.data);
        }
    }
    *ret_envelope = found;
    return true;
}

/* What a string says; valid until the next call. No bytes at all if there is no memory. */
static struct cg_bytes said(struct cg_verifier *verifier, const struct cg_json *json, uint32_t node)
{
    cg_buf_clear(&verifier->text);
    bool decoded = cg_json_decode(json, node, &verifier->text);
    return decoded ? cg_buf_bytes(&verifier->text) : cg_bytes(NULL, 0);
}

static bool signature_good(enum cg_signing_mode mode, struct cg_bytes key, struct cg_bytes message,
                           const uint8_t *signature)
{
    const uint8_t *bytes = (const uint8_t *)message.data;
    const uint8_t *key_bytes = (const uint8_t *)key.data;
    if (mode == CG_SIGNING_ED25519) {
        return crypto_sign_ed25519_verify_detached(signature, bytes, message.len, key_bytes) == 0;
    }
    crypto_auth_hmacsha256_state state;
    uint8_t expected[crypto_auth_hmacsha256_BYTES];
    (void)crypto_auth_hmacsha256_init(&state, key_bytes, key.len);
    (void)crypto_auth_hmacsha256_update(&state, bytes, message.len);
    (void)crypto_auth_hmacsha256_final(&state, expected);
    sodium_memzero(&state, sizeof(state));
    return sodium_memcmp(expected, signature, sizeof(expected)) == 0;
}

/* Judges the signature over an event that is well-formed. */
static enum cg_judgement_kind judge_signature(struct cg_verifier *verifier,
                                              const struct cg_json *json,
                                              const struct envelope *envelope,
                                              const struct cg_attributes *attributes,
                                              struct cg_error *detail)
{
    enum cg_signing_mode mode = CG_SIGNING_OFF;
    size_t expected_len = 0;
    uint32_t algorithm = envelope->node[MEMBER_ALGORITHM];
    if (cg_json_is(json, algorithm, CG_BYTES("ed25519"))) {
        mode = CG_SIGNING_ED25519;
        expected_len = crypto_sign_ed25519_BYTES;
    } else if (cg_json_is(json, algorithm, CG_BYTES("hmac-sha256"))) {
        mode = CG_SIGNING_HMAC_SHA256;
        expected_len = crypto_auth_hmacsha256_BYTES;
    } else {
        return CG_JUDGED_ALGORITHM;
    }
    struct cg_bytes key = {0};
    struct cg_bytes kid = said(verifier, json, envelope->node[MEMBER_KID]);
    if (!cg_keyring_find(verifier->ring, mode, kid, &key)) {
        return CG_JUDGED_KID;
    }
    uint8_t signature[CG_SIGNATURE_BYTES_MAX];
    size_t len = 0;
    struct cg_bytes text = said(verifier, json, envelope->node[MEMBER_SIGNATURE]);
    if (!cg_base64url_decode(text, signature, sizeof(signature), &len) || len != expected_len) {
        return CG_JUDGED_SIGNATURE;
    }
    cg_buf_clear(&verifier->bytes);
    if (!cg_canonical_render(&verifier->canonical, json, attributes, &verifier->bytes, detail)) {
        return CG_JUDGED_NUMBER;
    }
    return signature_good(mode, key, cg_buf_bytes(&verifier->bytes), signature)
               ? CG_JUDGED_OK
               : CG_JUDGED_MISMATCH;
}

static void judge_envelope(struct cg_verifier *verifier, const struct cg_json *json, uint32_t node,
                           struct cg_attributes *ret_attributes, struct cg_judgement *judgement)
{
    struct envelope envelope = {0};
    judgement->kind = CG_JUDGED_MALFORMED;
    if (cg_json_type(json, node) != CG_JSON_OBJECT) {
        (void)cg_error_set(&judgement->detail, "the envelope is no JSON object");
        return;
    }
    if (!find_members(verifier, json, node, &envelope, &judgement->detail) ||
        !cg_canonical_inspect(&verifier->canonical, json, envelope.node[MEMBER_EVENT],
                              ret_attributes, &judgement->detail)) {
        return;
    }
    judgement->event = envelope.node[MEMBER_EVENT];
    judgement->id = ret_attributes->node[CG_ATTRIBUTE_ID];
    judgement->kid = envelope.node[MEMBER_KID];
    judgement->algorithm = envelope.node[MEMBER_ALGORITHM];
    judgement->not_before = envelope.node[MEMBER_NOT_BEFORE];
    judgement->not_after = envelope.node[MEMBER_NOT_AFTER];
    judgement->unknown_envelope = envelope.unknown;
    judgement->unknown_event = ret_attributes->unknown;
    judgement->kind =
        judge_signature(verifier, json, &envelope, ret_attributes, &judgement->detail);
}

/* Do two members, either of which may be absent, say different things? */
static bool differ(const struct cg_json *json, uint32_t a, uint32_t b)
{
    return (a == 0) != (b == 0) || (a != 0 && cg_json_compare(json, a, b) != 0);
}

static void judge_transport(struct cg_verifier *verifier, const struct cg_json *json, uint32_t node,
                            struct cg_judgement *judgement)
{
    struct cg_attributes outside = {0};
    struct cg_attributes inside = {0};
    if (!cg_canonical_inspect(&verifier->canonical, json, node, &outside, &judgement->detail)) {
        judgement->kind = CG_JUDGED_MALFORMED;
        return;
    }
    if (outside.node[CG_ATTRIBUTE_DATA] == 0) {
        judgement->kind = CG_JUDGED_MALFORMED;
        (void)cg_error_set(&judgement->detail, "the transport event has no data");
        return;
    }
    judgement->unknown_outside = outside.unknown;
    judge_envelope(verifier, json, outside.node[CG_ATTRIBUTE_DATA], &inside, judgement);
    if (judgement->id != 0) {
        judgement->outside_differs =
            differ(json, outside.node[CG_ATTRIBUTE_ID], inside.node[CG_ATTRIBUTE_ID]) ||
            differ(json, outside.node[CG_ATTRIBUTE_TIME], inside.node[CG_ATTRIBUTE_TIME]);
    }
}

void cg_verifier_judge(struct cg_verifier *verifier, const struct cg_json *json, uint32_t node,
                       struct cg_judgement *ret_judgement)
{
    struct cg_judgement *judgement = ret_judgement;
    *judgement = (struct cg_judgement){.kind = CG_JUDGED_MALFORMED};
    if (cg_json_type(json, node) != CG_JSON_OBJECT) {
        (void)cg_error_set(&judgement->detail, "no JSON object");
        return;
    }
    /* An extension attribute may be called "event", but it is never an object. */
    uint32_t event = cg_json_find(json, node, members[MEMBER_EVENT].name);
    bool is_envelope = event != 0 && cg_json_type(json, event) == CG_JSON_OBJECT;
    uint32_t type = cg_json_find(json, node, CG_BYTES("type"));
    bool is_transport = type != 0 && cg_json_is(json, type, CG_ENVELOPE_EVENT_TYPE);
    if (is_envelope && is_transport) {
        /* One reader would take the one, another the other. */
        (void)cg_error_set(&judgement->detail, "both an envelope and a transport event");
    } else if (is_envelope) {
        struct cg_attributes inside = {0};
        judge_envelope(verifier, json, node, &inside, judgement);
    } else if (is_transport) {
        judge_transport(verifier, json, node, judgement);
    } else if (cg_json_find(json, node, CG_BYTES("specversion")) != 0) {
        judgement->kind = CG_JUDGED_UNSIGNED;
        judgement->event = node;
    } else {
        (void)cg_error_set(&judgement->detail, "neither a CloudEvent nor an envelope");
    }
}
