/*
 * inherited.h - descriptors that were passed to the process, by name; sd_listen_fds(3).
 *
 * Sockets of socket units (FileDescriptorName=http or control), and what the gateway before this
 * one has put into systemd's descriptor store. At the start, one thread.
 */
#ifndef CELLGATE_INHERITED_H
#define CELLGATE_INHERITED_H

#include <stddef.h>

#define CG_INHERITED_HTTP    "http"
#define CG_INHERITED_CONTROL "control"
#define CG_INHERITED_STORE   "cellgate" /* of the descriptor store; notify.h */

enum { CG_INHERITED_HTTP_MAX = 64 };

struct cg_inherited_item {
    int fd; /* -1: taken */
    char *name;
};

struct cg_inherited {
    struct cg_inherited_item *items;
    size_t count;
};

/* Takes what the environment says, and out of it, so that no child thinks it is meant. */
void cg_inherited_collect(struct cg_inherited *ret_inherited);
/* Closes what nobody has taken, and forgets the rest. */
void cg_inherited_close(struct cg_inherited *inherited);

/* Takes descriptors of that name, at most `max`; returns how many. NULL: there are none. */
size_t cg_inherited_take(struct cg_inherited *inherited, const char *name, int *ret_fds,
                         size_t max);
size_t cg_inherited_count(const struct cg_inherited *inherited, const char *name);

#endif
