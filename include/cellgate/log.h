/*
 * log.h - one line an event: `time=… level=… event=… key=value …` (logfmt), or the same as JSON.
 *
 * Coordinators log, once; library code returns errors and verdicts instead. Values are typed, and
 * whatever a peer sent is escaped on the way out, so that no line can be forged and no terminal
 * driven. What a peer can trigger goes through a struct cg_log_limit, and has a counter besides.
 * Lines go to stderr in one write(2). Any thread.
 */
#ifndef CELLGATE_LOG_H
#define CELLGATE_LOG_H

#include "cellgate/bytes.h"

#include <stdatomic.h>
#include <stdint.h>

enum cg_log_level { CG_LOG_DEBUG, CG_LOG_INFO, CG_LOG_WARNING, CG_LOG_ERROR };
enum cg_log_format { CG_LOG_LOGFMT, CG_LOG_JSON };

struct cg_log_field {
    const char *key;
    enum { CG_LOG_FIELD_BYTES, CG_LOG_FIELD_U64, CG_LOG_FIELD_I64 } type;
    struct cg_bytes bytes;
    uint64_t u64;
    int64_t i64;
};

#define CG_F_STR(k, v)                                                                             \
    ((struct cg_log_field){.key = (k), .type = CG_LOG_FIELD_BYTES, .bytes = cg_bytes_str(v)})
#define CG_F_BYTES(k, v)                                                                           \
    ((struct cg_log_field){.key = (k), .type = CG_LOG_FIELD_BYTES, .bytes = (v)})
#define CG_F_U64(k, v)                                                                             \
    ((struct cg_log_field){.key = (k), .type = CG_LOG_FIELD_U64, .u64 = (uint64_t)(v)})
#define CG_F_I64(k, v)                                                                             \
    ((struct cg_log_field){.key = (k), .type = CG_LOG_FIELD_I64, .i64 = (int64_t)(v)})

/* Set once by main before any thread is started. */
void cg_log_configure(enum cg_log_level level, enum cg_log_format format);
/* Any thread, at any time. */
void cg_log_set_level(enum cg_log_level level);

void cg_log_write(enum cg_log_level level, const char *event, const struct cg_log_field *fields,
                  size_t count);

/* CG_LOG(CG_LOG_INFO, "cell_registered", CG_F_BYTES("cell", id), CG_F_U64("thread", k)); */
#define CG_LOG(level, event, ...)                                                                  \
    do {                                                                                           \
        const struct cg_log_field cg_fields_[] = {__VA_ARGS__};                                    \
        cg_log_write((level), (event), cg_fields_, sizeof(cg_fields_) / sizeof(cg_fields_[0]));    \
    } while (0)

/* At most `burst` lines per `period_ns`; what was held back is counted in the next line let through
 * (field `suppressed`). Zero-initialised apart from its two limits; any thread. */
struct cg_log_limit {
    uint64_t period_ns;
    uint32_t burst;
    _Atomic uint64_t window_start_ns;
    _Atomic uint32_t in_window;
    _Atomic uint64_t suppressed;
};

/* True if a line may go out now; *ret_suppressed is then how many did not since the last. */
bool cg_log_limit_pass(struct cg_log_limit *limit, uint64_t monotonic_ns, uint64_t *ret_suppressed);
/* The line that was let through does not go out after all (another limit refuses it): its place is
 * free again, and the next line counts it with the `suppressed` that it would have told of. By the
 * thread that was let through, where no other uses the limit. */
void cg_log_limit_return(struct cg_log_limit *limit, uint64_t suppressed);

/*
 * Renders untrusted bytes for people: printable UTF-8 stays, controls, DEL, U+0080-U+009F,
 * bidirectional overrides, invalid bytes and `"` `\` are escaped. Writes at most `max` bytes into
 * `out`, terminated; a cut text ends in "...". Returns the length written. Pure.
 */
size_t cg_text_escape(struct cg_bytes untrusted, char *out, size_t max);

#endif
