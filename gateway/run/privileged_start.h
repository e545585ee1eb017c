/*
 * privileged_start.h - how the helper comes into being, and the first word between the two.
 */
#ifndef CELLGATE_PRIVILEGED_START_H
#define CELLGATE_PRIVILEGED_START_H

#include "run/privileged.h"

/* Forks. The child confines itself as `wanted` says where it can, says hello, and serves; it
 * returns when the gateway is gone, with *ret_is_helper. The gateway gets its end of the socket. */
CG_MUST_USE bool cg_privileged_fork(const struct cg_privileged_policy *policy, unsigned wanted,
                                    int *ret_socket, pid_t *ret_pid, bool *ret_is_helper,
                                    struct cg_error *err);

/* Waits for the hello: `ticket` has the CG_CONFINED_* in force, `text` what is missing. */
CG_MUST_USE bool cg_privileged_hello(int socket, struct cg_privileged_reply *ret_hello,
                                     struct cg_error *err);

/* Waits for the reply to a request of that kind; *ret_fd is the descriptor that came along, or -1.
 * False: the helper is gone, or not itself. */
CG_MUST_USE bool cg_privileged_receive(int socket, enum cg_privileged_op op,
                                       struct cg_privileged_reply *ret_reply, int *ret_fd);

#endif
