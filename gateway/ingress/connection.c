#include "ingress/connection.h"

#include <stdlib.h>

static const struct close_reason {
    const char *name;
    enum cg_metric_series series;
} close_reasons[CG_CLOSE_REASON_COUNT] = {
    [CG_CLOSE_EOF] = {"eof", CG_SERIES_connections_closed_eof},
    [CG_CLOSE_WIRE_ERROR] = {"wire_error", CG_SERIES_connections_closed_wire_error},
    [CG_CLOSE_UNSUPPORTED_VERSION] = {"unsupported_version",
                                      CG_SERIES_connections_closed_unsupported_version},
    [CG_CLOSE_STALLED] = {"stalled", CG_SERIES_connections_closed_stalled},
    [CG_CLOSE_DEREGISTERED] = {"deregistered", CG_SERIES_connections_closed_deregistered},
    [CG_CLOSE_SHUTDOWN] = {"shutdown", CG_SERIES_connections_closed_shutdown},
};

const char *cg_close_reason_name(enum cg_close_reason reason)
{
    CG_ASSERT(reason < CG_CLOSE_REASON_COUNT);
    return close_reasons[reason].name;
}

enum cg_metric_series cg_close_reason_series(enum cg_close_reason reason)
{
    CG_ASSERT(reason < CG_CLOSE_REASON_COUNT);
    return close_reasons[reason].series;
}

enum cg_metric_series cg_refusal_series(enum cg_refusal refusal)
{
    static const enum cg_metric_series series[CG_REFUSAL_COUNT] = {
        [CG_REFUSAL_LENGTH] = CG_SERIES_frames_rejected_length,
        [CG_REFUSAL_TRUNCATED] = CG_SERIES_frames_rejected_truncated,
        [CG_REFUSAL_MALFORMED] = CG_SERIES_frames_rejected_malformed,
        [CG_REFUSAL_TEXT] = CG_SERIES_frames_rejected_text,
        [CG_REFUSAL_STRUCTURE] = CG_SERIES_frames_rejected_structure,
        [CG_REFUSAL_DEPTH] = CG_SERIES_frames_rejected_depth,
        [CG_REFUSAL_FIELD] = CG_SERIES_frames_rejected_field,
        [CG_REFUSAL_UNSUPPORTED_VERSION] = CG_SERIES_frames_rejected_unsupported_version,
    };
    CG_ASSERT(refusal > CG_REFUSAL_NONE && refusal < CG_REFUSAL_COUNT);
    return series[refusal];
}

enum cg_close_reason cg_refusal_close_reason(enum cg_refusal refusal)
{
    return refusal == CG_REFUSAL_UNSUPPORTED_VERSION ? CG_CLOSE_UNSUPPORTED_VERSION
                                                     : CG_CLOSE_WIRE_ERROR;
}

enum cg_life_drop cg_refusal_drop(enum cg_refusal refusal)
{
    return refusal == CG_REFUSAL_UNSUPPORTED_VERSION ? CG_DROP_UNSUPPORTED_VERSION
                                                     : CG_DROP_WIRE_ERROR;
}

struct cg_channel *cg_channel_new(struct cg_cell *cell, struct cg_reader *reader,
                                  const struct cg_listening *listening)
{
    struct cg_channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return NULL;
    }
    channel->cell = cg_cell_ref(cell);
    channel->reader = reader;
    channel->listening = *listening;
    cg_timer_init(&channel->timer);
    cg_list_init(&channel->in_notes);
    cg_list_init(&channel->in_reader);
    cg_list_init(&channel->in_leaving);
    cg_list_init(&channel->connections);
    cg_list_init(&channel->in_paused);
    cg_list_init(&channel->observed);
    cg_list_init(&channel->readings);
    cg_rate_bucket_init(&channel->bucket);
    cg_life_restore(&channel->life, cell->silence_recovered, cell->registered_ns);
    return channel;
}

static void free_readings(struct cg_list *readings)
{
    while (!cg_list_is_empty(readings)) {
        struct cg_reading *reading = CG_LIST_ENTRY(readings->next, struct cg_reading, in_channel);
        cg_list_remove(&reading->in_channel);
        cg_reading_free(reading);
    }
}

void cg_channel_free(struct cg_channel *channel)
{
    CG_ASSERT(channel->connections_count == 0 && channel->draining == 0);
    free_readings(&channel->observed);
    free_readings(&channel->readings);
    cg_witness_free(channel->witness);
    cg_life_fini(&channel->life);
    cg_listening_close(&channel->listening);
    cg_cell_unref(channel->cell);
    free(channel->log);
    free(channel);
}
