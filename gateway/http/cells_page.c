#include "http/cells_page.h"

#include "event/json_write.h"
#include "http/arguments.h"

#include <microhttpd.h>
#include <stdlib.h>

/* --- a page of the list --- */

static int compare_ids(struct cg_bytes a, struct cg_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.data, b.data, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Where an id belongs among the chosen ones. */
static size_t place_of(const struct cg_cells_selection *selection, struct cg_bytes id)
{
    size_t low = 0;
    size_t high = selection->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_ids(selection->cells[middle]->identity.cell_id, id) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Counting a reference changes nothing of what a visitor may not change. */
static struct cg_cell *hold(const struct cg_cell *cell)
{
    return cg_cell_ref((struct cg_cell *)(uintptr_t)cell);
}

void cg_cells_selection_offer(void *context, const struct cg_cell *cell)
{
    struct cg_cells_selection *selection = context;
    struct cg_bytes id = cell->identity.cell_id;
    if (compare_ids(id, selection->after) <= 0 ||
        (selection->state >= 0 &&
         cg_cell_state(cell, selection->now_ns) != (enum cg_cell_state)selection->state)) {
        return;
    }
    size_t place = place_of(selection, id);
    if (selection->count == selection->max) {
        selection->more = true;
        if (place == selection->count) {
            return;
        }
        cg_cell_unref(selection->cells[--selection->count]);
    }
    for (size_t i = selection->count; i > place; i--) {
        selection->cells[i] = selection->cells[i - 1];
    }
    selection->cells[place] = hold(cell);
    selection->count++;
}

void cg_cells_selection_fini(struct cg_cells_selection *selection)
{
    while (selection->count > 0) {
        cg_cell_unref(selection->cells[--selection->count]);
    }
}

/* --- a cell as JSON --- */

static void add_text(struct cg_buf *out, const char *key, struct cg_bytes text)
{
    cg_buf_printf(out, ",\"%s\":", key);
    cg_json_append_string(out, text);
}

static void add_escaped(struct cg_buf *out, const char *key, struct cg_bytes escaped)
{
    cg_buf_printf(out, ",\"%s\":\"", key);
    cg_buf_append(out, escaped);
    cg_buf_append_char(out, '"');
}

static void add_u64(struct cg_buf *out, const char *key, uint64_t value)
{
    cg_buf_printf(out, ",\"%s\":", key);
    cg_buf_append_u64(out, value);
}

static void add_null(struct cg_buf *out, const char *key)
{
    cg_buf_printf(out, ",\"%s\":null", key);
}

static uint64_t ms_since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? (now_ns - then_ns) / CG_NS_PER_MS : 0;
}

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* What was registered. */
static void add_registration(struct cg_buf *out, const struct cg_cell *cell)
{
    const struct cg_run_identity *identity = &cell->identity;
    cg_buf_append_str(out, "\"cell_id\":");
    cg_json_append_string(out, identity->cell_id);
    add_text(out, "run_id", identity->run_id);
    add_escaped(out, "spec_signature_hash", identity->spec_hash_json);
    add_text(out, "vsock_uds_base", cg_bytes_str(cell->vsock_uds_base));
    add_u64(out, "keepalive_ms", cell->keepalive_window_ns / CG_NS_PER_MS);
    cg_buf_printf(out, ",\"mode\":\"%04o\"", (unsigned)cell->socket_mode);
    if (cell->socket_uid == (uid_t)-1) {
        add_null(out, "owner");
    } else {
        cg_buf_printf(out, ",\"owner\":{\"uid\":%u,\"gid\":%u}", (unsigned)cell->socket_uid,
                      (unsigned)cell->socket_gid);
    }
    if (cell->vmm_pid == 0) {
        add_null(out, "vmm_pid");
    } else {
        add_u64(out, "vmm_pid", cell->vmm_pid);
    }
    cg_buf_append_str(out, cell->configured ? ",\"configured\":true" : ",\"configured\":false");
    cg_buf_append_str(out, ",\"labels\":");
    cg_buf_append(out, identity->labels_json.len == 0 ? CG_BYTES("{}") : identity->labels_json);
    if (identity->traceparent_json.len == 0) {
        add_null(out, "traceparent");
    } else {
        add_escaped(out, "traceparent", identity->traceparent_json);
    }
}

/* Without the closing brace. */
static void add_cell(struct cg_buf *out, const struct cg_cell *cell, uint64_t now_ns)
{
    uint64_t last_frame_ns = load(&cell->last_frame_ns);
    cg_buf_append_char(out, '{');
    add_registration(out, cell);
    add_text(out, "state", cg_bytes_str(cg_cell_state_name(cg_cell_state(cell, now_ns))));
    add_u64(out, "registered_for_ms", ms_since(cell->registered_ns, now_ns));
    if (last_frame_ns == 0) {
        add_null(out, "since_last_frame_ms");
    } else {
        add_u64(out, "since_last_frame_ms", ms_since(last_frame_ns, now_ns));
    }
    add_u64(out, "frames", load(&cell->frames));
    add_u64(out, "frame_bytes", load(&cell->frame_bytes));
    add_u64(out, "frames_rejected", load(&cell->frames_rejected));
    add_u64(out, "connections", atomic_load(&cell->connections));
    add_u64(out, "connections_opened", atomic_load(&cell->connections_opened));
    add_u64(out, "connections_refused", load(&cell->connections_refused));
    add_u64(out, "sequence", load(&cell->sequence));
}

/* --- GET /v1/cells --- */

static bool read_state(const struct cg_http_request *request, struct cg_cells_selection *selection)
{
    const char *state = cg_http_query(request, "state");
    selection->state = -1;
    if (state == NULL) {
        return true;
    }
    for (int i = 0; i < CG_CELL_STATE_COUNT; i++) {
        if (strcmp(state, cg_cell_state_name((enum cg_cell_state)i)) == 0) {
            selection->state = i;
            return true;
        }
    }
    return false;
}

static bool read_limit(const struct cg_http_request *request, struct cg_cells_selection *selection)
{
    const char *limit = cg_http_query(request, "limit");
    uint64_t value = CG_CELLS_PAGE_DEFAULT;
    if (limit != NULL && (!cg_argument_u64(limit, CG_CELLS_PAGE_MAX, &value) || value == 0)) {
        return false;
    }
    selection->max = value;
    return true;
}

static void render_list(const struct cg_cells_selection *selection, struct cg_buf *out)
{
    cg_buf_append_str(out, "{\"cells\":[");
    for (size_t i = 0; i < selection->count; i++) {
        cg_buf_append_str(out, i == 0 ? "\n" : ",\n");
        add_cell(out, selection->cells[i], selection->now_ns);
        cg_buf_append_char(out, '}');
    }
    cg_buf_append_str(out, "],\"next\":");
    if (selection->more) {
        cg_json_append_string(out, selection->cells[selection->count - 1]->identity.cell_id);
    } else {
        cg_buf_append_str(out, "null");
    }
    cg_buf_append_str(out, "}\n");
}

static void list(const struct cg_gateway_view *view, const struct cg_http_request *request,
                 struct cg_cells_selection *selection, struct cg_http_answer *answer)
{
    if (!read_state(request, selection)) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, "state",
                              "expected waiting, live, idle, silent or paused");
        return;
    }
    if (!read_limit(request, selection)) {
        cg_http_problem_about(answer, MHD_HTTP_BAD_REQUEST, "limit", "expected 1 to 1000");
        return;
    }
    selection->after = cg_bytes_str(cg_http_query(request, "after"));
    selection->now_ns = cg_clock_monotonic(view->clock);
    cg_registry_visit(view->registry, cg_cells_selection_offer, selection);
    answer->content_type = "application/json";
    render_list(selection, &answer->body);
    cg_cells_selection_fini(selection);
}

