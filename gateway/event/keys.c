#include "event/keys.h"

#include "base/utf8.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "event/base64url.h"
#include "event/key_file.h"

#include <sodium.h>
#include <strings.h>

enum {
    KEY_BYTES_MAX = CG_KEY_TEXT_BYTES_MAX * 6 / 8,
    HMAC_KEY_BYTES_GOOD = 32, /* shorter ones are weaker than the hash: accepted with a warning */
};

struct cg_signing_key {
    enum cg_signing_mode mode;
    size_t kid_len;
    size_t key_len;
    char kid[CG_KID_BYTES_MAX];
    uint8_t key[KEY_BYTES_MAX];
};

/* One thing said about signing. `name` is the variable or option that says it; NULL: not said. */
struct said {
    const char *name;
    struct cg_bytes text;
};

/* What one source says. `key` is for whichever algorithm is named. */
struct source {
    struct said mode;
    struct said kid;
    struct said key;
    struct said hmac_key;
    struct said ed25519_key;
    bool kid_exact; /* a kid given as bytes may be blank */
};

enum { REQUEST, FAMILY_EVENT, FAMILY_TELEMETRY, SOURCES };

static struct said ask_environment(char *(*getenv_fn)(const char *name), const char *name)
{
    const char *value = getenv_fn(name);
    return value == NULL ? (struct said){0} : (struct said){name, cg_bytes_str(value)};
}

static void gather(const struct cg_key_request *request, char *(*getenv_fn)(const char *name),
                   struct source *sources)
{
    struct source *given = &sources[REQUEST];
    if (request->mode != NULL) {
        given->mode = (struct said){"the given mode", cg_bytes_str(request->mode)};
    }
    if (request->kid_exact.data != NULL) {
        given->kid = (struct said){"the given kid", request->kid_exact};
        given->kid_exact = true;
    } else if (request->kid != NULL) {
        given->kid = (struct said){"the given kid", cg_bytes_str(request->kid)};
    }
    if (request->key_file != NULL) {
        given->key.name = "the given key file";
    }
    sources[FAMILY_EVENT] = (struct source){
        .mode = ask_environment(getenv_fn, "CELLOS_EVENT_SIGNING"),
        .kid = ask_environment(getenv_fn, "CELLOS_EVENT_SIGNING_KID"),
        .key = ask_environment(getenv_fn, "CELLOS_EVENT_SIGNING_KEY_BASE64"),
    };
    sources[FAMILY_TELEMETRY] = (struct source){
        .mode = ask_environment(getenv_fn, "CELLOS_HOST_TELEMETRY_SIGN_ALG"),
        .kid = ask_environment(getenv_fn, "CELLOS_HOST_TELEMETRY_SIGN_KID"),
        .hmac_key = ask_environment(getenv_fn, "CELLOS_HOST_TELEMETRY_SIGN_HMAC_KEY"),
        .ed25519_key = ask_environment(getenv_fn, "CELLOS_HOST_TELEMETRY_SIGN_ED25519_SK"),
    };
}

/* Unicode's white space, as UTF-8. */
static const char *const spaces[] = {
    " ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\xc2\x85", "\u00a0", "\u1680",
    "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",   "\u2007", "\u2008",
    "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000",
};

/* The length of the white space character that `text` begins with, or ends with; 0 for none. */
static size_t space_len(struct cg_bytes text, bool at_end)
{
    for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
        size_t len = strlen(spaces[i]);
        if (text.len >= len &&
            memcmp(text.data + (at_end ? text.len - len : 0), spaces[i], len) == 0) {
            return len;
        }
    }
    return 0;
}

static struct cg_bytes trim(struct cg_bytes text)
{
    size_t len;
    while ((len = space_len(text, false)) > 0) {
        text = cg_bytes(text.data + len, text.len - len);
    }
    while ((len = space_len(text, true)) > 0) {
        text.len -= len;
    }
    return text;
}

