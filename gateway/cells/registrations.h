/*
 * registrations.h - the journal of registrations, sockets made, and runs that have ended.
 *
 * docs/contract.md sections 1 and 6. One append-only file: a line a record, each a CRC32C in hex
 * and a JSON object, so that people can read it too. It is replaced by a fresh one when most of it
 * is dead. A cut tail is cut off, a damaged line skipped and counted; nothing else is guessed.
 *
 * What is said to be durable is on disk when the function returns: callers of many threads share
 * one fdatasync. A function that fails has changed nothing, neither here nor for a later start.
 * Without a path everything is kept in memory only. Any thread.
 *
 * A registration goes through these records:
 *   making    a socket will be bound under this temporary name (not synced: killed processes leave
 *             files, the power only takes them)
 *   socket    the socket with this device and inode gets its path
 *   put       the registration, durable
 *   ended     its run is over, durable; from here on it is remembered as ended
 *   gone      the last events of the run are appended, and the socket is removed
 */
#ifndef CELLGATE_REGISTRATIONS_H
#define CELLGATE_REGISTRATIONS_H

#include "cells/registry.h"

enum {
    CG_REGISTRATIONS_BYTES_MAX = 1 << 30,
    CG_ENDED_RUNS_MAX = 10000,
    CG_ENDED_RUN_AGE_S = 7 * 86400,
    CG_SOCKET_NAME_BYTES_MAX = 32, /* of a temporary name, terminated */
};

/* A cell that was put, and the process whose end ends the run. */
struct cg_kept_registration {
    struct cg_cell_spec spec;
    uint64_t vmm_pid;         /* 0: none */
    uint64_t vmm_start_ticks; /* of that process, field 22 of /proc/PID/stat: pids are used again */
};

/* A socket file of the gateway's. */
struct cg_socket_made {
    const char *path;      /* its place */
    const char *temporary; /* its last component before it got its place */
    uint64_t device;       /* both 0 if it was about to be bound when the process died */
    uint64_t inode;
};

/* What opening found; the caller logs it. */
struct cg_registrations_found {
    uint64_t registrations, ended_runs, sockets;
    uint64_t damaged_records;
    uint64_t torn_bytes;
};

struct cg_registrations;

/* Reads the journal at `path` (NULL: none), or starts one. Fails for what the operator must mend;
 * damage is skipped. */
CG_MUST_USE bool cg_registrations_open(const char *path, const struct cg_clock *clock,
                                       struct cg_registrations **ret_journal,
                                       struct cg_registrations_found *ret_found,
                                       struct cg_error *err);
/* NULL is fine. */
void cg_registrations_close(struct cg_registrations *journal);

/* False after a write failed, until one succeeds again. Never waits. */
bool cg_registrations_writable(struct cg_registrations *journal);
/* Writes it afresh if a write had failed before, so that a mended disk is noticed. */
CG_MUST_USE bool cg_registrations_mend(struct cg_registrations *journal, struct cg_error *err);

/* --- sockets --- */

/* A socket for `path` is about to be bound under a temporary name. */
CG_MUST_USE bool cg_registrations_making(struct cg_registrations *journal, const char *path,
                                         const char *temporary, struct cg_error *err);
/* It is bound, and gets its path next. With a registration, that is kept with it, durable. */
CG_MUST_USE bool cg_registrations_put(struct cg_registrations *journal,
                                      const struct cg_socket_made *socket,
                                      const struct cg_kept_registration *registration,
                                      struct cg_error *err);
/* The socket of `path` is removed. A failure is no harm: a start looks whether it is there. */
void cg_registrations_unmade(struct cg_registrations *journal, const char *path);
/* Calls `visit` for each socket that was made; `visit` must not call the journal. */
void cg_registrations_visit_sockets(struct cg_registrations *journal,
                                    void (*visit)(void *context,
                                                  const struct cg_socket_made *socket),
                                    void *context);

/* --- runs --- */

/* The run is over: durable. It is remembered even if there is no registration of it. */
CG_MUST_USE bool cg_registrations_end(struct cg_registrations *journal, const char *cell_id,
                                      const char *run_id, struct cg_error *err);
/* Forgets the registration: everything of an ended run is done, or it came to nothing. */
void cg_registrations_gone(struct cg_registrations *journal, const char *cell_id,
                           const char *run_id);
/* Whether this run is remembered as ended. */
bool cg_registrations_ended(struct cg_registrations *journal, const char *cell_id,
                            const char *run_id);
/* The run of the registration that is kept for a cell, "" for none; for what could not be bound
 * again after a start. `ret_run_id` has CG_ID_BYTES_MAX + 1 bytes. */
void cg_registrations_run_of(struct cg_registrations *journal, const char *cell_id,
                             char *ret_run_id);

/*
 * Calls `visit` for each registration, in the order in which they were put; `ended` if its run is
 * over but its last events may be missing. What it is given is valid during the call, in which it
 * may call the journal. For the start: nobody else puts meanwhile.
 */
CG_MUST_USE bool cg_registrations_restore(
    struct cg_registrations *journal,
    void (*visit)(void *context, const struct cg_kept_registration *registration, bool ended),
    void *context, struct cg_error *err);

#endif
