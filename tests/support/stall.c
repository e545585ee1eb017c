/*
 * stall.c - a disk that stalls, and a witness of accepts; preloaded into the gateway by tests.
 *
 * While a test holds an exclusive lock (flock) on the file $STALL_LOCK, whatever is written to a
 * regular file, or synced, waits. Each connection that is accepted puts a byte into the pipe
 * $STALL_ACCEPTED, so that the test knows when.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* The next definition, which may be a sanitizer's. */
#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

static int witness_fd = -1;

__attribute__((constructor)) static void open_witness(void)
{
    const char *path = getenv("STALL_ACCEPTED");
    witness_fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
}

static void wait_for_disk(int fd)
{
    struct stat found;
    const char *path = getenv("STALL_LOCK");
    if (path == NULL || fstat(fd, &found) != 0 ||
        !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) {
        return;
    }
    int lock = open(path, O_RDONLY | O_CLOEXEC);
    if (lock >= 0) {
        (void)flock(lock, LOCK_SH);
        (void)close(lock);
    }
}

__attribute__((visibility("default"))) ssize_t write(int fd, const void *data, size_t len)
{
    wait_for_disk(fd);
    return NEXT(write)(fd, data, len);
}

__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *data, size_t len,
                                                      off_t offset)
{
    wait_for_disk(fd);
    return NEXT(pwrite)(fd, data, len, offset);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    wait_for_disk(fd);
    return NEXT(fsync)(fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    wait_for_disk(fd);
    return NEXT(fdatasync)(fd);
}

__attribute__((visibility("default"))) int accept4(int fd, struct sockaddr *address,
                                                   socklen_t *address_len, int flags)
{
    int accepted = NEXT(accept4)(fd, address, address_len, flags);
    if (accepted >= 0 && witness_fd >= 0) {
        ssize_t told = NEXT(write)(witness_fd, "a", 1);
        (void)told; /* a test that does not look has a full pipe */
    }
    return accepted;
}
