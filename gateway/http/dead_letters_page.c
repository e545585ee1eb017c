#include "http/dead_letters_page.h"

#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "delivery/dead_letters.h"
#include "delivery/letters_report.h"
#include "event/json.h"
#include "http/arguments.h"

#include <microhttpd.h>
#include <stdlib.h>

enum {
    LIST_LIMIT_DEFAULT = 100,
    LIST_LIMIT_MAX = 1000,
    BODY_NODES_MAX = 16384, /* what 64 KiB of ids in quotes can have, and more */
    BODY_LEVELS_MAX = 4,
};

static const char prefix[] = "/v1/dead-letters";

bool cg_dead_letters_page_has(const char *path)
{
    size_t len = sizeof(prefix) - 1;
    return strncmp(path, prefix, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static void answer_failed(struct cg_http_answer *answer, const struct cg_error *err)
{
    cg_http_problem(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, err->text);
}

/* --- what there is --- */

static void get_counts(const struct cg_gateway_view *view, struct cg_http_answer *answer)
{
    struct cg_buf *out = &answer->body;
    struct cg_error err = {0};
    const char *separator = "";
    answer->content_type = "application/json";
    cg_buf_append_str(out, "{\"exporters\":[");
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_delivery_status status;
        struct cg_dead_letters *letters = cg_delivery_dead_letters(view->deliveries[i]);
        cg_delivery_status(view->deliveries[i], &status);
        if (letters == NULL) {
            continue;
        }
        cg_buf_printf(out, "%s{\"exporter\":\"%s\",\"bytes_max\":%llu,", separator, status.name,
                      (unsigned long long)status.dead_letters.bytes_max);
        if (!cg_letters_report_counts(letters->path, out, &err)) {
            answer_failed(answer, &err);
            return;
        }
        cg_buf_append_char(out, '}');
        separator = ",";
    }
    cg_buf_append_str(out, "]}\n");
}

static void get_list(const struct cg_dead_letters *letters, const struct cg_http_request *request,
                     struct cg_http_answer *answer)
{
    uint64_t after = 0, limit = LIST_LIMIT_DEFAULT, next = 0;
    const char *after_text = cg_http_query(request, "after");
    const char *limit_text = cg_http_query(request, "limit");
    struct cg_error err = {0};
    if (after_text != NULL && !cg_argument_u64(after_text, UINT32_MAX, &after)) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, "after", "expected a number");
        return;
    }
    if (limit_text != NULL &&
        (!cg_argument_u64(limit_text, LIST_LIMIT_MAX, &limit) || limit == 0)) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, "limit",
                              "expected a number from 1 to 1000");
        return;
    }
    struct cg_buf *out = &answer->body;
    answer->content_type = "application/json";
    cg_buf_printf(out, "{\"exporter\":\"%s\",\"letters\":", letters->exporter);
    if (!cg_letters_report_list(letters->path, after, limit, out, &next, &err)) {
        answer_failed(answer, &err);
        return;
    }
    cg_buf_append_str(out, ",\"next\":");
    if (next == 0) {
        cg_buf_append_str(out, "null");
    } else {
        cg_buf_append_u64(out, next);
    }
    cg_buf_append_str(out, "}\n");
}

static void get_one(const struct cg_dead_letters *letters, const char *id,
                    struct cg_http_answer *answer)
{
    bool found = false;
    struct cg_error err = {0};
    answer->content_type = "application/json";
    if (!cg_letters_report_one(letters->path, cg_bytes_str(id), &answer->body, &found, &err)) {
        answer_failed(answer, &err);
    } else if (!found) {
        cg_http_problem(answer, MHD_HTTP_NOT_FOUND, "there is no such dead letter");
    }
}

/* --- what is to become of them --- */

struct choice {
    struct cg_json json;
    struct cg_letter_ids ids; /* none: all */
};

static void choice_fini(struct choice *choice)
{
    cg_json_fini(&choice->json);
    free(choice->ids.items);
}

#define auto_choice __attribute__((cleanup(choice_fini)))

static bool refuse(struct cg_http_answer *answer, unsigned status, const char *member,
                   const char *detail)
{
    cg_http_problem_about(answer, status, member, detail);
    return false;
}

static bool read_ids(struct choice *choice, uint32_t array, struct cg_http_answer *answer)
{
    const struct cg_json *json = &choice->json;
    uint32_t count = cg_json_type(json, array) == CG_JSON_ARRAY ? json->nodes[array].count : 0;
    if (count == 0) {
        return refuse(answer, MHD_HTTP_UNPROCESSABLE_CONTENT, "ids",
                      "expected a list of ids, at least one");
    }
    choice->ids.items = calloc(count, sizeof(choice->ids.items[0]));
    if (choice->ids.items == NULL) {
        return refuse(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, "out of memory");
    }
    for (uint32_t at = array + 1; at < json->nodes[array].next; at = json->nodes[at].next) {
        if (cg_json_type(json, at) != CG_JSON_STRING) {
            return refuse(answer, MHD_HTTP_UNPROCESSABLE_CONTENT, "ids", "an id is a string");
        }
        choice->ids.items[choice->ids.count++] = cg_json_raw(json, at);
    }
    cg_letter_ids_sort(&choice->ids);
    return true;
}

