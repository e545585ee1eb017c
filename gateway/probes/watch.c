#include "probes/watch.h"

#include "cellgate/cleanup.h"
#include "cellgate/log.h"

#include <stdio.h>
#include <stdlib.h>

/* Where in its interval the n-th instance (from 1) reads: multiples of the golden section fall
 * evenly however many there are, so that a thousand cells that came at once are not read at once.
 */
static uint64_t phase_of(uint64_t ordinal, uint64_t interval_ns)
{
    const uint32_t golden = UINT32_C(0x9e3779b9);
    uint32_t fraction = (uint32_t)ordinal * golden;
    return (uint64_t)(((unsigned __int128)interval_ns * fraction) >> 32);
}

static void set_due(struct cg_probe_due *due, uint64_t due_ns)
{
    cg_timers_set(&due->watch->probes->timers, &due->timer, due_ns);
}

static void hand_over(struct cg_probes *probes, struct cg_cell *cell, struct cg_reading *reading)
{
    if (probes->config.ingress != NULL) {
        cg_ingress_observe(probes->config.ingress, cell, reading);
    } else {
        probes->config.observe(probes->config.context, cell, reading);
    }
}

/* --- what became of a reading --- */

static void clear_sink(struct cg_probe_sink *sink, uint64_t realtime_ns)
{
    cg_output_clear(&sink->inputs);
    cg_output_clear(&sink->output);
    sink->facts = (struct cg_facts){0};
    sink->facts_kind = CG_FACTS_COUNTERS;
    sink->read_ns = realtime_ns;
}

static void keep_status(struct cg_probe_instance *instance, struct cg_bytes output,
                        uint64_t read_ns)
{
    struct cg_probe_status *status = &instance->status;
    char *copy = output.len <= CG_PROBE_OUTPUT_KEPT_BYTES_MAX ? malloc(output.len) : NULL;
    if (copy != NULL) {
        memcpy(copy, output.data, output.len);
    }
    struct cg_probes *probes = instance->watch->probes;
    (void)pthread_mutex_lock(&probes->lock);
    struct cg_bytes before = status->output;
    status->output = cg_bytes(copy, copy == NULL ? 0 : output.len);
    status->read_ns = read_ns;
    status->readings++;
    (void)pthread_mutex_unlock(&probes->lock);
    free((char *)(uintptr_t)before.data);
}

void cg_probe_watch_emit(struct cg_probe_sink *sink)
{
    struct cg_probes *probes =
        (struct cg_probes *)(void *)((char *)sink - offsetof(struct cg_probes, sink));
    struct cg_probe_instance *instance = probes->reading;
    uint64_t read_ns = sink->read_ns;
    cg_buf_clear(&probes->inputs);
    cg_buf_clear(&probes->output);
    struct cg_reading *reading = NULL;
    enum { INPUTS_BYTES_MAX = CG_PROBE_CONTENT_BYTES_MAX / 4 };
    if (cg_output_render(&sink->inputs, INPUTS_BYTES_MAX, &probes->inputs) &&
        cg_output_render(&sink->output, CG_PROBE_CONTENT_BYTES_MAX - INPUTS_BYTES_MAX,
                         &probes->output)) {
        reading = cg_reading_new(CG_READING_EVENT, cg_buf_bytes(&probes->inputs),
                                 cg_buf_bytes(&probes->output));
    }
    if (reading != NULL) {
        reading->probe = instance->ops->probe;
        reading->facts = sink->facts;
        reading->facts_kind = sink->facts_kind;
        reading->read_ns = read_ns;
        hand_over(probes, instance->watch->cell, reading);
        keep_status(instance, cg_buf_bytes(&probes->output), read_ns);
        cg_metric_add(instance->ops->readings, 1);
    }
    clear_sink(sink, read_ns);
}

static void log_change(struct cg_probe_instance *instance, enum cg_probe_outcome outcome,
                       const char *detail)
{
    struct cg_probes *probes = instance->watch->probes;
    const struct cg_run_identity *identity = &instance->watch->cell->identity;
    uint64_t suppressed = 0;
    if (!cg_log_limit_pass(&probes->log_limit, probes->now_ns, &suppressed)) {
        return;
    }
    const char *probe = cg_probe_name(instance->ops->probe);
    if (outcome >= CG_PROBE_MISSING) {
        CG_LOG(CG_LOG_WARNING, "probe_failed", CG_F_BYTES("cell", identity->cell_id),
               CG_F_BYTES("run", identity->run_id), CG_F_STR("probe", probe),
               CG_F_STR("reason", cg_probe_reason(outcome)), CG_F_STR("detail", detail),
               CG_F_U64("suppressed", suppressed));
    } else {
        CG_LOG(CG_LOG_INFO, "probe_recovered", CG_F_BYTES("cell", identity->cell_id),
               CG_F_BYTES("run", identity->run_id), CG_F_STR("probe", probe),
               CG_F_U64("suppressed", suppressed));
    }
}

