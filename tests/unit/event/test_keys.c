#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "event/json.h"
#include "event/key_file.h"
#include "event/keys.h"
#include "event/transport.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_TEXT  "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI" /* 32 bytes of 0x42 */
#define OTHER     "QUJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI"

#define EVENT     "CELLOS_EVENT_SIGNING"
#define TELEMETRY "CELLOS_HOST_TELEMETRY_SIGN_"

enum { ENV_MAX = 16, LINE_BYTES_MAX = 1 << 20 };

/* The environment of the function under test. */
static struct {
    char *name;
    char *value;
} env[ENV_MAX];
static size_t env_count;

static char *fake_getenv(const char *name)
{
    for (size_t i = 0; i < env_count; i++) {
        if (strcmp(env[i].name, name) == 0) {
            return env[i].value;
        }
    }
    return NULL;
}

static void set_env(struct cg_bytes name, struct cg_bytes value)
{
    ck_assert_uint_lt(env_count, ENV_MAX);
    env[env_count].name = strndup(name.data, name.len);
    env[env_count++].value = strndup(value.data, value.len);
}

static void clear_env(void)
{
    while (env_count > 0) {
        env_count--;
        free(env[env_count].name);
        free(env[env_count].value);
    }
}

static struct cg_error err;
static const char *warning;
static char dir[] = "/tmp/cellgate-keys-XXXXXX";
static char path[256];

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/k.key", dir);
}

static void tear_down(void)
{
    char made[300];
    static const char *const names[] = {"k.key", "target", "cred"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(made, sizeof(made), "%s/%s", dir, names[i]);
        (void)unlink(made);
        (void)rmdir(made);
    }
    (void)rmdir(dir);
    clear_env();
}

static void write_key_file(const char *text, size_t len, mode_t mode)
{
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}

/* No byte of the key may be in what is told. */
static void assert_refused(const struct cg_key_request *request, const char *naming)
{
    struct cg_signing_key *key = NULL;
    err = (struct cg_error){0};
    ck_assert(!cg_signing_key_load(request, fake_getenv, &key, &warning, &err));
    ck_assert_ptr_null(key);
    ck_assert_msg(strstr(err.text, naming) != NULL, "'%s' does not name %s", err.text, naming);
    ck_assert_msg(strstr(err.text, "QkJC") == NULL && strstr(err.text, "QUJC") == NULL, "%s",
                  err.text);
}

static struct cg_signing_key *load(const struct cg_key_request *request)
{
    struct cg_signing_key *key = NULL;
    bool loaded = cg_signing_key_load(request, fake_getenv, &key, &warning, &err);
    ck_assert_msg(loaded, "%s", err.text);
    return key;
}

static char *read_golden(const char *name)
{
    (void)snprintf(path, sizeof(path), "%s/%s", CELLGATE_GOLDEN_DIR, name);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    char *text = malloc(LINE_BYTES_MAX);
    ck_assert_ptr_nonnull(text);
    size_t len = fread(text, 1, LINE_BYTES_MAX - 1, file);
    ck_assert_uint_lt(len, LINE_BYTES_MAX - 1);
    text[len] = '\0';
    (void)fclose(file);
    return text;
}

static void parse_line(struct cg_json *json, struct cg_bytes line)
{
    cg_json_init(json, (struct cg_json_limits){LINE_BYTES_MAX, 10000, 32, true});
    ck_assert_msg(cg_json_parse(json, line, &err), "%s", err.text);
}

static void decode_member(const struct cg_json *json, uint32_t object, const char *name,
                          struct cg_buf *ret_text)
{
    cg_buf_init(ret_text, LINE_BYTES_MAX);
    uint32_t node = cg_json_find(json, object, cg_bytes_str(name));
    ck_assert_uint_ne(node, 0);
    ck_assert(cg_json_decode(json, node, ret_text));
}

