/*
 * listen.h - an address of the configuration becomes a listening socket.
 */
#ifndef CELLGATE_HTTP_LISTEN_H
#define CELLGATE_HTTP_LISTEN_H

#include "cellgate/error.h"

#include <sys/types.h>

enum { CG_ADDRESS_TEXT_MAX = 128 };

/* Who may connect to a Unix socket. */
struct cg_http_socket {
    mode_t mode;
    gid_t group; /* (gid_t)-1: the gateway's own */
};

/*
 * Listens on "127.0.0.1:9464", "[::1]:9464", "localhost:9464" or "unix:/path" (`socket`, or
 * mode 0660 if that is NULL; a socket file on which nobody listens any more is replaced, nothing
 * else is).
 * Writes the address that was bound, with the port that the kernel chose for port 0, into
 * `ret_name`. The descriptor is non-blocking; the caller closes it.
 */
CG_MUST_USE bool cg_http_listen(const char *address, const struct cg_http_socket *socket,
                                int *ret_fd, char ret_name[CG_ADDRESS_TEXT_MAX],
                                struct cg_error *err);

/*
 * The same of a socket that was passed to us and listens already (socket activation). It is made
 * non-blocking; on failure it stays the caller's and open. Its file, if it has one, is not ours.
 */
CG_MUST_USE bool cg_http_listen_inherited(int fd, char ret_name[CG_ADDRESS_TEXT_MAX],
                                          struct cg_error *err);

/* Removes the file of a "unix:" address; does nothing for the others. */
void cg_http_unlisten(const char *address);

#endif
