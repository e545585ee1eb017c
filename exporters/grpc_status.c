#include "exporters/grpc_status.h"

#include "exporters/http_status.h"

#include <endian.h>
#include <stdio.h>

enum {
    DETAILS_BYTES_MAX = 64 * 1024,
    TEXT_BYTES_MAX = 1024, /* of a message, decoded */
    HTTP_OK = 200,
};

struct rule {
    const char *name;
    enum cg_verdict_kind kind;
    enum cg_verdict_kind with_retry_info;
    bool suspicious_when_repeated;
};

/* By code; every code beyond is configuration trouble. UNKNOWN and INTERNAL are what a server says
 * that has crashed on something, which may be one event: as with an HTTP 500. */
static const struct rule rules[] = {
    {"OK", CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED, false},
    {"CANCELLED", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {"UNKNOWN", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, true},
    {"INVALID_ARGUMENT", CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, false},
    {"DEADLINE_EXCEEDED", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {"NOT_FOUND", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false},
    {"ALREADY_EXISTS", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false},
    {"PERMISSION_DENIED", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false},
    {"RESOURCE_EXHAUSTED", CG_VERDICT_TOO_LARGE, CG_VERDICT_BACKOFF, false},
    {"FAILED_PRECONDITION", CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, false},
    {"ABORTED", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {"OUT_OF_RANGE", CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, false},
    {"UNIMPLEMENTED", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false},
    {"INTERNAL", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, true},
    {"UNAVAILABLE", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {"DATA_LOSS", CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {"UNAUTHENTICATED", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false},
};

enum { CODE_UNKNOWN = 2, CODE_MAX = 999, CODES = sizeof(rules) / sizeof(rules[0]) };

/* --- messages --- */

void cg_grpc_prefix_write(char prefix[CG_GRPC_PREFIX_BYTES], bool compressed, uint32_t bytes)
{
    uint32_t big = htobe32(bytes);
    prefix[0] = compressed ? 1 : 0;
    memcpy(prefix + 1, &big, sizeof(big));
}

bool cg_grpc_message_read(struct cg_bytes body, struct cg_bytes *ret_message)
{
    uint32_t big;
    if (body.len < CG_GRPC_PREFIX_BYTES || body.data[0] != 0) {
        return false;
    }
    memcpy(&big, body.data + 1, sizeof(big));
    if (be32toh(big) != body.len - CG_GRPC_PREFIX_BYTES) {
        return false;
    }
    *ret_message = cg_bytes(body.data + CG_GRPC_PREFIX_BYTES, body.len - CG_GRPC_PREFIX_BYTES);
    return true;
}

/* --- texts --- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    int lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

size_t cg_grpc_text_decode(const char *text, char *out, size_t max)
{
    size_t len = 0;
    while (*text != '\0' && len + 1 < max) {
        int high = *text == '%' ? hex_digit(text[1]) : -1;
        int low = high >= 0 ? hex_digit(text[2]) : -1;
        if (low >= 0) {
            int c = high * 16 + low;
            out[len++] = (char)(c == 0 ? '?' : c);
            text += 3;
        } else {
            out[len++] = *text++;
        }
    }
    out[len] = '\0';
    return len;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool cg_grpc_binary_decode(const char *text, char *out, size_t max, size_t *ret_len)
{
    size_t digits = strlen(text);
    if (digits % 4 == 0) { /* padding makes it whole, and may be left out */
        digits -= digits > 0 && text[digits - 1] == '=';
        digits -= digits > 1 && text[digits - 1] == '=' && digits % 4 == 3;
    }
    if (digits % 4 == 1 || digits / 4 * 3 + digits % 4 > max) {
        return false;
    }
    uint32_t bits = 0;
    int count = 0;
    size_t len = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)digit) & 0xffffff;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[len++] = (char)(bits >> count);
        }
    }
    if ((bits & ((1U << count) - 1)) != 0) {
        return false;
    }
    *ret_len = len;
    return true;
}

/* --- the verdict --- */

/* Anything that is no number is UNKNOWN, as gRPC has it. */
static int read_code(const char *text)
{
    int code = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && code <= CODE_MAX; at++) {
        code = code * 10 + (*at - '0');
    }
    return at == text || *at != '\0' || code > CODE_MAX ? CODE_UNKNOWN : code;
}

static bool read_details(struct cg_otlp_reader *reader, const char *details,
                         struct cg_otlp_status *ret_status)
{
    char bytes[DETAILS_BYTES_MAX];
    size_t len;
    return details != NULL && cg_grpc_binary_decode(details, bytes, sizeof(bytes), &len) &&
           cg_otlp_read_status(reader, cg_bytes(bytes, len), ret_status);
}

static void judge_http(const struct cg_grpc_answer *answer, uint64_t now_realtime_ns,
                       struct cg_verdict *ret_verdict)
{
    ret_verdict->kind = CG_VERDICT_BACKOFF;
    ret_verdict->status = answer->http_status;
    ret_verdict->retry_after_ns = cg_http_retry_after_ns(answer->retry_after, now_realtime_ns);
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "HTTP %d%s",
                   answer->http_status,
                   answer->http_status == HTTP_OK ? " without a grpc-status" : "");
}

static void judge_refusal(struct cg_otlp_reader *reader, const struct cg_grpc_answer *answer,
                          int code, struct cg_verdict *ret_verdict)
{
    static const struct rule other = {"", CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false};
    const struct rule *rule = code < CODES ? &rules[code] : &other;
    struct cg_otlp_status status = {0};
    bool known = read_details(reader, answer->details, &status);
    ret_verdict->kind = known && status.has_retry_info ? rule->with_retry_info : rule->kind;
    ret_verdict->status = code;
    if (ret_verdict->kind == CG_VERDICT_BACKOFF) {
        ret_verdict->suspicious_when_repeated = rule->suspicious_when_repeated;
        ret_verdict->retry_after_ns = status.retry_delay_ns;
    }
    char text[TEXT_BYTES_MAX];
    size_t len = answer->message != NULL
                     ? cg_grpc_text_decode(answer->message, text, sizeof(text))
                     : (size_t)snprintf(text, sizeof(text), "%s", status.message);
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "gRPC %d%s%s%s%.*s", code,
                   rule->name[0] != '\0' ? " " : "", rule->name, len > 0 ? ": " : "",
                   CG_OTLP_MESSAGE_BYTES_MAX, text);
    memcpy(ret_verdict->answer, text, len);
    ret_verdict->answer_len = len;
}

void cg_grpc_verdict(struct cg_otlp_reader *reader, const struct cg_grpc_answer *answer,
                     uint64_t now_realtime_ns, struct cg_verdict *ret_verdict)
{
    if (answer->http_status != HTTP_OK || answer->status == NULL) {
        judge_http(answer, now_realtime_ns, ret_verdict);
        return;
    }
    int code = read_code(answer->status);
    if (code != 0) {
        judge_refusal(reader, answer, code, ret_verdict);
        return;
    }
    struct cg_bytes message;
    ret_verdict->kind = CG_VERDICT_DELIVERED;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "gRPC 0 OK");
    if (!cg_grpc_message_read(answer->body, &message) ||
        !cg_otlp_read_response(reader, CG_OTLP_PROTOBUF, message, ret_verdict)) {
        (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail),
                       "gRPC 0 OK with an answer that cannot be read");
    }
}
