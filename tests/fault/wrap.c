/*
 * wrap.c - a gateway whose memory, disk, signing and HTTP fail at random; linked around the calls
 * of the gateway's own code by --wrap.
 *
 * The file $WRAP_CONTROL is a shared mapping of struct control: of so many calls of a kind about
 * one fails, 0 for none. The failures are those of a seeded generator, one sequence a thread.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { MEMORY, WRITE, SYNC, SIGN, HTTP, KINDS };

/* tests/fault/test_wrapped.py writes it as little-endian 64-bit numbers. */
struct control {
    _Atomic uint64_t seed;
    _Atomic uint64_t one_of[KINDS];
    _Atomic uint64_t failed[KINDS]; /* how many did, for the test */
};

static struct control *control;

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("WRAP_CONTROL");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    control = mapped == MAP_FAILED ? NULL : mapped;
    (void)close(fd);
}

/* splitmix64 */
static uint64_t next_number(void)
{
    static _Atomic uint64_t threads;
    static _Thread_local uint64_t state;
    if (state == 0) {
        state = control->seed + (++threads << 32);
    }
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool fails(enum kind kind)
{
    uint64_t one_of = control == NULL ? 0 : control->one_of[kind];
    if (one_of == 0 || next_number() % one_of != 0) {
        return false;
    }
    control->failed[kind]++;
    return true;
}

#define WRAPPED(type, name, ...)                                                                   \
    extern type __real_##name(__VA_ARGS__);                                                        \
    extern type __wrap_##name(__VA_ARGS__);                                                        \
    type __wrap_##name(__VA_ARGS__)

static bool no_memory(void)
{
    bool none = fails(MEMORY);
    errno = none ? ENOMEM : errno;
    return none;
}

WRAPPED(void *, malloc, size_t size)
{
    return no_memory() ? NULL : __real_malloc(size);
}

WRAPPED(void *, calloc, size_t count, size_t size)
{
    return no_memory() ? NULL : __real_calloc(count, size);
}

WRAPPED(void *, realloc, void *old, size_t size)
{
    return no_memory() ? NULL : __real_realloc(old, size);
}

static bool disk_fails(int fd, enum kind kind)
{
    static const int errnums[] = {ENOSPC, EIO, EDQUOT, EINTR};
    struct stat found;
    if (fstat(fd, &found) != 0 || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)) ||
        !fails(kind)) {
        return false;
    }
    errno = errnums[next_number() % (kind == WRITE ? 4 : 3)];
    return true;
}

WRAPPED(ssize_t, write, int fd, const void *data, size_t len)
{
    return disk_fails(fd, WRITE) ? -1 : __real_write(fd, data, len);
}

WRAPPED(ssize_t, pwrite, int fd, const void *data, size_t len, off_t offset)
{
    if (disk_fails(fd, WRITE)) {
        /* As often, a part of it goes in. */
        return next_number() % 2 == 0 || len < 2 ? -1 : __real_pwrite(fd, data, len / 2, offset);
    }
    return __real_pwrite(fd, data, len, offset);
}

WRAPPED(int, fsync, int fd)
{
    return disk_fails(fd, SYNC) ? -1 : __real_fsync(fd);
}

WRAPPED(int, fdatasync, int fd)
{
    return disk_fails(fd, SYNC) ? -1 : __real_fdatasync(fd);
}

WRAPPED(int, SHA256_Final, unsigned char *digest, void *context)
{
    return fails(SIGN) ? 0 : __real_SHA256_Final(digest, context);
}

WRAPPED(int, crypto_sign_detached, unsigned char *signature, unsigned long long *signature_len,
        const unsigned char *message, unsigned long long message_len, const unsigned char *key)
{
    return fails(SIGN)
               ? -1
               : __real_crypto_sign_detached(signature, signature_len, message, message_len, key);
}

WRAPPED(CURLMcode, curl_multi_perform, CURLM *multi, int *running)
{
    return fails(HTTP) ? CURLM_OUT_OF_MEMORY : __real_curl_multi_perform(multi, running);
}

WRAPPED(CURLMcode, curl_multi_add_handle, CURLM *multi, CURL *easy)
{
    return fails(HTTP) ? CURLM_OUT_OF_MEMORY : __real_curl_multi_add_handle(multi, easy);
}

WRAPPED(struct curl_slist *, curl_slist_append, struct curl_slist *list, const char *text)
{
    return fails(HTTP) ? NULL : __real_curl_slist_append(list, text);
}
