/*
 * keyring.h - the keys that signatures are verified with, by kid. docs/contract.md section 5.
 *
 * Made from the text of keys files: a JSON object, kid -> base64url. HMAC keys are secrets: they
 * are kept in locked memory and wiped, and no error shows a byte of any key. Pure but for memory;
 * not changed while verifying, so any number of threads may look keys up.
 */
#ifndef CELLGATE_KEYRING_H
#define CELLGATE_KEYRING_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "event/sign.h"

enum { CG_KEYRING_TEXT_BYTES_MAX = 1048576, CG_KEYRING_KEYS_MAX = 16384 };

struct cg_keyring;

CG_MUST_USE bool cg_keyring_new(struct cg_keyring **ret_ring, struct cg_error *err);
/* Wipes and frees; NULL is fine. */
void cg_keyring_free(struct cg_keyring *ring);

/*
 * Adds the keys of one file, once per mode: public keys for CG_SIGNING_ED25519, secrets for
 * CG_SIGNING_HMAC_SHA256. `text` is wiped by its owner. Refused: what is no object of texts, a kid
 * that repeats, what is not base64url (padding is tolerated), an Ed25519 key that is no point of
 * 32 bytes, an empty HMAC key.
 */
CG_MUST_USE bool cg_keyring_add(struct cg_keyring *ring, enum cg_signing_mode mode,
                                struct cg_bytes text, struct cg_error *err);

/* False if there is no such key. The key is valid until the ring is freed. */
bool cg_keyring_find(const struct cg_keyring *ring, enum cg_signing_mode mode, struct cg_bytes kid,
                     struct cg_bytes *ret_key);

#endif