static void log_base(const struct cg_probe_instance *instance, enum cg_probe_outcome outcome)
{
    const struct cg_run_identity *identity = &instance->watch->cell->identity;
    CG_LOG(CG_LOG_DEBUG, "probe_based", CG_F_BYTES("cell", identity->cell_id),
           CG_F_BYTES("run", identity->run_id),
           CG_F_STR("probe", cg_probe_name(instance->ops->probe)),
           CG_F_STR("outcome", outcome < CG_PROBE_MISSING ? "read" : cg_probe_reason(outcome)));
}

/* One line for each change, a counter for each failure. */
static void account(struct cg_probe_instance *instance, enum cg_probe_outcome outcome,
                    const char *detail, uint64_t realtime_ns)
{
    struct cg_probe_status *status = &instance->status;
    struct cg_probes *probes = instance->watch->probes;
    bool failed = outcome >= CG_PROBE_MISSING;
    enum cg_probe_outcome failing = failed ? outcome : CG_PROBE_READ;
    bool changed = failing != status->failing;
    if (failed || changed) {
        (void)pthread_mutex_lock(&probes->lock);
        status->failing = failing;
        if (failed) {
            status->errors++;
            status->failed = outcome;
            status->failed_ns = realtime_ns;
            (void)cg_text_escape(cg_bytes_str(detail), status->detail, sizeof(status->detail));
        }
        (void)pthread_mutex_unlock(&probes->lock);
    }
    if (failed) {
        cg_metric_add(instance->ops->errors + (outcome - CG_PROBE_MISSING), 1);
    }
    if (changed) {
        log_change(instance, outcome, detail);
    }
}

/* --- reading --- */

static void hand_base(struct cg_probe_watch *watch, const struct cg_facts *facts,
                      uint64_t realtime_ns)
{
    struct cg_reading *reading = cg_reading_new(CG_READING_BASE, cg_bytes("", 0), cg_bytes("", 0));
    if (reading != NULL) {
        reading->facts = *facts;
        reading->read_ns = realtime_ns;
        hand_over(watch->probes, watch->cell, reading);
    }
}

static void die(struct cg_probe_watch *watch)
{
    struct cg_probes *probes = watch->probes;
    set_due(&watch->due, CG_TIMER_NEVER);
    cg_list_remove(&watch->in_list);
    cg_list_append(&probes->dead, &watch->in_list);
    (void)pthread_mutex_lock(&probes->lock);
    watch->gone = true;
    (void)pthread_cond_broadcast(&probes->left);
    (void)pthread_mutex_unlock(&probes->lock);
}

/* Sets the timer by what comes next. */
static void schedule(struct cg_probe_instance *instance)
{
    struct cg_probes *probes = instance->watch->probes;
    uint64_t due_ns = instance->tick_ns;
    if (instance->waiting) {
        due_ns = instance->last_ns + probes->config.policy.deadline_ns;
    } else if (instance->hurried) {
        uint64_t soon_ns = instance->last_ns + CG_PROBE_HURRY_GAP_MS * CG_NS_PER_MS;
        due_ns = soon_ns < due_ns ? soon_ns : due_ns;
    }
    set_due(&instance->due, due_ns);
}

static void after_reading(struct cg_probe_instance *instance)
{
    struct cg_probe_watch *watch = instance->watch;
    if (instance->why == CG_PROBE_LAST) {
        set_due(&instance->due, CG_TIMER_NEVER);
        if (--watch->last_pending == 0) {
            die(watch);
        }
        return;
    }
    schedule(instance);
}

static void read_once(struct cg_probe_instance *instance, int stage)
{
    struct cg_probes *probes = instance->watch->probes;
    uint64_t realtime_ns = cg_clock_realtime(probes->host.clock);
    const struct cg_probe_turn turn = {
        .why = instance->why,
        .stage = stage,
        .now_ns = probes->now_ns,
        .realtime_ns = realtime_ns,
        .interval_ns = instance->interval_ns,
    };
    struct cg_error err = {0};
    probes->reading = instance;
    clear_sink(&probes->sink, realtime_ns);
    enum cg_probe_outcome outcome =
        instance->ops->read(instance->state, &turn, &probes->sink, &err);
    if (outcome == CG_PROBE_LATER && stage == CG_PROBE_LATE) {
        outcome = CG_PROBE_TIMEOUT;
    }
    instance->waiting = outcome == CG_PROBE_LATER;
    if (instance->waiting) {
        schedule(instance);
        return;
    }
    if (instance->why == CG_PROBE_BASE) {
        if (outcome == CG_PROBE_READ) {
            hand_base(instance->watch, &probes->sink.facts, realtime_ns);
        }
        log_base(instance, outcome);
    } else {
        account(instance, outcome, err.text, realtime_ns);
    }
    after_reading(instance);
}

