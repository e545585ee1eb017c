/*
 * socket_file.h - the file of a guest's socket, made and removed in small steps.
 *
 * docs/contract.md section 1, "Making the socket". The directory may belong to a VMM that has been
 * taken over, and change at any instant: it is opened once, beneath a root and without following a
 * symlink, and every later step goes through that descriptor. What gets an owner and a mode is the
 * inode that was bound, held by a descriptor, and never a name.
 *
 * The steps are a table, since some of them may be another process's: where a directory or an owner
 * is beyond the gateway's rights, its privileged helper (run/privileged.h) does the same steps.
 * Any thread; blocks on the file system only.
 */
#ifndef CELLGATE_SOCKET_FILE_H
#define CELLGATE_SOCKET_FILE_H

#include "cellgate/error.h"
#include "cellgate/option.h"

#include <limits.h>
#include <sys/types.h>

enum { CG_LISTEN_BACKLOG = 4096 };

enum cg_listening_outcome {
    CG_LISTENING_DONE,
    CG_LISTENING_FORBIDDEN, /* not beneath a root */
    CG_LISTENING_BAD_PATH,  /* no such directory, a symlink in the way, a name too long */
    CG_LISTENING_TAKEN,     /* there is a file of that name */
    CG_LISTENING_NOT_KEPT,  /* the journal did not take it */
    CG_LISTENING_FAILED,
};

/* A listening socket and the identity of its file. */
struct cg_listening {
    int fd;
    dev_t device;
    ino_t inode;
};

/* What the file looks like. */
struct cg_socket_look {
    mode_t mode;
    uid_t uid; /* (uid_t)-1: leave */
    gid_t gid;
};

/* The directory of a socket, held open, and the name in it. */
struct cg_socket_place {
    int dir_fd;      /* -1: the helper holds it, */
    uint32_t ticket; /* under this number */
    char path[PATH_MAX];
    const char *name; /* the last component, in `path` */
};

/* A file that was made. Without an inode it had only been about to be: then its drawn name must
 * do. */
struct cg_socket_identity {
    uint64_t device, inode;
};

struct cg_socket_steps {
    /*
     * Opens the directory of `path`, which is absolute, beneath one of the roots (none: anywhere).
     * No component below the root (or "/") may be a symlink; the roots themselves are the
     * operator's, and followed. With `look`, one is about to be made under `temporary`: then a file
     * that is at `path` already is an error. NULL: one is to be removed.
     */
    enum cg_listening_outcome (*enter)(void *context, const char *path, const char *temporary,
                                       const struct cg_socket_look *look, struct cg_strings roots,
                                       struct cg_socket_place *ret_place, struct cg_error *err);
    /* Binds under the temporary name, and returns with the socket listening and its file dressed.
     * On failure nothing is left. */
    bool (*make)(void *context, const struct cg_socket_place *place, const char *temporary,
                 const struct cg_socket_look *look, struct cg_listening *ret_listening,
                 struct cg_error *err);
    /* Renames it into its place, over nothing. */
    enum cg_listening_outcome (*put)(void *context, const struct cg_socket_place *place,
                                     const char *temporary, struct cg_error *err);
    /* Whether the file in its place is the socket that was made. */
    bool (*find)(void *context, const struct cg_socket_place *place,
                 const struct cg_socket_identity *made);
    /* Removes the file of that name if it is the socket that was made; with `abandoned`, only if
     * nobody listens on it. */
    void (*remove)(void *context, const struct cg_socket_place *place, const char *name,
                   const struct cg_socket_identity *made, bool abandoned);
    /* Lets go of the directory. */
    void (*leave)(void *context, const struct cg_socket_place *place);
};

/* By this process itself; without a context. */
extern const struct cg_socket_steps cg_socket_steps_direct;

/* Who takes the steps. */
struct cg_socket_files {
    const struct cg_socket_steps *steps; /* NULL: this process itself */
    void *context;
};

/* Whether the directory part of `path` lies beneath `root`, by their texts. Pure. */
CG_MUST_USE bool cg_socket_path_beneath(const char *path, const char *root);

#endif
