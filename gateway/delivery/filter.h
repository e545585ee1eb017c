/*
 * filter.h - which events an exporter is for. docs/contract.md section 7. Pure but for memory.
 *
 * Types, cells and kinds stand in the record header (of a signed event they are those of the event
 * inside), so no JSON is read for them. Labels do not: they belong to the registration, and each
 * event of a run carries them in its host block. A copy of them in the header would cost every
 * record of everybody, up to 8 KiB, and change the spool's format. So they are read from the
 * event's own bytes, by the strict reader, only where labels are asked for and everything else has
 * passed. What an event said when it was made decides, whatever has become of its cell.
 *
 * Guests choose the last word of their events' types: one can declare a `agent_silenced` of its
 * own. `kinds` tells them apart from the gateway's.
 */
#ifndef CELLGATE_FILTER_H
#define CELLGATE_FILTER_H

#include "cellgate/buf.h"
#include "cellgate/event.h"
#include "cellgate/option.h"
#include "event/json.h"

enum { CG_FILTER_PATTERN_BYTES_MAX = 256, CG_FILTER_PATTERNS_MAX = 64 };

/* As the configuration spells it. An event passes if every condition that is given holds. Patterns
 * are those of base/glob.h. */
struct cg_filter_rules {
    struct cg_strings kinds;     /* one of them: guest, gateway, probe */
    struct cg_strings types;     /* the type matches one of them */
    struct cg_strings not_types; /* and none of these */
    struct cg_strings cells;     /* the same of the cell's id */
    struct cg_strings not_cells;
    struct cg_pairs labels; /* each key is there, and its value matches */
};

/* Whether the rules can be used; the error begins with the key's name. */
CG_MUST_USE bool cg_filter_rules_check(const struct cg_filter_rules *rules, struct cg_error *err);

struct cg_filter {
    const struct cg_filter_rules *rules; /* NULL: every event passes */
    uint32_t kinds;                      /* bits by enum cg_event_kind; 0: any */
    struct cg_json json;
    struct cg_buf text;
};

/* The rules are borrowed, and have been checked. Rules without a condition are none. */
void cg_filter_init(struct cg_filter *filter, const struct cg_filter_rules *rules);
void cg_filter_fini(struct cg_filter *filter);

static inline bool cg_filter_is_set(const struct cg_filter *filter)
{
    return filter->rules != NULL;
}

/* One thread at a time. Fails only where labels cannot be read: there is no memory. Then nothing is
 * known, and the event must neither be sent nor passed over. */
CG_MUST_USE bool cg_filter_judge(struct cg_filter *filter, const struct cg_event *event,
                                 bool *ret_passes, struct cg_error *err);

#endif
