/*
 * captured_log.h - what the program logs while a test looks. Included by one test file each.
 */
#ifndef CELLGATE_TESTS_CAPTURED_LOG_H
#define CELLGATE_TESTS_CAPTURED_LOG_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int captured_fd = -1, stderr_kept = -1;

static void capture_log(void)
{
    captured_fd = memfd_create("log", MFD_CLOEXEC);
    stderr_kept = dup(STDERR_FILENO);
    ck_assert_int_ge(captured_fd, 0);
    ck_assert_int_eq(dup2(captured_fd, STDERR_FILENO), STDERR_FILENO);
}

static void release_log(void)
{
    ck_assert_int_eq(dup2(stderr_kept, STDERR_FILENO), STDERR_FILENO);
    (void)close(stderr_kept);
    (void)close(captured_fd);
}

/* The lines since the last call. Valid until the next. */
static const char *captured_log(void)
{
    static char text[64 * 1024];
    off_t len = lseek(captured_fd, 0, SEEK_END);
    ck_assert_int_ge(len, 0);
    ck_assert_int_lt(len, (off_t)sizeof(text));
    ck_assert_int_eq(pread(captured_fd, text, (size_t)len, 0), len);
    text[len] = '\0';
    ck_assert_int_eq(ftruncate(captured_fd, 0), 0);
    ck_assert_int_eq(lseek(captured_fd, 0, SEEK_SET), 0);
    return text;
}

#endif
