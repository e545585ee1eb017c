#include "delivery/letters_report.h"

#include "cellgate/cleanup.h"
#include "delivery/letter_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Goes through a file's live letters. */
struct walk {
    int fd;
    struct cg_letter_scan scan;
    struct cg_json json;
    struct cg_letter letter;
    bool readable; /* letter and json are filled */
    uint64_t foreign;
};

static void walk_fini(struct walk *walk)
{
    cg_letter_scan_fini(&walk->scan);
    cg_json_fini(&walk->json);
    cg_cleanup_close(&walk->fd);
}

#define auto_walk __attribute__((cleanup(walk_fini)))

static bool walk_init(struct walk *walk, const char *path, struct cg_error *err)
{
    struct stat st = {0};
    *walk = (struct walk){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    cg_letter_reader_init(&walk->json);
    cg_letter_scan_init(&walk->scan, walk->fd, 0, 0);
    if (walk->fd < 0 && errno == ENOENT) {
        return true;
    }
    if (walk->fd < 0 || fstat(walk->fd, &st) != 0) {
        return cg_error_errno(err, errno, "dead letters %s", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return cg_error_set(err, "dead letters %s: not a regular file", path);
    }
    walk->scan.end = st.st_size;
    return true;
}

/* False at the end, or with *ret_failed. */
static bool walk_next(struct walk *walk, bool *ret_failed, struct cg_error *err)
{
    for (;;) {
        enum cg_letter_line line = cg_letter_scan_next(&walk->scan, err);
        if (line == CG_LETTER_LINE_END || line == CG_LETTER_LINE_FAILED) {
            *ret_failed = line == CG_LETTER_LINE_FAILED;
            return false;
        }
        if (line == CG_LETTER_LINE_FOREIGN) {
            walk->foreign++;
        } else if (cg_letter_is_live(walk->scan.state)) {
            struct cg_error ignored;
            walk->readable = cg_letter_read(&walk->json, walk->scan.line, &walk->letter, &ignored);
            return true;
        }
    }
}

/* The member as it stands in the letter; null if it is not there. */
static struct cg_bytes member(const struct walk *walk, const char *name)
{
    uint32_t node = cg_json_find(&walk->json, 0, cg_bytes_str(name));
    return node == 0 ? CG_BYTES("null") : cg_json_raw(&walk->json, node);
}

static void append_text(struct cg_buf *out, const struct walk *walk, const char *name)
{
    uint32_t node = cg_json_find(&walk->json, 0, cg_bytes_str(name));
    if (node == 0 || cg_json_type(&walk->json, node) != CG_JSON_STRING) {
        cg_buf_append_str(out, "null");
        return;
    }
    cg_buf_append_char(out, '"');
    cg_buf_append(out, cg_json_raw(&walk->json, node));
    cg_buf_append_char(out, '"');
}

/* --- counts --- */

struct counts {
    uint64_t letters, replaying, unreadable;
    uint64_t reasons[CG_LETTER_REASON_COUNT];
    struct cg_buf oldest, newest;
};

static void count_letter(struct counts *counts, const struct walk *walk)
{
    counts->letters++;
    counts->replaying += walk->scan.state == CG_LETTER_REDO;
    if (!walk->readable) {
        counts->unreadable++;
        return;
    }
    for (unsigned i = 0; i < CG_LETTER_REASON_COUNT; i++) {
        const char *name = cg_letter_reason_name((enum cg_letter_reason)i);
        counts->reasons[i] += cg_bytes_equal(walk->letter.reason, cg_bytes_str(name));
    }
    if (counts->oldest.len == 0) {
        append_text(&counts->oldest, walk, "time");
    }
    cg_buf_clear(&counts->newest);
    append_text(&counts->newest, walk, "time");
}

static void append_time(struct cg_buf *out, const char *name, const struct cg_buf *time)
{
    cg_buf_append_str(out, name);
    cg_buf_append(out, time->len == 0 ? CG_BYTES("null") : cg_buf_bytes(time));
}

static void append_counts(struct cg_buf *out, const struct counts *counts, uint64_t bytes)
{
    cg_buf_printf(out, "\"letters\":%llu,\"replaying\":%llu,\"unreadable\":%llu,\"bytes\":%llu",
                  (unsigned long long)counts->letters, (unsigned long long)counts->replaying,
                  (unsigned long long)counts->unreadable, (unsigned long long)bytes);
    append_time(out, ",\"oldest_time\":", &counts->oldest);
    append_time(out, ",\"newest_time\":", &counts->newest);
    for (unsigned i = 0; i < CG_LETTER_REASON_COUNT; i++) {
        cg_buf_printf(out, "%s\"%s\":%llu", i == 0 ? ",\"reasons\":{" : ",",
                      cg_letter_reason_name((enum cg_letter_reason)i),
                      (unsigned long long)counts->reasons[i]);
    }
    cg_buf_append_char(out, '}');
}

bool cg_letters_report_counts(const char *path, struct cg_buf *out, struct cg_error *err)
{
    enum { TIME_BYTES_MAX = 256 };
    auto_walk struct walk walk;
    struct counts counts = {0};
    bool failed = false;
    if (!walk_init(&walk, path, err)) {
        return false;
    }
    cg_buf_init(&counts.oldest, TIME_BYTES_MAX);
    cg_buf_init(&counts.newest, TIME_BYTES_MAX);
    while (walk_next(&walk, &failed, err)) {
        count_letter(&counts, &walk);
    }
    counts.unreadable += walk.foreign;
    if (!failed) {
        append_counts(out, &counts, (uint64_t)walk.scan.end);
    }
    cg_buf_fini(&counts.oldest);
    cg_buf_fini(&counts.newest);
    return !failed || cg_error_context(err, "dead letters %s", path);
}

/* --- a list --- */

static void append_letter(struct cg_buf *out, const struct walk *walk)
{
    static const char *const texts[] = {"time", "reason", "detail", "cell", "run"};
    cg_buf_append_str(out, "{\"id\":\"");
    cg_buf_append(out, walk->scan.id);
    cg_buf_append_str(out, "\",\"state\":\"");
    cg_buf_append_str(out, cg_letter_state_name(walk->scan.state));
    cg_buf_append_char(out, '"');
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cg_buf_printf(out, ",\"%s\":", texts[i]);
        append_text(out, walk, texts[i]);
    }
    cg_buf_append_str(out, ",\"status\":");
    cg_buf_append(out, member(walk, "status"));
    cg_buf_printf(out, ",\"sequence\":%llu,\"bytes\":%zu}",
                  (unsigned long long)walk->letter.event.meta.sequence,
                  walk->letter.event.bytes.len);
}

bool cg_letters_report_list(const char *path, uint64_t after, uint64_t limit, struct cg_buf *out,
                            uint64_t *ret_next, struct cg_error *err)
{
    auto_walk struct walk walk;
    bool failed = false;
    uint64_t number = 0, listed = 0, next = 0;
    if (!walk_init(&walk, path, err)) {
        return false;
    }
    cg_buf_append_char(out, '[');
    while (walk_next(&walk, &failed, err)) {
        if (!walk.readable || number++ < after) {
            continue;
        }
        if (listed == limit) {
            next = after + limit;
            break;
        }
        if (listed++ > 0) {
            cg_buf_append_char(out, ',');
        }
        append_letter(out, &walk);
    }
    cg_buf_append_char(out, ']');
    *ret_next = next;
    return !failed || cg_error_context(err, "dead letters %s", path);
}

/* --- one --- */

bool cg_letters_report_one(const char *path, struct cg_bytes id, struct cg_buf *out,
                           bool *ret_found, struct cg_error *err)
{
    auto_walk struct walk walk;
    bool failed = false;
    size_t start = out->len;
    *ret_found = false;
    if (!walk_init(&walk, path, err)) {
        return false;
    }
    while (walk_next(&walk, &failed, err)) {
        if (walk.readable && cg_bytes_equal(walk.scan.id, id)) {
            out->len = start;
            cg_buf_append(out, walk.scan.line);
            *ret_found = true;
        }
    }
    return !failed || cg_error_context(err, "dead letters %s", path);
}
