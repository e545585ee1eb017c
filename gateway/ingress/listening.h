/*
 * listening.h - making and removing the socket a guest's connections arrive at.
 *
 * docs/contract.md section 1, "Making the socket". The steps in the file
 * system are socket_file.h's; here stands their order, and what is kept of them. Any thread; blocks
 * on the file system only.
 */
#ifndef CELLGATE_LISTENING_H
#define CELLGATE_LISTENING_H

#include "cellgate/error.h"
#include "cellgate/option.h"
#include "cells/registrations.h"
#include "ingress/socket_file.h"

struct cg_handover; /* handover.h */

struct cg_listening_request {
    const char *vsock_uds_base; /* "_9001" is appended; absolute, checked (cells/registry.h) */
    struct cg_socket_look look;
    struct cg_strings roots; /* the directory lies beneath one of them; none: anywhere */
    struct cg_socket_files files;
};

/*
 * Binds, listens and puts the socket in its place. A file that is there already is an error naming
 * the path. Before a file exists its temporary name is in the journal, and before the socket gets
 * its place its identity is, with the registration (NULL: none), durable: whatever the instant at
 * which the process dies, cg_listening_sweep finds what it left. On failure nothing is left, but
 * perhaps the registration, which the caller takes back.
 */
CG_MUST_USE enum cg_listening_outcome
cg_listening_open(const struct cg_listening_request *request, struct cg_registrations *journal,
                  const struct cg_kept_registration *registration,
                  struct cg_listening *ret_listening, struct cg_error *err);

/*
 * Takes up a socket that listens already, handed over by a gateway before this one: its descriptor
 * and identity are in *listening. False if its file does not lie any more where it is wanted; the
 * descriptor stays open. The journal knows it as if it had been made.
 */
CG_MUST_USE bool cg_listening_resume(const struct cg_listening_request *request,
                                     struct cg_registrations *journal,
                                     const struct cg_listening *listening, struct cg_error *err);

/* Removes every socket of the journal that is still the one that was made and on which nobody
 * listens: what a gateway that died has left. Those that were handed over (NULL: none were) are let
 * be. For the start. */
void cg_listening_sweep(struct cg_registrations *journal, struct cg_strings roots,
                        struct cg_socket_files files, const struct cg_handover *handover);

/* Removes the socket file if it is still the one that was made; the descriptor stays open. */
void cg_listening_unlink(const struct cg_listening *listening,
                         const struct cg_listening_request *request);
/* Closes the descriptor. */
void cg_listening_close(struct cg_listening *listening);

#endif
