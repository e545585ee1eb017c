#include "http/control.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "event/json_write.h"
#include "http/arguments.h"
#include "http/dead_letters_page.h"
#include "http/registration_body.h"
#include "http/server.h"
#include "http/tap_page.h"

#include <grp.h>
#include <limits.h>
#include <microhttpd.h>
#include <stdio.h>
#include <strings.h>

enum {
    WORKERS = 16, /* a PUT waits for a disk, a DELETE for a guest, 2 s at most */
    WAITING_MAX = 256,
    IDLE_TIMEOUT_S = 75,
    GROUP_BYTES_MAX = 4096,
};
#define FLUSH_TIMEOUT_DEFAULT_NS (30 * CG_NS_PER_S)
#define WAIT_MAX_NS              (600 * CG_NS_PER_S)

struct cg_control {
    const struct cg_gateway_view *view;
    struct cg_enrolment *enrolment;
    struct cg_http_jobs *jobs;
    struct cg_http_server *server;
    cg_reload *reload;
    void *reload_context;
};

static const char flush_path[] = "/v1/flush";
static const char reload_path[] = "/v1/reload";
static const char tap_path[] = "/v1/tap";

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

/* --- waiting for exporters --- */

/* Reads a duration; an absent one is the fallback. */
static bool read_timeout(const struct cg_http_request *request, const char *key,
                         uint64_t fallback_ns, uint64_t *ret_ns, struct cg_http_answer *answer)
{
    const char *text = cg_http_query(request, key);
    if (text == NULL) {
        *ret_ns = fallback_ns;
        return true;
    }
    if (!cg_argument_duration(text, WAIT_MAX_NS, ret_ns)) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, key,
                              "expected a duration such as 30s or 500ms, 10m at most");
        return false;
    }
    return true;
}

/* The answer that is there goes out when every exporter has acknowledged what lies below. */
static void wait_until(const struct cg_control *control, uint64_t index, uint64_t timeout_ns,
                       struct cg_http_answer *answer)
{
    const struct cg_gateway_view *view = control->view;
    cg_view_lock(view);
    for (size_t i = 0; i < view->deliveries_count; i++) {
        cg_delivery_flush(view->deliveries[i]);
    }
    cg_view_unlock(view);
    answer->wait = (struct cg_http_wait){
        .until_index = index,
        .deadline_ns = cg_clock_monotonic(view->clock) + timeout_ns,
    };
}

static uint64_t events_left(struct cg_delivery *delivery, uint64_t until_index,
                            struct cg_delivery_status *ret_status)
{
    cg_delivery_status(delivery, ret_status);
    uint64_t acked_index = ret_status->backlog.acked_index;
    return ret_status->backlog.events == 0 || acked_index >= until_index
               ? 0
               : until_index - acked_index;
}

static bool all_acknowledged(const struct cg_gateway_view *view, uint64_t until_index)
{
    struct cg_delivery_status status;
    for (size_t i = 0; i < view->deliveries_count; i++) {
        if (events_left(view->deliveries[i], until_index, &status) > 0) {
            return false;
        }
    }
    return true;
}

static void append_backlog(const struct cg_gateway_view *view, uint64_t until_index,
                           struct cg_buf *out)
{
    const char *separator = "";
    cg_buf_append_str(out, "\"backlog\":[");
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_delivery_status status;
        uint64_t events = events_left(view->deliveries[i], until_index, &status);
        if (events > 0) {
            cg_buf_printf(out, "%s{\"exporter\":\"%s\",\"state\":\"%s\",\"events\":%llu}",
                          separator, status.name, cg_delivery_state_name(status.state),
                          (unsigned long long)events);
            separator = ",";
        }
    }
    cg_buf_append_char(out, ']');
}

/* Makes the answer that waited a problem; what it said is kept as the problem's `result`. */
static void give_up(const struct cg_gateway_view *view, struct cg_http_answer *answer)
{
    cg_auto_buf struct cg_buf said = answer->body;
    struct cg_buf *out = &answer->body;
    cg_buf_init(out, said.max);
    cg_http_problem(answer, MHD_HTTP_GATEWAY_TIMEOUT,
                    "not every exporter has acknowledged it all in time");
    out->len -= strlen("}\n");
    cg_buf_append_char(out, ',');
    append_backlog(view, answer->wait.until_index, out);
    cg_buf_append_str(out, ",\"result\":");
    cg_buf_append(out, cg_buf_bytes(&said));
    cg_buf_append_str(out, "}\n");
}

