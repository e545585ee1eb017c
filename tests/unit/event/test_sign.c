#include "cellgate/buf.h"
#include "event/base64url.h"
#include "event/keys.h"
#include "event/sign.h"
#include "event/transport.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_MAX = 2048 };

/* Published vectors: RFC 4231 sections 4.2 to 4.8 (but for 4.6, which is cut short) and RFC 8032
 * section 7.1. A message or key in quotes is text, otherwise hex. */
static const struct vector {
    const char *mode;
    const char *key;
    const char *message;
    const char *signature;
} vectors[] = {
    {"hmac", "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "\"Hi There",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {"hmac", "\"Jefe", "\"what do ya want for nothing?",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {"hmac", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
     "dddddddddddddddddddd",
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {"hmac", "0102030405060708090a0b0c0d0e0f10111213141516171819",
     "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
     "cdcdcdcdcdcdcdcdcdcd",
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    /* a key of 131 bytes, longer than SHA-256's block */
    {"hmac", "131*aa", "\"Test Using Larger Than Block-Size Key - Hash Key First",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {"hmac", "131*aa",
     "\"This is a test using a larger than block-size key and a larger than block-size data. "
     "The key needs to be hashed before being used by the HMAC algorithm.",
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    {"ed25519", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
     "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
    {"ed25519", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
     "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
    {"ed25519", "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
     "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
};

static size_t from_hex(const char *text, uint8_t *out)
{
    unsigned times = 1;
    if (strchr(text, '*') != NULL) {
        times = (unsigned)strtoul(text, NULL, 10);
        text = strchr(text, '*') + 1;
    }
    if (text[0] == '"') {
        memcpy(out, text + 1, strlen(text + 1));
        return strlen(text + 1);
    }
    size_t len = 0;
    for (unsigned i = 0; i < times; i++) {
        for (const char *at = text; *at != '\0'; at += 2) {
            out[len++] = (uint8_t)strtoul((char[]){at[0], at[1], '\0'}, NULL, 16);
        }
    }
    return len;
}

static const char *env_mode;
static char env_key[BYTES_MAX];

static char *fake_getenv(const char *name)
{
    static char mode[16], kid[] = "k";
    (void)snprintf(mode, sizeof(mode), "%s", env_mode);
    return strcmp(name, "CELLOS_EVENT_SIGNING") == 0       ? mode
           : strcmp(name, "CELLOS_EVENT_SIGNING_KID") == 0 ? kid
           : strcmp(name, "CELLOS_EVENT_SIGNING_KEY_BASE64") == 0 && strcmp(mode, "off") != 0
               ? env_key
               : NULL;
}

static struct cg_signer *make_signer(const char *mode, const char *key_hex)
{
    uint8_t bytes[BYTES_MAX];
    size_t len = from_hex(key_hex, bytes);
    env_mode = mode;
    env_key[cg_base64url_encode(cg_bytes(bytes, len), env_key)] = '\0';
    struct cg_error err = {0};
    struct cg_signing_key *key;
    struct cg_signer *signer;
    const char *warning;
    ck_assert_msg(
        cg_signing_key_load(&(struct cg_key_request){0}, fake_getenv, &key, &warning, &err), "%s",
        err.text);
    ck_assert(cg_signer_new(key, &signer, &err));
    cg_signing_key_free(key);
    return signer;
}

START_TEST(signatures_are_those_of_the_rfcs)
{
    const struct vector *vector = &vectors[_i];
    struct cg_signer *signer = make_signer(vector->mode, vector->key);
    uint8_t message[BYTES_MAX], expected[CG_SIGNATURE_BYTES_MAX], got[CG_SIGNATURE_BYTES_MAX];
    size_t message_len = from_hex(vector->message, message);
    size_t expected_len = from_hex(vector->signature, expected);
    char text[CG_SIGNATURE_TEXT_MAX];
    /* more than once: a signer is used again and again */
    for (int i = 0; i < 3; i++) {
        size_t len = cg_signer_sign(signer, cg_bytes(message, message_len), text);
        size_t got_len = 0;
        ck_assert_uint_eq(len, CG_BASE64URL_LEN(expected_len));
        ck_assert(cg_base64url_decode(cg_bytes(text, len), got, sizeof(got), &got_len));
        ck_assert(cg_bytes_equal(cg_bytes(got, got_len), cg_bytes(expected, expected_len)));
    }
    cg_signer_free(signer);
}
END_TEST

START_TEST(a_signer_that_is_off_signs_nothing)
{
    struct cg_signer *signer = make_signer("off", "");
    char text[CG_SIGNATURE_TEXT_MAX];
    ck_assert_int_eq(cg_signer_mode(signer), CG_SIGNING_OFF);
    ck_assert_uint_eq(cg_signer_sign(signer, CG_BYTES("x"), text), 0);
    cg_signer_free(signer);
}
END_TEST

START_TEST(modes_are_named_as_in_the_envelope)
{
    ck_assert_str_eq(cg_signing_mode_name(CG_SIGNING_OFF), "off");
    ck_assert_str_eq(cg_signing_mode_name(CG_SIGNING_HMAC_SHA256), "hmac-sha256");
    ck_assert_str_eq(cg_signing_mode_name(CG_SIGNING_ED25519), "ed25519");
}
END_TEST

/* Transport text around any bytes: the signature is vector 1's, over "Hi There". */
#define HI_SIGNATURE "sDRMYdjbOFNcqK_OrwvxK4gdwgDJgz2nJuk3bC4yz_c"
#define HI_ENVELOPE                                                                                \
    "{\"event\":Hi There,\"signerKid\":\"k\",\"algorithm\":\"hmac-sha256\",\"signature\":"         \
    "\"" HI_SIGNATURE "\"}"
#define HI_TRANSPORT(id)                                                                           \
    "{\"specversion\":\"1.0\",\"id\":\"" id "\",\"source\":\"/cellos-supervisor/event-signing\","  \
    "\"type\":\"dev.cellos.events.signed_envelope.v1\",\"datacontenttype\":\"application/json\","  \
    "\"data\":" HI_ENVELOPE

static const struct {
    struct cg_transport_attributes attributes;
    const char *expected;
} transports[] = {
    {{.id_json = {"a\\\"b", 4}}, HI_TRANSPORT("a\\\"b") "}"},
    {{.id_json = {"", 0}, .time_json = {"t", 1}}, HI_TRANSPORT("") ",\"time\":\"t\"}"},
    {{.id_json = {"i", 1}, .time_json = {"t", 1}, .traceparent_json = {"00-1", 4}},
     HI_TRANSPORT("i") ",\"time\":\"t\",\"traceparent\":\"00-1\"}"},
    {{.id_json = {"i", 1}, .traceparent_json = {"00-1", 4}},
     HI_TRANSPORT("i") ",\"traceparent\":\"00-1\"}"},
};

START_TEST(the_transport_event_has_what_the_inner_one_has)
{
    struct cg_signer *signer = make_signer("hmac", vectors[0].key);
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 4096);
    ck_assert(
        cg_transport_append_event(&out, signer, CG_BYTES("Hi There"), &transports[_i].attributes));
    ck_assert_str_eq(cg_buf_str(&out), transports[_i].expected);
    cg_signer_free(signer);
}
END_TEST

START_TEST(an_envelope_is_appended_whole_or_not_at_all)
{
    struct cg_signer *signer = make_signer("hmac", vectors[0].key);
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 4096);
    ck_assert(cg_buf_append_str(&out, "["));
    ck_assert(cg_transport_append_envelope(&out, signer, CG_BYTES("Hi There")));
    ck_assert_str_eq(cg_buf_str(&out), "[" HI_ENVELOPE);
    cg_signer_free(signer);

    struct cg_signer *off = make_signer("off", "");
    ck_assert(!cg_transport_append_envelope(&out, off, CG_BYTES("Hi There")));
    ck_assert_str_eq(cg_buf_str(&out), "[" HI_ENVELOPE);
    cg_signer_free(off);

    signer = make_signer("hmac", vectors[0].key);
    cg_auto_buf struct cg_buf small;
    cg_buf_init(&small, 64);
    ck_assert(!cg_transport_append_envelope(&small, signer, CG_BYTES("Hi There")));
    ck_assert_uint_eq(small.len, 0);
    cg_signer_free(signer);
}
END_TEST

START_TEST(the_transport_of_a_long_event_is_made_of_its_bytes)
{
    static char event[200000];
    memset(event, 'e', sizeof(event));
    struct cg_signer *signer = make_signer("ed25519", vectors[6].key);
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 1 << 20);
    const struct cg_transport_attributes attributes = {.id_json = cg_bytes(event, 100000)};
    ck_assert(cg_transport_append_event(&out, signer, cg_bytes(event, sizeof(event)), &attributes));
    ck_assert_ptr_nonnull(memmem(out.data, out.len, event, sizeof(event)));
    ck_assert_uint_le(out.len, sizeof(event) + cg_transport_overhead(signer, &attributes));
    cg_signer_free(signer);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("sign");
    tcase_add_loop_test(tests, signatures_are_those_of_the_rfcs, 0,
                        sizeof(vectors) / sizeof(vectors[0]));
    tcase_add_test(tests, a_signer_that_is_off_signs_nothing);
    tcase_add_test(tests, modes_are_named_as_in_the_envelope);
    tcase_add_loop_test(tests, the_transport_event_has_what_the_inner_one_has, 0,
                        sizeof(transports) / sizeof(transports[0]));
    tcase_add_test(tests, an_envelope_is_appended_whole_or_not_at_all);
    tcase_add_test(tests, the_transport_of_a_long_event_is_made_of_its_bytes);
    Suite *suite = suite_create("event/sign");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
