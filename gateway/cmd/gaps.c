#include "cmd/gaps.h"

#include "cmd/quote.h"

#include <search.h>
#include <stdlib.h>

enum {
    INTERVALS_MAX = 1 << 23, /* of all runs together: 128 MiB */
    RUNS_MAX = 1 << 17,
    ID_BYTES_MAX = 1024, /* of a cell or run, as an event may give it */
    SET_FIRST = 4,
    PENDING_MIN = 1024,
};

struct interval {
    uint64_t first;
    uint64_t last;
};

/* Sequence numbers. What comes in order extends `sorted`; what does not waits in `pending` until it
 * is worth merging. */
struct set {
    struct interval *sorted; /* disjoint, not touching */
    size_t count;
    size_t cap;
    struct interval *pending;
    size_t pending_count;
    size_t pending_cap;
};

struct run {
    struct cg_bytes cell; /* owned, with `id` in one piece of memory */
    struct cg_bytes id;
    struct set seen;
    struct set repeated;
    struct set named; /* by telemetry.dropped */
};

struct cg_gaps {
    void *runs; /* a tree of struct run, see tsearch(3) */
    struct run *latest;
    size_t run_count;
    size_t intervals; /* that there is memory for */
    struct cg_buf cell;
    struct cg_buf id;
};

