#include "cmd/top_sample.h"

#include "cellgate/clock.h"
#include "cmd/control_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE_CELLS = 1000, TARGET_BYTES_MAX = 1024, CELLS_MAX = 1 << 20 };

/* --- members --- */

static void copy_text(const struct cg_json *json, uint32_t object, const char *member, char *out,
                      size_t size)
{
    char shown[CG_CONTROL_SHOWN_MAX];
    /* Escaped, it is valid UTF-8; the view cuts at characters, and forgives half of one. */
    (void)snprintf(out, size, "%s", cg_control_show(json, object, member, shown));
}

#define COPY_TEXT(json, object, member, out) copy_text(json, object, member, out, sizeof(out))

static uint64_t number(const struct cg_json *json, uint32_t object, const char *member)
{
    uint64_t value = CG_TOP_UNKNOWN;
    uint32_t node = cg_json_find(json, object, cg_bytes_str(member));
    return node != 0 && cg_json_u64(json, node, &value) ? value : CG_TOP_UNKNOWN;
}

/* How long ago a time of the gateway's was; 0 if there is none, or it is to come. */
static uint64_t ms_since(const struct cg_json *json, uint32_t object, const char *member)
{
    char text[CG_CONTROL_SHOWN_MAX];
    struct tm parts = {0};
    const char *rest =
        strptime(cg_control_show(json, object, member, text), "%Y-%m-%dT%H:%M:%S", &parts);
    time_t seconds = rest == NULL ? -1 : timegm(&parts);
    if (seconds < 0) {
        return 0;
    }
    uint64_t then_ms = (uint64_t)seconds * 1000;
    if (rest[0] == '.') {
        then_ms += strtoul(rest + 1, NULL, 10) / 1000000; /* nine digits */
    }
    uint64_t now_ms = cg_clock_realtime(&cg_clock_system) / CG_NS_PER_MS;
    return now_ms > then_ms ? now_ms - then_ms : 0;
}

/* The array of that name in the answer; 0 if there is none. */
static uint32_t array(const struct cg_json *json, const char *member)
{
    uint32_t node = json->count == 0 ? 0 : cg_json_find(json, 0, cg_bytes_str(member));
    return node != 0 && cg_json_type(json, node) == CG_JSON_ARRAY ? node : 0;
}

static bool ask(const char *socket, const char *target, struct cg_control_answer *ret_answer,
                struct cg_error *err)
{
    return cg_control_ask(socket, "GET", target, cg_bytes(NULL, 0), ret_answer, err);
}

/* --- /healthz --- */

static void read_states(const struct cg_json *json, struct cg_top_sample *sample)
{
    uint32_t cells = cg_json_find(json, 0, CG_BYTES("cells"));
    size_t len = 0;
    if (cells == 0 || cg_json_type(json, cells) != CG_JSON_OBJECT) {
        return;
    }
    for (uint32_t key = cells + 1; key < json->nodes[cells].next && len < sizeof(sample->states);
         key = json->nodes[key + 1].next) {
        int added = snprintf(sample->states + len, sizeof(sample->states) - len, "%s%.*s %.*s",
                             len == 0 ? "" : ", ", CG_BYTES_ARG(cg_json_raw(json, key)),
                             CG_BYTES_ARG(cg_json_raw(json, key + 1)));
        len += added > 0 ? (size_t)added : 0;
    }
}

static bool take_health(const char *socket, struct cg_top_sample *sample, struct cg_error *err)
{
    struct cg_control_answer answer;
    if (!ask(socket, "/healthz", &answer, err)) {
        return false;
    }
    const struct cg_json *json = &answer.json;
    bool good = json->count > 0 && cg_json_type(json, 0) == CG_JSON_OBJECT;
    if (good) {
        COPY_TEXT(json, 0, "status", sample->status);
        COPY_TEXT(json, 0, "version", sample->version);
        COPY_TEXT(json, 0, "node", sample->node);
        COPY_TEXT(json, 0, "started_at", sample->since);
        read_states(json, sample);
        uint32_t spool = cg_json_find(json, 0, CG_BYTES("spool"));
        sample->spool_bytes = spool == 0 ? CG_TOP_UNKNOWN : number(json, spool, "bytes");
        sample->spool_bytes_max = spool == 0 ? CG_TOP_UNKNOWN : number(json, spool, "bytes_max");
    }
    cg_control_answer_fini(&answer);
    return good || cg_error_set(err, "/healthz is no report");
}

