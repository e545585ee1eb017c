#include "http/hosts.h"

#include "http/guard.h"

#include <microhttpd.h>
#include <strings.h>

void cg_http_hosts_init(struct cg_http_hosts *hosts, struct cg_strings names)
{
    hosts->names = names;
    (void)pthread_mutex_init(&hosts->lock, NULL);
}

void cg_http_hosts_fini(struct cg_http_hosts *hosts)
{
    (void)pthread_mutex_destroy(&hosts->lock);
}

void cg_http_hosts_set(struct cg_http_hosts *hosts, struct cg_strings names)
{
    (void)pthread_mutex_lock(&hosts->lock);
    hosts->names = names;
    (void)pthread_mutex_unlock(&hosts->lock);
}

static bool is_allowed(struct cg_http_hosts *hosts, const char *host)
{
    (void)pthread_mutex_lock(&hosts->lock);
    bool allowed = cg_host_allowed(host, hosts->names);
    (void)pthread_mutex_unlock(&hosts->lock);
    return allowed;
}

struct host_headers {
    const char *value;
    unsigned count;
};

static enum MHD_Result count_host(void *context, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    (void)kind;
    struct host_headers *found = context;
    if (strcasecmp(key, MHD_HTTP_HEADER_HOST) == 0) {
        found->value = value;
        found->count++;
    }
    return MHD_YES;
}

bool cg_http_hosts_admit(struct cg_http_hosts *hosts, const struct cg_http_request *request,
                         const char *version, struct cg_http_answer *answer)
{
    struct host_headers host = {0};
    (void)MHD_get_connection_values(request->native, MHD_HEADER_KIND, count_host, &host);
    if (host.count == 0 && strcmp(version, MHD_HTTP_VERSION_1_0) == 0) {
        return true; /* no browser speaks HTTP/1.0 */
    }
    if (host.count != 1 || host.value == NULL) {
        cg_http_problem(answer, MHD_HTTP_BAD_REQUEST, "a request carries exactly one Host");
        return false;
    }
    if (!is_allowed(hosts, host.value)) {
        cg_http_problem(answer, MHD_HTTP_FORBIDDEN,
                        "Host is not an address, localhost or one of http.hosts");
        return false;
    }
    return true;
}
