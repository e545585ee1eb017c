/*
 * error.h - the three kinds of failure, and what each looks like in code.
 *
 *  - An *outcome* of the outside world (a frame is malformed, a collector says 503) is a closed
 *    enum, with a counter for each value. It is not an error.
 *  - An *error* of the environment (no such file, no memory) is a function that returns false and a
 *    text in a struct cg_error on the caller's stack. Each level that adds knowledge puts its
 *    context in front, once.
 *  - A *bug* is CG_ASSERT: always compiled in, ends the process.
 *
 * Convention for every fallible function: it returns bool, is CG_MUST_USE, names its outputs ret_*,
 * puts them last before `err`, and leaves them untouched on failure.
 */
#ifndef CELLGATE_ERROR_H
#define CELLGATE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#define CG_MUST_USE                __attribute__((warn_unused_result))
#define CG_PRINTF(text_arg, first) __attribute__((format(printf, text_arg, first)))
#define CG_NORETURN                __attribute__((noreturn))

enum { CG_ERROR_TEXT_MAX = 512 };

/* What went wrong, for people. Starts as {0}; longer texts are cut at the end. */
struct cg_error {
    char text[CG_ERROR_TEXT_MAX];
};

/* All three return false, so that `return cg_error_set(err, …)` reads well. `err` may be NULL. */
bool cg_error_set(struct cg_error *err, const char *format, ...) CG_PRINTF(2, 3);

/* As cg_error_set, with ": " and the text of `errnum` (an errno value) behind it. */
bool cg_error_errno(struct cg_error *err, int errnum, const char *format, ...) CG_PRINTF(3, 4);

/* Puts "context: " in front of the text that is already there. */
bool cg_error_context(struct cg_error *err, const char *format, ...) CG_PRINTF(2, 3);

/* Prints the broken expectation to stderr and aborts. Any thread. */
CG_NORETURN void cg_bug(const char *file, int line, const char *expectation);

#define CG_ASSERT(expression)                                                                      \
    do {                                                                                           \
        if (__builtin_expect(!(expression), 0)) {                                                  \
            cg_bug(__FILE__, __LINE__, #expression);                                               \
        }                                                                                          \
    } while (0)

#endif