/* --- /v1/exporters --- */

static void read_exporter(const struct cg_json *json, uint32_t node, uint64_t now_ns,
                          struct cg_top_exporter *exporter)
{
    COPY_TEXT(json, node, "name", exporter->name);
    COPY_TEXT(json, node, "type", exporter->type);
    COPY_TEXT(json, node, "state", exporter->state);
    COPY_TEXT(json, node, "last_error", exporter->error);
    exporter->delivered = number(json, node, "delivered_events");
    exporter->filtered = number(json, node, "filtered_events");
    exporter->waiting = number(json, node, "backlog_events");
    exporter->dead_lettered = number(json, node, "dead_lettered_events");
    exporter->lag_ms = ms_since(json, node, "oldest_event_time");
    exporter->taken_ns = now_ns;
}

static bool take_exporters(const char *socket, struct cg_top_sample *sample, struct cg_error *err)
{
    struct cg_control_answer answer;
    if (!ask(socket, "/v1/exporters", &answer, err)) {
        return false;
    }
    const struct cg_json *json = &answer.json;
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    uint32_t list = array(json, "exporters");
    size_t count = list == 0 ? 0 : json->nodes[list].count;
    sample->exporters = calloc(count + 1, sizeof(*sample->exporters));
    bool good = list != 0 && sample->exporters != NULL;
    for (uint32_t node = list + 1; good && node < json->nodes[list].next;
         node = json->nodes[node].next) {
        read_exporter(json, node, now_ns, &sample->exporters[sample->exporters_count++]);
    }
    cg_control_answer_fini(&answer);
    return good || cg_error_set(err, "/v1/exporters is no list");
}

/* --- /v1/cells --- */

static void read_cell(const struct cg_json *json, uint32_t node, uint64_t now_ns,
                      struct cg_top_cell *cell)
{
    COPY_TEXT(json, node, "cell_id", cell->id);
    COPY_TEXT(json, node, "run_id", cell->run);
    COPY_TEXT(json, node, "state", cell->state);
    cell->frames = number(json, node, "frames");
    cell->frame_bytes = number(json, node, "frame_bytes");
    cell->rejected = number(json, node, "frames_rejected");
    cell->sequence = number(json, node, "sequence");
    cell->connections = number(json, node, "connections");
    cell->silent_ms = number(json, node, "since_last_frame_ms");
    cell->taken_ns = now_ns;
}

static bool make_room(struct cg_top_sample *sample, size_t more, struct cg_error *err)
{
    size_t needed = sample->cells_count + more;
    if (needed > CELLS_MAX) {
        return cg_error_set(err, "there are too many cells");
    }
    if (needed > sample->cells_capacity) {
        size_t capacity = 2 * needed;
        struct cg_top_cell *cells = realloc(sample->cells, capacity * sizeof(*cells));
        if (cells == NULL) {
            return cg_error_set(err, "no memory for %zu cells", needed);
        }
        sample->cells = cells;
        sample->cells_capacity = capacity;
    }
    return true;
}

/* Takes the cells of a page; the next one's place goes to `after`, which is empty behind the last.
 */
static bool read_page(const struct cg_json *json, struct cg_top_sample *sample,
                      struct cg_buf *after, struct cg_error *err)
{
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    uint32_t list = array(json, "cells");
    cg_buf_clear(after);
    if (list == 0) {
        return cg_error_set(err, "/v1/cells is no list");
    }
    if (!make_room(sample, json->nodes[list].count, err)) {
        return false;
    }
    for (uint32_t node = list + 1; node < json->nodes[list].next; node = json->nodes[node].next) {
        CG_ASSERT(sample->cells_count < sample->cells_capacity && sample->cells != NULL);
        struct cg_top_cell *cell = &sample->cells[sample->cells_count++];
        *cell = (struct cg_top_cell){0};
        read_cell(json, node, now_ns, cell);
    }
    uint32_t next = cg_json_find(json, 0, CG_BYTES("next"));
    return next == 0 || cg_json_type(json, next) != CG_JSON_STRING ||
           cg_json_decode(json, next, after) || cg_error_set(err, "a cell's id is too long");
}

