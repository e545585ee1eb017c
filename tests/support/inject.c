/*
 * inject.c - a disk that fails and a wall clock that is set, on a test's order; preloaded into the
 * gateway.
 *
 * The file $INJECT_CONTROL is a shared mapping of struct control. Where it holds an error number,
 * that is what happens to a regular file; where it holds an offset, the wall clock is so far off.
 * A test changes it while the gateway runs.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* tests/support/faults.py writes it as little-endian 64-bit numbers. */
struct control {
    _Atomic int64_t write_errno; /* write, pwrite */
    _Atomic int64_t sync_errno;  /* fsync, fdatasync */
    _Atomic int64_t make_errno;  /* open with O_CREAT, rename, ftruncate, fallocate */
    _Atomic int64_t clock_offset_ns;
};

#define NEXT(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))
#define EXPORTED   __attribute__((visibility("default")))

static struct control *control;

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("INJECT_CONTROL");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *mapped = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    control = mapped == MAP_FAILED ? NULL : mapped;
    (void)close(fd);
}

/* Whether a call is to fail; sets errno then. */
static bool refused(_Atomic int64_t *which)
{
    int64_t errnum = *which;
    if (errnum != 0) {
        errno = (int)errnum;
    }
    return errnum != 0;
}

static bool refused_on(int fd, size_t offset)
{
    struct stat found;
    return control != NULL && fstat(fd, &found) == 0 &&
           (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)) &&
           refused((_Atomic int64_t *)((char *)control + offset));
}

#define WRITES offsetof(struct control, write_errno)
#define SYNCS  offsetof(struct control, sync_errno)
#define MAKES  offsetof(struct control, make_errno)

EXPORTED ssize_t write(int fd, const void *data, size_t len)
{
    return refused_on(fd, WRITES) ? -1 : NEXT(write)(fd, data, len);
}

EXPORTED ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    return refused_on(fd, WRITES) ? -1 : NEXT(pwrite)(fd, data, len, offset);
}

EXPORTED int fsync(int fd)
{
    return refused_on(fd, SYNCS) ? -1 : NEXT(fsync)(fd);
}

EXPORTED int fdatasync(int fd)
{
    return refused_on(fd, SYNCS) ? -1 : NEXT(fdatasync)(fd);
}

EXPORTED int ftruncate(int fd, off_t len)
{
    return refused_on(fd, MAKES) ? -1 : NEXT(ftruncate)(fd, len);
}

EXPORTED int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    bool fails = control != NULL && refused(&control->make_errno);
    return fails ? -1 : NEXT(renameat)(from_fd, from, to_fd, to);
}

EXPORTED int openat(int dir_fd, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    bool fails = (flags & O_CREAT) != 0 && control != NULL && refused(&control->make_errno);
    return fails ? -1 : NEXT(openat)(dir_fd, path, flags, mode);
}

EXPORTED int clock_gettime(clockid_t clock, struct timespec *now)
{
    int done = NEXT(clock_gettime)(clock, now);
    if (done == 0 && clock == CLOCK_REALTIME && control != NULL) {
        int64_t ns = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + control->clock_offset_ns;
        now->tv_sec = ns / INT64_C(1000000000);
        now->tv_nsec = ns % INT64_C(1000000000);
    }
    return done;
}
