#include "http/public.h"

#include "cellgate/cleanup.h"
#include "http/cells_page.h"
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

static void get_exporters(const struct cg_gateway_view *view, const struct cg_http_request *request,
                          struct cg_http_answer *answer)
{
    (void)request;
    cg_health_exporters(view, answer);
}

static void get_index(const struct cg_gateway_view *view, const struct cg_http_request *request,
                      struct cg_http_answer *answer)
{
    (void)request;
    cg_health_index(view, answer);
}

static void get_cell(const struct cg_gateway_view *view, const struct cg_http_request *request,
                     struct cg_http_answer *answer)
{
    cg_cells_page_one(view, cg_public_cell_id(request->path), answer);
}

static const char cell_prefix[] = "/v1/cells/";

const char *cg_public_cell_id(const char *path)
{
    size_t len = sizeof(cell_prefix) - 1;
    return strncmp(path, cell_prefix, len) == 0 ? path + len : NULL;
}

static const struct route {
    const char *path;
    void (*get)(const struct cg_gateway_view *view, const struct cg_http_request *request,
                struct cg_http_answer *answer);
} routes[] = {
    {"/livez", get_livez},     {"/readyz", get_readyz},           {"/healthz", get_healthz},
    {"/metrics", get_metrics}, {"/v1/cells", cg_cells_page_list}, {"/v1/exporters", get_exporters},
    {"/", get_index},
};

static const struct route cell_route = {cell_prefix, get_cell};

static const struct route *route_of(const char *path)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (strcmp(routes[i].path, path) == 0) {
            return &routes[i];
        }
    }
    return cg_public_cell_id(path) == NULL ? NULL : &cell_route;
}

void cg_view_lock(const struct cg_gateway_view *view)
{
    if (view->deliveries_lock != NULL) {
        (void)pthread_rwlock_rdlock(view->deliveries_lock);
    }
}

void cg_view_unlock(const struct cg_gateway_view *view)
{
    if (view->deliveries_lock != NULL) {
        (void)pthread_rwlock_unlock(view->deliveries_lock);
    }
}

void cg_public_answer(const struct cg_gateway_view *view, const struct cg_http_request *request,
                      struct cg_http_answer *answer)
{
    const struct route *route = route_of(request->path);
    if (route == NULL) {
        cg_http_problem(answer, MHD_HTTP_NOT_FOUND, "there is no such page; / lists what there is");
        return;
    }
    if (strcmp(request->method, MHD_HTTP_METHOD_GET) != 0 &&
        strcmp(request->method, MHD_HTTP_METHOD_HEAD) != 0) {
        cg_http_problem(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "this resource is read with GET");
        answer->allow = "GET, HEAD";
        return;
    }
    cg_view_lock(view);
    route->get(view, request, answer);
    cg_view_unlock(view);
}

static void handle(void *context, const struct cg_http_request *request,
                   struct cg_http_answer *answer)
{
    struct cg_public *server = context;
    cg_public_answer(server->view, request, answer);
}

bool cg_public_start(const struct cg_public_config *config, const struct cg_gateway_view *view,
                     struct cg_public **ret_public, struct cg_error *err)
{
    const bool inherits = config->inherited_count > 0;
    const size_t count = inherits ? config->inherited_count : config->listen.count;
    struct cg_public *server = calloc(1, sizeof(*server) + count * sizeof(struct cg_http_server *));
    if (server == NULL) {
        return cg_error_set(err, "out of memory");
    }
    server->view = view;
    for (size_t i = 0; i < count; i++) {
        const struct cg_http_server_config listener = {
            .address = inherits ? NULL : config->listen.items[i],
            .inherited_fd = inherits ? &config->inherited_fds[i] : NULL,
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

size_t cg_public_listeners(const struct cg_public *server)
{
    return server->servers_count;
}

const char *cg_public_address(const struct cg_public *server, size_t which)
{
    return cg_http_server_address(server->servers[which]);
}

void cg_public_set_hosts(struct cg_public *server, struct cg_strings hosts)
{
    for (size_t i = 0; i < server->servers_count; i++) {
        cg_http_server_set_hosts(server->servers[i], hosts);
    }
}

void cg_public_stop(struct cg_public *server)
{
    for (size_t i = server->servers_count; i > 0; i--) {
        cg_http_server_stop(server->servers[i - 1]);
    }
    free(server);
}