static bool finished(void *context, const struct cg_http_request *request,
                     struct cg_http_answer *answer)
{
    (void)request;
    const struct cg_gateway_view *view = ((struct cg_control *)context)->view;
    cg_view_lock(view);
    bool done = all_acknowledged(view, answer->wait.until_index);
    if (!done && cg_clock_monotonic(view->clock) >= answer->wait.deadline_ns) {
        give_up(view, answer);
        done = true;
    }
    cg_view_unlock(view);
    return done;
}

/* --- POST /v1/flush --- */

static void flush(const struct cg_control *control, const struct cg_http_request *request,
                  struct cg_http_answer *answer)
{
    uint64_t timeout_ns = 0;
    if (!read_timeout(request, "timeout", FLUSH_TIMEOUT_DEFAULT_NS, &timeout_ns, answer)) {
        return;
    }
    struct cg_ingress *ingress = atomic_load(&control->view->ingress);
    if (ingress != NULL) {
        cg_ingress_settle(ingress); /* what /v1/cells has shown is in the spool then */
    }
    struct cg_spool_status spool;
    cg_spool_status(control->view->spool, &spool);
    uint64_t until_index = spool.next_index;
    const char *cell_id = cg_http_query(request, "cell");
    if (cell_id != NULL) {
        struct cg_cell *cell = cg_registry_find(control->view->registry, cg_bytes_str(cell_id));
        if (cell == NULL) {
            cg_http_problem_about(answer, MHD_HTTP_NOT_FOUND, "cell", "there is no such cell");
            return;
        }
        uint64_t last_index = 0;
        if (cg_spool_run_last_index(control->view->spool, cell->identity.cell_id,
                                    cell->identity.run_id, &last_index)) {
            until_index = last_index + 1;
        }
        cg_cell_unref(cell);
    }
    answer->content_type = "application/json";
    cg_buf_append_str(&answer->body, "{\"exporters\":[");
    cg_view_lock(control->view);
    for (size_t i = 0; i < control->view->deliveries_count; i++) {
        struct cg_delivery_status status;
        cg_delivery_status(control->view->deliveries[i], &status);
        cg_buf_printf(&answer->body, "%s\"%s\"", i == 0 ? "" : ",", status.name);
    }
    cg_view_unlock(control->view);
    cg_buf_append_str(&answer->body, "]}\n");
    wait_until(control, until_index, timeout_ns, answer);
}

/* --- POST /v1/reload --- */

static void reload(const struct cg_control *control, struct cg_http_answer *answer)
{
    cg_auto_buf struct cg_buf report;
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&report, CG_RELOAD_REPORT_BYTES_MAX);
    cg_buf_init(&problems, CG_RELOAD_PROBLEMS_BYTES_MAX);
    enum cg_reload_outcome outcome = control->reload(control->reload_context, &report, &problems);
    if (outcome == CG_RELOAD_DONE) {
        answer->content_type = "application/json";
        cg_buf_append(&answer->body, cg_buf_bytes(&report));
        cg_buf_append_char(&answer->body, '\n');
        return;
    }
    if (outcome == CG_RELOAD_REFUSED) {
        cg_http_problem(answer, MHD_HTTP_UNPROCESSABLE_CONTENT,
                        "the configuration is refused, and nothing has changed");
    } else {
        cg_http_problem(answer, MHD_HTTP_INTERNAL_SERVER_ERROR,
                        "the configuration is in force in part only");
    }
    answer->body.len -= strlen("}\n");
    cg_buf_append_str(&answer->body, ",\"problems\":");
    cg_reloads_append_problems(cg_buf_bytes(&problems), &answer->body);
    cg_buf_append_str(&answer->body, "}\n");
}

/* --- PUT and DELETE /v1/cells/{id} --- */

static unsigned status_of(enum cg_enrol_outcome outcome)
{
    static const unsigned statuses[] = {
        [CG_ENROL_CREATED] = MHD_HTTP_CREATED,
        [CG_ENROL_EXISTS] = MHD_HTTP_OK,
        [CG_ENROL_REMOVED] = MHD_HTTP_OK,
        [CG_ENROL_CONFLICT] = MHD_HTTP_CONFLICT,
        [CG_ENROL_INVALID] = MHD_HTTP_UNPROCESSABLE_CONTENT,
        [CG_ENROL_FORBIDDEN] = MHD_HTTP_FORBIDDEN,
        [CG_ENROL_NOT_FOUND] = MHD_HTTP_NOT_FOUND,
        [CG_ENROL_NOT_KEPT] = MHD_HTTP_INSUFFICIENT_STORAGE,
        [CG_ENROL_FAILED] = MHD_HTTP_INTERNAL_SERVER_ERROR,
    };
    return statuses[outcome];
}

static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t len = sizeof(json) - 1;
    return content_type != NULL && strncasecmp(content_type, json, len) == 0 &&
           (content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}

