/* keygen.c - `cellgate keygen`: a new signing key, and the file that verifiers need. */
#include "base/file.h"
#include "base/utf8.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cmd/cmd.h"
#include "event/base64url.h"
#include "event/json_write.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>

#define KEY_SUFFIX  ".key"
#define KEYS_SUFFIX ".keys.json"

enum {
    KEY_BYTES = 32, /* Ed25519's seed; and for HMAC as long as the hash */
    KEY_TEXT_BYTES = CG_BASE64URL_LEN(KEY_BYTES),
    KID_BYTES_MAX = NAME_MAX - (sizeof(KEYS_SUFFIX) - 1),
    KEYS_TEXT_BYTES_MAX = KID_BYTES_MAX * CG_JSON_ESCAPE_GROWTH + KEY_TEXT_BYTES + 16,
};
_Static_assert((int)KID_BYTES_MAX <= (int)CG_KID_BYTES_MAX, "a kid that is a file name is a kid");

/* What must not lie in ordinary memory. */
struct secret {
    uint8_t key[KEY_BYTES];
    uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
    char key_text[KEY_TEXT_BYTES + 1];
    char keys_text[KEYS_TEXT_BYTES_MAX];
    size_t keys_len;
};

struct request {
    const char *kid;
    const char *dir;
    bool hmac;
};

/* The kid becomes a file's name in the directory, and must not be able to mean anything else. */
static bool check_kid(const char *kid, struct cg_error *err)
{
    struct cg_bytes text = cg_bytes_str(kid);
    if (text.len > KID_BYTES_MAX) {
        return cg_error_set(err, "the kid is longer than %d bytes", (int)KID_BYTES_MAX);
    }
    if (kid[strspn(kid, " ")] == '\0') {
        return cg_error_set(err, "the kid is blank");
    }
    if (!cg_utf8_valid(text)) {
        return cg_error_set(err, "the kid is not UTF-8");
    }
    if (kid[0] == '.') {
        return cg_error_set(err, "the kid begins with a dot, so it cannot be a file name here");
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)kid[i];
        if (c == '/' || c < 0x20 || c == 0x7f) {
            return cg_error_set(err, "the kid cannot be a file name: it holds a %s",
                                c == '/' ? "slash" : "control character");
        }
    }
    return true;
}

static bool make_texts(const struct request *request, struct secret *secret, struct cg_error *err)
{
    randombytes_buf(secret->key, sizeof(secret->key));
    struct cg_bytes shown = cg_bytes(secret->key, sizeof(secret->key));
    (void)cg_base64url_encode(shown, secret->key_text);
    secret->key_text[KEY_TEXT_BYTES] = '\n';
    if (!request->hmac) {
        if (crypto_sign_seed_keypair(secret->public_key, secret->secret_key, secret->key) != 0) {
            return cg_error_set(err, "the signing library failed");
        }
        shown = cg_bytes(secret->public_key, sizeof(secret->public_key));
    }
    char *at = secret->keys_text;
    *at++ = '{';
    *at++ = '"';
    at += cg_json_escape(cg_bytes_str(request->kid), at);
    *at++ = '"';
    *at++ = ':';
    *at++ = '"';
    at += cg_base64url_encode(shown, at);
    *at++ = '"';
    *at++ = '}';
    *at++ = '\n';
    secret->keys_len = (size_t)(at - secret->keys_text);
    return true;
}

/* Makes a file that was not there, durable, or leaves none. */
static bool make_file(int dir, const char *name, mode_t mode, struct cg_bytes text,
                      struct cg_error *err)
{
    cg_auto_close int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return cg_error_errno(err, errno, "%s", name);
    }
    /* The mode is what is promised, whatever the umask. */
    bool made = fchmod(fd, mode) == 0 || cg_error_errno(err, errno, "set the mode");
    made = made && cg_file_write_all(fd, text, err);
    if (made && fsync(fd) != 0) {
        made = cg_error_errno(err, errno, "sync");
    }
    if (!made) {
        (void)unlinkat(dir, name, 0);
        return cg_error_context(err, "%s", name);
    }
    return true;
}