/* {"ids": ["…"]} or {"all": true}, and nothing else. */
static bool read_choice(struct choice *choice, struct cg_bytes body, struct cg_http_answer *answer)
{
    struct cg_error err = {0};
    cg_json_init(&choice->json, (struct cg_json_limits){.bytes_max = body.len,
                                                        .nodes_max = BODY_NODES_MAX,
                                                        .levels_max = BODY_LEVELS_MAX,
                                                        .unique_members = true});
    if (!cg_json_parse(&choice->json, body, &err)) {
        return refuse(answer, MHD_HTTP_BAD_REQUEST, NULL, err.text);
    }
    uint32_t ids = cg_json_find(&choice->json, 0, CG_BYTES("ids"));
    uint32_t all = cg_json_find(&choice->json, 0, CG_BYTES("all"));
    if (cg_json_type(&choice->json, 0) != CG_JSON_OBJECT || choice->json.nodes[0].count != 1 ||
        (ids == 0 && all == 0)) {
        return refuse(answer, MHD_HTTP_UNPROCESSABLE_CONTENT, NULL,
                      "expected {\"ids\": [\"…\"]} or {\"all\": true}");
    }
    if (ids != 0) {
        return read_ids(choice, ids, answer);
    }
    return cg_json_type(&choice->json, all) == CG_JSON_TRUE ||
           refuse(answer, MHD_HTTP_UNPROCESSABLE_CONTENT, "all", "expected true");
}

static void post_mark(struct cg_delivery *delivery, enum cg_letter_state state,
                      const struct cg_http_request *request, struct cg_http_answer *answer)
{
    auto_choice struct choice choice = {0};
    struct cg_dead_letters *letters = cg_delivery_dead_letters(delivery);
    struct cg_error err = {0};
    uint64_t marked = 0;
    if (!read_choice(&choice, request->body, answer)) {
        return;
    }
    if (!cg_dead_letters_mark(letters, &choice.ids, state, &marked, &err)) {
        answer_failed(answer, &err);
        return;
    }
    cg_delivery_letters_marked(delivery);
    if (marked == 0 && choice.ids.count > 0) {
        cg_http_problem_about(answer, MHD_HTTP_NOT_FOUND, "ids", "there are no such dead letters");
        return;
    }
    answer->content_type = "application/json";
    cg_buf_printf(&answer->body, "{\"exporter\":\"%s\",\"letters\":%llu}\n", letters->exporter,
                  (unsigned long long)marked);
}

/* --- which of them --- */

static struct cg_delivery *find(const struct cg_gateway_view *view, struct cg_bytes name)
{
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_dead_letters *letters = cg_delivery_dead_letters(view->deliveries[i]);
        if (letters != NULL && cg_bytes_equal(cg_bytes_str(letters->exporter), name)) {
            return view->deliveries[i];
        }
    }
    return NULL;
}

static void answer_method(struct cg_http_answer *answer, const char *allow, const char *detail)
{
    cg_http_problem(answer, MHD_HTTP_METHOD_NOT_ALLOWED, detail);
    answer->allow = allow;
}

static void dispatch(struct cg_delivery *delivery, const char *what,
                     const struct cg_http_request *request, struct cg_http_answer *answer)
{
    const struct cg_dead_letters *letters = cg_delivery_dead_letters(delivery);
    bool replay = strcmp(what, "replay") == 0;
    bool reads = strcmp(request->method, MHD_HTTP_METHOD_GET) == 0 ||
                 strcmp(request->method, MHD_HTTP_METHOD_HEAD) == 0;
    if (replay || strcmp(what, "drop") == 0) {
        if (strcmp(request->method, MHD_HTTP_METHOD_POST) != 0) {
            answer_method(answer, "POST", "this is asked for with POST");
            return;
        }
        post_mark(delivery, replay ? CG_LETTER_REDO : CG_LETTER_GONE, request, answer);
    } else if (!reads) {
        answer_method(answer, "GET, HEAD", "this resource is read with GET");
    } else if (what[0] == '\0') {
        get_list(letters, request, answer);
    } else {
        get_one(letters, what, answer);
    }
}

void cg_dead_letters_page(const struct cg_gateway_view *view, const struct cg_http_request *request,
                          struct cg_http_answer *answer)
{
    const char *rest = request->path + sizeof(prefix) - 1;
    if (rest[0] == '\0') {
        if (strcmp(request->method, MHD_HTTP_METHOD_GET) != 0 &&
            strcmp(request->method, MHD_HTTP_METHOD_HEAD) != 0) {
            answer_method(answer, "GET, HEAD", "this resource is read with GET");
            return;
        }
        get_counts(view, answer);
        return;
    }
    const char *name = rest + 1;
    const char *slash = strchr(name, '/');
    size_t len = slash == NULL ? strlen(name) : (size_t)(slash - name);
    struct cg_delivery *delivery = find(view, cg_bytes(name, len));
    if (delivery == NULL) {
        cg_http_problem(answer, MHD_HTTP_NOT_FOUND,
                        "there is no such exporter, or it keeps no dead letters (state_dir)");
        return;
    }
    dispatch(delivery, slash == NULL ? "" : slash + 1, request, answer);
}