void cg_cells_page_list(const struct cg_gateway_view *view, const struct cg_http_request *request,
                        struct cg_http_answer *answer)
{
    struct cg_cells_selection *selection = calloc(1, sizeof(*selection));
    if (selection == NULL) {
        answer->body.failed = true;
        return;
    }
    list(view, request, selection, answer);
    free(selection);
}

/* --- GET /v1/cells/{id} --- */

static void add_acknowledged(const struct cg_gateway_view *view, const struct cg_cell *cell,
                             struct cg_buf *out)
{
    cg_buf_append_str(out, ",\"acknowledged\":[");
    for (size_t i = 0; i < view->deliveries_count; i++) {
        struct cg_delivery_status exporter;
        cg_delivery_status(view->deliveries[i], &exporter);
        uint64_t sequence = 0;
        bool all = false;
        bool known = cg_spool_run_below(view->spool, cell->identity.cell_id, cell->identity.run_id,
                                        exporter.backlog.acked_index, &sequence, &all);
        cg_buf_append_str(out, i == 0 ? "{\"exporter\":" : ",{\"exporter\":");
        cg_json_append_string(out, cg_bytes_str(exporter.name));
        cg_buf_printf(out, ",\"sequence\":%llu,\"caught_up\":%s}", (unsigned long long)sequence,
                      known && all ? "true" : "false");
    }
    cg_buf_append_char(out, ']');
}

static void add_probes(const struct cg_gateway_view *view, const struct cg_cell *cell,
                       struct cg_buf *out)
{
    struct cg_probes *probes = atomic_load(&view->probes);
    cg_buf_append_str(out, ",\"probes\":");
    if (probes == NULL) {
        cg_buf_append_str(out, "[]");
    } else {
        cg_probes_describe(probes, cell, out);
    }
}

void cg_cells_page_one(const struct cg_gateway_view *view, const char *cell_id,
                       struct cg_http_answer *answer)
{
    struct cg_cell *cell = cg_registry_find(view->registry, cg_bytes_str(cell_id));
    if (cell == NULL) {
        cg_http_problem_about(answer, MHD_HTTP_NOT_FOUND, "cell_id", "there is no such cell");
        return;
    }
    answer->content_type = "application/json";
    add_cell(&answer->body, cell, cg_clock_monotonic(view->clock));
    add_acknowledged(view, cell, &answer->body);
    add_probes(view, cell, &answer->body);
    cg_buf_append_str(&answer->body, "}\n");
    cg_cell_unref(cell);
}
