/*
 * delivery.h - one worker for each exporter: peek a batch, deliver it, act on the verdict.
 *
 * docs/contract.md section 7. All policy is here: batching, back-off with jitter, Retry-After,
 * splitting, bisecting, dead letters, holding for configuration trouble, counters and log lines.
 */
#ifndef CELLGATE_DELIVERY_H
#define CELLGATE_DELIVERY_H

#include "cellgate/exporter.h"
#include "cellgate/metrics.h"
#include "delivery/filter.h"
#include "spool/spool.h"

struct cg_dead_letters;
struct cg_delivery; /* one exporter's worker */

struct cg_delivery_config {
    const char *name;
    const struct cg_exporter_ops *ops;
    const void *exporter_config; /* as its options filled it */
    struct cg_exporter_env env;

    uint64_t batch_events;
    uint64_t batch_bytes;
    uint64_t linger_ns;
    uint64_t backoff_initial_ns, backoff_max_ns; /* outcomes that pass by themselves */
    uint64_t hold_initial_ns, hold_max_ns;       /* configuration trouble */
    uint64_t retry_after_max_ns;
    uint64_t suspect_after; /* the same suspicious answer to one batch, in a row */

    uint64_t spool_quota_bytes;           /* cg_spool_reader_limit; 0: none */
    const struct cg_filter_rules *filter; /* checked; NULL: every event */

    uint64_t max_age_ns;  /* an older event is set aside; 0: none is */
    uint64_t watchdog_ns; /* a backlog for so long without an answer: rebuild; 0: never */

    const char *dead_letter_path;   /* NULL: counted and logged only. Copied */
    uint64_t dead_letter_bytes_max; /* 0: no limit */
    uint64_t jitter_seed;           /* tests set it; 0: from the kernel */
    const struct cg_clock *clock;
};

enum cg_delivery_state {
    CG_DELIVERY_IDLE, /* nothing to send */
    CG_DELIVERY_SENDING,
    /* The last request failed, and the exporter waits or tries again: */
    CG_DELIVERY_BACKOFF, /* the destination may recover */
    CG_DELIVERY_HOLDING, /* configuration trouble: somebody must act */
};
const char *cg_delivery_state_name(enum cg_delivery_state state);

enum cg_outcome { /* exporter_requests_total{outcome} */
                  CG_OUTCOME_OK,
                  CG_OUTCOME_BACKOFF,
                  CG_OUTCOME_CONFIG,
                  CG_OUTCOME_TOO_LARGE,
                  CG_OUTCOME_POISON,
                  CG_OUTCOME_COUNT
};
const char *cg_outcome_name(enum cg_outcome outcome);

struct cg_delivery_status {
    const char *name;
    const char *type;
    enum cg_delivery_state state;
    bool up; /* the last request went well (true before the first) */
    uint64_t delivered_events, dead_lettered_events, rejected_events;
    uint64_t filtered_events; /* passed without being sent: not for this exporter */
    uint64_t expired_events;  /* of the dead-lettered ones: for their age */
    uint64_t replayed_events; /* dead letters that were delivered after all */
    uint64_t rebuilds;        /* of the exporter, by the watchdog */
    bool stalled;             /* no answer for longer than the watchdog allows */
    struct {
        bool kept;                 /* there is a store */
        uint64_t letters;          /* in it */
        uint64_t replaying;        /* of them: to be sent again */
        uint64_t bytes, bytes_max; /* 0: no limit */
    } dead_letters;
    uint64_t requests[CG_OUTCOME_COUNT];
    uint64_t retry_at_ns; /* monotonic; 0 when not waiting */
    char
        last_error[CG_VERDICT_DETAIL_MAX]; /* as the peer's words may be in it: escape when shown */
    uint64_t last_error_realtime_ns;       /* 0: none */
    uint64_t certificate_expiry_s;         /* real time; 0 without a client certificate */
    struct cg_spool_backlog backlog;
};

/* Opens the reader and starts the worker, which opens the exporter; an exporter that cannot be
 * opened is a failure here, before the gateway is ready. Everything is borrowed until stop. */
CG_MUST_USE bool cg_delivery_start(const struct cg_delivery_config *config, struct cg_spool *spool,
                                   struct cg_delivery **ret_delivery, struct cg_error *err);

/* Asks it to deliver all there is without lingering; returns at once. */
void cg_delivery_flush(struct cg_delivery *delivery);
/* Waits until everything appended before the call is acknowledged, or the monotonic deadline. */
bool cg_delivery_caught_up(struct cg_delivery *delivery, uint64_t deadline_ns);
/* Ends the worker, cancelling a request in progress, and frees. */
void cg_delivery_stop(struct cg_delivery *delivery);

/* Any thread. */
void cg_delivery_reopen(struct cg_delivery *delivery);
/* Its store of dead letters, for what any thread may do; NULL: none is kept. After marking some,
 * tell the worker. */
struct cg_dead_letters *cg_delivery_dead_letters(struct cg_delivery *delivery);
void cg_delivery_letters_marked(struct cg_delivery *delivery);
void cg_delivery_status(struct cg_delivery *delivery, struct cg_delivery_status *ret_status);
const struct cg_histogram *cg_delivery_durations(const struct cg_delivery *delivery);

#endif
