#include "run/listen_address.h"

#include "cellgate/bytes.h"
#include "run/value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <sys/un.h>

enum { HOST_NAME_BYTES_MAX = 253 };

static bool is_port(struct cg_bytes text)
{
    uint64_t port;
    return cg_value_integer(text, &port) && port <= UINT16_MAX;
}

static bool is_ipv6(struct cg_bytes text)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (text.len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return inet_pton(AF_INET6, copy, &address) == 1;
}

static bool is_ipv4(struct cg_bytes text)
{
    char copy[INET_ADDRSTRLEN];
    struct in_addr address;
    if (text.len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return inet_pton(AF_INET, copy, &address) == 1;
}

/* A name has a letter: what has only digits and dots is an address, or a mistake. */
static bool is_host_name(struct cg_bytes text)
{
    bool has_letter = false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (!isalnum(c) && c != '.' && c != '-') {
            return false;
        }
        has_letter = has_letter || isalpha(c);
    }
    return has_letter && text.len <= HOST_NAME_BYTES_MAX;
}

bool cg_listen_address_check(const char *address)
{
    struct cg_bytes text = cg_bytes_str(address);
    struct cg_bytes unix_prefix = CG_BYTES("unix:");
    if (cg_bytes_starts(text, unix_prefix)) {
        size_t path_len = text.len - unix_prefix.len;
        return path_len > 1 && text.data[unix_prefix.len] == '/' &&
               path_len < sizeof(((struct sockaddr_un *)NULL)->sun_path);
    }
    const char *colon = strrchr(address, ':');
    if (colon == NULL || !is_port(cg_bytes_str(colon + 1))) {
        return false;
    }
    struct cg_bytes host = cg_bytes(address, (size_t)(colon - address));
    if (host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']') {
        return is_ipv6(cg_bytes(host.data + 1, host.len - 2));
    }
    return is_ipv4(host) || is_host_name(host);
}