static bool parse_mode(const struct said *said, enum cg_signing_mode *ret_mode,
                       struct cg_error *err)
{
    static const struct {
        const char *name;
        enum cg_signing_mode mode;
    } names[] = {
        {"", CG_SIGNING_OFF},
        {"off", CG_SIGNING_OFF},
        {"hmac", CG_SIGNING_HMAC_SHA256},
        {"hmac-sha256", CG_SIGNING_HMAC_SHA256},
        {"ed25519", CG_SIGNING_ED25519},
    };
    struct cg_bytes text = trim(said->text);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i].name) == text.len &&
            (text.len == 0 || strncasecmp(names[i].name, text.data, text.len) == 0)) {
            *ret_mode = names[i].mode;
            return true;
        }
    }
    /* The text is not shown: a key may have been put into the wrong variable. */
    return cg_error_set(err, "%s: no such algorithm (off, hmac-sha256, ed25519)", said->name);
}

/* The mode that all sources who name one agree on. */
static bool agree_on_mode(const struct source *sources, enum cg_signing_mode *ret_mode,
                          struct cg_error *err)
{
    const struct said *first = NULL;
    enum cg_signing_mode agreed = CG_SIGNING_OFF;
    for (int i = 0; i < SOURCES; i++) {
        const struct said *said = &sources[i].mode;
        enum cg_signing_mode mode = CG_SIGNING_OFF;
        if (said->name == NULL) {
            continue;
        }
        if (!parse_mode(said, &mode, err)) {
            return false;
        }
        if (first == NULL) {
            first = said;
            agreed = mode;
        } else if (mode != agreed) {
            return cg_error_set(err, "%s and %s name different algorithms", first->name,
                                said->name);
        }
    }
    *ret_mode = agreed;
    return true;
}

static bool check_kid(const struct source *source, struct cg_error *err)
{
    const struct said *kid = &source->kid;
    if (kid->text.len > CG_KID_BYTES_MAX) {
        return cg_error_set(err, "%s: longer than %d bytes", kid->name, CG_KID_BYTES_MAX);
    }
    if (!cg_utf8_valid(kid->text)) {
        return cg_error_set(err, "%s: not UTF-8", kid->name);
    }
    if (!source->kid_exact && trim(kid->text).len == 0) {
        return cg_error_set(err, "%s: must not be blank", kid->name);
    }
    return true;
}

/* The kid that all sources agree on; *ret_kid has no name if there is none. */
static bool agree_on_kid(const struct source *sources, enum cg_signing_mode mode,
                         struct said *ret_kid, struct cg_error *err)
{
    struct said agreed = {0};
    for (int i = 0; i < SOURCES; i++) {
        const struct said *said = &sources[i].kid;
        if (said->name == NULL) {
            continue;
        }
        if (mode != CG_SIGNING_OFF && !check_kid(&sources[i], err)) {
            return false;
        }
        if (agreed.name == NULL) {
            agreed = *said;
        } else if (!cg_bytes_equal(agreed.text, said->text)) {
            return cg_error_set(err, "%s and %s name different kids", agreed.name, said->name);
        }
    }
    *ret_kid = agreed;
    return true;
}

/* The name of a key that must not be there in this mode; NULL if there is none. */
static const char *key_out_of_place(const struct source *source, enum cg_signing_mode mode)
{
    if (source->hmac_key.name != NULL && mode != CG_SIGNING_HMAC_SHA256) {
        return source->hmac_key.name;
    }
    if (source->ed25519_key.name != NULL && mode != CG_SIGNING_ED25519) {
        return source->ed25519_key.name;
    }
    return mode == CG_SIGNING_OFF ? source->key.name : NULL;
}

static const struct said *key_of(const struct source *source)
{
    return source->key.name != NULL        ? &source->key
           : source->hmac_key.name != NULL ? &source->hmac_key
                                           : &source->ed25519_key;
}

/*
 * A family of variables that names an algorithm or a key must be whole, together with what was
 * given beside it: one family does not fill the gaps of the other.
 */
