/*
 * enrolment.h - cells come and go: registry, durable registrations and ingress as one step each.
 *
 * docs/contract.md section 6. A registration is answered only once its socket listens and it is
 * durable; it survives a restart. After a kill at any instant there is either no registration and
 * no socket, or both. The functions block (a group commit to disk, at most 2 s of reading at the
 * end of a run), so they are called on worker threads; several may be under way at once, of
 * different cells.
 */
#ifndef CELLGATE_ENROLMENT_H
#define CELLGATE_ENROLMENT_H

#include "cells/registrations.h"
#include "cells/registry.h"
#include "ingress/ingress.h"

struct cg_enrolment;

/* All is borrowed until the enrolment is freed. */
struct cg_enrolment_config {
    struct cg_registry *registry;
    struct cg_ingress *ingress;
    struct cg_registrations *registrations;
    struct cg_strings roots;       /* ingress.roots; none: every PUT is forbidden */
    struct cg_range owner_uids;    /* ingress.owners.uids; absent: no owner may be asked for */
    struct cg_range owner_gids;    /* ingress.owners.gids; likewise */
    struct cg_strings probe_roots; /* probes.roots, beneath which a PUT's probes may look */
    uint64_t forget_timeout_ns;    /* reading at the end of a run: 2 s */
    uint64_t retry_interval_ns;    /* ending the run of a process that ended, if it failed, and
                                      writing registrations that could not be written: 1 s */
    const struct cg_clock *clock;
};

/* Starts the threads that watch processes (vmm_pid), and mend the registrations once they could not
 * be written. */
CG_MUST_USE bool cg_enrolment_new(const struct cg_enrolment_config *config,
                                  struct cg_enrolment **ret_enrolment, struct cg_error *err);
/*
 * Binds again what was registered before a restart. Call once, when the cells of the configuration
 * are there, which win over a registration of the same id or path, and before anybody puts. A
 * registration that cannot be bound again is logged and stays kept: a PUT of the same makes it
 * anew, a DELETE ends it.
 */
CG_MUST_USE bool cg_enrolment_restore(struct cg_enrolment *enrolment, struct cg_error *err);
/* No more: later calls answer CG_ENROL_FAILED; waits for those under way. Before cg_ingress_drain.
 */
void cg_enrolment_close(struct cg_enrolment *enrolment);
/* Closes it if that was not done. NULL is fine. */
void cg_enrolment_free(struct cg_enrolment *enrolment);

enum cg_enrol_outcome {
    CG_ENROL_CREATED,   /* 201 */
    CG_ENROL_EXISTS,    /* 200: the same registration is there already */
    CG_ENROL_REMOVED,   /* 200 */
    CG_ENROL_CONFLICT,  /* 409: `member` belongs to another registration, or the run has ended
                           before,  or the cell is one of the configuration file */
    CG_ENROL_INVALID,   /* 422: `member` has a bad value */
    CG_ENROL_FORBIDDEN, /* 403: path outside ingress.roots, or owner outside ingress.owners */
    CG_ENROL_NOT_FOUND, /* 404 */
    CG_ENROL_NOT_KEPT,  /* 507: it could not be made durable */
    CG_ENROL_FAILED,    /* 500: the socket could not be made for another reason */
};

struct cg_enrol_result {
    enum cg_enrol_outcome outcome;
    char member[64]; /* the member it is about; "" for none */
    struct cg_error detail;
    struct cg_run_totals totals; /* REMOVED */
};

/* What a request asks for: the specification, and the process that ends the run when it ends. */
struct cg_enrol_request {
    struct cg_cell_spec spec;
    uint64_t vmm_pid; /* 0: none */
};

void cg_enrol_put(struct cg_enrolment *enrolment, const struct cg_enrol_request *request,
                  struct cg_enrol_result *ret_result);
void cg_enrol_delete(struct cg_enrolment *enrolment, const char *cell_id,
                     struct cg_enrol_result *ret_result);
/* The same of a cell that the configuration file had, and has no more. */
void cg_enrol_withdraw(struct cg_enrolment *enrolment, const char *cell_id,
                       struct cg_enrol_result *ret_result);

#endif
