#include "cmd/top_view.h"

#include "cellgate/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE_BYTES_MAX = 1024,
    NUMBER_BYTES = 24,
    HEAD_LINES = 3,
    TABLE_LINES = 2,    /* an empty one, and a heading */
    EXPORTERS_SHARE = 3 /* a screen shows exporters in at most this part of it */
};

/* --- the order --- */

static int compare_ids(const struct cg_top_cell *a, const struct cg_top_cell *b)
{
    return strcmp(a->id, b->id);
}

static int by_id(const void *left, const void *right)
{
    return compare_ids(left, right);
}

static int by_business(const void *left, const void *right)
{
    const struct cg_top_cell *a = left;
    const struct cg_top_cell *b = right;
    if (a->rates.events != b->rates.events) {
        return a->rates.events > b->rates.events ? -1 : 1;
    }
    if (a->frames != b->frames) {
        return a->frames > b->frames ? -1 : 1;
    }
    return compare_ids(a, b);
}

static int by_silence(const void *left, const void *right)
{
    const struct cg_top_cell *a = left;
    const struct cg_top_cell *b = right;
    int silent_a = strcmp(a->state, "silent") == 0;
    int silent_b = strcmp(b->state, "silent") == 0;
    if (silent_a != silent_b) {
        return silent_b - silent_a;
    }
    /* Who was never heard has been silent for longest. */
    if (a->silent_ms != b->silent_ms) {
        return a->silent_ms > b->silent_ms ? -1 : 1;
    }
    return compare_ids(a, b);
}

void cg_top_view_sort(const struct cg_top_view *view, struct cg_top_sample *sample)
{
    static int (*const orders[])(const void *left, const void *right) = {
        [CG_TOP_BUSY] = by_business, [CG_TOP_SILENT] = by_silence, [CG_TOP_ID] = by_id};
    if (sample->cells_count > 0) {
        qsort(sample->cells, sample->cells_count, sizeof(*sample->cells), orders[view->order]);
    }
}

/* --- numbers for people --- */

static const char *count_text(uint64_t value, char out[NUMBER_BYTES])
{
    if (value == CG_TOP_UNKNOWN) {
        return memcpy(out, "-", 2);
    }
    (void)snprintf(out, NUMBER_BYTES, "%" PRIu64, value);
    return out;
}

/* 980, 12.3k, 4.5M. */
static const char *rate_text(bool known, double value, char out[NUMBER_BYTES])
{
    static const char units[] = " kMGT";
    size_t unit = 0;
    if (!known) {
        return memcpy(out, "-", 2);
    }
    while (value >= 10000 && unit + 2 < sizeof(units)) {
        value /= 1000;
        unit++;
    }
    if (unit == 0) {
        (void)snprintf(out, NUMBER_BYTES, value < 100 && value > 0 ? "%.1f" : "%.0f", value);
    } else {
        (void)snprintf(out, NUMBER_BYTES, "%.1f%c", value, units[unit]);
    }
    return out;
}

static const char *bytes_text(uint64_t bytes, char out[NUMBER_BYTES])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    double value = (double)bytes;
    if (bytes == CG_TOP_UNKNOWN) {
        return memcpy(out, "-", 2);
    }
    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, NUMBER_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

/* 850ms, 12.3s, 5m12s, 3h07m, 2d04h. */
static const char *duration_text(uint64_t ms, char out[NUMBER_BYTES])
{
    uint64_t s = ms / 1000;
    if (ms == CG_TOP_UNKNOWN) {
        return memcpy(out, "-", 2);
    }
    if (ms < 1000) {
        (void)snprintf(out, NUMBER_BYTES, "%" PRIu64 "ms", ms);
    } else if (s < 60) {
        (void)snprintf(out, NUMBER_BYTES, "%.1fs", (double)ms / 1000);
    } else if (s < 3600) {
        (void)snprintf(out, NUMBER_BYTES, "%" PRIu64 "m%02us", s / 60, (unsigned)(s % 60));
    } else if (s < 86400) {
        (void)snprintf(out, NUMBER_BYTES, "%" PRIu64 "h%02um", s / 3600, (unsigned)(s / 60 % 60));
    } else {
        (void)snprintf(out, NUMBER_BYTES, "%" PRIu64 "d%02uh", s / 86400,
                       (unsigned)(s / 3600 % 24));
    }
    return out;
}

/* --- lines --- */

struct drawing {
    const struct cg_top_view *view;
    struct cg_buf *out;
    size_t lines; /* drawn */
};