/* The canonical event that the lines of signing_env.jsonl sign. */
static void find_plain_event(struct cg_buf *ret_canonical)
{
    cg_auto_free char *text = read_golden("sign.jsonl");
    for (char *line = text; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        if (memmem(line, len, "\"sign/plain/off\"", 16) != NULL) {
            struct cg_json json;
            parse_line(&json, cg_bytes(line, len));
            decode_member(&json, 0, "canonical", ret_canonical);
            cg_json_fini(&json);
            return;
        }
        line += len + (line[len] == '\n');
    }
    ck_abort_msg("sign/plain/off is not in sign.jsonl");
}

static void judge_golden_line(const struct cg_json *json, struct cg_bytes canonical)
{
    cg_auto_buf struct cg_buf name;
    decode_member(json, 0, "name", &name);
    uint32_t object = cg_json_find(json, 0, CG_BYTES("env"));
    for (uint32_t key = object + 1; key < json->nodes[object].next;
         key = json->nodes[key + 1].next) {
        set_env(cg_json_raw(json, key), cg_json_raw(json, key + 1));
    }
    bool accept = cg_json_type(json, cg_json_find(json, 0, CG_BYTES("accept"))) == CG_JSON_TRUE;
    struct cg_signing_key *key = NULL;
    bool loaded =
        cg_signing_key_load(&(struct cg_key_request){0}, fake_getenv, &key, &warning, &err);
    ck_assert_msg(loaded == accept, "%s: %s", cg_buf_str(&name), loaded ? "accepted" : err.text);
    if (!loaded) {
        return;
    }
    struct cg_signer *signer = NULL;
    cg_auto_buf struct cg_buf expected, result;
    cg_buf_init(&result, LINE_BYTES_MAX);
    ck_assert(cg_signer_new(key, &signer, &err));
    if (cg_signer_mode(signer) == CG_SIGNING_OFF) {
        ck_assert(cg_buf_append(&result, canonical));
    } else {
        ck_assert(cg_transport_append_envelope(&result, signer, canonical));
    }
    decode_member(json, 0, "result", &expected);
    ck_assert_msg(cg_bytes_equal(cg_buf_bytes(&expected), cg_buf_bytes(&result)), "%s: %s",
                  cg_buf_str(&name), cg_buf_str(&result));
    cg_signer_free(signer);
    cg_signing_key_free(key);
}

START_TEST(the_environment_is_judged_and_used_as_in_the_golden_file)
{
    cg_auto_buf struct cg_buf canonical;
    find_plain_event(&canonical);
    cg_auto_free char *text = read_golden("signing_env.jsonl");
    size_t lines = 0;
    for (char *line = text; *line != '\0'; lines++) {
        size_t len = strcspn(line, "\n");
        struct cg_json json;
        parse_line(&json, cg_bytes(line, len));
        judge_golden_line(&json, cg_buf_bytes(&canonical));
        cg_json_fini(&json);
        clear_env();
        line += len + (line[len] == '\n');
    }
    ck_assert_uint_eq(lines, 30);
}
END_TEST

