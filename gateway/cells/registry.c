#include "cells/registry.h"

#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "event/json_write.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    BUCKETS_INITIAL = 64, /* a power of two; doubled when there are as many cells */
    SOCKET_MODE_DEFAULT = 0600,
    LABELS_JSON_BYTES_MAX =
        CG_LABELS_MAX * (2 * CG_LABEL_BYTES_MAX * CG_JSON_ESCAPE_GROWTH + 6) + 2,
};

struct cg_registry {
    struct cg_spool *spool;
    _Atomic uint64_t default_window_ns;
    unsigned threads;

    pthread_mutex_t lock; /* covers all below */
    struct cg_cell *first;
    struct cg_cell *last;
    size_t cells;
    size_t buckets;
    struct cg_cell **by_id;
    struct cg_cell **by_path;
    size_t cells_of_thread[]; /* `threads` counts */
};

/* --- hashing --- */

/* FNV-1a. Ids and paths come from the configuration or the supervisor, not from guests. */
static uint64_t hash(struct cg_bytes text)
{
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < text.len; i++) {
        value = (value ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001b3);
    }
    return value ^ (value >> 32);
}

static struct cg_cell **id_bucket(const struct cg_registry *registry, struct cg_bytes id)
{
    return &registry->by_id[hash(id) & (registry->buckets - 1)];
}

static struct cg_cell **path_bucket(const struct cg_registry *registry, const char *path)
{
    return &registry->by_path[hash(cg_bytes_str(path)) & (registry->buckets - 1)];
}

static void index_cell(struct cg_registry *registry, struct cg_cell *cell)
{
    struct cg_cell **bucket = id_bucket(registry, cell->identity.cell_id);
    cell->by_id_next = *bucket;
    *bucket = cell;
    bucket = path_bucket(registry, cell->vsock_uds_base);
    cell->by_path_next = *bucket;
    *bucket = cell;
}

static bool grow(struct cg_registry *registry, size_t buckets, struct cg_error *err)
{
    struct cg_cell **by_id = calloc(buckets, sizeof(struct cg_cell *));
    struct cg_cell **by_path = calloc(buckets, sizeof(struct cg_cell *));
    if (by_id == NULL || by_path == NULL) {
        free(by_id);
        free(by_path);
        return cg_error_set(err, "out of memory for %zu cells", buckets);
    }
    free(registry->by_id);
    free(registry->by_path);
    registry->by_id = by_id;
    registry->by_path = by_path;
    registry->buckets = buckets;
    for (struct cg_cell *cell = registry->first; cell != NULL; cell = cell->next) {
        index_cell(registry, cell);
    }
    return true;
}

/* --- making a cell --- */

static int compare_pairs(const void *a, const void *b)
{
    return strcmp(((const struct cg_pair *)a)->key, ((const struct cg_pair *)b)->key);
}

/* The labels as a JSON object with its keys sorted by byte value; nothing for no labels. */
static bool render_labels(struct cg_pairs labels, struct cg_buf *out)
{
    if (labels.count == 0) {
        return true;
    }
    struct cg_pair sorted[CG_LABELS_MAX];
    memcpy(sorted, labels.items, labels.count * sizeof(*sorted));
    qsort(sorted, labels.count, sizeof(*sorted), compare_pairs);
    for (size_t i = 0; i < labels.count; i++) {
        cg_buf_append_char(out, i == 0 ? '{' : ',');
        cg_json_append_string(out, cg_bytes_str(sorted[i].key));
        cg_buf_append_char(out, ':');
        cg_json_append_string(out, cg_bytes_str(sorted[i].value));
    }
    return cg_buf_append_char(out, '}');
}

/* Copies bytes to *at and moves it behind them. */
static struct cg_bytes place(char **at, struct cg_bytes bytes)
{
    char *start = *at;
    if (bytes.len > 0) {
        memcpy(start, bytes.data, bytes.len);
    }
    *at += bytes.len;
    return cg_bytes(start, bytes.len);
}

