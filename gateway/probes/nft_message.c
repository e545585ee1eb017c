#include "probes/nft_message.h"

#include "cellgate/error.h"

#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

enum { TYPE_SHIFT = 8, TYPE_MASK = 0xff };

static size_t align(size_t len)
{
    return (len + NLMSG_ALIGNTO - 1) & ~(size_t)(NLMSG_ALIGNTO - 1);
}

/* Takes the first attribute off `*bytes`; false at the end, or if it is none. */
static bool take_attribute(struct cg_bytes *bytes, unsigned *ret_type, struct cg_bytes *ret_value)
{
    struct nlattr attribute;
    if (bytes->len < sizeof(attribute)) {
        return false;
    }
    memcpy(&attribute, bytes->data, sizeof(attribute));
    if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > bytes->len) {
        return false;
    }
    *ret_type = attribute.nla_type & NLA_TYPE_MASK;
    *ret_value = cg_bytes(bytes->data + sizeof(attribute), attribute.nla_len - sizeof(attribute));
    size_t taken = align(attribute.nla_len) < bytes->len ? align(attribute.nla_len) : bytes->len;
    *bytes = cg_bytes(bytes->data + taken, bytes->len - taken);
    return true;
}

static struct cg_bytes text_of(struct cg_bytes value)
{
    return cg_bytes(value.data, strnlen(value.data, value.len));
}

static uint64_t u64_of(struct cg_bytes value)
{
    uint64_t number = 0;
    if (value.len == sizeof(number)) {
        memcpy(&number, value.data, sizeof(number));
    }
    return be64toh(number);
}

/* --- rules --- */

static void add_counter(struct cg_bytes data, struct cg_nft_message *message)
{
    unsigned type;
    struct cg_bytes value;
    message->counted = true;
    while (take_attribute(&data, &type, &value)) {
        if (type == NFTA_COUNTER_BYTES) {
            message->bytes += u64_of(value);
        } else if (type == NFTA_COUNTER_PACKETS) {
            message->packets += u64_of(value);
        }
    }
}

static void take_expressions(struct cg_bytes list, struct cg_nft_message *message)
{
    unsigned type;
    struct cg_bytes expression;
    while (take_attribute(&list, &type, &expression)) {
        struct cg_bytes name = {0};
        struct cg_bytes data = {0};
        struct cg_bytes value;
        while (take_attribute(&expression, &type, &value)) {
            name = type == NFTA_EXPR_NAME ? text_of(value) : name;
            data = type == NFTA_EXPR_DATA ? value : data;
        }
        if (cg_bytes_equal(name, CG_BYTES("counter"))) {
            add_counter(data, message);
        }
    }
}

static void take_rule(struct cg_bytes attributes, struct cg_nft_message *message)
{
    unsigned type;
    struct cg_bytes value;
    while (take_attribute(&attributes, &type, &value)) {
        switch (type) {
        case NFTA_RULE_TABLE:
            message->table = text_of(value);
            break;
        case NFTA_RULE_CHAIN:
            message->chain = text_of(value);
            break;
        case NFTA_RULE_HANDLE:
            message->handle = u64_of(value);
            break;
        case NFTA_RULE_EXPRESSIONS:
            take_expressions(value, message);
            break;
        default:
            break;
        }
    }
}

static void take_table(struct cg_bytes attributes, struct cg_nft_message *message)
{
    unsigned type;
    struct cg_bytes value;
    while (take_attribute(&attributes, &type, &value)) {
        if (type == NFTA_TABLE_NAME) {
            message->table = text_of(value);
        } else if (type == NFTA_TABLE_HANDLE) {
            message->handle = u64_of(value);
        }
    }
}

/* --- messages --- */

static enum cg_nft_kind take_payload(const struct nlmsghdr *header, struct cg_bytes payload,
                                     struct cg_nft_message *message)
{
    int32_t error = 0;
    struct nfgenmsg general;
    if (header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE) {
        if (payload.len >= sizeof(error)) {
            memcpy(&error, payload.data, sizeof(error));
        }
        message->errnum = error < 0 && error > -4096 ? -error : 0;
        return header->nlmsg_type == NLMSG_ERROR || message->errnum != 0 ? CG_NFT_ERROR
                                                                         : CG_NFT_DONE;
    }
    if (header->nlmsg_type >> TYPE_SHIFT != NFNL_SUBSYS_NFTABLES) {
        return CG_NFT_NONE;
    }
    if (payload.len < sizeof(general)) {
        return CG_NFT_BAD;
    }
    memcpy(&general, payload.data, sizeof(general));
    message->family = general.nfgen_family;
    struct cg_bytes attributes =
        cg_bytes(payload.data + sizeof(general), payload.len - sizeof(general));
    switch (header->nlmsg_type & TYPE_MASK) {
    case NFT_MSG_NEWTABLE:
        take_table(attributes, message);
        return CG_NFT_TABLE;
    case NFT_MSG_NEWRULE:
        take_rule(attributes, message);
        return CG_NFT_RULE;
    default:
        return CG_NFT_NONE;
    }
}

enum cg_nft_kind cg_nft_message_take(struct cg_bytes *bytes, struct cg_nft_message *ret_message)
{
    struct nlmsghdr header;
    if (bytes->len < sizeof(header)) {
        return CG_NFT_BAD;
    }
    memcpy(&header, bytes->data, sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > bytes->len) {
        return CG_NFT_BAD;
    }
    struct cg_bytes payload =
        cg_bytes(bytes->data + sizeof(header), header.nlmsg_len - sizeof(header));
    size_t taken = align(header.nlmsg_len) < bytes->len ? align(header.nlmsg_len) : bytes->len;
    *bytes = cg_bytes(bytes->data + taken, bytes->len - taken);
    *ret_message = (struct cg_nft_message){
        .sequence = header.nlmsg_seq,
        .interrupted = (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0,
    };
    return take_payload(&header, payload, ret_message);
}

void cg_nft_request(bool rules, uint32_t sequence, char ret_bytes[CG_NFT_REQUEST_BYTES])
{
    const struct nfgenmsg general = {.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0};
    const struct nlmsghdr header = {
        .nlmsg_len = sizeof(header) + sizeof(general),
        .nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << TYPE_SHIFT |
                                 (rules ? NFT_MSG_GETRULE : NFT_MSG_GETTABLE)),
        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
        .nlmsg_seq = sequence,
    };
    _Static_assert(sizeof(header) + sizeof(general) == CG_NFT_REQUEST_BYTES, "a request's length");
    memcpy(ret_bytes, &header, sizeof(header));
    memcpy(ret_bytes + sizeof(header), &general, sizeof(general));
}

const char *cg_nft_family_name(uint8_t family)
{
    switch (family) {
    case NFPROTO_INET:
        return "inet";
    case NFPROTO_IPV4:
        return "ip";
    case NFPROTO_IPV6:
        return "ip6";
    case NFPROTO_ARP:
        return "arp";
    case NFPROTO_BRIDGE:
        return "bridge";
    case NFPROTO_NETDEV:
        return "netdev";
    default:
        return NULL;
    }
}