/* Bytes of the text that fit so many columns, a column a character. */
static size_t fitting(const char *text, size_t columns)
{
    size_t at = 0;
    for (size_t column = 0; text[at] != '\0' && column < columns; column++) {
        at++;
        while (((unsigned char)text[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    return at;
}

static void put_line(struct drawing *drawing, bool reversed, const char *text)
{
    struct cg_buf *out = drawing->out;
    if (!drawing->view->screen) {
        size_t len = strlen(text);
        while (len > 0 && text[len - 1] == ' ') {
            len--;
        }
        cg_buf_append(out, cg_bytes(text, len));
        cg_buf_append_char(out, '\n');
        return;
    }
    if (drawing->lines >= drawing->view->lines) {
        return;
    }
    /* The line break stands in front, so that the last line does not scroll the screen. */
    cg_buf_append_str(out, drawing->lines == 0 ? "" : "\r\n");
    cg_buf_append_str(out, reversed ? "\033[7m" : "");
    cg_buf_append(out, cg_bytes(text, fitting(text, drawing->view->columns)));
    cg_buf_append_str(out, reversed ? "\033[m\033[K" : "\033[K");
    drawing->lines++;
}

CG_PRINTF(3, 4)
static void put(struct drawing *drawing, bool reversed, const char *format, ...)
{
    char line[LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    put_line(drawing, reversed, line);
}

static void put_head(struct drawing *drawing, const struct cg_top_sample *sample)
{
    char bytes[NUMBER_BYTES];
    char bytes_max[NUMBER_BYTES];
    put(drawing, false, "cellgate %s on %s: %s, since %.19s UTC", sample->version, sample->node,
        sample->status, sample->since);
    put(drawing, false, "cells  %zu: %s", sample->cells_count, sample->states);
    put(drawing, false, "spool  %s of %s", bytes_text(sample->spool_bytes, bytes),
        bytes_text(sample->spool_bytes_max, bytes_max));
}

static void put_exporter(struct drawing *drawing, const struct cg_top_exporter *exporter)
{
    char rate[NUMBER_BYTES], delivered[NUMBER_BYTES], filtered[NUMBER_BYTES];
    char waiting[NUMBER_BYTES], lag[NUMBER_BYTES], dead[NUMBER_BYTES];
    put(drawing, false, "%-20.20s %-16.16s %-8.8s %9s %12s %10s %10s %8s %6s  %s", exporter->name,
        exporter->type, exporter->state,
        rate_text(exporter->rates.known, exporter->rates.events, rate),
        count_text(exporter->delivered, delivered), count_text(exporter->filtered, filtered),
        count_text(exporter->waiting, waiting), duration_text(exporter->lag_ms, lag),
        count_text(exporter->dead_lettered, dead), exporter->error);
}

static void put_exporters(struct drawing *drawing, const struct cg_top_sample *sample)
{
    const struct cg_top_view *view = drawing->view;
    size_t shown = sample->exporters_count;
    if (view->screen && shown > view->lines / EXPORTERS_SHARE) {
        shown = view->lines / EXPORTERS_SHARE;
    }
    put_line(drawing, false, "");
    put(drawing, true, "%-20s %-16s %-8s %9s %12s %10s %10s %8s %6s  %s", "EXPORTER", "TYPE",
        "STATE", "EVENTS/S", "DELIVERED", "FILTERED", "WAITING", "LAG", "DEAD", "LAST ERROR");
    for (size_t i = 0; i < shown; i++) {
        put_exporter(drawing, &sample->exporters[i]);
    }
    if (shown < sample->exporters_count) {
        put(drawing, false, "(%zu more)", sample->exporters_count - shown);
    }
}

static void put_cell(struct drawing *drawing, const struct cg_top_cell *cell)
{
    char frames[NUMBER_BYTES], bytes[NUMBER_BYTES], heard[NUMBER_BYTES], sequence[NUMBER_BYTES];
    char connections[NUMBER_BYTES], rejected[NUMBER_BYTES];
    put(drawing, false, "%-24.24s %-20.20s %-8.8s %9s %9s %9s %5s %8s %12s", cell->id, cell->run,
        cell->state, rate_text(cell->rates.known, cell->rates.events, frames),
        rate_text(cell->rates.known, cell->rates.bytes, bytes),
        duration_text(cell->silent_ms, heard), count_text(cell->connections, connections),
        count_text(cell->rejected, rejected), count_text(cell->sequence, sequence));
}

static void put_cells(struct drawing *drawing, struct cg_top_view *view,
                      const struct cg_top_sample *sample)
{
    size_t count = sample->cells_count;
    put_line(drawing, false, "");
    put(drawing, true, "%-24s %-20s %-8s %9s %9s %9s %5s %8s %12s", "CELL", "RUN", "STATE",
        "FRAMES/S", "BYTES/S", "HEARD", "CONNS", "REJECTED", "SEQUENCE");
    view->page = view->cells_max;
    if (view->screen) {
        view->page = view->lines > drawing->lines + 1 ? view->lines - drawing->lines - 1 : 0;
    }
    if (view->first + view->page > count) {
        view->first = count > view->page ? count - view->page : 0;
    }
    size_t end = view->first + view->page < count ? view->first + view->page : count;
    for (size_t i = view->first; i < end; i++) {
        put_cell(drawing, &sample->cells[i]);
    }
    if (!view->screen && end < count) {
        put(drawing, false, "(%zu more)", count - end);
    }
}

static void put_foot(struct drawing *drawing, const struct cg_top_view *view,
                     const struct cg_top_sample *sample)
{
    static const char *const orders[] = {
        [CG_TOP_BUSY] = "busiest first", [CG_TOP_SILENT] = "silent first", [CG_TOP_ID] = "by id"};
    size_t end = view->first + view->page;
    while (drawing->lines + 1 < view->lines) {
        put_line(drawing, false, "");
    }
    if (view->notice != NULL) {
        put(drawing, true, "%s", view->notice);
        return;
    }
    end = end < sample->cells_count ? end : sample->cells_count;
    put(drawing, true, "%zu-%zu of %zu, %s | b busy  s silent  i id  PgUp PgDn  q quit",
        sample->cells_count == 0 ? 0 : view->first + 1, end, sample->cells_count,
        orders[view->order]);
}

void cg_top_view_render(struct cg_top_view *view, const struct cg_top_sample *sample,
                        struct cg_buf *out)
{
    struct drawing drawing = {.view = view, .out = out};
    cg_buf_append_str(out, view->screen ? "\033[H" : "");
    put_head(&drawing, sample);
    put_exporters(&drawing, sample);
    put_cells(&drawing, view, sample);
    if (view->screen) {
        put_foot(&drawing, view, sample);
        cg_buf_append_str(out, "\033[J");
    }
}
