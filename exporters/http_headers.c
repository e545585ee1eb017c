#include "exporters/http_headers.h"

#include <string.h>
#include <strings.h>

/* Framing, connection handling and what describes the body belong to the client. */
static const char *const own_headers[] = {
    "connection", "content-encoding", "content-length",   "content-type", "expect",
    "host",       "keep-alive",       "proxy-connection", "te",           "transfer-encoding",
    "upgrade",
};

/* RFC 9110 section 5.6.2 */
static bool is_token(const char *name)
{
    static const char allowed[] =
        "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    return name[0] != '\0' && name[strspn(name, allowed)] == '\0';
}

static bool is_value(const char *value)
{
    size_t len = strlen(value);
    if (len == 0 || len > CG_HTTP_HEADER_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

bool cg_http_headers_has(const struct cg_pairs *headers, const char *name)
{
    for (size_t i = 0; i < headers->count; i++) {
        if (strcasecmp(headers->items[i].key, name) == 0) {
            return true;
        }
    }
    return false;
}

bool cg_http_headers_validate(const struct cg_pairs *headers, struct cg_error *err)
{
    for (size_t i = 0; i < headers->count; i++) {
        const char *name = headers->items[i].key;
        if (!is_token(name)) {
            return cg_error_set(err, "headers: the name of entry %zu is not an HTTP header name",
                                i + 1);
        }
        for (size_t k = 0; k < sizeof(own_headers) / sizeof(own_headers[0]); k++) {
            if (strcasecmp(name, own_headers[k]) == 0) {
                return cg_error_set(err, "headers: %s is set by the exporter itself", name);
            }
        }
        if (!is_value(headers->items[i].value)) {
            return cg_error_set(err,
                                "headers: the value of %s is empty, longer than %d bytes, or "
                                "has control characters",
                                name, CG_HTTP_HEADER_BYTES_MAX);
        }
    }
    return true;
}
