/*
 * privileged_message.h - what the gateway may ask of its privileged helper, and who says so. Pure.
 *
 * One request and one reply at a time, each a struct of fixed size in one packet. The helper judges
 * a request as if the gateway had been taken over: sizes, numbers, texts and the zeroes behind them
 * must be exactly what an honest gateway sends; paths and owners, what the configuration lets.
 */
#ifndef CELLGATE_PRIVILEGED_MESSAGE_H
#define CELLGATE_PRIVILEGED_MESSAGE_H

#include "cells/registrations.h"
#include "ingress/socket_file.h"
#include "run/config.h"

enum {
    CG_PRIVILEGED_MAGIC = 0x63677031, /* "cgp1" */
    CG_PRIVILEGED_PLACES_MAX = 64,    /* directories held open at once */
};

enum cg_privileged_op {
    CG_PRIVILEGED_ENTER = 1, /* path; to make one: look and temporary too */
    CG_PRIVILEGED_MAKE,      /* ticket; the socket comes with the reply */
    CG_PRIVILEGED_PUT,       /* ticket */
    CG_PRIVILEGED_FIND,      /* ticket, identity: is it in its place? */
    CG_PRIVILEGED_REMOVE,    /* ticket, identity, which name, flags */
    CG_PRIVILEGED_LEAVE,     /* ticket */
    CG_PRIVILEGED_OPEN,      /* path of a listed file; its descriptor comes with the reply */
};

enum {
    CG_PRIVILEGED_MAKING = 1 << 0,    /* ENTER: a socket is to be made */
    CG_PRIVILEGED_TEMPORARY = 1 << 1, /* REMOVE: by `temporary`, not by the place's name */
    CG_PRIVILEGED_ABANDONED = 1 << 2, /* REMOVE: only if nobody listens on it */
};

struct cg_privileged_request {
    uint32_t magic;
    uint32_t op; /* enum cg_privileged_op */
    uint32_t ticket;
    uint32_t flags;
    uint32_t mode, uid, gid;
    uint32_t reserved; /* 0 */
    uint64_t device, inode;
    char temporary[CG_SOCKET_NAME_BYTES_MAX]; /* zeroes behind it, as behind the path */
    char path[PATH_MAX];
};

struct cg_privileged_reply {
    uint32_t magic;
    uint32_t op;
    uint32_t outcome; /* enum cg_listening_outcome */
    uint32_t ticket;
    uint64_t device, inode;
    char text[CG_ERROR_TEXT_MAX]; /* terminated; "" when done */
};

/* A cell of the configuration file: its path and owner are the operator's word. */
struct cg_privileged_cell {
    const char *base;
    struct cg_range owner;
};

/* What the configuration lets; made once, by the helper, and never changed. */
struct cg_privileged_policy {
    uid_t gateway_uid; /* whom a socket is given to where nobody else is named */
    gid_t gateway_gid;
    struct cg_strings roots;
    struct cg_range uids, gids; /* ingress.owners */
    const char *const *files;   /* that may be opened */
    size_t files_count;
    const struct cg_privileged_cell *cells; /* sorted by base */
    size_t cells_count;
};

/* Sorts cells for the policy. */
void cg_privileged_cells_sort(struct cg_privileged_cell *cells, size_t count);

/* Whether `len` bytes are a request that an honest gateway may send; says why not. Whether a ticket
 * is a place's is for the helper to know. */
CG_MUST_USE bool cg_privileged_judge(const struct cg_privileged_policy *policy, const void *bytes,
                                     size_t len, struct cg_privileged_request *ret_request,
                                     struct cg_error *err);

/* Whether they are a reply to a request of that kind. */
CG_MUST_USE bool cg_privileged_reply_read(const void *bytes, size_t len, enum cg_privileged_op op,
                                          struct cg_privileged_reply *ret_reply);

#endif
