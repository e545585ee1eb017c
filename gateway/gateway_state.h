/*
 * gateway_state.h - the gateway from the inside: for the files that make it up, and nobody else.
 *
 * gateway.c starts and stops the stages, reload.c changes a gateway that runs, reloader.c does so
 * when a signal asks for it, handover.c leaves the sockets to the gateway after this one,
 * pulse.c looks whether it still turns, drain.c ends it.
 */
#ifndef CELLGATE_GATEWAY_STATE_H
#define CELLGATE_GATEWAY_STATE_H

#include "cellgate/limits.h"
#include "delivery/delivery.h"
#include "event/envelope.h"
#include "event/keys.h"
#include "gateway.h"
#include "http/control.h"
#include "http/public.h"
#include "ingress/ingress.h"
#include "probes/probes.h"

enum { CG_PULSE_MAX = CG_INGRESS_TURNS_MAX + 1 };

/* How often the threads had turned when they were poked last: those of ingress, the acceptor, the
 * spool's committer. */
struct cg_pulse {
    bool poked;
    uint64_t turns[CG_PULSE_MAX];
};

/* An exporter that runs, and what it was started with. */
struct cg_running {
    struct cg_delivery *delivery;            /* NULL: between two */
    const struct cg_exporter_config *config; /* in `owner` */
    struct cg_config *owner;
    uint64_t files_mark; /* run/files.h, from before it opened them */
};

enum { CG_CONFIGS_MAX = CG_EXPORTERS_MAX + 3 }; /* of each exporter, at start, in force, and next */

struct cg_gateway {
    struct cg_gateway_source source;
    const struct cg_config *config; /* at the start: what is not live is the same ever after */
    const struct cg_clock *clock;
    size_t stages_started;

    struct cg_sandbox *sandbox; /* borrowed */
    struct cg_signing_key *key;
    struct cg_envelope *envelope;
    struct cg_spool *spool;
    struct cg_registry *registry;
    struct cg_registrations *registrations;
    struct cg_gateway_view view;
    struct cg_public *http;
    struct cg_ingress *ingress;
    struct cg_probes *probes;
    struct cg_enrolment *enrolment;
    struct cg_control *control;

    /* Under the reload lock once the gateway is ready. */
    pthread_mutex_t reload_lock;
    struct cg_config *current;                 /* in force */
    struct cg_config *configs[CG_CONFIGS_MAX]; /* that somebody still borrows from */
    size_t configs_count;
    struct cg_running exporters[CG_EXPORTERS_MAX];
    size_t exporters_count;

    /* What the view shows of them; under its lock. */
    pthread_rwlock_t deliveries_lock;
    struct cg_delivery *deliveries[CG_EXPORTERS_MAX];

    struct cg_pulse pulse;
    struct cg_reloader *reloader; /* NULL: nobody can ask any more */
};

/* --- running.c --- */

/* Starts the worker of an exporter, whose configuration is a part of `owner`. */
CG_MUST_USE bool cg_running_start(struct cg_gateway *gateway,
                                  const struct cg_exporter_config *exporter,
                                  struct cg_config *owner, struct cg_running *ret_running,
                                  struct cg_error *err);
/* Nobody sees it any more. */
void cg_running_stop(struct cg_running *running);
/* Nobody registers a cell or reloads any more; may be called again. */
void cg_gateway_stop_control(struct cg_gateway *gateway);
/* Lets the pages see the exporters that run, and no others. */
void cg_running_publish(struct cg_gateway *gateway);
/* Those of the configuration, as a stage. */
CG_MUST_USE bool cg_running_start_all(struct cg_gateway *gateway, struct cg_error *err);
void cg_running_stop_all(struct cg_gateway *gateway);

/* --- gateway.c --- */

/* Joins the state directory and a name into `ret_path` (PATH_MAX bytes). */
CG_MUST_USE bool cg_gateway_state_path(const struct cg_gateway *gateway, const char *name,
                                       const char *suffix, char *ret_path, struct cg_error *err);
/* Whether events may be given up that not every exporter has. */
bool cg_gateway_spool_gives_up(const struct cg_config *config);

CG_MUST_USE bool cg_gateway_load_key(const struct cg_config *config,
                                     struct cg_signing_key **ret_key, struct cg_error *err);

/* --- handover.c --- */

/* What a gateway before this one has left comes out of the store; NULL: nothing, or nothing that
 * could be used. */
struct cg_handover *cg_gateway_take_over(struct cg_gateway *gateway);
/* The start is over: what nobody took is removed. */
void cg_gateway_end_taking_over(struct cg_gateway *gateway);
/* Leaves the guests' sockets and connections to the next gateway, if that is wished and possible.
 * False: they are to be ended as ever. */
CG_MUST_USE bool cg_gateway_hand_over(struct cg_gateway *gateway, uint64_t deadline_ns);

/* --- reloader.c --- */

CG_MUST_USE bool cg_reloader_start(struct cg_gateway *gateway, struct cg_error *err);
/* Waits for a reload under way; afterwards there is none but by cg_gateway_reload. */
void cg_reloader_stop(struct cg_gateway *gateway);

#endif
