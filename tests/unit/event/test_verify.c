#include "event/verify.h"

#include "event/base64url.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>

#define EVENT(id, data)                                                                            \
    "{\"specversion\":\"1.0\",\"id\":\"" id "\",\"source\":\"s\",\"type\":\"t\","                  \
    "\"datacontenttype\":null,\"data\":" data ",\"time\":\"now\",\"traceparent\":null}"
#define SEALED(event, kid, algorithm)                                                              \
    "{\"event\":" event ",\"signerKid\":\"" kid "\",\"algorithm\":\"" algorithm                    \
    "\",\"signature\":\"%s\"}"
#define WRAPPED(envelope)                                                                          \
    "{\"specversion\":\"1.0\",\"id\":\"i\",\"source\":\"w\",\"time\":\"now\","                     \
    "\"type\":\"dev.cellos.events.signed_envelope.v1\",\"data\":" envelope "}"
#define GOOD SEALED(EVENT("i", "{}"), "k", "ed25519")

struct fixture {
    struct cg_keyring *ring;
    struct cg_verifier verifier;
    struct cg_json json;
    struct cg_buf document;
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    char signature[CG_SIGNATURE_TEXT_MAX + 1]; /* of EVENT("i", "{}") */
    struct cg_judgement judgement;
};

static const char hmac_key[] = "0123456789abcdef";

static void add_key(struct fixture *fixture, enum cg_signing_mode mode, const void *key, size_t len)
{
    char text[256];
    char key_text[100] = {0};
    struct cg_error err = {0};
    (void)cg_base64url_encode(cg_bytes(key, len), key_text);
    (void)snprintf(text, sizeof(text), "{\"k\":\"%s\",\"\\u006b2\":\"%s=\"}", key_text, key_text);
    ck_assert_msg(cg_keyring_add(fixture->ring, mode, cg_bytes_str(text), &err), "%s", err.text);
}

static void set_up(struct fixture *fixture)
{
    static const uint8_t seed[crypto_sign_SEEDBYTES] = {1, 2, 3};
    static const char message[] = EVENT("i", "{}");
    uint8_t public[crypto_sign_PUBLICKEYBYTES];
    uint8_t signature[crypto_sign_BYTES];
    *fixture = (struct fixture){0};
    ck_assert(cg_keyring_new(&fixture->ring, NULL));
    ck_assert_int_eq(crypto_sign_seed_keypair(public, fixture->secret, seed), 0);
    ck_assert_int_eq(crypto_sign_detached(signature, NULL, (const uint8_t *)message,
                                          sizeof(message) - 1, fixture->secret),
                     0);
    (void)cg_base64url_encode(cg_bytes(signature, sizeof(signature)), fixture->signature);
    add_key(fixture, CG_SIGNING_ED25519, public, sizeof(public));
    add_key(fixture, CG_SIGNING_HMAC_SHA256, hmac_key, sizeof(hmac_key) - 1);
    cg_verifier_init(&fixture->verifier, fixture->ring, 65536);
    cg_json_init(&fixture->json,
                 (struct cg_json_limits){.bytes_max = 65536, .nodes_max = 1000, .levels_max = 16});
    cg_buf_init(&fixture->document, 65536);
}

static void tear_down(struct fixture *fixture)
{
    cg_keyring_free(fixture->ring);
    cg_verifier_fini(&fixture->verifier);
    cg_json_fini(&fixture->json);
    cg_buf_fini(&fixture->document);
}

/* Judges a document in which %s stands for the signature. */
static enum cg_judgement_kind judge(struct fixture *fixture, const char *document,
                                    const char *signature)
{
    const char *hole = strstr(document, "%s");
    cg_buf_clear(&fixture->document);
    if (hole != NULL) {
        cg_buf_append(&fixture->document, cg_bytes(document, (size_t)(hole - document)));
        cg_buf_append_str(&fixture->document, signature);
        document = hole + 2;
    }
    ck_assert(cg_buf_append_str(&fixture->document, document));
    ck_assert(cg_json_parse(&fixture->json, cg_buf_bytes(&fixture->document), NULL));
    cg_verifier_judge(&fixture->verifier, &fixture->json, 0, &fixture->judgement);
    return fixture->judgement.kind;
}

