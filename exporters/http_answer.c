#include "exporters/http_answer.h"

#include <string.h>
#include <strings.h>

void cg_http_intake_init(struct cg_http_intake *intake, size_t kept_bytes_max)
{
    *intake = (struct cg_http_intake){0};
    cg_buf_init(&intake->body, kept_bytes_max);
}

void cg_http_intake_fini(struct cg_http_intake *intake)
{
    cg_buf_fini(&intake->body);
}

void cg_http_intake_reset(struct cg_http_intake *intake)
{
    cg_buf_clear(&intake->body);
    intake->body_seen_bytes = 0;
    intake->body_too_long = false;
    intake->head_whole = false;
    intake->retry_after[0] = '\0';
}

static bool starts_with(struct cg_bytes line, const char *prefix)
{
    size_t len = strlen(prefix);
    return line.len >= len && strncasecmp(line.data, prefix, len) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct cg_bytes trim(struct cg_bytes text)
{
    while (text.len > 0 && is_blank(text.data[0])) {
        text = cg_bytes(text.data + 1, text.len - 1);
    }
    while (text.len > 0 && is_blank(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

void cg_http_intake_line(struct cg_http_intake *intake, struct cg_bytes line)
{
    static const char name[] = "retry-after:";
    if (starts_with(line, "HTTP/")) { /* an interim answer may have come before this one */
        intake->head_whole = false;
        intake->retry_after[0] = '\0';
    } else if (line.len == 2 && memcmp(line.data, "\r\n", 2) == 0) {
        intake->head_whole = true;
    } else if (starts_with(line, name)) {
        size_t name_len = sizeof(name) - 1;
        struct cg_bytes value = trim(cg_bytes(line.data + name_len, line.len - name_len));
        if (value.len <= CG_HTTP_RETRY_AFTER_BYTES_MAX) {
            memcpy(intake->retry_after, value.data, value.len);
            intake->retry_after[value.len] = '\0';
        }
    }
}

bool cg_http_intake_body(struct cg_http_intake *intake, struct cg_bytes more)
{
    size_t room = intake->body.max - intake->body.len;
    if (!cg_buf_append(&intake->body, cg_bytes(more.data, more.len < room ? more.len : room))) {
        return false;
    }
    intake->body_seen_bytes += more.len;
    intake->body_too_long = intake->body_seen_bytes > CG_HTTP_ANSWER_BYTES_MAX;
    return !intake->body_too_long;
}

struct cg_http_answer cg_http_intake_take(const struct cg_http_intake *intake, int status)
{
    return (struct cg_http_answer){
        .status = status,
        .retry_after = cg_bytes_str(intake->retry_after),
        .body = cg_buf_bytes(&intake->body),
        .body_whole = intake->body_seen_bytes == intake->body.len,
    };
}
