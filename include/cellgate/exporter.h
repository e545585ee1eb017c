/*
 * exporter.h - how an exporter looks to the gateway. exporters/README.md shows how to write one.
 *
 * An exporter turns a batch into bytes, sends it, and answers with a verdict. Retry, back-off,
 * Retry-After, splitting, dead letters, counters and log lines belong to the core
 * (gateway/delivery/); an exporter has none of them, and logs nothing.
 *
 * Each configured exporter has one worker thread. open, deliver and close are called on that thread
 * (open may be called again after close); cancel and reopen come from any thread.
 */
#ifndef CELLGATE_EXPORTER_H
#define CELLGATE_EXPORTER_H

#include "cellgate/error.h"
#include "cellgate/event.h"
#include "cellgate/option.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Events in spool order. The core never hands out an empty batch. Borrowed for the call. */
struct cg_batch {
    const struct cg_event *events;
    size_t count;
    uint64_t bytes; /* sum of the events' bytes */
};

/* What became of a batch: docs/contract.md section 7 gives the action for each. */
enum cg_verdict_kind {
    CG_VERDICT_DELIVERED, /* the destination has it all (but for `rejected`) */
    CG_VERDICT_BACKOFF,   /* the same batch again, after a back-off */
    CG_VERDICT_TOO_LARGE, /* split in two and go on */
    CG_VERDICT_SUSPECT,   /* perhaps a poison event is in it: bisect */
    CG_VERDICT_CONFIG,    /* configuration trouble: hold everything, retry slowly */
};

enum { CG_VERDICT_DETAIL_MAX = 256, CG_VERDICT_ANSWER_MAX = 4096 };

struct cg_verdict {
    enum cg_verdict_kind kind;
    /* BACKOFF: true if this answer, given to one batch again and again, puts the batch under
     * suspicion (an HTTP 500 may be a crash on one event). */
    bool suspicious_when_repeated;
    /* BACKOFF: the destination's own word on when to come back; 0 for none. */
    uint64_t retry_after_ns;
    /* DELIVERED: events that the destination counted out of the batch (OTLP partial success). */
    uint64_t rejected;
    /* The protocol's status for people and dead letters: HTTP status, gRPC code; 0 for none. */
    int status;
    /* One line for logs: "HTTP 503", "could not connect to …". Never a secret, may hold what a
     * peer sent (the log escapes it). Terminated. */
    char detail[CG_VERDICT_DETAIL_MAX];
    /* The first bytes of the answer's body, for the dead letter. */
    char answer[CG_VERDICT_ANSWER_MAX];
    size_t answer_len;
};

/* What the core tells an exporter when it is opened. Borrowed until close. */
struct cg_exporter_env {
    const char *name;    /* the configured name */
    const char *node;    /* the node name */
    const char *version; /* of cellgate */
};

struct cg_exporter_ops {
    const char *type;    /* as in the configuration: "cloudevents-http" */
    const char *summary; /* one line for the reference */

    /* The keys of its own; `config` below is a struct of config_size filled from them. */
    const struct cg_option *options;
    size_t config_size;
    /* Checks that need more than one key, at `cellgate check` too. Optional. No I/O. */
    bool (*validate)(const void *config, struct cg_error *err);
    /* The default limits of a batch, which the operator may change. */
    uint64_t batch_events;
    uint64_t batch_bytes;
    /* How many events one deliver may get with this configuration, whatever the operator's batch
     * limits say: 1 where the protocol acknowledges single events (cloudevents-http, mode single).
     * Whoever builds a delivery's configuration takes the lesser of the two. 0: no limit of its
     * own. Optional. No I/O. */
    uint64_t (*batch_events_max)(const void *config);

    /* Makes the instance. Fails only for what the operator must mend (a missing file, a bad
     * certificate): an unreachable destination is a verdict of deliver. */
    bool (*open)(const void *config, const struct cg_exporter_env *env, void **ret_exporter,
                 struct cg_error *err);
    /* Sends one batch and waits for its acknowledgement. Bounded in time by the exporter's own
     * timeout. *ret_verdict is zeroed by the caller. */
    void (*deliver)(void *exporter, const struct cg_batch *batch, struct cg_verdict *ret_verdict);
    /* Any thread: makes a deliver in progress, and every later one, return BACKOFF soon. Optional.
     */
    void (*cancel)(void *exporter);
    /* Any thread: files were rotated or replaced; take them up before the next batch. Optional. */
    void (*reopen)(void *exporter);
    /* Any thread, between open and close: when the client certificate in use ends, in seconds of
     * real time; 0 without one. For tls_certificate_expiry_timestamp_seconds. Optional. */
    uint64_t (*certificate_expiry_s)(const void *exporter);
    void (*close)(void *exporter);
};

#endif
