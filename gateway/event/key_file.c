#include "event/key_file.h"

#include "base/secret_file.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Opens the file that `name` means; *ret_credential says whether it is one of systemd's. */
static int open_key_file(const char *name, const char *credentials_dir, bool *ret_credential)
{
    *ret_credential = false;
    if (credentials_dir == NULL || *credentials_dir != '/') {
        return cg_secret_file_open(name);
    }
    size_t dir_len = strlen(credentials_dir);
    if (strchr(name, '/') != NULL) {
        *ret_credential = strncmp(name, credentials_dir, dir_len) == 0 && name[dir_len] == '/' &&
                          strstr(name + dir_len, "/..") == NULL;
        return cg_secret_file_open(name);
    }
    char path[PATH_MAX];
    int len = snprintf(path, sizeof(path), "%s/%s", credentials_dir, name);
    int fd = -1;
    errno = ENAMETOOLONG;
    if (len > 0 && (size_t)len < sizeof(path)) {
        fd = cg_secret_file_open(path);
    }
    *ret_credential = fd >= 0 || errno != ENOENT;
    return *ret_credential ? fd : cg_secret_file_open(name);
}

static bool check_file(int fd, const char *name, bool credential, struct cg_error *err)
{
    struct stat file;
    if (fstat(fd, &file) != 0) {
        return cg_error_errno(err, errno, "key file %s", name);
    }
    if (!S_ISREG(file.st_mode)) {
        return cg_error_set(err, "key file %s: not a regular file", name);
    }
    if (file.st_uid != 0 && file.st_uid != geteuid()) {
        return cg_error_set(err, "key file %s: owned by user %u, must be root or the gateway's own",
                            name, (unsigned)file.st_uid);
    }
    /* systemd keeps credentials as root's, mode 0400, with an ACL entry for the service's user:
     * the mask of that ACL is what the group bits then show. */
    mode_t forbidden = S_IRWXG | S_IRWXO;
    if (credential && file.st_uid == 0) {
        forbidden &= ~(mode_t)S_IRGRP;
    }
    if ((file.st_mode & forbidden) != 0) {
        return cg_error_set(err, "key file %s: mode %04o gives group or others access; chmod 0600",
                            name, (unsigned)(file.st_mode & 07777));
    }
    return true;
}

/* Reads to the end, and one byte more than allowed, to see that there is no more. */
static bool read_text(int fd, const char *name, struct cg_key_text *text, struct cg_error *err)
{
    while (text->len <= CG_KEY_TEXT_BYTES_MAX) {
        ssize_t got = read(fd, text->data + text->len, CG_KEY_TEXT_BYTES_MAX + 1 - text->len);
        if (got == 0) {
            return true;
        }
        if (got > 0) {
            text->len += (size_t)got;
        } else if (errno != EINTR) {
            return cg_error_errno(err, errno, "key file %s", name);
        }
    }
    return cg_error_set(err, "key file %s: longer than %d bytes", name, CG_KEY_TEXT_BYTES_MAX);
}

bool cg_key_file_read(const char *name, const char *credentials_dir, struct cg_key_text *ret_text,
                      struct cg_error *err)
{
    bool credential = false;
    cg_auto_close int fd = open_key_file(name, credentials_dir, &credential);
    if (fd < 0 && errno == ELOOP) {
        return cg_error_set(err, "key file %s: a symlink, which is not followed", name);
    }
    if (fd < 0) {
        return cg_error_errno(err, errno, "key file %s", name);
    }
    if (!check_file(fd, name, credential, err)) {
        return false;
    }
    if (sodium_init() < 0) {
        return cg_error_set(err, "the signing library cannot be started");
    }
    cg_auto_key_text struct cg_key_text text = {.data = sodium_malloc(CG_KEY_TEXT_BYTES_MAX + 1)};
    if (text.data == NULL) {
        return cg_error_set(err, "no memory for key file %s", name);
    }
    if (!read_text(fd, name, &text, err)) {
        return false;
    }
    *ret_text = text;
    text.data = NULL;
    return true;
}

void cg_key_text_fini(struct cg_key_text *text)
{
    sodium_free(text->data);
    *text = (struct cg_key_text){0};
}
