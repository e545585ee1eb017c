#include "exporters/http_status.h"

#include "cellgate/clock.h"

#include <stdio.h>
#include <time.h>

/* The longest date is "Wednesday, 09-Nov-94 08:49:37 GMT". */
enum { RETRY_AFTER_BYTES_MAX = 63 };

struct rule {
    int status;
    enum cg_verdict_kind plain;
    enum cg_verdict_kind otlp;
    bool suspicious_when_repeated;
};

/* Beside these: any 2xx is delivered, and everything else is configuration trouble. */
static const struct rule rules_table[] = {
    {400, CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, false},
    {408, CG_VERDICT_BACKOFF, CG_VERDICT_CONFIG, false},
    {409, CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, false},
    {413, CG_VERDICT_TOO_LARGE, CG_VERDICT_TOO_LARGE, false},
    {422, CG_VERDICT_SUSPECT, CG_VERDICT_SUSPECT, false},
    {429, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    /* A 500 may be a crash on one event. */
    {500, CG_VERDICT_BACKOFF, CG_VERDICT_CONFIG, true},
    {502, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {503, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
    {504, CG_VERDICT_BACKOFF, CG_VERDICT_BACKOFF, false},
};

static struct rule find_rule(int status)
{
    if (status >= 200 && status <= 299) {
        return (struct rule){status, CG_VERDICT_DELIVERED, CG_VERDICT_DELIVERED, false};
    }
    for (size_t i = 0; i < sizeof(rules_table) / sizeof(rules_table[0]); i++) {
        if (rules_table[i].status == status) {
            return rules_table[i];
        }
    }
    return (struct rule){status, CG_VERDICT_CONFIG, CG_VERDICT_CONFIG, false};
}

/* Saturates: a number of any length is a delay, only a very long one. */
static bool parse_seconds(const char *text, uint64_t *ret_ns)
{
    uint64_t seconds = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (seconds < UINT64_MAX / CG_NS_PER_S / 10) {
            seconds = seconds * 10 + (uint64_t)(*at - '0');
        } else {
            seconds = UINT64_MAX / CG_NS_PER_S;
        }
    }
    if (at == text || *at != '\0') {
        return false;
    }
    *ret_ns = seconds * CG_NS_PER_S;
    return true;
}

/* The program never leaves the C locale, so strptime's names are the English ones HTTP wants. */
static bool parse_date(const char *text, uint64_t *ret_realtime_ns)
{
    static const char *const formats[] = {
        "%a, %d %b %Y %H:%M:%S GMT", /* IMF-fixdate */
        "%a, %d-%b-%y %H:%M:%S GMT", /* RFC 850; %a takes the long names too */
        "%a %b %d %H:%M:%S %Y",      /* asctime */
    };
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        struct tm tm = {0};
        const char *end = strptime(text, formats[i], &tm);
        if (end != NULL && *end == '\0') {
            time_t seconds = timegm(&tm);
            if (seconds < 0 || (uint64_t)seconds > UINT64_MAX / CG_NS_PER_S) {
                return false;
            }
            *ret_realtime_ns = (uint64_t)seconds * CG_NS_PER_S;
            return true;
        }
    }
    return false;
}

uint64_t cg_http_retry_after_ns(struct cg_bytes value, uint64_t now_realtime_ns)
{
    char text[RETRY_AFTER_BYTES_MAX + 1];
    if (value.len == 0 || value.len > RETRY_AFTER_BYTES_MAX ||
        memchr(value.data, '\0', value.len) != NULL) {
        return 0;
    }
    memcpy(text, value.data, value.len);
    text[value.len] = '\0';

    uint64_t delay_ns = 0;
    uint64_t date_ns = 0;
    if (parse_seconds(text, &delay_ns)) {
        return delay_ns;
    }
    if (parse_date(text, &date_ns) && date_ns > now_realtime_ns) {
        return date_ns - now_realtime_ns;
    }
    return 0;
}

void cg_http_status_verdict(enum cg_http_rules rules, int status, struct cg_bytes retry_after,
                            uint64_t now_realtime_ns, struct cg_verdict *ret_verdict)
{
    struct rule rule = find_rule(status);
    ret_verdict->kind = rules == CG_HTTP_RULES_OTLP ? rule.otlp : rule.plain;
    bool again = ret_verdict->kind == CG_VERDICT_BACKOFF;
    ret_verdict->suspicious_when_repeated = again && rule.suspicious_when_repeated;
    ret_verdict->retry_after_ns = again ? cg_http_retry_after_ns(retry_after, now_realtime_ns) : 0;
    ret_verdict->status = status;
    (void)snprintf(ret_verdict->detail, sizeof(ret_verdict->detail), "HTTP %d", status);
}
