/*
 * listening.h - making and removing the socket a guest's connections arrive at.
 *
 * docs/contract.md section 1, "Making the socket". The directory may belong to a VMM that has been
 * taken over, and change at any instant: it is opened once, beneath a root and without following a
 * symlink, and everything after goes through that descriptor. What gets an owner and a mode is the
 * inode that was bound, held by a descriptor, and never a name. Any thread; blocks on the file
 * system only.
 */
#ifndef CELLGATE_LISTENING_H
#define CELLGATE_LISTENING_H

#include "cellgate/error.h"
#include "cellgate/option.h"
#include "cells/registrations.h"

#include <sys/types.h>

struct cg_handover; /* handover.h */

enum { CG_LISTEN_BACKLOG = 4096 };

struct cg_listening_request {
    const char *vsock_uds_base; /* "_9001" is appended; absolute, checked (cells/registry.h) */
    mode_t mode;
    uid_t uid; /* (uid_t)-1: leave */
    gid_t gid;
    /* The directory lies beneath one of them; none: anywhere. In both cases no component below the
     * root (or "/") may be a symlink. The roots themselves are the operator's, and followed. */
    struct cg_strings roots;
};

/* A listening socket and the identity of its file. */
struct cg_listening {
    int fd;
    dev_t device;
    ino_t inode;
};

enum cg_listening_outcome {
    CG_LISTENING_DONE,
    CG_LISTENING_FORBIDDEN, /* not beneath a root */
    CG_LISTENING_BAD_PATH,  /* no such directory, a symlink in the way, a name too long */
    CG_LISTENING_TAKEN,     /* there is a file of that name */
    CG_LISTENING_NOT_KEPT,  /* the journal did not take it */
    CG_LISTENING_FAILED,
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
                        const struct cg_handover *handover);

/* Removes the socket file if it is still the one that was made; the descriptor stays open. */
void cg_listening_unlink(const struct cg_listening *listening,
                         const struct cg_listening_request *request);
/* Closes the descriptor. */
void cg_listening_close(struct cg_listening *listening);

#endif