static struct cg_bytes place_escaped(char **at, struct cg_bytes text)
{
    char *start = *at;
    size_t len = cg_json_escape(text, start);
    *at += len;
    return cg_bytes(start, len);
}

/* One block of memory for a cell and its texts: thousands of cells idle most of the time. */
static struct cg_cell *new_cell(const struct cg_cell_spec *spec, struct cg_bytes labels_json)
{
    struct cg_bytes cell_id = cg_bytes_str(spec->cell_id);
    struct cg_bytes run_id = cg_bytes_str(spec->run_id);
    struct cg_bytes hash_text = cg_bytes_str(spec->spec_signature_hash);
    struct cg_bytes traceparent = cg_bytes_str(spec->traceparent);
    struct cg_bytes base = cg_bytes(spec->vsock_uds_base, strlen(spec->vsock_uds_base) + 1);
    bool probed = spec->probes != NULL && !cg_probe_spec_is_empty(spec->probes);
    size_t probe_texts = probed ? cg_probe_spec_bytes(spec->probes) : 0;
    struct cg_cell *cell =
        calloc(1, sizeof(*cell) + (probed ? sizeof(struct cg_probe_spec) : 0) + probe_texts +
                      base.len + cell_id.len + run_id.len + cg_json_escaped_len(hash_text) +
                      cg_json_escaped_len(traceparent) + labels_json.len);
    if (cell == NULL) {
        return NULL;
    }
    char *at = (char *)(cell + 1);
    if (probed) {
        struct cg_probe_spec *probes = (struct cg_probe_spec *)(void *)at;
        at += sizeof(*probes);
        *probes = cg_probe_spec_place(spec->probes, at);
        at += probe_texts;
        cell->probes = probes;
    }
    cell->vsock_uds_base = place(&at, base).data;
    cell->identity = (struct cg_run_identity){
        .cell_id = place(&at, cell_id),
        .run_id = place(&at, run_id),
        .spec_hash_json = place_escaped(&at, hash_text),
        .traceparent_json = place_escaped(&at, traceparent),
        .labels_json = place(&at, labels_json),
    };
    cell->socket_mode = spec->socket_mode == 0 ? SOCKET_MODE_DEFAULT : (mode_t)spec->socket_mode;
    cell->socket_uid = spec->owner.present ? (uid_t)spec->owner.first : (uid_t)-1;
    cell->socket_gid = spec->owner.present ? (gid_t)spec->owner.last : (gid_t)-1;
    atomic_init(&cell->references, 1);
    return cell;
}

struct cg_cell *cg_cell_ref(struct cg_cell *cell)
{
    atomic_fetch_add_explicit(&cell->references, 1, memory_order_relaxed);
    return cell;
}

void cg_cell_unref(struct cg_cell *cell)
{
    uint32_t before = atomic_fetch_sub_explicit(&cell->references, 1, memory_order_acq_rel);
    CG_ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    if (cell->run_over) {
        cg_spool_run_end(cell->spool, cell->run);
    } else if (cell->spool != NULL) {
        cg_spool_run_close(cell->spool, cell->run);
    }
    free(cell);
}

/* --- the registry --- */

bool cg_registry_new(struct cg_spool *spool, unsigned ingress_threads, uint64_t default_window_ns,
                     struct cg_registry **ret_registry, struct cg_error *err)
{
    CG_ASSERT(ingress_threads > 0);
    struct cg_registry *registry =
        calloc(1, sizeof(*registry) + ingress_threads * sizeof(registry->cells_of_thread[0]));
    if (registry == NULL) {
        return cg_error_set(err, "out of memory for the cells");
    }
    registry->spool = spool;
    atomic_init(&registry->default_window_ns, default_window_ns);
    registry->threads = ingress_threads;
    if (!grow(registry, BUCKETS_INITIAL, err)) {
        free(registry);
        return false;
    }
    (void)pthread_mutex_init(&registry->lock, NULL);
    *ret_registry = registry;
    return true;
}

void cg_registry_free(struct cg_registry *registry)
{
    for (struct cg_cell *cell = registry->first; cell != NULL;) {
        struct cg_cell *next = cell->next;
        cg_cell_unref(cell);
        cell = next;
    }
    (void)pthread_mutex_destroy(&registry->lock);
    free(registry->by_id);
    free(registry->by_path);
    free(registry);
}

