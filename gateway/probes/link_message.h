/*
 * link_message.h - what rtnetlink says of an interface. Pure.
 *
 * rtnetlink(7), include/uapi/linux/if_link.h. The messages are the kernel's; lengths are checked
 * all the same, once, here.
 */
#ifndef CELLGATE_LINK_MESSAGE_H
#define CELLGATE_LINK_MESSAGE_H

#include "cellgate/bytes.h"

#include <linux/if.h>
#include <linux/if_link.h>
#include <stdint.h>

struct cg_link {
    int index;
    char name[IFNAMSIZ];
    uint8_t operstate; /* IF_OPER_… */
    bool carrier;
    bool has_stats;
    struct rtnl_link_stats64 stats;
};

enum cg_link_kind {
    CG_LINK_NONE, /* nothing of interest */
    CG_LINK_NEW,  /* the interface is so */
    CG_LINK_GONE,
    CG_LINK_ERROR, /* *ret_errnum */
    CG_LINK_BAD,   /* no message */
};

/* Takes the first message off `*bytes`. *ret_sequence is the request's, 0 for what nobody asked
 * for. */
enum cg_link_kind cg_link_message_take(struct cg_bytes *bytes, uint32_t *ret_sequence,
                                       struct cg_link *ret_link, int *ret_errnum);

/* A request for one interface by its name (at most 15 bytes); returns its length. */
enum { CG_LINK_REQUEST_BYTES_MAX = 64 };
size_t cg_link_request(const char *name, uint32_t sequence,
                       char ret_bytes[CG_LINK_REQUEST_BYTES_MAX]);

/* As in sysfs: "up", "down", "lowerlayerdown" … */
const char *cg_link_operstate_name(uint8_t operstate);

#endif
