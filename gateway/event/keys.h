/*
 * keys.h - loading signing keys, refusing what is unclear, wiping. docs/contract.md section 5.
 *
 * Does I/O (key files) and reads the environment. No function puts a byte of a key into an error, a
 * log line or unlocked memory; every refusal names the variable or file. Not thread-safe: used at
 * start and at reload.
 */
#ifndef CELLGATE_KEYS_H
#define CELLGATE_KEYS_H

#include "cellgate/bytes.h"
#include "cellgate/error.h"
#include "event/sign.h"

/* Mode, kid and key bytes, in memory that is locked and left out of core dumps. */
struct cg_signing_key;

/* What a configuration file or the command line says of signing; NULL members were not said. */
struct cg_key_request {
    const char *mode; /* "off", "hmac-sha256", "hmac", "ed25519" */
    const char *kid;
    /* In place of `kid` where data is not NULL: the exact bytes, valid UTF-8, which may be none at
     * all or hold NUL (`cellgate sign --kid-json`); the rule against blank kids is for the others.
     */
    struct cg_bytes kid_exact;
    const char
        *key_file; /* base64url text; a bare name is looked up in $CREDENTIALS_DIRECTORY too */
};

/*
 * Loads the key that `request` and the environment name together. Refuses, among others: an unknown
 * mode, a mode without kid or key, key material present while the mode is off (a variable that is
 * set but empty counts), both keys at once, a wrong length, the two families of variables or file
 * and environment saying different things. `getenv_fn` is getenv, or a test's. *ret_warning is set
 * to a static text (or NULL) for what is accepted with a warning (short HMAC key).
 */
CG_MUST_USE bool cg_signing_key_load(const struct cg_key_request *request,
                                     char *(*getenv_fn)(const char *name),
                                     struct cg_signing_key **ret_key, const char **ret_warning,
                                     struct cg_error *err);
/* Wipes and frees; NULL is fine. */
void cg_signing_key_free(struct cg_signing_key *key);

/* Whether they sign alike: mode, kid and key. */
bool cg_signing_key_equal(const struct cg_signing_key *a, const struct cg_signing_key *b);
/* False for another key, or mode, under the same kid: verifiers could not follow. */
bool cg_signing_key_may_follow(const struct cg_signing_key *before,
                               const struct cg_signing_key *after);
enum cg_signing_mode cg_signing_key_mode(const struct cg_signing_key *key);
struct cg_bytes cg_signing_key_kid(const struct cg_signing_key *key);
/* The raw key bytes; for cg_signer_new only. */
struct cg_bytes cg_signing_key_bytes(const struct cg_signing_key *key);

#endif