static struct cg_cell *find_id(const struct cg_registry *registry, struct cg_bytes id)
{
    struct cg_cell *cell = *id_bucket(registry, id);
    while (cell != NULL && !cg_bytes_equal(cell->identity.cell_id, id)) {
        cell = cell->by_id_next;
    }
    return cell;
}

static struct cg_cell *find_path(const struct cg_registry *registry, const char *base)
{
    struct cg_cell *cell = *path_bucket(registry, base);
    while (cell != NULL && strcmp(cell->vsock_uds_base, base) != 0) {
        cell = cell->by_path_next;
    }
    return cell;
}

static bool same_probes(const struct cg_cell *a, const struct cg_cell *b)
{
    return a->probes == NULL || b->probes == NULL ? a->probes == b->probes
                                                  : cg_probe_spec_equal(a->probes, b->probes);
}

/* The first member in which two registrations of one cell differ; NULL if they are the same. */
static const char *difference(const struct cg_cell *a, const struct cg_cell *b)
{
    const struct {
        const char *member;
        bool same;
    } members[] = {
        {"run_id", cg_bytes_equal(a->identity.run_id, b->identity.run_id)},
        {"spec_signature_hash",
         cg_bytes_equal(a->identity.spec_hash_json, b->identity.spec_hash_json)},
        {"vsock_uds_base", strcmp(a->vsock_uds_base, b->vsock_uds_base) == 0},
        {"traceparent", cg_bytes_equal(a->identity.traceparent_json, b->identity.traceparent_json)},
        {"labels", cg_bytes_equal(a->identity.labels_json, b->identity.labels_json)},
        {"keepalive_ms", a->keepalive_window_ns == b->keepalive_window_ns},
        {"mode", a->socket_mode == b->socket_mode},
        {"owner", a->socket_uid == b->socket_uid && a->socket_gid == b->socket_gid},
        {"vmm_pid", a->vmm_pid == b->vmm_pid},
        {"probes", same_probes(a, b)},
    };
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (!members[i].same) {
            return members[i].member;
        }
    }
    return NULL;
}

/* Whether a new cell may stand beside those that are there. */
static enum cg_registry_outcome check_free(const struct cg_registry *registry,
                                           const struct cg_cell *fresh, struct cg_cell **ret_other,
                                           struct cg_error *err)
{
    struct cg_cell *other = find_id(registry, fresh->identity.cell_id);
    if (other != NULL) {
        const char *member = difference(fresh, other);
        if (member == NULL) {
            *ret_other = other;
            return CG_REGISTRY_EXISTS;
        }
        if (strcmp(member, "run_id") == 0) {
            (void)cg_error_set(err, "cell_id: %.*s is registered already, for run %.*s",
                               CG_BYTES_ARG(other->identity.cell_id),
                               CG_BYTES_ARG(other->identity.run_id));
        } else {
            (void)cg_error_set(err, "%s: the registration of cell %.*s says otherwise", member,
                               CG_BYTES_ARG(other->identity.cell_id));
        }
        return CG_REGISTRY_CONFLICT;
    }
    other = find_path(registry, fresh->vsock_uds_base);
    if (other != NULL) {
        (void)cg_error_set(err, "vsock_uds_base: %s belongs to cell %.*s", fresh->vsock_uds_base,
                           CG_BYTES_ARG(other->identity.cell_id));
        return CG_REGISTRY_CONFLICT;
    }
    if (registry->cells >= CG_REGISTRY_CELLS_MAX) {
        (void)cg_error_set(err, "there are %d cells already, which is the limit",
                           CG_REGISTRY_CELLS_MAX);
        return CG_REGISTRY_FAILED;
    }
    return CG_REGISTRY_ADDED;
}

static unsigned least_busy_thread(const struct cg_registry *registry)
{
    unsigned least = 0;
    for (unsigned i = 1; i < registry->threads; i++) {
        if (registry->cells_of_thread[i] < registry->cells_of_thread[least]) {
            least = i;
        }
    }
    return least;
}

