/* HMAC works on OpenSSL's SHA-256 directly, whose functions OpenSSL 3 calls deprecated: EVP_MAC
 * allocates two contexts an event, which costs a fifth of the speed, and leaves the keyed states,
 * which are as good as the key, in ordinary memory. Here they are plain structs in locked memory.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "event/sign.h"

#include "cellgate/limits.h"
#include "event/base64url.h"
#include "event/json_write.h"
#include "event/keys.h"

#include <openssl/sha.h>
#include <sodium.h>

/* HMAC of RFC 2104 after the first block: SHA-256 has taken in the padded key. */
struct hmac_key {
    SHA256_CTX inner;
    SHA256_CTX outer;
    SHA256_CTX work; /* a copy of one of the two, at work on an event */
};

struct cg_signer {
    enum cg_signing_mode mode;
    union {
        struct hmac_key hmac;
        uint8_t ed25519[crypto_sign_SECRETKEYBYTES]; /* seed and public key */
    } key;
    size_t kid_json_len;
    char kid_json[CG_KID_BYTES_MAX * CG_JSON_ESCAPE_GROWTH];
};

static bool start_padded(SHA256_CTX *context, const uint8_t *block, uint8_t pad)
{
    uint8_t padded[SHA256_CBLOCK];
    for (size_t i = 0; i < sizeof(padded); i++) {
        padded[i] = block[i] ^ pad;
    }
    bool done = SHA256_Init(context) == 1 && SHA256_Update(context, padded, sizeof(padded)) == 1;
    sodium_memzero(padded, sizeof(padded));
    return done;
}

static bool hmac_start(struct hmac_key *hmac, struct cg_bytes key)
{
    uint8_t block[SHA256_CBLOCK] = {0};
    bool done = true;
    if (key.len <= sizeof(block)) {
        memcpy(block, key.data, key.len);
    } else {
        done = SHA256((const uint8_t *)key.data, key.len, block) != NULL;
    }
    done =
        done && start_padded(&hmac->inner, block, 0x36) && start_padded(&hmac->outer, block, 0x5c);
    sodium_memzero(block, sizeof(block));
    return done;
}

static bool hmac_sign(struct hmac_key *hmac, struct cg_bytes message, uint8_t *ret_mac)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    hmac->work = hmac->inner;
    if (SHA256_Update(&hmac->work, message.data, message.len) != 1 ||
        SHA256_Final(digest, &hmac->work) != 1) {
        return false;
    }
    hmac->work = hmac->outer;
    return SHA256_Update(&hmac->work, digest, sizeof(digest)) == 1 &&
           SHA256_Final(ret_mac, &hmac->work) == 1;
}

static bool take_key(struct cg_signer *signer, struct cg_bytes key)
{
    switch (signer->mode) {
    case CG_SIGNING_OFF:
        return true;
    case CG_SIGNING_HMAC_SHA256:
        return hmac_start(&signer->key.hmac, key);
    case CG_SIGNING_ED25519: {
        CG_ASSERT(key.len == CG_ED25519_SEED_BYTES);
        uint8_t public_key[CG_ED25519_PUBLIC_BYTES];
        return crypto_sign_seed_keypair(public_key, signer->key.ed25519,
                                        (const uint8_t *)key.data) == 0;
    }
    }
    return false;
}

bool cg_signer_new(const struct cg_signing_key *key, struct cg_signer **ret_signer,
                   struct cg_error *err)
{
    struct cg_bytes kid = cg_signing_key_kid(key);
    CG_ASSERT(kid.len <= CG_KID_BYTES_MAX);
    if (sodium_init() < 0) {
        return cg_error_set(err, "the signing library cannot be started");
    }
    /* Locked, left out of core dumps, between guard pages. What it returns is aligned to the end of
     * a page, so a size that is a multiple of the alignment is aligned. */
    struct cg_signer *signer = sodium_malloc(sizeof(*signer));
    if (signer == NULL) {
        return cg_error_set(err, "no memory for a signer");
    }
    signer->mode = cg_signing_key_mode(key);
    signer->kid_json_len = cg_json_escape(kid, signer->kid_json);
    if (!take_key(signer, cg_signing_key_bytes(key))) {
        cg_signer_free(signer);
        return cg_error_set(err, "the signing library refuses the key");
    }
    *ret_signer = signer;
    return true;
}

void cg_signer_free(struct cg_signer *signer)
{
    sodium_free(signer);
}

enum cg_signing_mode cg_signer_mode(const struct cg_signer *signer)
{
    return signer->mode;
}

const char *cg_signing_mode_name(enum cg_signing_mode mode)
{
    static const char *const names[] = {
        [CG_SIGNING_OFF] = "off",
        [CG_SIGNING_HMAC_SHA256] = "hmac-sha256",
        [CG_SIGNING_ED25519] = "ed25519",
    };
    return names[mode];
}

struct cg_bytes cg_signer_kid_json(const struct cg_signer *signer)
{
    return cg_bytes(signer->kid_json, signer->kid_json_len);
}

size_t cg_signer_sign(struct cg_signer *signer, struct cg_bytes message, char *ret_text)
{
    uint8_t signature[CG_SIGNATURE_BYTES_MAX];
    size_t len = 0;
    switch (signer->mode) {
    case CG_SIGNING_OFF:
        break;
    case CG_SIGNING_HMAC_SHA256:
        len = hmac_sign(&signer->key.hmac, message, signature) ? SHA256_DIGEST_LENGTH : 0;
        break;
    case CG_SIGNING_ED25519: {
        bool done = crypto_sign_detached(signature, NULL, (const uint8_t *)message.data,
                                         message.len, signer->key.ed25519) == 0;
        len = done ? crypto_sign_BYTES : 0;
        break;
    }
    }
    return cg_base64url_encode(cg_bytes(signature, len), ret_text);
}
