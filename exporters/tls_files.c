#include "exporters/tls_files.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

const struct cg_option cg_tls_options[] = {
    {.key = "ca_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, ca_file),
     .help = "PEM file of trusted authorities, instead of the system's."},
    {.key = "cert_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, cert_file),
     .help = "PEM file with the client certificate and its chain; needs key_file."},
    {.key = "key_file",
     .type = CG_OPTION_PATH,
     .offset = offsetof(struct cg_tls_files, key_file),
     .help = "PEM file with the client certificate's private key, without a passphrase."},
    {.key = NULL},
};

static void free_x509(X509 **certificate)
{
    X509_free(*certificate);
}

static void free_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

#define auto_x509 __attribute__((cleanup(free_x509)))
#define auto_key  __attribute__((cleanup(free_key)))

/* Without this, OpenSSL would ask for a passphrase on the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)context;
    return -1;
}

static bool open_file(const char *path, FILE **ret_file, struct cg_error *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return cg_error_errno(err, errno, "%s", path);
    }
    *ret_file = file;
    return true;
}

static bool read_certificate(const char *path, X509 **ret_certificate, struct cg_error *err)
{
    cg_auto_fclose FILE *file = NULL;
    if (!open_file(path, &file, err)) {
        return false;
    }
    X509 *certificate = PEM_read_X509(file, NULL, no_passphrase, NULL);
    ERR_clear_error(); /* the queue is the thread's: leave nothing for others to find */
    if (certificate == NULL) {
        return cg_error_set(err, "%s: no PEM certificate in it", path);
    }
    *ret_certificate = certificate;
    return true;
}

static bool read_key(const char *path, EVP_PKEY **ret_key, struct cg_error *err)
{
    cg_auto_fclose FILE *file = NULL;
    if (!open_file(path, &file, err)) {
        return false;
    }
    struct stat st;
    if (fstat(fileno(file), &st) != 0) {
        return cg_error_errno(err, errno, "%s", path);
    }
    if ((st.st_mode & 007) != 0) {
        return cg_error_set(err, "%s: a private key that others have access to (mode %04o)", path,
                            (unsigned)st.st_mode & 07777);
    }
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, no_passphrase, NULL);
    ERR_clear_error();
    if (key == NULL) {
        return cg_error_set(err, "%s: no PEM private key without a passphrase in it", path);
    }
    *ret_key = key;
    return true;
}

static uint64_t end_of(const X509 *certificate)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1) {
        return 0;
    }
    time_t end = timegm(&tm);
    return end > 0 ? (uint64_t)end : 0;
}

bool cg_tls_files_check(const struct cg_tls_files *files, uint64_t *ret_expiry_s,
                        struct cg_error *err)
{
    if (files->ca_file != NULL) {
        auto_x509 X509 *authority = NULL;
        if (!read_certificate(files->ca_file, &authority, err)) {
            return cg_error_context(err, "tls.ca_file");
        }
    }
    if (files->cert_file == NULL) {
        *ret_expiry_s = 0;
        return true;
    }
    auto_x509 X509 *certificate = NULL;
    auto_key EVP_PKEY *key = NULL;
    if (!read_certificate(files->cert_file, &certificate, err)) {
        return cg_error_context(err, "tls.cert_file");
    }
    if (!read_key(files->key_file, &key, err)) {
        return cg_error_context(err, "tls.key_file");
    }
    bool fits = X509_check_private_key(certificate, key) == 1;
    ERR_clear_error();
    if (!fits) {
        return cg_error_set(err, "tls.key_file: %s is not the key of %s", files->key_file,
                            files->cert_file);
    }
    *ret_expiry_s = end_of(certificate);
    return true;
}

bool cg_tls_is_certificate_alert(const char *text)
{
    return strstr(text, "alert") != NULL &&
           (strstr(text, "certificate") != NULL || strstr(text, "unknown ca") != NULL ||
            strstr(text, "access denied") != NULL);
}