static void begin_reading(struct cg_probe_instance *instance, enum cg_probe_why why)
{
    instance->why = why;
    instance->last_ns = instance->watch->probes->now_ns;
    instance->hurried = false;
    read_once(instance, CG_PROBE_FIRST);
}

void cg_probe_answered(struct cg_probe_instance *instance)
{
    if (instance->waiting) {
        read_once(instance, CG_PROBE_ANSWERED);
    }
}

void cg_probe_hurry(struct cg_probe_instance *instance)
{
    if (instance->why != CG_PROBE_LAST) {
        instance->hurried = true;
        schedule(instance);
    }
}

static void tick(struct cg_probe_instance *instance, uint64_t now_ns)
{
    bool ticks = now_ns >= instance->tick_ns;
    while (instance->tick_ns <= now_ns) {
        /* What was missed is not made up for. */
        uint64_t missed = (now_ns - instance->tick_ns) / instance->interval_ns;
        instance->tick_ns += (missed + 1) * instance->interval_ns;
    }
    begin_reading(instance, ticks ? CG_PROBE_TICK : CG_PROBE_HURRIED);
}

/* It is time to put the guest's words beside what was seen. */
static void turn_over(struct cg_probe_watch *watch)
{
    struct cg_probes *probes = watch->probes;
    struct cg_reading *reading = cg_reading_new(CG_READING_TURN, cg_bytes("", 0), cg_bytes("", 0));
    if (reading != NULL) {
        reading->read_ns = cg_clock_realtime(probes->host.clock);
        hand_over(probes, watch->cell, reading);
    }
    set_due(&watch->due, probes->now_ns + probes->config.policy.corroboration.interval_ns);
}

void cg_probe_watch_due(struct cg_probe_due *due)
{
    set_due(due, CG_TIMER_NEVER);
    if (due->instance == NULL) {
        turn_over(due->watch);
    } else if (due->instance->waiting) {
        read_once(due->instance, CG_PROBE_LATE);
    } else {
        tick(due->instance, due->watch->probes->now_ns);
    }
}

/* --- beginning and end --- */

static void attach(struct cg_probe_watch *watch, struct cg_probe_instance *instance, uint64_t phase)
{
    struct cg_probes *probes = watch->probes;
    instance->watch = watch;
    instance->due = (struct cg_probe_due){.instance = instance, .watch = watch};
    cg_timer_init(&instance->due.timer);
    instance->interval_ns = watch->spec.interval_ns[instance->ops->probe];
    instance->tick_ns = probes->now_ns + phase_of(phase, instance->interval_ns);
    instance->state =
        instance->ops->attach(probes->shared[instance->ops->probe], instance, &watch->spec);
    if (instance->state == NULL) {
        account(instance, CG_PROBE_UNREADABLE, "no memory for the probe",
                cg_clock_realtime(probes->host.clock));
        return;
    }
    begin_reading(instance, CG_PROBE_BASE);
}

void cg_probe_watch_announce(struct cg_probe_watch *watch)
{
    static const struct cg_facts nothing = {0};
    hand_base(watch, &nothing, cg_clock_realtime(watch->probes->host.clock));
}

void cg_probe_watch_begin(struct cg_probe_watch *watch)
{
    struct cg_probes *probes = watch->probes;
    const struct cg_probe_policy *policy = &probes->config.policy;
    uint64_t phase = CG_PROBE_COUNT * probes->watches_made++;
    for (unsigned i = 0; i < CG_PROBE_COUNT; i++) {
        if (watch->instances[i].ops != NULL) {
            attach(watch, &watch->instances[i], phase + i + 1);
        }
    }
    if (policy->corroboration.enabled) {
        set_due(&watch->due, probes->now_ns + policy->corroboration.interval_ns);
    }
}

void cg_probe_watch_end(struct cg_probe_watch *watch)
{
    watch->last_pending = 1;
    for (unsigned i = 0; i < CG_PROBE_COUNT; i++) {
        if (watch->instances[i].state != NULL) {
            watch->last_pending++;
            begin_reading(&watch->instances[i], CG_PROBE_LAST);
        }
    }
    if (--watch->last_pending == 0) {
        die(watch);
    }
}

void cg_probe_watch_free(struct cg_probe_watch *watch)
{
    cg_timers_set(&watch->probes->timers, &watch->due.timer, CG_TIMER_NEVER);
    for (unsigned i = 0; i < CG_PROBE_COUNT; i++) {
        struct cg_probe_instance *instance = &watch->instances[i];
        if (instance->state != NULL) {
            cg_timers_set(&watch->probes->timers, &instance->due.timer, CG_TIMER_NEVER);
            instance->ops->detach(instance->state);
        }
        free((char *)(uintptr_t)instance->status.output.data);
    }
    cg_buf_fini(&watch->texts);
    cg_cell_unref(watch->cell);
    free(watch);
}
