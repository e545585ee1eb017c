/* schema_exporters.c - the keys that every exporter has. */
#include "run/schema.h"

#include "cellgate/clock.h"
#include "cellgate/limits.h"

#define EXPORTER(member) offsetof(struct cg_exporter_config, member)

enum { SUSPECT_AFTER_MAX = 1000 };

#define KIB           UINT64_C(1024)
#define MIB           (1024 * KIB)
#define GIB           (1024 * MIB)
#define DURATION_HOUR (3600 * CG_NS_PER_S)
#define DURATION_DAY  (24 * DURATION_HOUR)

static const struct cg_option batch_options[] = {
    {.key = "events",
     .type = CG_OPTION_INTEGER,
     .offset = EXPORTER(batch_events),
     .min = 1,
     .max = CG_SPOOL_PEEK_EVENTS_MAX,
     .help = "Most events in a batch; without it, the exporter type's own number."},
    {.key = "bytes",
     .type = CG_OPTION_SIZE,
     .offset = EXPORTER(batch_bytes),
     .min = KIB,
     .max = GIB,
     .help = "Most bytes in a batch (one event always goes); without it, the exporter type's own "
             "number."},
    {.key = "linger",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(linger_ns),
     .max = DURATION_HOUR,
     .fallback = "200ms",
     .help = "How long a batch that is not full waits for more."},
    {.key = NULL},
};

static const struct cg_option retry_options[] = {
    {.key = "initial",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(backoff_initial_ns),
     .min = CG_NS_PER_MS,
     .max = DURATION_DAY,
     .fallback = "500ms",
     .help = "First delay after a failure that passes by itself; it doubles, with jitter."},
    {.key = "max",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(backoff_max_ns),
     .min = CG_NS_PER_MS,
     .max = DURATION_DAY,
     .fallback = "60s",
     .help = "Longest of these delays."},
    {.key = "hold_initial",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(hold_initial_ns),
     .min = CG_NS_PER_MS,
     .max = DURATION_DAY,
     .fallback = "30s",
     .help = "First delay while the destination refuses everything, which somebody must mend."},
    {.key = "hold_max",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(hold_max_ns),
     .min = CG_NS_PER_MS,
     .max = DURATION_DAY,
     .fallback = "5m",
     .help = "Longest of these delays."},
    {.key = "retry_after_max",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(retry_after_max_ns),
     .max = DURATION_DAY,
     .fallback = "1h",
     .help = "Longest delay that a destination may ask for with Retry-After."},
    {.key = "suspect_after",
     .type = CG_OPTION_INTEGER,
     .offset = EXPORTER(suspect_after),
     .min = 1,
     .max = SUSPECT_AFTER_MAX,
     .fallback = "8",
     .help = "Answers like 500 in a row to one batch before an event in it is suspected."},
    {.key = "max_age",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(max_age_ns),
     .max = 366 * DURATION_DAY,
     .fallback = "0",
     .help = "An event that was received longer ago is not delivered any more but set aside as a "
             "dead letter with the reason age; needs state_dir. 0: no event is too old."},
    {.key = NULL},
};

static const struct cg_option dead_letters_options[] = {
    {.key = "max_bytes",
     .type = CG_OPTION_SIZE,
     .offset = EXPORTER(dead_letter_bytes_max),
     .min = MIB,
     .max = 64 * GIB,
     .fallback = "64MiB",
     .help = "What this exporter's dead letters may take; when they are full the exporter holds "
             "until some are replayed or dropped."},
    {.key = NULL},
};

#define PATTERNS(name, words)                                                                      \
    {                                                                                              \
        .key = #name, .type = CG_OPTION_STRINGS, .offset = EXPORTER(filter.name),                  \
        .max = CG_FILTER_PATTERNS_MAX, .help = words                                               \
    }

static const struct cg_option filter_options[] = {
    {.key = "kinds",
     .type = CG_OPTION_STRINGS,
     .offset = EXPORTER(filter.kinds),
     .max = CG_FILTER_PATTERNS_MAX,
     .help =
         "Only events of these kinds: guest (declared by a guest), gateway (the gateway's own), "
         "probe (read by a host probe)."},
    PATTERNS(types, "Only events whose type matches one of these: `*` is any text, `?` one "
                    "character. A guest chooses the last word of its types; see kinds."),
    PATTERNS(not_types, "No events whose type matches one of these."),
    PATTERNS(cells, "Only events of cells whose id matches one of these."),
    PATTERNS(not_cells, "No events of cells whose id matches one of these."),
    {.key = "labels",
     .type = CG_OPTION_PAIRS,
     .offset = EXPORTER(filter.labels),
     .max = CG_LABELS_MAX,
     .help = "Only events whose cell was registered with all these labels, each value matching the "
             "pattern; costs more than the others, since it reads the event."},
    {.key = NULL},
};

const struct cg_option cg_schema_exporter[] = {
    {.key = "name",
     .type = CG_OPTION_STRING,
     .offset = EXPORTER(name),
     .required = true,
     .help = "The exporter's name in metrics, logs and file names: 1 to 64 of A-Z a-z 0-9 . _ -, "
             "not beginning with a dot, unique. The spool remembers its position under it."},
    {.key = "type",
     .type = CG_OPTION_STRING,
     .offset = EXPORTER(type),
     .required = true,
     .help = "One of the types below."},
    {.key = "quota",
     .type = CG_OPTION_STRING,
     .offset = EXPORTER(quota_text),
     .help = "What this exporter alone may make the spool keep, as a part of spool.max_bytes (25%) "
             "or a size; at least two segments count. Beyond it, it alone loses its oldest events, "
             "which are counted, logged and named in telemetry.dropped. Without it, no limit."},
    {.key = "batch", .type = CG_OPTION_SECTION, .fields = batch_options, .help = "Batching."},
    {.key = "retry", .type = CG_OPTION_SECTION, .fields = retry_options, .help = "Delays."},
    {.key = "dead_letters",
     .type = CG_OPTION_SECTION,
     .fields = dead_letters_options,
     .help = "Events that could not be delivered, in state_dir."},
    {.key = "watchdog",
     .type = CG_OPTION_DURATION,
     .offset = EXPORTER(watchdog_ns),
     .max = DURATION_DAY,
     .fallback = "5m",
     .help = "A backlog for so long without an answer to any request is reported, and the "
             "exporter's connection made anew. 0: never."},
    {.key = "filter",
     .type = CG_OPTION_SECTION,
     .fields = filter_options,
     .help = "Which events it is for; without it, all. Others count as passed."},
    {.key = NULL},
};