static void answer_registered(const struct cg_cell_spec *spec, const struct cg_enrol_result *result,
                              struct cg_http_answer *answer)
{
    struct cg_buf *out = &answer->body;
    char suffix[16];
    (void)snprintf(suffix, sizeof(suffix), "_%d", CG_TELEMETRY_PORT);
    answer->status = status_of(result->outcome);
    answer->content_type = "application/json";
    cg_buf_append_str(out, "{\"cell_id\":");
    cg_json_append_string(out, cg_bytes_str(spec->cell_id));
    cg_buf_append_str(out, ",\"run_id\":");
    cg_json_append_string(out, cg_bytes_str(spec->run_id));
    cg_buf_append_str(out, ",\"socket\":");
    cg_json_append_string(out, cg_bytes_str(spec->vsock_uds_base));
    out->len--; /* the quote: the socket is the base and the port */
    cg_buf_printf(out, "%s\",\"created\":%s}\n", suffix,
                  result->outcome == CG_ENROL_CREATED ? "true" : "false");
}

static void put_cell(const struct cg_control *control, const char *cell_id,
                     const struct cg_http_request *request, struct cg_http_answer *answer)
{
    if (!is_json(cg_http_header(request, MHD_HTTP_HEADER_CONTENT_TYPE))) {
        cg_http_problem(answer, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE,
                        "a registration is application/json");
        return;
    }
    struct cg_registration_body registration;
    struct cg_registration_body_problem problem = {0};
    if (!cg_registration_body_parse(&registration, cell_id, request->body, &problem)) {
        cg_http_problem_about(answer, problem.status, problem.member, problem.detail.text);
        return;
    }
    struct cg_enrol_result result = {0};
    cg_enrol_put(control->enrolment, &registration.request, &result);
    if (result.outcome == CG_ENROL_CREATED || result.outcome == CG_ENROL_EXISTS) {
        answer_registered(&registration.request.spec, &result, answer);
    } else {
        cg_http_problem_about(answer, status_of(result.outcome), result.member, result.detail.text);
    }
    cg_registration_body_fini(&registration);
}

static void answer_removed(const char *cell_id, const struct cg_run_totals *totals,
                           struct cg_http_answer *answer)
{
    answer->content_type = "application/json";
    cg_buf_append_str(&answer->body, "{\"cell_id\":");
    cg_json_append_string(&answer->body, cg_bytes_str(cell_id));
    cg_buf_printf(&answer->body,
                  ",\"last_sequence\":%llu,\"frames\":%llu,\"bytes\":%llu,\"silences\":%llu,"
                  "\"drops\":%llu}\n",
                  (unsigned long long)totals->last_sequence, (unsigned long long)totals->frames,
                  (unsigned long long)totals->bytes, (unsigned long long)totals->silences,
                  (unsigned long long)totals->drops);
}

static void delete_cell(const struct cg_control *control, const char *cell_id,
                        const struct cg_http_request *request, struct cg_http_answer *answer)
{
    uint64_t wait_ns = 0;
    if (!read_timeout(request, "wait", 0, &wait_ns, answer)) {
        return;
    }
    struct cg_enrol_result result = {0};
    cg_enrol_delete(control->enrolment, cell_id, &result);
    if (result.outcome != CG_ENROL_REMOVED) {
        cg_http_problem_about(answer, status_of(result.outcome), result.member, result.detail.text);
        return;
    }
    answer_removed(cell_id, &result.totals, answer);
    if (cg_http_query(request, "wait") != NULL) {
        struct cg_spool_status spool;
        cg_spool_status(control->view->spool, &spool);
        wait_until(control, spool.next_index, wait_ns, answer); /* run_ended is below it */
    }
}

/* --- /v1/dead-letters --- */

static void dead_letters(const struct cg_control *control, const struct cg_http_request *request,
                         struct cg_http_answer *answer)
{
    if (is(request->method, MHD_HTTP_METHOD_POST) &&
        !is_json(cg_http_header(request, MHD_HTTP_HEADER_CONTENT_TYPE))) {
        cg_http_problem(answer, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "a body is application/json");
        return;
    }
    cg_view_lock(control->view);
    cg_dead_letters_page(control->view, request, answer);
    cg_view_unlock(control->view);
}

/* --- the listener --- */

/* What is done rather than read, and so asked for with POST. */
static bool is_deed(const struct cg_control *control, const char *path)
{
    return is(path, flush_path) || (is(path, reload_path) && control->reload != NULL);
}

