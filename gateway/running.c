/* running.c - the exporters that run: started, stopped, and shown. */
#include "cellgate/clock.h"
#include "gateway_state.h"
#include "run/files.h"

#include <limits.h>
#include <stdio.h>

/* The lesser of the operator's batch size and what the exporter can acknowledge at once. */
static uint64_t batch_events(const struct cg_exporter_config *exporter)
{
    uint64_t (*limit)(const void *config) = exporter->ops->batch_events_max;
    uint64_t max = limit == NULL ? 0 : limit(exporter->own);
    return max != 0 && max < exporter->batch_events ? max : exporter->batch_events;
}

bool cg_running_start(struct cg_gateway *gateway, const struct cg_exporter_config *exporter,
                      struct cg_config *owner, struct cg_running *ret_running, struct cg_error *err)
{
    char dead_letters[PATH_MAX] = "";
    char name[CG_EXPORTER_NAME_BYTES_MAX + sizeof("dead-letters/")];
    (void)snprintf(name, sizeof(name), "dead-letters/%s", exporter->name);
    bool kept = gateway->config->state_dir != NULL;
    if (kept && !cg_gateway_state_path(gateway, name, ".jsonl", dead_letters, err)) {
        return false;
    }
    const struct cg_delivery_config delivery = {
        .name = exporter->name,
        .ops = exporter->ops,
        .exporter_config = exporter->own,
        .env = {.name = exporter->name, .node = gateway->config->node, .version = CELLGATE_VERSION},
        .batch_events = batch_events(exporter),
        .batch_bytes = exporter->batch_bytes,
        .linger_ns = exporter->linger_ns,
        .backoff_initial_ns = exporter->backoff_initial_ns,
        .backoff_max_ns = exporter->backoff_max_ns,
        .hold_initial_ns = exporter->hold_initial_ns,
        .hold_max_ns = exporter->hold_max_ns,
        .retry_after_max_ns = exporter->retry_after_max_ns,
        .suspect_after = exporter->suspect_after,
        .max_age_ns = exporter->max_age_ns,
        .watchdog_ns = exporter->watchdog_ns,
        .dead_letter_bytes_max = exporter->dead_letter_bytes_max,
        .spool_quota_bytes = exporter->quota_bytes,
        .filter = &exporter->filter,
        .dead_letter_path = kept ? dead_letters : NULL,
        .clock = gateway->clock,
    };
    struct cg_delivery *started = NULL;
    const uint64_t files_mark = cg_files_mark(exporter);
    if (!cg_delivery_start(&delivery, gateway->spool, &started, err)) {
        return cg_error_context(err, "exporter %s", exporter->name);
    }
    *ret_running = (struct cg_running){
        .delivery = started, .config = exporter, .owner = owner, .files_mark = files_mark};
    return true;
}

void cg_running_stop(struct cg_running *running)
{
    cg_delivery_stop(running->delivery);
    running->delivery = NULL;
}

void cg_running_publish(struct cg_gateway *gateway)
{
    (void)pthread_rwlock_wrlock(&gateway->deliveries_lock);
    size_t count = 0;
    for (size_t i = 0; i < gateway->exporters_count; i++) {
        if (gateway->exporters[i].delivery != NULL) {
            gateway->deliveries[count++] = gateway->exporters[i].delivery;
        }
    }
    gateway->view.deliveries_count = count;
    (void)pthread_rwlock_unlock(&gateway->deliveries_lock);
}

void cg_running_stop_all(struct cg_gateway *gateway)
{
    for (size_t i = gateway->exporters_count; i > 0; i--) {
        if (gateway->exporters[i - 1].delivery != NULL) {
            cg_running_stop(&gateway->exporters[i - 1]);
        }
    }
}

bool cg_running_start_all(struct cg_gateway *gateway, struct cg_error *err)
{
    const struct cg_config *config = gateway->config;
    CG_ASSERT(config->exporters_count <= CG_EXPORTERS_MAX);
    for (size_t i = 0; i < config->exporters_count; i++) {
        if (!cg_running_start(gateway, &config->exporters[i], gateway->current,
                              &gateway->exporters[i], err)) {
            cg_running_stop_all(gateway);
            return false;
        }
        gateway->exporters_count = i + 1;
    }
    cg_running_publish(gateway);
    return true;
}