/* Environments, NULL-terminated name, value, …; what the refusal must name, NULL for none. */
static const struct {
    const char *env[13];
    const char *refused_naming;
    enum cg_signing_mode mode;
} environments[] = {
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", KEY_TEXT},
     NULL,
     CG_SIGNING_ED25519},
    {{EVENT, " Hmac\n", EVENT "_KID", "k", EVENT "_KEY_BASE64", " " KEY_TEXT "=\t"},
     NULL,
     CG_SIGNING_HMAC_SHA256},
    {{EVENT, "\u00a0OFF\u3000"}, NULL, CG_SIGNING_OFF},
    {{EVENT, ""}, NULL, CG_SIGNING_OFF},
    {{EVENT, "ed25519x"}, EVENT, 0},
    {{EVENT, "ed"}, EVENT, 0},
    {{EVENT, "ed25519", EVENT "_KEY_BASE64", KEY_TEXT}, EVENT "_KID", 0},
    {{EVENT, "ed25519", EVENT "_KID", "k"}, EVENT "_KEY_BASE64", 0},
    {{EVENT, "ed25519", EVENT "_KID", " \t\u2003", EVENT "_KEY_BASE64", KEY_TEXT}, EVENT "_KID", 0},
    {{EVENT, "ed25519", EVENT "_KID", "\xff", EVENT "_KEY_BASE64", KEY_TEXT}, EVENT "_KID", 0},
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", "QkJC"}, EVENT "_KEY_BASE64", 0},
    {{EVENT, "hmac", EVENT "_KID", "k", EVENT "_KEY_BASE64", "QkJ!"}, EVENT "_KEY_BASE64", 0},
    {{EVENT "_KEY_BASE64", ""}, EVENT "_KEY_BASE64", 0},
    {{EVENT, "off", EVENT "_KEY_BASE64", KEY_TEXT}, EVENT "_KEY_BASE64", 0},
    /* both families: the same twice is fine, anything else is not */
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", KEY_TEXT, TELEMETRY "ALG",
      "Ed25519", TELEMETRY "KID", "k", TELEMETRY "ED25519_SK", KEY_TEXT "="},
     NULL,
     CG_SIGNING_ED25519},
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", KEY_TEXT, TELEMETRY "ALG",
      "ed25519", TELEMETRY "KID", "k", TELEMETRY "ED25519_SK", OTHER},
     TELEMETRY "ED25519_SK",
     0},
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", KEY_TEXT, TELEMETRY "ALG",
      "ed25519", TELEMETRY "KID", "K", TELEMETRY "ED25519_SK", KEY_TEXT},
     TELEMETRY "KID",
     0},
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", KEY_TEXT, TELEMETRY "ALG", "hmac",
      TELEMETRY "KID", "k", TELEMETRY "HMAC_KEY", KEY_TEXT},
     TELEMETRY "ALG",
     0},
    {{EVENT, "ed25519", EVENT "_KID", "k", EVENT "_KEY_BASE64", KEY_TEXT, TELEMETRY "ALG", "off"},
     TELEMETRY "ALG",
     0},
    /* one family does not fill the gaps of the other */
    {{EVENT, "ed25519", EVENT "_KID", "k", TELEMETRY "ALG", "ed25519", TELEMETRY "KID", "k",
      TELEMETRY "ED25519_SK", KEY_TEXT},
     EVENT "_KEY_BASE64",
     0},
    {{EVENT, "ed25519", EVENT "_KID", "k", TELEMETRY "ED25519_SK", KEY_TEXT},
     EVENT "_KEY_BASE64",
     0},
    {{TELEMETRY "HMAC_KEY", "", TELEMETRY "ED25519_SK", ""}, TELEMETRY "HMAC_KEY", 0},
};

START_TEST(an_environment_is_clear_or_refused_by_name)
{
    for (size_t i = 0; environments[_i].env[i] != NULL; i += 2) {
        set_env(cg_bytes_str(environments[_i].env[i]), cg_bytes_str(environments[_i].env[i + 1]));
    }
    const struct cg_key_request nothing = {0};
    if (environments[_i].refused_naming != NULL) {
        assert_refused(&nothing, environments[_i].refused_naming);
        return;
    }
    struct cg_signing_key *key = load(&nothing);
    ck_assert_int_eq(cg_signing_key_mode(key), environments[_i].mode);
    cg_signing_key_free(key);
}
END_TEST

START_TEST(a_key_file_is_read_without_the_white_space_around_it)
{
    write_key_file("\n " KEY_TEXT "= \n", strlen(KEY_TEXT) + 5, 0600);
    struct cg_signing_key *key =
        load(&(struct cg_key_request){.mode = "ed25519", .kid = " k ", .key_file = path});
    uint8_t expected[32];
    memset(expected, 0x42, sizeof(expected));
    ck_assert(cg_bytes_equal(cg_signing_key_bytes(key), cg_bytes(expected, 32)));
    ck_assert(cg_bytes_equal(cg_signing_key_kid(key), CG_BYTES(" k ")));
    ck_assert_ptr_null(warning);
    cg_signing_key_free(key);
}
END_TEST

