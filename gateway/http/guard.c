#include "http/guard.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

enum { HOST_BYTES_MAX = 255 };

/* Cuts a port of digits off the end, and the brackets of an IPv6 address. */
static bool strip(char *host, bool *ret_bracketed)
{
    size_t len = strlen(host);
    char *end = host + strspn(host, "[");
    *ret_bracketed = end != host;
    if (*ret_bracketed) {
        char *close = strchr(host, ']');
        if (close == NULL || end - host != 1) {
            return false;
        }
        *close = '\0';
        const char *port = close + 1;
        if (*port != '\0' && (*port != ':' || strspn(port + 1, "0123456789") != strlen(port + 1))) {
            return false;
        }
        memmove(host, host + 1, len);
        return true;
    }
    char *colon = strchr(host, ':');
    if (colon != NULL) {
        if (strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
            return false;
        }
        *colon = '\0';
    }
    return true;
}

bool cg_host_allowed(const char *host, struct cg_strings names)
{
    char name[HOST_BYTES_MAX + 1];
    if (strlen(host) > HOST_BYTES_MAX) {
        return false;
    }
    memcpy(name, host, strlen(host) + 1);
    bool bracketed = false;
    if (!strip(name, &bracketed)) {
        return false;
    }
    struct in6_addr address;
    if (bracketed) {
        return inet_pton(AF_INET6, name, &address) == 1;
    }
    if (inet_pton(AF_INET, name, &address) == 1 || strcasecmp(name, "localhost") == 0) {
        return true;
    }
    for (size_t i = 0; i < names.count; i++) {
        if (strcasecmp(name, names.items[i]) == 0) {
            return true;
        }
    }
    return false;
}
