/*
 * sign.h - the signing modes, over bytes that are given. docs/contract.md section 5.
 *
 * A signer belongs to one thread (it holds a keyed context that is reused for each event); several
 * signers may be made from one key.
 */
#ifndef CELLGATE_SIGN_H
#define CELLGATE_SIGN_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"

#include <stdint.h>

enum cg_signing_mode { CG_SIGNING_OFF, CG_SIGNING_HMAC_SHA256, CG_SIGNING_ED25519 };

enum {
    CG_ED25519_SEED_BYTES = 32,
    CG_ED25519_PUBLIC_BYTES = 32,
    CG_SIGNATURE_BYTES_MAX = 64,
    CG_SIGNATURE_TEXT_MAX = 86, /* base64url of 64 bytes without padding */
};

struct cg_signing_key; /* keys.h */
struct cg_signer;

/* The key is copied into the signer's own locked memory; off gives a signer that signs nothing. */
CG_MUST_USE bool cg_signer_new(const struct cg_signing_key *key, struct cg_signer **ret_signer,
                               struct cg_error *err);
/* Wipes and frees. */
void cg_signer_free(struct cg_signer *signer);

enum cg_signing_mode cg_signer_mode(const struct cg_signer *signer);
/* "hmac-sha256" or "ed25519", as in the envelope; "off". */
const char *cg_signing_mode_name(enum cg_signing_mode mode);
/* The kid as it stands in JSON: escaped, without quotes. */
struct cg_bytes cg_signer_kid_json(const struct cg_signer *signer);

/* Signs `message` and writes the signature as base64url without padding into `ret_text` (room for
 * CG_SIGNATURE_TEXT_MAX, not terminated). Returns its length, or 0 if the library failed. */
CG_MUST_USE size_t cg_signer_sign(struct cg_signer *signer, struct cg_bytes message,
                                  char *ret_text);

#endif
