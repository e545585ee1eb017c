#include "probes/link_message.h"

#include "cellgate/error.h"

#include <linux/rtnetlink.h>
#include <stdlib.h>

/* Rounds up to what netlink aligns to. */
static size_t align(size_t len)
{
    return (len + NLMSG_ALIGNTO - 1) & ~(size_t)(NLMSG_ALIGNTO - 1);
}

static void take_attribute(unsigned type, struct cg_bytes value, struct cg_link *link)
{
    switch (type) {
    case IFLA_IFNAME: {
        size_t len = strnlen(value.data, value.len);
        len = len < sizeof(link->name) ? len : sizeof(link->name) - 1;
        memcpy(link->name, value.data, len);
        link->name[len] = '\0';
        break;
    }
    case IFLA_OPERSTATE:
        link->operstate = value.len >= 1 ? (uint8_t)value.data[0] : link->operstate;
        break;
    case IFLA_CARRIER:
        link->carrier = value.len >= 1 && value.data[0] != 0;
        break;
    case IFLA_STATS64:
        /* An older kernel has fewer members, a newer one more. */
        memcpy(&link->stats, value.data,
               value.len < sizeof(link->stats) ? value.len : sizeof(link->stats));
        link->has_stats = true;
        break;
    default:
        break;
    }
}

static bool take_link(struct cg_bytes payload, struct cg_link *link)
{
    struct ifinfomsg info;
    if (payload.len < sizeof(info)) {
        return false;
    }
    memcpy(&info, payload.data, sizeof(info));
    link->index = info.ifi_index;
    size_t at = align(sizeof(info));
    while (at + sizeof(struct rtattr) <= payload.len) {
        struct rtattr attribute;
        memcpy(&attribute, payload.data + at, sizeof(attribute));
        if (attribute.rta_len < sizeof(attribute) || attribute.rta_len > payload.len - at) {
            return false;
        }
        take_attribute(
            attribute.rta_type & NLA_TYPE_MASK,
            cg_bytes(payload.data + at + sizeof(attribute), attribute.rta_len - sizeof(attribute)),
            link);
        at += align(attribute.rta_len);
    }
    return true;
}

enum cg_link_kind cg_link_message_take(struct cg_bytes *bytes, uint32_t *ret_sequence,
                                       struct cg_link *ret_link, int *ret_errnum)
{
    struct nlmsghdr header;
    if (bytes->len < sizeof(header)) {
        return CG_LINK_BAD;
    }
    memcpy(&header, bytes->data, sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > bytes->len) {
        return CG_LINK_BAD;
    }
    struct cg_bytes payload =
        cg_bytes(bytes->data + sizeof(header), header.nlmsg_len - sizeof(header));
    size_t taken = align(header.nlmsg_len) < bytes->len ? align(header.nlmsg_len) : bytes->len;
    *bytes = cg_bytes(bytes->data + taken, bytes->len - taken);
    *ret_sequence = header.nlmsg_seq;

    struct cg_link link = {.operstate = IF_OPER_UNKNOWN};
    int32_t error = 0;
    switch (header.nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        if (!take_link(payload, &link)) {
            return CG_LINK_BAD;
        }
        *ret_link = link;
        return header.nlmsg_type == RTM_NEWLINK ? CG_LINK_NEW : CG_LINK_GONE;
    case NLMSG_ERROR:
        if (payload.len < sizeof(error)) {
            return CG_LINK_BAD;
        }
        memcpy(&error, payload.data, sizeof(error));
        *ret_errnum = error <= 0 && error > -4096 ? -error : 0;
        return CG_LINK_ERROR;
    default:
        return CG_LINK_NONE;
    }
}

size_t cg_link_request(const char *name, uint32_t sequence,
                       char ret_bytes[CG_LINK_REQUEST_BYTES_MAX])
{
    size_t name_len = strlen(name) + 1;
    CG_ASSERT(name_len <= IFNAMSIZ);
    const struct rtattr attribute = {.rta_type = IFLA_IFNAME,
                                     .rta_len = (unsigned short)(sizeof(attribute) + name_len)};
    const struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
    const struct nlmsghdr header = {
        .nlmsg_len = (uint32_t)(sizeof(header) + sizeof(info) + align(attribute.rta_len)),
        .nlmsg_type = RTM_GETLINK,
        .nlmsg_flags = NLM_F_REQUEST,
        .nlmsg_seq = sequence,
    };
    memset(ret_bytes, 0, CG_LINK_REQUEST_BYTES_MAX);
    char *at = ret_bytes;
    memcpy(at, &header, sizeof(header));
    at += sizeof(header);
    memcpy(at, &info, sizeof(info));
    at += sizeof(info);
    memcpy(at, &attribute, sizeof(attribute));
    memcpy(at + sizeof(attribute), name, name_len);
    return header.nlmsg_len;
}

const char *cg_link_operstate_name(uint8_t operstate)
{
    static const char *const names[] = {"unknown", "notpresent", "down", "lowerlayerdown",
                                        "testing", "dormant",    "up"};
    return operstate < sizeof(names) / sizeof(names[0]) ? names[operstate] : "unknown";
}
