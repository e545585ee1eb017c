/* observing.c - what probes read of cells becomes events, beside what their guests declare. */
#include "ingress/reader_state.h"

/* Readings of one cell that may wait: more come only while the spool refuses. */
enum { READINGS_MAX = 16 };

void cg_reader_observe(struct cg_reader *reader, struct cg_channel *channel,
                       struct cg_reading *reading)
{
    (void)pthread_mutex_lock(&reader->inbox_lock);
    bool room = channel->readings_count < READINGS_MAX;
    if (room) {
        channel->readings_count++;
        cg_list_append(&channel->observed, &reading->in_channel);
    } else {
        channel->readings_refused++;
    }
    cg_reader_note(reader, channel);
    (void)pthread_mutex_unlock(&reader->inbox_lock);
    if (!room) {
        cg_metric_add(CG_SERIES_probe_readings_dropped, 1);
        cg_reading_free(reading);
    }
}

/* The figures of a reading, for the witness, who is there from the first one on. */
static void hear_reading(struct cg_channel *channel, const struct cg_reading *reading)
{
    if (channel->witness == NULL) {
        channel->witness = cg_witness_new(reading->read_ns);
        if (channel->witness == NULL) {
            return; /* the next reading tries again */
        }
    }
    if (reading->kind == CG_READING_BASE) {
        cg_witness_base(channel->witness, &reading->facts);
    } else {
        cg_witness_see(channel->witness, reading->facts_kind, &reading->facts);
    }
}

void cg_reader_take_readings(struct cg_channel *channel)
{
    while (!cg_list_is_empty(&channel->observed)) {
        struct cg_reading *reading =
            CG_LIST_ENTRY(channel->observed.next, struct cg_reading, in_channel);
        cg_list_remove(&reading->in_channel);
        if (reading->kind == CG_READING_BASE) {
            hear_reading(channel, reading); /* before the guest is heard */
            cg_reading_free(reading);
            channel->readings_count--;
        } else {
            cg_list_append(&channel->readings, &reading->in_channel);
        }
    }
    if (channel->readings_refused > 0) {
        cg_life_drop(&channel->life, CG_DROP_PROBES, channel->readings_refused);
        channel->readings_refused = 0;
    }
}

static enum cg_told tell_reading(struct cg_reader *reader, struct cg_channel *channel,
                                 const struct cg_reading *reading)
{
    enum cg_told told = CG_TOLD_STAGED;
    switch (reading->kind) {
    case CG_READING_BASE: /* was heard when it was taken */
        return told;
    case CG_READING_TURN:
        return cg_reader_corroborate(reader, channel, false) ? CG_TOLD_STAGED : CG_TOLD_BLOCKED;
    case CG_READING_EVENT:
        do {
            told = cg_pipeline_observe(reader->pipeline, channel, reading);
        } while (told == CG_TOLD_BLOCKED && !reader->stalled && cg_reader_commit(reader));
        break;
    }
    if (told != CG_TOLD_BLOCKED) {
        hear_reading(channel, reading);
    }
    return told;
}

bool cg_reader_tell_readings(struct cg_reader *reader, struct cg_channel *channel)
{
    while (!cg_list_is_empty(&channel->readings)) {
        struct cg_reading *reading =
            CG_LIST_ENTRY(channel->readings.next, struct cg_reading, in_channel);
        enum cg_told told = tell_reading(reader, channel, reading);
        if (told == CG_TOLD_BLOCKED) {
            return false;
        }
        if (told == CG_TOLD_UNSIGNED) {
            cg_reader_report_unsigned(reader, channel, 1);
        }
        cg_list_remove(&reading->in_channel);
        cg_reading_free(reading);
        (void)pthread_mutex_lock(&reader->inbox_lock);
        channel->readings_count--;
        (void)pthread_mutex_unlock(&reader->inbox_lock);
    }
    return true;
}

static struct cg_corroboration_totals totals_of(const struct cg_channel *channel)
{
    const struct cg_cell *cell = channel->cell;
    return (struct cg_corroboration_totals){
        .frames = atomic_load_explicit(&cell->frames, memory_order_relaxed),
        .frame_bytes = atomic_load_explicit(&cell->frame_bytes, memory_order_relaxed),
        .frames_rejected = atomic_load_explicit(&cell->frames_rejected, memory_order_relaxed),
        .connections = atomic_load_explicit(&cell->connections_opened, memory_order_relaxed),
        .silences = cg_life_silences(&channel->life),
        .drops = cg_life_drops(&channel->life),
    };
}

bool cg_reader_corroborate(struct cg_reader *reader, struct cg_channel *channel, bool over)
{
    if (channel->witness == NULL || channel->corroborated || !reader->config->corroborate) {
        return true;
    }
    const struct cg_corroboration_totals totals = totals_of(channel);
    bool found = cg_corroborate(channel->witness, &totals, &reader->config->corroboration, over,
                                &reader->event);
    enum cg_told told = cg_reader_tell_event(reader, channel);
    if (told == CG_TOLD_BLOCKED) {
        return false;
    }
    if (told == CG_TOLD_UNSIGNED) {
        cg_reader_report_unsigned(reader, channel, 1);
    }
    cg_metric_add(CG_SERIES_corroborations, 1);
    cg_metric_add(CG_SERIES_corroborations_with_findings, found ? 1 : 0);
    channel->corroborated = over;
    return true;
}