static int compare_bytes(struct cg_bytes a, struct cg_bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_runs(const void *left, const void *right)
{
    const struct run *a = left;
    const struct run *b = right;
    int order = compare_bytes(a->cell, b->cell);
    return order != 0 ? order : compare_bytes(a->id, b->id);
}

static int compare_intervals(const void *left, const void *right)
{
    const struct interval *a = left;
    const struct interval *b = right;
    return (a->first > b->first) - (a->first < b->first);
}

static bool grow(struct cg_gaps *gaps, struct interval **items, size_t *cap, size_t needed)
{
    if (needed <= *cap) {
        return true;
    }
    size_t want = *cap < SET_FIRST ? SET_FIRST : *cap * 2;
    want = want < needed ? needed : want;
    if (gaps->intervals - *cap + want > INTERVALS_MAX) {
        return false;
    }
    struct interval *grown = reallocarray(*items, want, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    gaps->intervals += want - *cap;
    *items = grown;
    *cap = want;
    return true;
}

static bool add_interval(struct cg_gaps *gaps, struct set *set, struct interval interval,
                         struct set *overlaps);

/* Puts `next`, which does not begin before it, behind or into the last of `count` intervals. */
static bool join(struct cg_gaps *gaps, struct interval *merged, size_t *count, struct interval next,
                 struct set *overlaps)
{
    CG_ASSERT(merged != NULL);
    struct interval *last = *count == 0 ? NULL : &merged[*count - 1];
    if (last == NULL || next.first - 1 > last->last) {
        merged[(*count)++] = next;
        return true;
    }
    uint64_t shared_to = next.last < last->last ? next.last : last->last;
    last->last = next.last > last->last ? next.last : last->last;
    return overlaps == NULL || next.first > shared_to ||
           add_interval(gaps, overlaps, (struct interval){next.first, shared_to}, NULL);
}

/* Merges what is pending; what was there before goes to `overlaps`, unless that is NULL. */
static bool settle(struct cg_gaps *gaps, struct set *set, struct set *overlaps)
{
    if (set->pending_count == 0) {
        return true;
    }
    qsort(set->pending, set->pending_count, sizeof(*set->pending), compare_intervals);
    struct interval *merged = NULL;
    size_t cap = 0;
    size_t count = 0;
    if (!grow(gaps, &merged, &cap, set->count + set->pending_count)) {
        return false;
    }
    bool good = true;
    size_t old = 0;
    size_t fresh = 0;
    while (good && (old < set->count || fresh < set->pending_count)) {
        bool take_old = fresh == set->pending_count ||
                        (old < set->count && set->sorted[old].first <= set->pending[fresh].first);
        struct interval next = take_old ? set->sorted[old++] : set->pending[fresh++];
        good = join(gaps, merged, &count, next, overlaps);
    }
    gaps->intervals -= set->cap;
    free(set->sorted);
    set->sorted = merged;
    set->count = count;
    set->cap = cap;
    set->pending_count = 0;
    return good;
}

static bool add_interval(struct cg_gaps *gaps, struct set *set, struct interval interval,
                         struct set *overlaps)
{
    bool in_order = set->pending_count == 0 &&
                    (set->count == 0 || interval.first > set->sorted[set->count - 1].last);
    if (in_order) {
        return grow(gaps, &set->sorted, &set->cap, set->count + 1) &&
               join(gaps, set->sorted, &set->count, interval, overlaps);
    }
    if (!grow(gaps, &set->pending, &set->pending_cap, set->pending_count + 1)) {
        return false;
    }
    set->pending[set->pending_count++] = interval;
    return set->pending_count < PENDING_MIN + set->count / 4 || settle(gaps, set, overlaps);
}

static void free_set(struct set *set)
{
    free(set->sorted);
    free(set->pending);
}

static void free_run(void *node)
{
    struct run *run = node;
    free_set(&run->seen);
    free_set(&run->repeated);
    free_set(&run->named);
    free(run);
}

/* A run with its ids behind it. */
static struct run *new_run(struct cg_bytes cell, struct cg_bytes id)
{
    struct run *run = calloc(1, sizeof(*run) + cell.len + id.len);
    if (run != NULL) {
        char *texts = (char *)(run + 1);
        memcpy(texts, cell.data, cell.len);
        memcpy(texts + cell.len, id.data, id.len);
        run->cell = cg_bytes(texts, cell.len);
        run->id = cg_bytes(texts + cell.len, id.len);
    }
    return run;
}

static struct run *find_run(struct cg_gaps *gaps, struct cg_bytes cell, struct cg_bytes id)
{
    const struct run wanted = {.cell = cell, .id = id};
    if (gaps->latest != NULL && compare_runs(&wanted, gaps->latest) == 0) {
        return gaps->latest;
    }
    struct run **found = tfind(&wanted, &gaps->runs, compare_runs);
    if (found == NULL && gaps->run_count < RUNS_MAX) {
        struct run *run = new_run(cell, id);
        found = run == NULL ? NULL : tsearch(run, &gaps->runs, compare_runs);
        if (found == NULL) {
            free(run);
        } else {
            gaps->run_count++;
        }
    }
    gaps->latest = found == NULL ? NULL : *found;
    return gaps->latest;
}

bool cg_gaps_new(struct cg_gaps **ret_gaps, struct cg_error *err)
{
    struct cg_gaps *gaps = calloc(1, sizeof(*gaps));
    if (gaps == NULL) {
        return cg_error_set(err, "no memory to account for sequences");
    }
    cg_buf_init(&gaps->cell, ID_BYTES_MAX);
    cg_buf_init(&gaps->id, ID_BYTES_MAX);
    *ret_gaps = gaps;
    return true;
}

void cg_gaps_free(struct cg_gaps *gaps)
{
    if (gaps != NULL) {
        tdestroy(gaps->runs, free_run);
        cg_buf_fini(&gaps->cell);
        cg_buf_fini(&gaps->id);
        free(gaps);
    }
}

static bool member_text(const struct cg_json *json, uint32_t object, struct cg_bytes name,
                        struct cg_buf *out)
{
    uint32_t node = cg_json_find(json, object, name);
    cg_buf_clear(out);
    return node != 0 && cg_json_type(json, node) == CG_JSON_STRING &&
           cg_json_decode(json, node, out);
}

static bool member_u64(const struct cg_json *json, uint32_t object, struct cg_bytes name,
                       uint64_t *ret_value)
{
    uint32_t node = object == 0 ? 0 : cg_json_find(json, object, name);
    return node != 0 && cg_json_u64(json, node, ret_value);
}

/* Is this the gateway's word on what it dropped? A guest chooses neither the end of a type with a
 * dot in it nor its provenance. */
static bool is_dropped_event(const struct cg_json *json, uint32_t event, uint32_t data)
{
    static const struct cg_bytes suffix = CG_BYTES(".telemetry.dropped");
    uint32_t type = cg_json_find(json, event, CG_BYTES("type"));
    uint32_t provenance = cg_json_find(json, data, CG_BYTES("provenance"));
    if (type == 0 || provenance == 0 || cg_json_type(json, type) != CG_JSON_STRING ||
        !cg_json_is(json, provenance, CG_BYTES("observed"))) {
        return false;
    }
    struct cg_bytes raw = cg_json_raw(json, type);
    return raw.len >= suffix.len &&
           memcmp(raw.data + raw.len - suffix.len, suffix.data, suffix.len) == 0;
}

/* Adds what one reason's `ranges` name: [[first, last], …]. */
static bool add_ranges(struct cg_gaps *gaps, struct run *run, const struct cg_json *json,
                       uint32_t ranges)
{
    if (ranges == 0 || cg_json_type(json, ranges) != CG_JSON_ARRAY) {
        return true;
    }
    for (uint32_t range = ranges + 1; range < json->nodes[ranges].next;
         range = json->nodes[range].next) {
        struct interval named;
        bool whole = cg_json_type(json, range) == CG_JSON_ARRAY && json->nodes[range].count == 2 &&
                     cg_json_u64(json, range + 1, &named.first) &&
                     cg_json_u64(json, json->nodes[range + 1].next, &named.last) &&
                     named.first > 0 && named.first <= named.last;
        if (whole && !add_interval(gaps, &run->named, named, NULL)) {
            return false;
        }
    }
    return true;
}

static bool add_drops(struct cg_gaps *gaps, struct run *run, const struct cg_json *json,
                      uint32_t drops)
{
    if (drops == 0 || cg_json_type(json, drops) != CG_JSON_OBJECT) {
        return true;
    }
    for (uint32_t reason = drops + 1; reason < json->nodes[drops].next;
         reason = json->nodes[reason + 1].next) {
        if (!add_ranges(gaps, run, json, cg_json_find(json, reason + 1, CG_BYTES("ranges")))) {
            return false;
        }
    }
    return true;
}

bool cg_gaps_add(struct cg_gaps *gaps, const struct cg_json *json, uint32_t event,
                 struct cg_error *err)
{
    uint32_t data = cg_json_find(json, event, CG_BYTES("data"));
    uint32_t host = data == 0 ? 0 : cg_json_find(json, data, CG_BYTES("host"));
    uint64_t sequence = 0;
    /* Events of host probes are flat: they have no host block. */
    bool numbered = member_u64(json, host, CG_BYTES("sequence"), &sequence) ||
                    member_u64(json, data, CG_BYTES("sequence"), &sequence);
    if (!numbered || sequence == 0 || !member_text(json, data, CG_BYTES("cellId"), &gaps->cell) ||
        !member_text(json, data, CG_BYTES("runId"), &gaps->id)) {
        return true;
    }
    struct run *run = find_run(gaps, cg_buf_bytes(&gaps->cell), cg_buf_bytes(&gaps->id));
    struct interval one = {sequence, sequence};
    if (run == NULL || !add_interval(gaps, &run->seen, one, &run->repeated)) {
        return cg_error_set(err, "more runs or holes than can be accounted for");
    }
    if (is_dropped_event(json, event, data) &&
        !add_drops(gaps, run, json, cg_json_find(json, data, CG_BYTES("drops")))) {
        return cg_error_set(err, "more dropped ranges than can be accounted for");
    }
    return true;
}

struct report {
    struct cg_gaps *gaps;
    FILE *out;
    struct cg_buf subject;
    struct cg_gaps_totals totals;
    bool failed;
};

static void report_interval(struct report *report, const char *what, struct interval interval,
                            uint64_t *total)
{
    *total += interval.last - interval.first + 1;
    if (fprintf(report->out, "%s\t%.*s\t%llu", what, CG_BYTES_ARG(cg_buf_bytes(&report->subject)),
                (unsigned long long)interval.first) < 0 ||
        (interval.last > interval.first &&
         fprintf(report->out, "-%llu", (unsigned long long)interval.last) < 0) ||
        fputc('\n', report->out) == EOF) {
        report->failed = true;
    }
}

/* Walks what was seen and what is named side by side; what lies between is missing. */
static void report_missing(struct report *report, const struct run *run)
{
    uint64_t covered_to = 0;
    size_t seen = 0;
    size_t named = 0;
    while (seen < run->seen.count || named < run->named.count) {
        bool take_seen = named == run->named.count ||
                         (seen < run->seen.count &&
                          run->seen.sorted[seen].first <= run->named.sorted[named].first);
        struct interval next = take_seen ? run->seen.sorted[seen++] : run->named.sorted[named++];
        if (next.first - 1 > covered_to) {
            report_interval(report, "missing", (struct interval){covered_to + 1, next.first - 1},
                            &report->totals.missing);
        }
        covered_to = next.last > covered_to ? next.last : covered_to;
    }
}

static void report_run(struct report *report, struct run *run)
{
    if (report->failed || !settle(report->gaps, &run->seen, &run->repeated) ||
        !settle(report->gaps, &run->repeated, NULL) || !settle(report->gaps, &run->named, NULL)) {
        report->failed = true;
        return;
    }
    cg_buf_clear(&report->subject);
    (void)cg_quote_append(&report->subject, run->cell);
    (void)cg_buf_append_char(&report->subject, '/');
    if (!cg_quote_append(&report->subject, run->id)) {
        report->failed = true;
        return;
    }
    report->totals.runs++;
    report_missing(report, run);
    for (size_t i = 0; i < run->repeated.count; i++) {
        report_interval(report, "repeated", run->repeated.sorted[i], &report->totals.repeated);
    }
}

static void visit(const void *node, VISIT which, void *closure)
{
    if (which == postorder || which == leaf) {
        report_run(closure, *(struct run *const *)node);
    }
}

bool cg_gaps_report(struct cg_gaps *gaps, FILE *out, struct cg_gaps_totals *ret_totals,
                    struct cg_error *err)
{
    struct report report = {.gaps = gaps, .out = out};
    cg_buf_init(&report.subject, (size_t)2 * ID_BYTES_MAX * 6 + 8);
    twalk_r(gaps->runs, visit, &report);
    cg_buf_fini(&report.subject);
    if (report.failed) {
        return cg_error_set(err, "the gaps could not be reported: no memory, or writing failed");
    }
    *ret_totals = report.totals;
    return true;
}