static const struct {
    const char *document;
    enum cg_judgement_kind kind;
    const char *id; /* NULL: none */
} documents[] = {
    {GOOD, CG_JUDGED_OK, "i"},
    {WRAPPED(GOOD), CG_JUDGED_OK, "i"},
    {SEALED(EVENT("i", "{}"), "\\u006b2", "ed25519"), CG_JUDGED_OK, "i"},
    {SEALED(EVENT("i", "{ }"), "k", "\\u0065d25519"), CG_JUDGED_OK, "i"},
    {SEALED(EVENT("j", "{}"), "k", "ed25519"), CG_JUDGED_MISMATCH, "j"},
    {SEALED(EVENT("i", "{\"a\":1}"), "k", "ed25519"), CG_JUDGED_MISMATCH, "i"},
    {SEALED(EVENT("i", "null"), "k", "ed25519"), CG_JUDGED_MISMATCH, "i"},
    {SEALED(EVENT("i", "1.0"), "k", "ed25519"), CG_JUDGED_NUMBER, "i"},
    {SEALED(EVENT("i", "{}"), "x", "ed25519"), CG_JUDGED_KID, "i"},
    {SEALED(EVENT("i", "{}"), "", "ed25519"), CG_JUDGED_KID, "i"},
    {SEALED(EVENT("i", "{}"), "k", "Ed25519"), CG_JUDGED_ALGORITHM, "i"},
    {SEALED(EVENT("i", "{}"), "k", "none"), CG_JUDGED_ALGORITHM, "i"},
    {SEALED(EVENT("i", "{}"), "k", "hmac-sha256"), CG_JUDGED_SIGNATURE, "i"},
    {EVENT("i", "{}"), CG_JUDGED_UNSIGNED, NULL},
    {"{\"specversion\":1}", CG_JUDGED_UNSIGNED, NULL},
    {"{}", CG_JUDGED_MALFORMED, NULL},
    {"7", CG_JUDGED_MALFORMED, NULL},
    {"[]", CG_JUDGED_MALFORMED, NULL},
    {"{\"event\":{}}", CG_JUDGED_MALFORMED, NULL},
    {"{\"event\":\"x\",\"signature\":\"%s\"}", CG_JUDGED_MALFORMED, NULL},
    {SEALED("{}", "k", "ed25519"), CG_JUDGED_MALFORMED, NULL},
    {SEALED(EVENT("i", "{}"), "k\",\"signerKid\":\"k", "ed25519"), CG_JUDGED_MALFORMED, NULL},
    {SEALED(EVENT("i", "{}"), "k\",\"notBefore\":1,\"x\":\"", "ed25519"), CG_JUDGED_MALFORMED,
     NULL},
    {SEALED(EVENT("i\",\"id\":\"i", "{}"), "k", "ed25519"), CG_JUDGED_MALFORMED, NULL},
    {WRAPPED(WRAPPED(GOOD)), CG_JUDGED_MALFORMED, NULL},
    {WRAPPED("null"), CG_JUDGED_MALFORMED, NULL},
    {WRAPPED("\"x\""), CG_JUDGED_MALFORMED, NULL},
    {WRAPPED(GOOD ",\"id\":\"i\""), CG_JUDGED_MALFORMED, NULL},
    {WRAPPED(GOOD ",\"event\":{}"), CG_JUDGED_MALFORMED, NULL},
    {WRAPPED(GOOD ",\"event\":\"an extension\""), CG_JUDGED_OK, "i"},
};

START_TEST(a_document_gets_its_verdict)
{
    struct fixture fixture;
    set_up(&fixture);
    enum cg_judgement_kind kind = judge(&fixture, documents[_i].document, fixture.signature);
    ck_assert_msg(kind == documents[_i].kind, "%s: %s", cg_judgement_name(kind),
                  fixture.judgement.detail.text);
    ck_assert_int_eq(fixture.judgement.id != 0, documents[_i].id != NULL);
    if (documents[_i].id != NULL) {
        ck_assert(cg_json_is(&fixture.json, fixture.judgement.id, cg_bytes_str(documents[_i].id)));
    }
    ck_assert_int_eq(fixture.judgement.detail.text[0] != '\0',
                     kind == CG_JUDGED_MALFORMED || kind == CG_JUDGED_NUMBER);
    tear_down(&fixture);
}
END_TEST

