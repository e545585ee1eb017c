#include "cellgate/log.h"

#include "cellgate/clock.h"
#include "cellgate/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LINE_BYTES_MAX = 4096,
    VALUE_BYTES_MAX = 1024, /* escaped */
    ESCAPE_BYTES_MAX = 6,   /* \u00xx */
};

static struct {
    _Atomic enum cg_log_level level; /* a reload may change it */
    enum cg_log_format format;
    bool journal; /* stderr is journald's: it takes the time and wants a priority */
} settings = {.level = CG_LOG_INFO, .format = CG_LOG_LOGFMT};

/* A line under construction; what does not fit is left out. */
struct line {
    char text[LINE_BYTES_MAX];
    size_t len;
};

static void put(struct line *line, const char *text, size_t len)
{
    /* One byte is kept for the newline. */
    size_t room = sizeof(line->text) - 1 - line->len;
    size_t take = len < room ? len : room;
    memcpy(line->text + line->len, text, take);
    line->len += take;
}

static void put_str(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* The length of the well-formed UTF-8 sequence at the front (0: there is none), and its value. */
static size_t decode_utf8(struct cg_bytes bytes, uint32_t *ret_point)
{
    static const struct {
        unsigned char mask, lead, bits;
        uint32_t first; /* the smallest value that needs this length */
    } forms[] = {{0xE0, 0xC0, 0x1F, 0x80}, {0xF0, 0xE0, 0x0F, 0x800}, {0xF8, 0xF0, 0x07, 0x10000}};
    unsigned char lead = (unsigned char)bytes.data[0];
    if (lead < 0x80) {
        *ret_point = lead;
        return 1;
    }
    for (size_t form = 0; form < sizeof(forms) / sizeof(forms[0]); form++) {
        size_t len = form + 2;
        if ((lead & forms[form].mask) != forms[form].lead || bytes.len < len) {
            continue;
        }
        uint32_t point = lead & forms[form].bits;
        for (size_t i = 1; i < len; i++) {
            unsigned char next = (unsigned char)bytes.data[i];
            if ((next & 0xC0) != 0x80) {
                return 0;
            }
            point = point << 6 | (next & 0x3F);
        }
        bool surrogate = point >= 0xD800 && point <= 0xDFFF;
        if (point < forms[form].first || point > 0x10FFFF || surrogate) {
            return 0;
        }
        *ret_point = point;
        return len;
    }
    return 0;
}

/* Characters that can drive a terminal, forge a line or reorder what a person reads. */
static bool is_treacherous(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point <= 0x9F) || point == '"' || point == '\\' ||
           point == 0x061C || (point >= 0x200B && point <= 0x200F) ||
           (point >= 0x2028 && point <= 0x202E) || (point >= 0x2060 && point <= 0x2069) ||
           point == 0xFEFF;
}

size_t cg_text_escape(struct cg_bytes untrusted, char *out, size_t max)
{
    static const char cut[] = "...";
    CG_ASSERT(max >= ESCAPE_BYTES_MAX + sizeof(cut));
    size_t len = 0;
    for (size_t at = 0; at < untrusted.len;) {
        uint32_t point = 0xFFFD;
        struct cg_bytes rest = cg_bytes(untrusted.data + at, untrusted.len - at);
        size_t taken = decode_utf8(rest, &point);
        if (max - len < ESCAPE_BYTES_MAX + sizeof(cut)) {
            memcpy(out + len, cut, sizeof(cut));
            return len + sizeof(cut) - 1;
        }
        if (taken != 0 && !is_treacherous(point)) {
            memcpy(out + len, rest.data, taken);
            len += taken;
        } else if (point == '"' || point == '\\') {
            out[len++] = '\\';
            out[len++] = (char)point;
        } else {
            len += (size_t)snprintf(out + len, max - len, "\\u%04x", (unsigned)point);
        }
        at += taken == 0 ? 1 : taken;
    }
    out[len] = '\0';
    return len;
}

static bool is_bare(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= ' ' || c == '=' || c == '"' || c == '\\' || c >= 0x7F) {
            return false;
        }
    }
    return len > 0;
}

