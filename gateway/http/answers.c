/* answers.c - what a handler asks of a request, and problems. */
#include "cellgate/log.h"
#include "event/json_write.h"
#include "http/server.h"

#include <microhttpd.h>

const char *cg_http_query(const struct cg_http_request *request, const char *key)
{
    const char *value = NULL;
    size_t len = 0;
    if (MHD_lookup_connection_value_n(request->native, MHD_GET_ARGUMENT_KIND, key, strlen(key),
                                      &value, &len) != MHD_YES) {
        return NULL;
    }
    return value == NULL ? "" : value;
}

const char *cg_http_header(const struct cg_http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->native, MHD_HEADER_KIND, name);
}

/* What a peer sent may be in the text. */
static void append_shown(struct cg_buf *out, const char *text)
{
    char shown[2 * CG_ERROR_TEXT_MAX];
    (void)cg_text_escape(cg_bytes_str(text), shown, sizeof(shown));
    cg_json_append_string(out, cg_bytes_str(shown));
}

/* Errors begin with the member they are about; an answer has that in a place of its own. */
static const char *without_member(const char *detail, const char *member)
{
    size_t len = member == NULL ? 0 : strlen(member);
    bool named = len > 0 && strncmp(detail, member, len) == 0 && detail[len] == ':' &&
                 detail[len + 1] == ' ';
    return named ? detail + len + 2 : detail;
}

void cg_http_problem_about(struct cg_http_answer *answer, unsigned status, const char *member,
                           const char *detail)
{
    answer->status = status;
    answer->content_type = "application/problem+json";
    cg_buf_clear(&answer->body);
    cg_buf_append_str(&answer->body, "{\"type\":\"about:blank\",\"title\":");
    cg_json_append_string(&answer->body, cg_bytes_str(MHD_get_reason_phrase_for(status)));
    cg_buf_printf(&answer->body, ",\"status\":%u,\"detail\":", status);
    append_shown(&answer->body, without_member(detail, member));
    if (member != NULL && member[0] != '\0') {
        cg_buf_append_str(&answer->body, ",\"member\":");
        append_shown(&answer->body, member);
    }
    cg_buf_append_str(&answer->body, "}\n");
}

void cg_http_problem(struct cg_http_answer *answer, unsigned status, const char *detail)
{
    cg_http_problem_about(answer, status, NULL, detail);
}