START_TEST(every_bit_of_a_signature_counts)
{
    struct fixture fixture;
    set_up(&fixture);
    uint8_t bytes[crypto_sign_BYTES];
    size_t len;
    ck_assert(cg_base64url_decode(cg_bytes_str(fixture.signature), bytes, sizeof(bytes), &len));
    for (size_t bit = 0; bit < 8 * len; bit++) {
        char text[CG_SIGNATURE_TEXT_MAX + 1] = {0};
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)cg_base64url_encode(cg_bytes(bytes, len), text);
        ck_assert_int_eq(judge(&fixture, GOOD, text), CG_JUDGED_MISMATCH);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert_int_eq(judge(&fixture, GOOD, fixture.signature), CG_JUDGED_OK);
    tear_down(&fixture);
}
END_TEST

START_TEST(a_signature_has_one_length_and_one_alphabet)
{
    struct fixture fixture;
    char text[120];
    set_up(&fixture);
    ck_assert_int_eq(judge(&fixture, GOOD, ""), CG_JUDGED_SIGNATURE);
    ck_assert_int_eq(judge(&fixture, GOOD, "AAAA"), CG_JUDGED_SIGNATURE);
    (void)snprintf(text, sizeof(text), "%s==", fixture.signature);
    ck_assert_int_eq(judge(&fixture, GOOD, text), CG_JUDGED_OK);
    (void)snprintf(text, sizeof(text), "%sAA", fixture.signature);
    ck_assert_int_eq(judge(&fixture, GOOD, text), CG_JUDGED_SIGNATURE);
    (void)snprintf(text, sizeof(text), "%s", fixture.signature);
    text[3] = '+';
    ck_assert_int_eq(judge(&fixture, GOOD, text), CG_JUDGED_SIGNATURE);
    tear_down(&fixture);
}
END_TEST

START_TEST(an_hmac_is_verified_with_its_own_keys)
{
    static const char message[] = EVENT("i", "{}");
    struct fixture fixture;
    crypto_auth_hmacsha256_state state;
    uint8_t mac[crypto_auth_hmacsha256_BYTES];
    char text[100] = {0};
    set_up(&fixture);
    crypto_auth_hmacsha256_init(&state, (const uint8_t *)hmac_key, sizeof(hmac_key) - 1);
    crypto_auth_hmacsha256_update(&state, (const uint8_t *)message, sizeof(message) - 1);
    crypto_auth_hmacsha256_final(&state, mac);
    (void)cg_base64url_encode(cg_bytes(mac, sizeof(mac)), text);
    const char *sealed = SEALED(EVENT("i", "{}"), "k", "hmac-sha256");
    ck_assert_int_eq(judge(&fixture, sealed, text), CG_JUDGED_OK);
    text[5] = text[5] == 'A' ? 'B' : 'A';
    ck_assert_int_eq(judge(&fixture, sealed, text), CG_JUDGED_MISMATCH);
    tear_down(&fixture);
}
END_TEST

START_TEST(what_is_not_covered_is_pointed_out)
{
    struct fixture fixture;
    const struct cg_judgement *judgement = &fixture.judgement;
    set_up(&fixture);
    ck_assert_int_eq(judge(&fixture, WRAPPED(GOOD), fixture.signature), CG_JUDGED_OK);
    ck_assert(!judgement->outside_differs && judgement->unknown_outside == 0 &&
              judgement->unknown_envelope == 0 && judgement->unknown_event == 0 &&
              judgement->not_before == 0 && judgement->not_after == 0);
    static const char odd[] =
        "{\"specversion\":\"1.0\",\"id\":\"other\",\"source\":\"w\",\"time\":\"now\",\"o\":1,"
        "\"type\":\"dev.cellos.events.signed_envelope.v1\",\"data\":"
        "{\"n\":0,\"notBefore\":\"x\",\"notAfter\":\"y\",\"event\":{\"e\":0,\"specversion\":\"1."
        "0\","
        "\"id\":\"i\",\"source\":\"s\",\"type\":\"t\",\"data\":{},\"time\":\"now\"},"
        "\"signerKid\":\"k\",\"algorithm\":\"ed25519\",\"signature\":\"%s\"}}";
    ck_assert_int_eq(judge(&fixture, odd, fixture.signature), CG_JUDGED_OK);
    ck_assert(judgement->outside_differs);
    ck_assert(cg_json_is(&fixture.json, judgement->unknown_outside, CG_BYTES("o")));
    ck_assert(cg_json_is(&fixture.json, judgement->unknown_envelope, CG_BYTES("n")));
    ck_assert(cg_json_is(&fixture.json, judgement->unknown_event, CG_BYTES("e")));
    ck_assert(cg_json_is(&fixture.json, judgement->not_before, CG_BYTES("x")));
    ck_assert(cg_json_is(&fixture.json, judgement->not_after, CG_BYTES("y")));
    tear_down(&fixture);
}
END_TEST