static bool take_cells(const char *socket, struct cg_top_sample *sample, struct cg_error *err)
{
    cg_auto_buf struct cg_buf after;
    cg_auto_buf struct cg_buf target;
    cg_buf_init(&after, CG_ID_BYTES_MAX + 1);
    cg_buf_init(&target, TARGET_BYTES_MAX);
    do {
        struct cg_control_answer answer;
        cg_buf_clear(&target);
        cg_buf_printf(&target, "/v1/cells?limit=%d", PAGE_CELLS);
        if (after.len > 0) {
            cg_buf_append_str(&target, "&after=");
            cg_control_append_encoded(&target, cg_buf_str(&after));
        }
        const char *text = cg_buf_str(&target);
        if (text == NULL) {
            return cg_error_set(err, "a cell's id is too long");
        }
        if (!ask(socket, text, &answer, err)) {
            return false;
        }
        bool good = read_page(&answer.json, sample, &after, err);
        cg_control_answer_fini(&answer);
        if (!good) {
            return false;
        }
    } while (after.len > 0);
    return true;
}

/* --- a sample --- */

struct cg_top_sample *cg_top_sample_take(const char *socket, struct cg_error *err)
{
    uint64_t began_ns = cg_clock_monotonic(&cg_clock_system);
    struct cg_top_sample *sample = calloc(1, sizeof(*sample));
    if (sample == NULL) {
        (void)cg_error_set(err, "out of memory");
        return NULL;
    }
    if (!take_health(socket, sample, err) || !take_exporters(socket, sample, err) ||
        !take_cells(socket, sample, err)) {
        cg_top_sample_free(sample);
        return NULL;
    }
    sample->took_ns = cg_clock_monotonic(&cg_clock_system) - began_ns;
    return sample;
}

void cg_top_sample_free(struct cg_top_sample *sample)
{
    if (sample != NULL) {
        free(sample->cells);
        free(sample->exporters);
        free(sample);
    }
}

/* A counter that is less than before began anew, with the gateway or the run. */
static struct cg_top_rates rates(uint64_t events, uint64_t events_before, uint64_t bytes,
                                 uint64_t bytes_before, uint64_t elapsed_ns)
{
    double seconds = (double)elapsed_ns / 1e9;
    if (elapsed_ns == 0 || events < events_before || bytes < bytes_before ||
        events == CG_TOP_UNKNOWN || bytes == CG_TOP_UNKNOWN) {
        return (struct cg_top_rates){.known = false};
    }
    return (struct cg_top_rates){.known = true,
                                 .events = (double)(events - events_before) / seconds,
                                 .bytes = (double)(bytes - bytes_before) / seconds};
}

static void rate_exporter(struct cg_top_exporter *exporter, const struct cg_top_sample *before)
{
    for (size_t i = 0; i < before->exporters_count; i++) {
        const struct cg_top_exporter *then = &before->exporters[i];
        if (strcmp(then->name, exporter->name) == 0) {
            exporter->rates = rates(exporter->delivered, then->delivered, 0, 0,
                                    exporter->taken_ns - then->taken_ns);
        }
    }
}

void cg_top_sample_rate(struct cg_top_sample *sample, const struct cg_top_sample *before)
{
    if (before == NULL) {
        return;
    }
    for (size_t i = 0; i < sample->exporters_count; i++) {
        rate_exporter(&sample->exporters[i], before);
    }
    /* Both lists are in the order of the ids. */
    size_t at = 0;
    for (size_t i = 0; i < sample->cells_count; i++) {
        struct cg_top_cell *cell = &sample->cells[i];
        while (at < before->cells_count && strcmp(before->cells[at].id, cell->id) < 0) {
            at++;
        }
        const struct cg_top_cell *then = at < before->cells_count ? &before->cells[at] : NULL;
        if (then != NULL && strcmp(then->id, cell->id) == 0 && strcmp(then->run, cell->run) == 0) {
            cell->rates = rates(cell->frames, then->frames, cell->frame_bytes, then->frame_bytes,
                                cell->taken_ns - then->taken_ns);
        }
    }
}
