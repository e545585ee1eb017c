/* drain.c - the end: guests are let go or handed over, and exporters get time to catch up. */
#include "cellgate/clock.h"
#include "cellgate/log.h"
#include "gateway_state.h"

enum {
    DRAIN_TURN_MS = 100,
    HANDED_OVER_DRAIN_MS = 1000, /* exporters' time, while guests wait for the next gateway */
};

/* Waits in short turns, to ask between them whether the waiting is over. */
static bool catch_up(struct cg_delivery *delivery, uint64_t deadline_ns, bool (*is_over)(void))
{
    uint64_t now_ns = cg_clock_monotonic(&cg_clock_system);
    while (now_ns < deadline_ns && !is_over()) {
        uint64_t turn_ends_ns = now_ns + DRAIN_TURN_MS * CG_NS_PER_MS;
        if (cg_delivery_caught_up(delivery,
                                  turn_ends_ns < deadline_ns ? turn_ends_ns : deadline_ns)) {
            return true;
        }
        now_ns = cg_clock_monotonic(&cg_clock_system);
    }
    return cg_delivery_caught_up(delivery, now_ns);
}

void cg_gateway_drain(struct cg_gateway *gateway, uint64_t deadline_ns, bool (*is_over)(void))
{
    atomic_store(&gateway->view.phase, CG_PHASE_DRAINING);
    cg_gateway_stop_control(gateway);
    cg_reloader_stop(gateway); /* nothing is added any more */
    cg_enrolment_close(gateway->enrolment);
    cg_probes_stop(gateway->probes);
    if (!cg_gateway_hand_over(gateway, deadline_ns)) {
        cg_ingress_drain(gateway->ingress, deadline_ns);
    } else if (gateway->config->spool.dir != NULL) {
        /* Guests wait for the next gateway, which delivers the rest. */
        uint64_t soon_ns = cg_clock_monotonic(gateway->clock) + HANDED_OVER_DRAIN_MS * CG_NS_PER_MS;
        deadline_ns = soon_ns < deadline_ns ? soon_ns : deadline_ns;
    }
    for (size_t i = 0; i < gateway->view.deliveries_count; i++) {
        cg_delivery_flush(gateway->deliveries[i]);
    }
    for (size_t i = 0; i < gateway->view.deliveries_count; i++) {
        if (catch_up(gateway->deliveries[i], deadline_ns, is_over)) {
            continue;
        }
        struct cg_delivery_status status;
        cg_delivery_status(gateway->deliveries[i], &status);
        CG_LOG(CG_LOG_WARNING, "exporter_left_behind", CG_F_STR("exporter", status.name),
               CG_F_U64("events", status.backlog.events),
               CG_F_STR("kept", gateway->config->spool.dir == NULL ? "no" : "in the spool"),
               CG_F_STR("last_error", status.last_error));
    }
}
