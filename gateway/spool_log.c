#include "spool_log.h"

#include "cellgate/log.h"

/* What is damaged, or lost by a reader, may be many pieces one behind the other. */
enum { LINES_MAX = 20, PERIOD_S = 10 };

void cg_spool_log_open(const char *dir, const struct cg_spool_recovery *recovery)
{
    bool damaged =
        recovery->torn_bytes != 0 || recovery->damaged_segments != 0 || recovery->power_cut;
    CG_LOG(damaged ? CG_LOG_WARNING : CG_LOG_INFO, "spool_open",
           CG_F_STR("dir", dir == NULL ? "(memory)" : dir),
           CG_F_U64("first_index", recovery->first_index),
           CG_F_U64("next_index", recovery->next_index),
           CG_F_U64("torn_bytes", recovery->torn_bytes),
           CG_F_U64("damaged_segments", recovery->damaged_segments),
           CG_F_U64("power_cut", recovery->power_cut));
}

static void log_degraded(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_ERROR, "spool_degraded", CG_F_STR("error", notice->text));
}

static void log_recovered(const struct cg_spool_notice *notice)
{
    (void)notice;
    CG_LOG(CG_LOG_INFO, "spool_recovered");
}

static void log_segment(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_ERROR, "spool_segment_damaged", CG_F_STR("kept_as", notice->name),
           CG_F_U64("first_index", notice->first), CG_F_U64("last_index", notice->last));
}

static void log_position(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_WARNING, "spool_position_damaged", CG_F_STR("exporter", notice->name),
           CG_F_STR("starts", "at the oldest event kept"));
}

static void log_unreadable(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_ERROR, "spool_unreadable", CG_F_STR("exporter", notice->name),
           CG_F_U64("index", notice->first), CG_F_STR("error", notice->text));
}

static void log_events(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_ERROR, "spool_events_damaged", CG_F_U64("first_index", notice->first),
           CG_F_U64("last_index", notice->last), CG_F_U64("events", notice->count));
}

static void log_skipped(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_WARNING, "spool_numbers_skipped", CG_F_STR("reason", notice->name),
           CG_F_U64("runs", notice->count));
}

static void log_reader(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_ERROR, "exporter_over_quota", CG_F_STR("exporter", notice->name),
           CG_F_U64("first_index", notice->first), CG_F_U64("last_index", notice->last),
           CG_F_U64("events", notice->count));
}

static void log_run(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_ERROR, "ended_run_dropped", CG_F_STR("cell", notice->name),
           CG_F_STR("run", notice->text), CG_F_U64("first_sequence", notice->first),
           CG_F_U64("last_sequence", notice->last), CG_F_U64("events", notice->count));
}

static void log_filling(const struct cg_spool_notice *notice)
{
    CG_LOG(CG_LOG_WARNING, "spool_filling", CG_F_U64("full_in_s", notice->count));
}

static const struct {
    void (*log)(const struct cg_spool_notice *notice);
    bool limited;
} lines[CG_SPOOL_NOTICE_COUNT] = {
    [CG_SPOOL_SEGMENT_DAMAGED] = {log_segment, false},
    [CG_SPOOL_POSITION_DAMAGED] = {log_position, false},
    [CG_SPOOL_UNREADABLE] = {log_unreadable, true},
    [CG_SPOOL_EVENTS_DAMAGED] = {log_events, true},
    [CG_SPOOL_NUMBERS_SKIPPED] = {log_skipped, false},
    [CG_SPOOL_READER_DROPPED] = {log_reader, true},
    [CG_SPOOL_RUN_DROPPED] = {log_run, true},
    [CG_SPOOL_DEGRADED] = {log_degraded, true},
    [CG_SPOOL_RECOVERED] = {log_recovered, true},
    [CG_SPOOL_FILLING] = {log_filling, false},
};

void cg_spool_log_notice(void *context, const struct cg_spool_notice *notice)
{
    (void)context;
    static struct cg_log_limit limit = {.period_ns = PERIOD_S * CG_NS_PER_S, .burst = LINES_MAX};
    uint64_t suppressed = 0;
    if (lines[notice->kind].limited &&
        !cg_log_limit_pass(&limit, cg_clock_monotonic(&cg_clock_system), &suppressed)) {
        return;
    }
    if (suppressed + notice->suppressed > 0) {
        CG_LOG(CG_LOG_WARNING, "spool_lines_suppressed",
               CG_F_U64("lines", suppressed + notice->suppressed));
    }
    lines[notice->kind].log(notice);
}