static bool check_family(const struct source *family, const struct source *given,
                         const char *mode_name, const char *kid_name, const char *key_name,
                         struct cg_error *err)
{
    const char *key = key_of(family)->name;
    if (family->mode.name == NULL && key == NULL) {
        return true;
    }
    if (family->mode.name == NULL && given->mode.name == NULL) {
        return cg_error_set(err, "%s is set, but %s is not", key, mode_name);
    }
    const char *there = key != NULL ? key : family->mode.name;
    if (family->kid.name == NULL && given->kid.name == NULL) {
        return cg_error_set(err, "%s is set, but %s is not", there, kid_name);
    }
    if (key == NULL && given->key.name == NULL) {
        return cg_error_set(err, "%s is set, but %s is not", there, key_name);
    }
    return true;
}

static bool check_complete(const struct source *sources, enum cg_signing_mode mode,
                           struct cg_error *err)
{
    const struct source *given = &sources[REQUEST];
    bool kid = false;
    bool key = false;
    for (int i = 0; i < SOURCES; i++) {
        kid = kid || sources[i].kid.name != NULL;
        key = key || key_of(&sources[i])->name != NULL;
    }
    if (!check_family(&sources[FAMILY_EVENT], given, "CELLOS_EVENT_SIGNING",
                      "CELLOS_EVENT_SIGNING_KID", "CELLOS_EVENT_SIGNING_KEY_BASE64", err) ||
        !check_family(&sources[FAMILY_TELEMETRY], given, "CELLOS_HOST_TELEMETRY_SIGN_ALG",
                      "CELLOS_HOST_TELEMETRY_SIGN_KID",
                      mode == CG_SIGNING_HMAC_SHA256 ? "CELLOS_HOST_TELEMETRY_SIGN_HMAC_KEY"
                                                     : "CELLOS_HOST_TELEMETRY_SIGN_ED25519_SK",
                      err)) {
        return false;
    }
    return kid && key ? true
                      : cg_error_set(err, "signing with %s needs a %s, and none is given",
                                     cg_signing_mode_name(mode), kid ? "key" : "kid");
}

static bool decode_key(const struct said *said, enum cg_signing_mode mode,
                       struct cg_signing_key *key, struct cg_error *err)
{
    struct cg_bytes text = trim(said->text);
    if (!cg_base64url_decode(text, key->key, sizeof(key->key), &key->key_len)) {
        return cg_error_set(err, "%s: not base64url, or too long", said->name);
    }
    if (mode == CG_SIGNING_ED25519 && key->key_len != CG_ED25519_SEED_BYTES) {
        return cg_error_set(err, "%s: an ed25519 key is a seed of exactly %d bytes", said->name,
                            CG_ED25519_SEED_BYTES);
    }
    if (key->key_len == 0) {
        return cg_error_set(err, "%s: the key is empty", said->name);
    }
    return true;
}

static struct cg_signing_key *new_key(enum cg_signing_mode mode)
{
    /* Locked, left out of core dumps, wiped when freed. */
    struct cg_signing_key *key = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*key));
    if (key != NULL) {
        memset(key, 0, sizeof(*key));
        key->mode = mode;
    }
    return key;
}

/* Decodes each key that is there into `key`, through `other` for all but the first. */
static bool agree_on_key(const struct source *sources, struct cg_signing_key *key,
                         struct cg_signing_key *other, struct cg_error *err)
{
    const struct said *first = NULL;
    for (int i = 0; i < SOURCES; i++) {
        const struct said *said = key_of(&sources[i]);
        if (said->name == NULL) {
            continue;
        }
        if (!decode_key(said, key->mode, first == NULL ? key : other, err)) {
            return false;
        }
        if (first == NULL) {
            first = said;
        } else if (key->key_len != other->key_len ||
                   sodium_memcmp(key->key, other->key, key->key_len) != 0) {
            return cg_error_set(err, "%s and %s hold different keys", first->name, said->name);
        }
    }
    return true;
}

static void cleanup_key(struct cg_signing_key **key)
{
    cg_signing_key_free(*key);
}

#define auto_key __attribute__((cleanup(cleanup_key)))