/* Both files, or neither. */
static bool make_files(const struct request *request, const struct secret *secret,
                       struct cg_error *err)
{
    cg_auto_close int dir = open(request->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return cg_error_errno(err, errno, "%s", request->dir);
    }
    char key_name[NAME_MAX + 1];
    char keys_name[NAME_MAX + 1];
    (void)snprintf(key_name, sizeof(key_name), "%s" KEY_SUFFIX, request->kid);
    (void)snprintf(keys_name, sizeof(keys_name), "%s" KEYS_SUFFIX, request->kid);

    struct cg_bytes key_text = cg_bytes(secret->key_text, sizeof(secret->key_text));
    struct cg_bytes keys_text = cg_bytes(secret->keys_text, secret->keys_len);
    if (!make_file(dir, key_name, 0600, key_text, err)) {
        return cg_error_context(err, "%s", request->dir);
    }
    if (!make_file(dir, keys_name, request->hmac ? 0600 : 0644, keys_text, err)) {
        (void)unlinkat(dir, key_name, 0);
        return cg_error_context(err, "%s", request->dir);
    }
    if (fsync(dir) != 0) {
        int errnum = errno;
        (void)unlinkat(dir, key_name, 0);
        (void)unlinkat(dir, keys_name, 0);
        return cg_error_errno(err, errnum, "%s", request->dir);
    }
    return true;
}

static bool make_key(const struct request *request, struct cg_error *err)
{
    if (!check_kid(request->kid, err)) {
        return false;
    }
    struct secret *secret = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*secret));
    if (secret == NULL) {
        return cg_error_set(err, "no memory for the key");
    }
    bool done = make_texts(request, secret, err) && make_files(request, secret, err);
    sodium_free(secret);
    return done;
}

static void print_help(FILE *out)
{
    (void)fputs("usage: cellgate keygen --kid K --out DIR [--mode ed25519|hmac-sha256]\n"
                "Makes a new signing key: DIR/K.key for signing (mode 0600), and DIR/K.keys.json\n"
                "for `cellgate verify`: with --keys, or with --hmac-keys for hmac-sha256, whose\n"
                "verifiers hold the key itself. Files that exist are never overwritten.\n",
                out);
}

/* Returns -1 if the command shall go on. */
static int parse_arguments(int argc, char **argv, struct request *ret_request)
{
    static const struct option options[] = {
        {"kid", required_argument, NULL, 'k'},
        {"out", required_argument, NULL, 'o'},
        {"mode", required_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    struct request request = {0};
    int option;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'k':
            request.kid = optarg;
            break;
        case 'o':
            request.dir = optarg;
            break;
        case 'm':
            request.hmac = strcmp(optarg, "hmac-sha256") == 0 || strcmp(optarg, "hmac") == 0;
            if (!request.hmac && strcmp(optarg, "ed25519") != 0) {
                (void)fputs("cellgate keygen: --mode is ed25519 or hmac-sha256\n", stderr);
                return CG_EXIT_USAGE;
            }
            break;
        case 'h':
            print_help(stdout);
            return CG_EXIT_OK;
        default:
            print_help(stderr);
            return CG_EXIT_USAGE;
        }
    }
    if (request.kid == NULL || request.dir == NULL || optind != argc) {
        print_help(stderr);
        return CG_EXIT_USAGE;
    }
    *ret_request = request;
    return -1;
}

int cg_cmd_keygen(int argc, char **argv)
{
    struct request request = {0};
    int exit_code = parse_arguments(argc, argv, &request);
    if (exit_code >= 0) {
        return exit_code;
    }
    struct cg_error err = {0};
    if (!make_key(&request, &err)) {
        (void)fprintf(stderr, "cellgate keygen: %s\n", err.text);
        return CG_EXIT_FAILED;
    }
    (void)printf("%s/%s" KEY_SUFFIX "\n%s/%s" KEYS_SUFFIX "\n", request.dir, request.kid,
                 request.dir, request.kid);
    return fflush(stdout) == 0 ? CG_EXIT_OK : CG_EXIT_FAILED;
}