static const mode_t open_modes[] = {0640, 0604, 0660, 0666, 0644, 0620};

START_TEST(a_key_file_that_others_can_reach_is_refused)
{
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), open_modes[_i]);
    assert_refused(&(struct cg_key_request){.mode = "ed25519", .kid = "k", .key_file = path}, path);
}
END_TEST

START_TEST(a_key_file_is_a_regular_file_that_is_no_symlink)
{
    const struct cg_key_request request = {.mode = "ed25519", .kid = "k", .key_file = path};
    assert_refused(&request, path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    assert_refused(&request, "not a regular file");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    assert_refused(&request, path);
    ck_assert_int_eq(rmdir(path), 0);

    char target[256];
    (void)snprintf(target, sizeof(target), "%s/target", dir);
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), 0600);
    ck_assert_int_eq(rename(path, target), 0);
    ck_assert_int_eq(symlink(target, path), 0);
    assert_refused(&request, "symlink");
}
END_TEST

START_TEST(a_key_file_of_another_user_is_refused)
{
    if (geteuid() != 0) {
        return; /* only root can make one */
    }
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), 0600);
    ck_assert_int_eq(chown(path, 12345, 0), 0);
    assert_refused(&(struct cg_key_request){.mode = "ed25519", .kid = "k", .key_file = path},
                   "12345");
}
END_TEST

START_TEST(a_key_file_is_bounded)
{
    static char text[CG_KEY_TEXT_BYTES_MAX + 1];
    memset(text, 'A', sizeof(text));
    const struct cg_key_request request = {.mode = "hmac", .kid = "k", .key_file = path};
    write_key_file(text, sizeof(text), 0600);
    assert_refused(&request, "longer than");
    write_key_file(text, sizeof(text) - 1, 0600);
    struct cg_signing_key *key = load(&request);
    ck_assert_uint_eq(cg_signing_key_bytes(key).len, CG_KEY_TEXT_BYTES_MAX / 4 * 3);
    cg_signing_key_free(key);
}
END_TEST

START_TEST(file_and_environment_agree_or_are_refused)
{
    const struct cg_key_request request = {.mode = "ed25519", .kid = "k", .key_file = path};
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), 0600);
    set_env(CG_BYTES(EVENT), CG_BYTES("ed25519"));
    set_env(CG_BYTES(EVENT "_KID"), CG_BYTES("k"));
    set_env(CG_BYTES(EVENT "_KEY_BASE64"), CG_BYTES(KEY_TEXT));
    cg_signing_key_free(load(&request));
    assert_refused(&(struct cg_key_request){.mode = "hmac", .kid = "k", .key_file = path}, EVENT);
    assert_refused(&(struct cg_key_request){.mode = "off"}, EVENT);
    assert_refused(&(struct cg_key_request){.kid = "l"}, EVENT "_KID");
    write_key_file(OTHER, strlen(OTHER), 0600);
    assert_refused(&request, EVENT "_KEY_BASE64");
}
END_TEST

START_TEST(a_request_is_whole_together_with_the_environment)
{
    assert_refused(&(struct cg_key_request){.mode = "ed25519", .kid = "k"}, "key");
    assert_refused(&(struct cg_key_request){.mode = "ed25519", .key_file = path}, "kid");
    assert_refused(&(struct cg_key_request){.key_file = path}, "key file");
    assert_refused(&(struct cg_key_request){.mode = "off", .key_file = path}, "key file");
    assert_refused(&(struct cg_key_request){.mode = "rsa"}, "mode");
    set_env(CG_BYTES(EVENT "_KEY_BASE64"), CG_BYTES(KEY_TEXT));
    cg_signing_key_free(load(&(struct cg_key_request){.mode = "ed25519", .kid = "k"}));
}
END_TEST