static const struct {
    enum cg_signing_mode mode;
    const char *text;
    const char *error;
} bad_keys[] = {
    {CG_SIGNING_HMAC_SHA256, "", "column 1: the text ends too early"},
    {CG_SIGNING_HMAC_SHA256, "[]", "a keys file is a JSON object, kid -> base64url"},
    {CG_SIGNING_HMAC_SHA256, "{\"a\":\"QQ\",\"\\u0061\":\"Qg\"}",
     "column 11: a member is repeated"},
    {CG_SIGNING_HMAC_SHA256, "{\"a\\n\":1}", "kid \"a\\u000a\": the key is no text"},
    {CG_SIGNING_HMAC_SHA256, "{\"a\":\"==\"}", "kid \"a\": the key is empty"},
    {CG_SIGNING_HMAC_SHA256, "{\"a\":\"+/+/\"}", "kid \"a\": the key is not base64url"},
    {CG_SIGNING_HMAC_SHA256, "{\"a\":\"QUF\"}", "kid \"a\": the key is not base64url"},
    {CG_SIGNING_HMAC_SHA256, "{\"a\":{}}", "column 6: too many levels"},
    {CG_SIGNING_ED25519, "{\"a\":\"QQ\"}", "kid \"a\": this is no Ed25519 public key of 32 bytes"},
    {CG_SIGNING_ED25519, "{\"a\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
     "kid \"a\": this is no Ed25519 public key of 32 bytes"},
};

START_TEST(a_bad_keys_file_is_refused_and_adds_nothing)
{
    struct cg_keyring *ring;
    struct cg_error err = {0};
    struct cg_bytes key;
    ck_assert(cg_keyring_new(&ring, NULL));
    ck_assert(!cg_keyring_add(ring, bad_keys[_i].mode, cg_bytes_str(bad_keys[_i].text), &err));
    ck_assert_str_eq(err.text, bad_keys[_i].error);
    ck_assert(!cg_keyring_find(ring, bad_keys[_i].mode, CG_BYTES("a"), &key));
    cg_keyring_free(ring);
}
END_TEST

START_TEST(keys_are_found_by_mode_and_exact_kid)
{
    struct cg_keyring *ring;
    struct cg_bytes key;
    ck_assert(cg_keyring_new(&ring, NULL));
    ck_assert(cg_keyring_add(ring, CG_SIGNING_HMAC_SHA256,
                             CG_BYTES("{\"\":\"QQ\",\"a\\u0000\":\"\\u0051g==\"}"), NULL));
    ck_assert(cg_keyring_find(ring, CG_SIGNING_HMAC_SHA256, CG_BYTES(""), &key));
    ck_assert(cg_bytes_equal(key, CG_BYTES("A")));
    ck_assert(cg_keyring_find(ring, CG_SIGNING_HMAC_SHA256, CG_BYTES("a\0"), &key));
    ck_assert(cg_bytes_equal(key, CG_BYTES("B")));
    ck_assert(!cg_keyring_find(ring, CG_SIGNING_HMAC_SHA256, CG_BYTES("a"), &key));
    ck_assert(!cg_keyring_find(ring, CG_SIGNING_ED25519, CG_BYTES(""), &key));
    cg_keyring_free(ring);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("verify");
    tcase_add_loop_test(tests, a_document_gets_its_verdict, 0,
                        sizeof(documents) / sizeof(documents[0]));
    tcase_add_test(tests, every_bit_of_a_signature_counts);
    tcase_add_test(tests, a_signature_has_one_length_and_one_alphabet);
    tcase_add_test(tests, an_hmac_is_verified_with_its_own_keys);
    tcase_add_test(tests, what_is_not_covered_is_pointed_out);
    tcase_add_loop_test(tests, a_bad_keys_file_is_refused_and_adds_nothing, 0,
                        sizeof(bad_keys) / sizeof(bad_keys[0]));
    tcase_add_test(tests, keys_are_found_by_mode_and_exact_kid);
    Suite *suite = suite_create("event/verify");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