/* A cell as the specification says, which nobody knows yet. */
static struct cg_cell *make_cell(const struct cg_registry *registry,
                                 const struct cg_cell_spec *spec, uint64_t monotonic_ns,
                                 struct cg_error *err)
{
    cg_auto_buf struct cg_buf labels;
    cg_buf_init(&labels, LABELS_JSON_BYTES_MAX);
    struct cg_cell *cell =
        render_labels(spec->labels, &labels) ? new_cell(spec, cg_buf_bytes(&labels)) : NULL;
    if (cell == NULL) {
        (void)cg_error_set(err, "out of memory for cell %s", spec->cell_id);
        return NULL;
    }
    cell->default_window = spec->keepalive_window_ns == 0;
    atomic_init(&cell->keepalive_window_ns,
                cell->default_window
                    ? atomic_load_explicit(&registry->default_window_ns, memory_order_relaxed)
                    : spec->keepalive_window_ns);
    cell->registered_ns = monotonic_ns;
    return cell;
}

static bool add_locked(struct cg_registry *registry, struct cg_cell *cell, struct cg_error *err)
{
    if (registry->cells >= registry->buckets && !grow(registry, registry->buckets * 2, err)) {
        return false;
    }
    if (!cg_spool_run_open(registry->spool, cell->identity.cell_id, cell->identity.run_id,
                           &cell->run, err)) {
        return false;
    }
    cell->spool = registry->spool;
    cell->ingress_thread = least_busy_thread(registry);
    registry->cells_of_thread[cell->ingress_thread]++;
    atomic_init(&cell->sequence, cg_spool_run_sequence(cell->run));
    cell->silence_recovered = cg_spool_run_silence(registry->spool, cell->run);
    atomic_init(&cell->connections_opened, cg_spool_run_connection(cell->run));

    cell->previous = registry->last;
    *(registry->last == NULL ? &registry->first : &registry->last->next) = cell;
    registry->last = cell;
    registry->cells++;
    index_cell(registry, cell);
    return true;
}

/* The registry has taken over a reference of `fresh` only if it was added. EXISTS gives one of the
 * cell that is there. */
static enum cg_registry_outcome enter(struct cg_registry *registry, struct cg_cell *fresh,
                                      struct cg_cell **ret_other, struct cg_error *err)
{
    (void)pthread_mutex_lock(&registry->lock);
    enum cg_registry_outcome outcome = check_free(registry, fresh, ret_other, err);
    if (outcome == CG_REGISTRY_ADDED && !add_locked(registry, fresh, err)) {
        outcome = CG_REGISTRY_FAILED;
    } else if (outcome == CG_REGISTRY_EXISTS) {
        (void)cg_cell_ref(*ret_other); /* before anybody can remove it */
    }
    (void)pthread_mutex_unlock(&registry->lock);
    return outcome;
}

enum cg_registry_outcome cg_registry_enrol(struct cg_registry *registry,
                                           const struct cg_cell_spec *spec, uint64_t vmm_pid,
                                           uint64_t monotonic_ns, struct cg_cell **ret_cell,
                                           struct cg_error *err)
{
    if (!cg_cell_spec_check(spec, err)) {
        return CG_REGISTRY_INVALID;
    }
    struct cg_cell *fresh = make_cell(registry, spec, monotonic_ns, err);
    if (fresh == NULL) {
        return CG_REGISTRY_FAILED;
    }
    fresh->vmm_pid = vmm_pid;
    (void)cg_cell_ref(fresh); /* the caller's, before anybody can remove it */
    struct cg_cell *other = NULL;
    enum cg_registry_outcome outcome = enter(registry, fresh, &other, err);
    if (outcome == CG_REGISTRY_ADDED) {
        *ret_cell = fresh;
        return outcome;
    }
    free(fresh); /* nobody else knows it */
    if (outcome == CG_REGISTRY_EXISTS) {
        *ret_cell = other;
    }
    return outcome;
}