/* The last step: all that is said of mode and kid is agreed on and whole. */
static bool make_key(const struct source *sources, enum cg_signing_mode mode, struct cg_bytes kid,
                     struct cg_signing_key **ret_key, struct cg_error *err)
{
    auto_key struct cg_signing_key *key = new_key(mode);
    auto_key struct cg_signing_key *other = new_key(mode);
    if (key == NULL || other == NULL) {
        return cg_error_set(err, "no memory for the signing key");
    }
    if (mode != CG_SIGNING_OFF) {
        if (!agree_on_key(sources, key, other, err)) {
            return false;
        }
        key->kid_len = kid.len;
        if (kid.len > 0) {
            memcpy(key->kid, kid.data, kid.len);
        }
    }
    *ret_key = cg_steal_ptr(key);
    return true;
}

bool cg_signing_key_load(const struct cg_key_request *request, char *(*getenv_fn)(const char *name),
                         struct cg_signing_key **ret_key, const char **ret_warning,
                         struct cg_error *err)
{
    struct source sources[SOURCES] = {0};
    gather(request, getenv_fn, sources);
    enum cg_signing_mode mode = CG_SIGNING_OFF;
    if (!agree_on_mode(sources, &mode, err)) {
        return false;
    }
    const struct source *telemetry = &sources[FAMILY_TELEMETRY];
    if (telemetry->hmac_key.name != NULL && telemetry->ed25519_key.name != NULL) {
        return cg_error_set(err, "%s and %s are both set", telemetry->hmac_key.name,
                            telemetry->ed25519_key.name);
    }
    for (int i = 0; i < SOURCES; i++) {
        const char *key = key_out_of_place(&sources[i], mode);
        if (key != NULL) {
            return cg_error_set(err, "%s is set, but the algorithm is %s", key,
                                cg_signing_mode_name(mode));
        }
    }
    struct said kid = {0};
    if (!agree_on_kid(sources, mode, &kid, err) ||
        (mode != CG_SIGNING_OFF && !check_complete(sources, mode, err))) {
        return false;
    }
    cg_auto_key_text struct cg_key_text text = {0};
    if (request->key_file != NULL) {
        if (!cg_key_file_read(request->key_file, getenv_fn("CREDENTIALS_DIRECTORY"), &text, err)) {
            return false;
        }
        sources[REQUEST].key = (struct said){request->key_file, cg_bytes(text.data, text.len)};
    }
    if (!make_key(sources, mode, kid.text, ret_key, err)) {
        return false;
    }
    bool weak = mode == CG_SIGNING_HMAC_SHA256 && (*ret_key)->key_len < HMAC_KEY_BYTES_GOOD;
    *ret_warning = weak ? "the HMAC key is shorter than 32 bytes" : NULL;
    return true;
}

void cg_signing_key_free(struct cg_signing_key *key)
{
    sodium_free(key);
}

bool cg_signing_key_equal(const struct cg_signing_key *a, const struct cg_signing_key *b)
{
    return a->mode == b->mode && cg_bytes_equal(cg_signing_key_kid(a), cg_signing_key_kid(b)) &&
           a->key_len == b->key_len && sodium_memcmp(a->key, b->key, a->key_len) == 0;
}

bool cg_signing_key_may_follow(const struct cg_signing_key *before,
                               const struct cg_signing_key *after)
{
    return before->mode == CG_SIGNING_OFF || after->mode == CG_SIGNING_OFF ||
           !cg_bytes_equal(cg_signing_key_kid(before), cg_signing_key_kid(after)) ||
           cg_signing_key_equal(before, after);
}

enum cg_signing_mode cg_signing_key_mode(const struct cg_signing_key *key)
{
    return key->mode;
}

struct cg_bytes cg_signing_key_kid(const struct cg_signing_key *key)
{
    return cg_bytes(key->kid, key->kid_len);
}

struct cg_bytes cg_signing_key_bytes(const struct cg_signing_key *key)
{
    return cg_bytes(key->key, key->key_len);
}