static void put_value(struct line *line, struct cg_bytes value)
{
    char escaped[VALUE_BYTES_MAX];
    size_t len = cg_text_escape(value, escaped, sizeof(escaped));
    bool bare = settings.format == CG_LOG_LOGFMT && is_bare(escaped, len);
    put(line, "\"", bare ? 0 : 1);
    put(line, escaped, len);
    put(line, "\"", bare ? 0 : 1);
}

static void put_key(struct line *line, const char *key)
{
    bool json = settings.format == CG_LOG_JSON;
    if (line->len > 0 && line->text[line->len - 1] != '{' && line->text[line->len - 1] != '>') {
        put_str(line, json ? "," : " ");
    }
    put_str(line, json ? "\"" : "");
    put_str(line, key);
    put_str(line, json ? "\":" : "=");
}

static void put_field(struct line *line, const struct cg_log_field *field)
{
    char number[24];
    put_key(line, field->key);
    switch (field->type) {
    case CG_LOG_FIELD_BYTES:
        put_value(line, field->bytes);
        break;
    case CG_LOG_FIELD_U64:
        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)field->u64);
        put_str(line, number);
        break;
    case CG_LOG_FIELD_I64:
        (void)snprintf(number, sizeof(number), "%lld", (long long)field->i64);
        put_str(line, number);
        break;
    }
}

void cg_log_set_level(enum cg_log_level level)
{
    atomic_store_explicit(&settings.level, level, memory_order_relaxed);
}

void cg_log_configure(enum cg_log_level level, enum cg_log_format format)
{
    cg_log_set_level(level);
    settings.format = format;

    /* systemd.exec(5): JOURNAL_STREAM is "device:inode" of the stream that goes to the journal. */
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat info;
    char ours[64] = "";
    if (stream != NULL && fstat(STDERR_FILENO, &info) == 0) {
        (void)snprintf(ours, sizeof(ours), "%llu:%llu", (unsigned long long)info.st_dev,
                       (unsigned long long)info.st_ino);
    }
    settings.journal = stream != NULL && strcmp(stream, ours) == 0;
}

void cg_log_write(enum cg_log_level level, const char *event, const struct cg_log_field *fields,
                  size_t count)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    static const char *const priorities[] = {"<7>", "<6>", "<4>", "<3>"}; /* sd-daemon(3) */
    if (level < atomic_load_explicit(&settings.level, memory_order_relaxed)) {
        return;
    }
    struct line line;
    line.len = 0;
    put_str(&line, settings.journal ? priorities[level] : "");
    put_str(&line, settings.format == CG_LOG_JSON ? "{" : "");
    if (!settings.journal) {
        char now[CG_TIME_TEXT_LEN];
        cg_time_format(cg_clock_realtime(&cg_clock_system), now);
        put_field(&line, &CG_F_BYTES("time", cg_bytes(now, sizeof(now))));
    }
    put_field(&line, &CG_F_STR("level", names[level]));
    put_field(&line, &CG_F_STR("event", event));
    for (size_t i = 0; i < count; i++) {
        put_field(&line, &fields[i]);
    }
    put_str(&line, settings.format == CG_LOG_JSON ? "}" : "");
    line.text[line.len++] = '\n';
    /* A log that cannot be written is nothing the program can act on. */
    ssize_t written = write(STDERR_FILENO, line.text, line.len);
    (void)written;
}

bool cg_log_limit_pass(struct cg_log_limit *limit, uint64_t monotonic_ns, uint64_t *ret_suppressed)
{
    uint64_t start = atomic_load(&limit->window_start_ns);
    if (start == 0 || monotonic_ns - start >= limit->period_ns) {
        /* Several threads may see the window end; one of them opens the next. */
        if (atomic_compare_exchange_strong(&limit->window_start_ns, &start, monotonic_ns)) {
            atomic_store(&limit->in_window, 0);
        }
    }
    if (atomic_fetch_add(&limit->in_window, 1) >= limit->burst) {
        atomic_fetch_add(&limit->suppressed, 1);
        return false;
    }
    *ret_suppressed = atomic_exchange(&limit->suppressed, 0);
    return true;
}

void cg_log_limit_return(struct cg_log_limit *limit, uint64_t suppressed)
{
    atomic_fetch_sub(&limit->in_window, 1);
    atomic_fetch_add(&limit->suppressed, suppressed + 1);
}
