#include "http/public.h"

#include "cellgate/cleanup.h"
#include "http/health.h"
#include "http/metrics.h"
#include "http/server.h"

#include <microhttpd.h>

enum {
    IDLE_TIMEOUT_S = 75
}; /* longer than the usual scrape interval: the scraper's reconnects cost */

struct cg_public {
    const struct cg_gateway_view *view;
    size_t servers_count;
    struct cg_http_server *servers[];
};

static void get_livez(const struct cg_gateway_view *view, const struct cg_http_request *request,
                      struct cg_http_answer *answer)
{
    (void)request;
    cg_health_live(view, answer);
}

static void get_readyz(const struct cg_gateway_view *view, const struct cg_http_request *request,
                       struct cg_http_answer *answer)
{
    cg_health_ready(view, cg_http_query(request, "verbose") != NULL, answer);
}

static void get_healthz(const struct cg_gateway_view *view, const struct cg_http_request *request,
                        struct cg_http_answer *answer)
{
    (void)request;
    cg_health_report(view, answer);
}

static void get_metrics(const struct cg_gateway_view *view, const struct cg_http_request *request,
                        struct cg_http_answer *answer)
{
    (void)request;
    answer->content_type = CG_METRICS_CONTENT_TYPE;
    cg_metrics_page(view, &answer->body);
}

static const struct route {
    const char *path;
    void (*get)(const struct cg_gateway_view *view, const struct cg_http_request *request,
                struct cg_http_answer *answer);
} routes[] = {
    {"/livez", get_livez},
    {"/readyz", get_readyz},
    {"/healthz", get_healthz},
    {"/metrics", get_metrics},
};

static void handle(void *context, const struct cg_http_request *request,
                   struct cg_http_answer *answer)
{
    const struct cg_public *server = context;
    bool get = strcmp(request->method, MHD_HTTP_METHOD_GET) == 0 ||
               strcmp(request->method, MHD_HTTP_METHOD_HEAD) == 0;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(routes[i].path, request->path) != 0) {
            continue;
        }
        if (get) {
            routes[i].get(server->view, request, answer);
            return;
        }
        cg_http_problem(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "this resource is read with GET");
        answer->allow = "GET, HEAD";
        return;
    }
    cg_http_problem(answer, MHD_HTTP_NOT_FOUND,
                    "there are /livez, /readyz, /healthz and /metrics here");
}

bool cg_public_start(const struct cg_public_config *config, const struct cg_gateway_view *view,
                     struct cg_public **ret_public, struct cg_error *err)
{
    struct cg_public *server =
        calloc(1, sizeof(*server) + config->listen.count * sizeof(server->servers[0]));
    if (server == NULL) {
        return cg_error_set(err, "out of memory");
    }
    server->view = view;
    for (size_t i = 0; i < config->listen.count; i++) {
        const struct cg_http_server_config listener = {
            .address = config->listen.items[i],
            .hosts = config->hosts,
            .limits = {.max = config->connections_max,
                       .per_address_max = config->connections_per_address_max,
                       .request_ns = config->request_timeout_ns,
                       .idle_ns = IDLE_TIMEOUT_S * CG_NS_PER_S},
            .handler = handle,
            .context = server,
            .clock = view->clock,
        };
        if (!cg_http_server_start(&listener, &server->servers[i], err)) {
            cg_public_stop(server);
            return false;
        }
        server->servers_count++;
    }
    *ret_public = server;
    return true;
}

const char *cg_public_address(const struct cg_public *server, size_t which)
{
    return cg_http_server_address(server->servers[which]);
}

void cg_public_stop(struct cg_public *server)
{
    for (size_t i = server->servers_count; i > 0; i--) {
        cg_http_server_stop(server->servers[i - 1]);
    }
    free(server);
}