START_TEST(a_bare_name_is_looked_up_among_the_credentials)
{
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), 0400);
    const struct cg_key_request request = {.mode = "ed25519", .kid = "k", .key_file = "k.key"};
    assert_refused(&request, "k.key");
    set_env(CG_BYTES("CREDENTIALS_DIRECTORY"), cg_bytes_str(dir));
    cg_signing_key_free(load(&request));
    if (geteuid() == 0) {
        /* as systemd makes them: root's, and the ACL's mask in the place of the group's bits */
        ck_assert_int_eq(chmod(path, 0440), 0);
        cg_signing_key_free(load(&request));
        cg_signing_key_free(
            load(&(struct cg_key_request){.mode = "ed25519", .kid = "k", .key_file = path}));
    }
    ck_assert_int_eq(chmod(path, 0444), 0);
    assert_refused(&request, "0444");
}
END_TEST

START_TEST(a_short_hmac_key_is_accepted_with_a_warning)
{
    const struct cg_key_request request = {.mode = "hmac", .kid = "k", .key_file = path};
    write_key_file("QQ", 2, 0600);
    cg_signing_key_free(load(&request));
    ck_assert_ptr_nonnull(warning);
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), 0600);
    cg_signing_key_free(load(&request));
    ck_assert_ptr_null(warning);
    write_key_file(" = ", 3, 0600);
    assert_refused(&request, "empty");
}
END_TEST

START_TEST(an_exact_kid_may_be_anything_but_too_long)
{
    static char kid[CG_KID_BYTES_MAX + 1];
    write_key_file(KEY_TEXT, strlen(KEY_TEXT), 0600);
    struct cg_key_request request = {.mode = "hmac", .kid_exact = {"", 0}, .key_file = path};
    struct cg_signing_key *key = load(&request);
    ck_assert_uint_eq(cg_signing_key_kid(key).len, 0);
    cg_signing_key_free(key);

    request.kid_exact = CG_BYTES("a\0\"b");
    key = load(&request);
    struct cg_signer *signer;
    ck_assert(cg_signer_new(key, &signer, &err));
    ck_assert(cg_bytes_equal(cg_signer_kid_json(signer), CG_BYTES("a\\u0000\\\"b")));
    cg_signer_free(signer);
    cg_signing_key_free(key);

    request.kid_exact = cg_bytes(kid, sizeof(kid));
    assert_refused(&request, "kid");
    request.kid_exact.len--;
    cg_signing_key_free(load(&request));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("keys");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, the_environment_is_judged_and_used_as_in_the_golden_file);
    tcase_add_loop_test(tests, an_environment_is_clear_or_refused_by_name, 0,
                        sizeof(environments) / sizeof(environments[0]));
    tcase_add_test(tests, a_key_file_is_read_without_the_white_space_around_it);
    tcase_add_loop_test(tests, a_key_file_that_others_can_reach_is_refused, 0,
                        sizeof(open_modes) / sizeof(open_modes[0]));
    tcase_add_test(tests, a_key_file_is_a_regular_file_that_is_no_symlink);
    tcase_add_test(tests, a_key_file_of_another_user_is_refused);
    tcase_add_test(tests, a_key_file_is_bounded);
    tcase_add_test(tests, file_and_environment_agree_or_are_refused);
    tcase_add_test(tests, a_request_is_whole_together_with_the_environment);
    tcase_add_test(tests, a_bare_name_is_looked_up_among_the_credentials);
    tcase_add_test(tests, a_short_hmac_key_is_accepted_with_a_warning);
    tcase_add_test(tests, an_exact_kid_may_be_anything_but_too_long);
    Suite *suite = suite_create("event/keys");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