bool cg_registry_add(struct cg_registry *registry, const struct cg_cell_spec *spec,
                     uint64_t monotonic_ns, struct cg_cell **ret_cell, struct cg_error *err)
{
    if (!cg_cell_spec_check(spec, err)) {
        return false;
    }
    struct cg_cell *fresh = make_cell(registry, spec, monotonic_ns, err);
    if (fresh == NULL) {
        return false;
    }
    fresh->configured = true;
    struct cg_cell *other = NULL;
    enum cg_registry_outcome outcome = enter(registry, fresh, &other, err);
    if (outcome == CG_REGISTRY_ADDED) {
        *ret_cell = fresh;
        return true;
    }
    free(fresh); /* nobody else knows it */
    if (outcome == CG_REGISTRY_EXISTS) {
        (void)cg_error_set(err, "cell_id: %s is there twice", spec->cell_id);
        cg_cell_unref(other);
    }
    return false;
}

struct cg_cell *cg_registry_find(struct cg_registry *registry, struct cg_bytes cell_id)
{
    (void)pthread_mutex_lock(&registry->lock);
    struct cg_cell *cell = find_id(registry, cell_id);
    if (cell != NULL) {
        (void)cg_cell_ref(cell);
    }
    (void)pthread_mutex_unlock(&registry->lock);
    return cell;
}

void cg_registry_set_window(struct cg_registry *registry, uint64_t default_window_ns)
{
    atomic_store_explicit(&registry->default_window_ns, default_window_ns, memory_order_relaxed);
    (void)pthread_mutex_lock(&registry->lock);
    for (struct cg_cell *cell = registry->first; cell != NULL; cell = cell->next) {
        if (cell->default_window) {
            atomic_store_explicit(&cell->keepalive_window_ns, default_window_ns,
                                  memory_order_relaxed);
        }
    }
    (void)pthread_mutex_unlock(&registry->lock);
}

static void leave_buckets(struct cg_registry *registry, struct cg_cell *cell)
{
    struct cg_cell **at = id_bucket(registry, cell->identity.cell_id);
    while (*at != cell) {
        CG_ASSERT(*at != NULL);
        at = &(*at)->by_id_next;
    }
    *at = cell->by_id_next;
    at = path_bucket(registry, cell->vsock_uds_base);
    while (*at != cell) {
        CG_ASSERT(*at != NULL);
        at = &(*at)->by_path_next;
    }
    *at = cell->by_path_next;
}

void cg_registry_remove(struct cg_registry *registry, struct cg_cell *cell)
{
    (void)pthread_mutex_lock(&registry->lock);
    leave_buckets(registry, cell);
    *(cell->previous == NULL ? &registry->first : &cell->previous->next) = cell->next;
    *(cell->next == NULL ? &registry->last : &cell->next->previous) = cell->previous;
    cell->next = cell->previous = NULL;
    registry->cells--;
    registry->cells_of_thread[cell->ingress_thread]--;
    (void)pthread_mutex_unlock(&registry->lock);
    cg_cell_unref(cell);
}

void cg_registry_visit(struct cg_registry *registry,
                       void (*visit)(void *context, const struct cg_cell *cell), void *context)
{
    (void)pthread_mutex_lock(&registry->lock);
    for (const struct cg_cell *cell = registry->first; cell != NULL; cell = cell->next) {
        visit(context, cell);
    }
    (void)pthread_mutex_unlock(&registry->lock);
}

struct state_counts {
    uint64_t monotonic_ns;
    uint64_t *by_state;
};

static void count_state(void *context, const struct cg_cell *cell)
{
    const struct state_counts *counts = context;
    counts->by_state[cg_cell_state(cell, counts->monotonic_ns)]++;
}

void cg_registry_count_states(struct cg_registry *registry, uint64_t monotonic_ns,
                              uint64_t ret_counts[CG_CELL_STATE_COUNT])
{
    memset(ret_counts, 0, CG_CELL_STATE_COUNT * sizeof(*ret_counts));
    struct state_counts counts = {.monotonic_ns = monotonic_ns, .by_state = ret_counts};
    cg_registry_visit(registry, count_state, &counts);
}
