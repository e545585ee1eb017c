#include "cellgate/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

CG_PRINTF(2, 0) static void set_text(struct cg_error *err, const char *format, va_list args)
{
    if (err != NULL) {
        (void)vsnprintf(err->text, sizeof(err->text), format, args);
    }
}

bool cg_error_set(struct cg_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_text(err, format, args);
    va_end(args);
    return false;
}

bool cg_error_errno(struct cg_error *err, int errnum, const char *format, ...)
{
    if (err == NULL) {
        return false;
    }
    va_list args;
    va_start(args, format);
    set_text(err, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    char reason[128];
    (void)snprintf(err->text + used, sizeof(err->text) - used, ": %s",
                   strerror_r(errnum, reason, sizeof(reason)));
    return false;
}

bool cg_error_context(struct cg_error *err, const char *format, ...)
{
    if (err == NULL) {
        return false;
    }
    struct cg_error inner = *err;
    va_list args;
    va_start(args, format);
    set_text(err, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    (void)snprintf(err->text + used, sizeof(err->text) - used, ": %s", inner.text);
    return false;
}

void cg_bug(const char *file, int line, const char *expectation)
{
    (void)fprintf(stderr, "cellgate: bug at %s:%d: expected %s\n", file, line, expectation);
    abort();
}