static bool defers(void *context, const struct cg_http_request *request)
{
    if (is_deed(context, request->path)) {
        return is(request->method, MHD_HTTP_METHOD_POST);
    }
    if (cg_dead_letters_page_has(request->path)) {
        return true; /* it reads files */
    }
    return cg_public_cell_id(request->path) != NULL &&
           (is(request->method, MHD_HTTP_METHOD_PUT) ||
            is(request->method, MHD_HTTP_METHOD_DELETE));
}

static void work(void *context, const struct cg_http_request *request,
                 struct cg_http_answer *answer)
{
    const struct cg_control *control = context;
    const char *cell_id = cg_public_cell_id(request->path);
    if (is(request->path, reload_path)) {
        reload(control, answer);
    } else if (cg_dead_letters_page_has(request->path)) {
        dead_letters(control, request, answer);
    } else if (cell_id == NULL) {
        flush(control, request, answer);
    } else if (is(request->method, MHD_HTTP_METHOD_PUT)) {
        put_cell(control, cell_id, request, answer);
    } else {
        delete_cell(control, cell_id, request, answer);
    }
}

static void handle(void *context, const struct cg_http_request *request,
                   struct cg_http_answer *answer)
{
    const struct cg_control *control = context;
    if (is_deed(control, request->path)) {
        cg_http_problem(answer, MHD_HTTP_METHOD_NOT_ALLOWED,
                        is(request->path, flush_path) ? "flushing is asked for with POST"
                                                      : "reloading is asked for with POST");
        answer->allow = "POST";
        return;
    }
    if (is(request->path, tap_path)) {
        cg_tap_page(control->view, request, answer);
        return;
    }
    cg_public_answer(control->view, request, answer);
    if (answer->allow != NULL && cg_public_cell_id(request->path) != NULL) {
        answer->allow = "GET, HEAD, PUT, DELETE";
    }
}

static bool find_group(const char *name, gid_t *ret_group, struct cg_error *err)
{
    uint64_t number = 0;
    if (cg_argument_u64(name, UINT32_MAX - 1, &number)) {
        *ret_group = (gid_t)number;
        return true;
    }
    char buffer[GROUP_BYTES_MAX];
    struct group entry;
    struct group *found = NULL;
    int status = getgrnam_r(name, &entry, buffer, sizeof(buffer), &found);
    if (status != 0) {
        return cg_error_errno(err, status, "control.group: look up %s", name);
    }
    if (found == NULL) {
        return cg_error_set(err, "control.group: there is no group %s", name);
    }
    *ret_group = found->gr_gid;
    return true;
}

bool cg_control_start(const struct cg_control_config *config, const struct cg_gateway_view *view,
                      struct cg_enrolment *enrolment, struct cg_control **ret_control,
                      struct cg_error *err)
{
    struct cg_http_socket socket = {.mode = config->mode, .group = (gid_t)-1};
    if (config->group != NULL && !find_group(config->group, &socket.group, err)) {
        return false;
    }
    char address[CG_ADDRESS_TEXT_MAX];
    int len = snprintf(address, sizeof(address), "unix:%s",
                       config->inherited_fd == NULL ? config->socket : "");
    if (len < 0 || (size_t)len >= sizeof(address)) {
        return cg_error_set(err, "control.socket: %s is too long", config->socket);
    }
    struct cg_control *control = calloc(1, sizeof(*control));
    if (control == NULL) {
        return cg_error_set(err, "out of memory");
    }
    control->view = view;
    control->enrolment = enrolment;
    control->reload = config->reload;
    control->reload_context = config->reload_context;
    if (!cg_http_jobs_start(WORKERS, WAITING_MAX, &control->jobs, err)) {
        free(control);
        return false;
    }
    const struct cg_http_server_config listener = {
        .address = address,
        .inherited_fd = config->inherited_fd,
        .limits = {.max = config->connections_max,
                   .per_address_max = config->connections_max,
                   .request_ns = config->request_timeout_ns,
                   .idle_ns = IDLE_TIMEOUT_S * CG_NS_PER_S},
        .any_host = true,
        .socket = &socket,
        .handler = handle,
        .context = control,
        .clock = view->clock,
        .jobs = control->jobs,
        .body_bytes_max = CG_REGISTRATION_BODY_BYTES_MAX,
        .defers = defers,
        .work = work,
        .finished = finished,
    };
    if (!cg_http_server_start(&listener, &control->server, err)) {
        cg_http_jobs_stop(control->jobs);
        free(control);
        return false;
    }
    *ret_control = control;
    return true;
}

const char *cg_control_address(const struct cg_control *control)
{
    return cg_http_server_address(control->server);
}

void cg_control_stop(struct cg_control *control)
{
    if (control == NULL) {
        return;
    }
    cg_http_server_stop(control->server);
    cg_http_jobs_stop(control->jobs);
    free(control);
}
