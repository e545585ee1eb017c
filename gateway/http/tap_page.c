#include "http/tap_page.h"

#include "base/glob.h"
#include "cellgate/limits.h"
#include "cellgate/metrics.h"
#include "delivery/filter.h"
#include "http/arguments.h"
#include "spool/tap.h"

#include <microhttpd.h>
#include <stdlib.h>

enum {
    OUT_BYTES_WANTED = 64 << 10, /* then it is sent before more is looked at */
    LOOKS_A_READ_MAX = 64,       /* where little matches, others get their turn */
    SKIPPED_LINE_BYTES_MAX = 64, /* one a look */
    OUT_BYTES_MAX =
        OUT_BYTES_WANTED + CG_EVENT_BYTES_MAX + 1 + LOOKS_A_READ_MAX * SKIPPED_LINE_BYTES_MAX,
};

struct tap {
    struct cg_spool_tap *source;
    char *cell, *types; /* patterns; NULL: any */
    uint64_t left;      /* events until its end */
    struct cg_buf out;  /* lines, of which … */
    size_t sent;        /* … so many bytes are */
};

static void close_tap(void *context)
{
    struct tap *tap = context;
    if (tap->source != NULL) {
        cg_spool_tap_close(tap->source);
    }
    cg_buf_fini(&tap->out);
    free(tap->cell);
    free(tap->types);
    free(tap);
}

/* --- reading --- */

static bool matches(const struct tap *tap, const struct cg_event *event)
{
    return (tap->cell == NULL ||
            cg_glob_match(cg_bytes_str(tap->cell), cg_event_get(event, CG_TEXT_CELL))) &&
           (tap->types == NULL ||
            cg_glob_match(cg_bytes_str(tap->types), cg_event_get(event, CG_TEXT_TYPE)));
}

static void tell_skipped(struct tap *tap, uint64_t skipped)
{
    if (skipped > 0) {
        cg_metric_add(CG_SERIES_tap_skipped_events, skipped);
        cg_buf_printf(&tap->out, "{\"skipped\":%llu}\n", (unsigned long long)skipped);
    }
}

static bool has_enough(const struct tap *tap)
{
    return tap->left == 0 || tap->out.len >= OUT_BYTES_WANTED;
}

/* Takes up lines of one look. False: there is nothing to look at now. */
static bool look(struct tap *tap)
{
    const struct cg_event *events = NULL;
    uint64_t skipped = 0;
    size_t count = cg_spool_tap_look(tap->source, &events, &skipped);
    tell_skipped(tap, skipped);
    size_t passed = 0;
    while (passed < count && !has_enough(tap)) {
        const struct cg_event *event = &events[passed++];
        if (matches(tap, event)) {
            cg_buf_append(&tap->out, event->bytes);
            cg_buf_append_char(&tap->out, '\n');
            tap->left--;
        }
    }
    if (count > 0) {
        cg_spool_tap_pass(tap->source, passed);
    }
    return count > 0;
}

static void refill(struct tap *tap)
{
    cg_buf_clear(&tap->out);
    tap->sent = 0;
    for (unsigned looks = 0; looks < LOOKS_A_READ_MAX && !has_enough(tap); looks++) {
        if (!look(tap)) {
            return;
        }
    }
}

static ssize_t read_tap(void *context, char *out, size_t max)
{
    struct tap *tap = context;
    if (tap->sent == tap->out.len) {
        if (tap->left == 0) {
            return CG_HTTP_STREAM_END;
        }
        refill(tap);
    }
    if (tap->out.failed) {
        return CG_HTTP_STREAM_BROKEN;
    }
    size_t len = tap->out.len - tap->sent;
    len = len < max ? len : max;
    if (len > 0) {
        memcpy(out, tap->out.data + tap->sent, len);
    }
    tap->sent += len;
    return (ssize_t)len;
}

/* --- the request --- */

static bool read_pattern(const struct cg_http_request *request, const char *key, char **ret_pattern,
                         struct cg_http_answer *answer)
{
    const char *pattern = cg_http_query(request, key);
    if (pattern == NULL) {
        return true;
    }
    size_t len = strlen(pattern);
    if (len == 0 || len > CG_FILTER_PATTERN_BYTES_MAX) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, key,
                              "expected a pattern of 1 to 256 bytes");
        return false;
    }
    *ret_pattern = strdup(pattern);
    answer->body.failed = *ret_pattern == NULL;
    return *ret_pattern != NULL;
}

static bool read_limit(const struct cg_http_request *request, uint64_t *ret_limit,
                       struct cg_http_answer *answer)
{
    const char *limit = cg_http_query(request, "limit");
    *ret_limit = UINT64_MAX;
    if (limit != NULL && (!cg_argument_u64(limit, UINT64_MAX, ret_limit) || *ret_limit == 0)) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, "limit", "expected a number from 1");
        return false;
    }
    return true;
}

static bool open_source(struct tap *tap, struct cg_spool *spool, struct cg_http_answer *answer)
{
    bool too_many = false;
    struct cg_error err = {0};
    if (!cg_spool_tap_open(spool, &tap->source, &too_many, &err)) {
        cg_http_problem(answer,
                        too_many ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_INTERNAL_SERVER_ERROR,
                        err.text);
        return false;
    }
    return true;
}

void cg_tap_page(const struct cg_gateway_view *view, const struct cg_http_request *request,
                 struct cg_http_answer *answer)
{
    if (strcmp(request->method, MHD_HTTP_METHOD_GET) != 0) {
        cg_http_problem(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "events are tapped with GET");
        answer->allow = "GET";
        return;
    }
    struct tap *tap = calloc(1, sizeof(*tap));
    if (tap == NULL) {
        answer->body.failed = true;
        return;
    }
    cg_buf_init(&tap->out, OUT_BYTES_MAX);
    if (!read_pattern(request, "cell", &tap->cell, answer) ||
        !read_pattern(request, "types", &tap->types, answer) ||
        !read_limit(request, &tap->left, answer) || !open_source(tap, view->spool, answer)) {
        close_tap(tap);
        return;
    }
    answer->content_type = "application/x-ndjson";
    answer->stream = (struct cg_http_stream){.context = tap, .read = read_tap, .close = close_tap};
}
