#include "exporters/http_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Behind scheme, user information, host and port. */
static const char *authority_end(const char *url)
{
    const char *at = url + strcspn(url, ":");
    at += strspn(at, ":/");
    return at + strcspn(at, "/?#");
}

/* Behind the path, if that is none or "/"; NULL if there is a real one. */
static const char *empty_path_end(const char *url)
{
    const char *at = authority_end(url);
    if (*at == '/') {
        at++;
    }
    return *at == '\0' || *at == '?' || *at == '#' ? at : NULL;
}

bool cg_http_url_is_bare(const char *url)
{
    const char *end = empty_path_end(url);
    return end != NULL && *end == '\0';
}

char *cg_http_url_complete(const char *url, const char *default_path)
{
    const char *rest = empty_path_end(url);
    if (default_path == NULL || rest == NULL) {
        return strdup(url);
    }
    size_t head_len = (size_t)(authority_end(url) - url);
    size_t room = head_len + strlen(default_path) + strlen(rest) + 1;
    char *whole = malloc(room);
    if (whole != NULL) {
        (void)snprintf(whole, room, "%.*s%s%s", (int)head_len, url, default_path, rest);
    }
    return whole;
}
