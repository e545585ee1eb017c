/* Messages of nfnetlink about tables and rules: good ones, and every way in which a length may lie.
 */
#include "probes/nft_message.h"

#include <check.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>

static char bytes[2048];
static size_t len;

static void begin(unsigned type, uint8_t family)
{
    const struct nlmsghdr header = {.nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
                                    .nlmsg_seq = 3};
    const struct nfgenmsg general = {.nfgen_family = family};
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), &general, sizeof(general));
    len = sizeof(header) + sizeof(general);
}

/* Opens an attribute; returns its place for close_attribute. */
static size_t open_attribute(unsigned short type)
{
    const struct nlattr attribute = {.nla_type = type};
    memcpy(bytes + len, &attribute, sizeof(attribute));
    len += sizeof(attribute);
    return len - sizeof(attribute);
}

static void close_attribute(size_t at)
{
    ((struct nlattr *)(void *)(bytes + at))->nla_len = (unsigned short)(len - at);
    len = NLA_ALIGN(len);
}

static void add(unsigned short type, const void *value, size_t value_len)
{
    size_t at = open_attribute(type);
    memcpy(bytes + len, value, value_len);
    len += value_len;
    close_attribute(at);
}

static void add_u64(unsigned short type, uint64_t value)
{
    const uint64_t big = htobe64(value);
    add(type, &big, sizeof(big));
}

static void end(void)
{
    ((struct nlmsghdr *)(void *)bytes)->nlmsg_len = (uint32_t)len;
}

static void add_expression(const char *name, bool counter)
{
    size_t element = open_attribute(NFTA_LIST_ELEM | NLA_F_NESTED);
    add(NFTA_EXPR_NAME, name, strlen(name) + 1);
    if (counter) {
        size_t data = open_attribute(NFTA_EXPR_DATA | NLA_F_NESTED);
        add_u64(NFTA_COUNTER_BYTES, 1284);
        add_u64(NFTA_COUNTER_PACKETS, 12);
        close_attribute(data);
    }
    close_attribute(element);
}

static void make_rule(void)
{
    begin(NFT_MSG_NEWRULE, NFPROTO_INET);
    add(NFTA_RULE_TABLE, "vm-1", 5);
    add(NFTA_RULE_CHAIN, "out", 4);
    add_u64(NFTA_RULE_HANDLE, 7);
    size_t list = open_attribute(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED);
    add_expression("payload", false);
    add_expression("counter", true);
    add_expression("immediate", false);
    close_attribute(list);
    end();
}

static struct cg_nft_message message;

static enum cg_nft_kind take(size_t available)
{
    /* In memory of just that size: reading beyond it shows. */
    static char *copy;
    free(copy);
    copy = malloc(available == 0 ? 1 : available);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, available);
    struct cg_bytes rest = cg_bytes(copy, available);
    return cg_nft_message_take(&rest, &message);
}

START_TEST(a_rule_is_read_with_its_counter)
{
    make_rule();
    ck_assert_int_eq(take(len), CG_NFT_RULE);
    ck_assert_uint_eq(message.sequence, 3);
    ck_assert_str_eq(cg_nft_family_name(message.family), "inet");
    ck_assert(cg_bytes_equal(message.table, CG_BYTES("vm-1")));
    ck_assert(cg_bytes_equal(message.chain, CG_BYTES("out")));
    ck_assert_uint_eq(message.handle, 7);
    ck_assert(message.counted && !message.interrupted);
    ck_assert_uint_eq(message.packets, 12);
    ck_assert_uint_eq(message.bytes, 1284);
}
END_TEST

START_TEST(a_table_is_read_with_its_handle)
{
    begin(NFT_MSG_NEWTABLE, NFPROTO_IPV6);
    add(NFTA_TABLE_NAME, "t", 2);
    add_u64(NFTA_TABLE_HANDLE, 9);
    end();
    ck_assert_int_eq(take(len), CG_NFT_TABLE);
    ck_assert_str_eq(cg_nft_family_name(message.family), "ip6");
    ck_assert(cg_bytes_equal(message.table, CG_BYTES("t")));
    ck_assert_uint_eq(message.handle, 9);
}
END_TEST

START_TEST(a_message_cut_anywhere_is_refused)
{
    make_rule();
    for (size_t i = 0; i < len; i++) {
        ck_assert_int_eq(take(i), CG_NFT_BAD);
    }
}
END_TEST

START_TEST(no_changed_byte_leads_beyond_the_end)
{
    make_rule();
    for (size_t i = 0; i < len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (char)(1U << bit);
            (void)take(len);
            bytes[i] ^= (char)(1U << bit);
        }
    }
}
END_TEST

START_TEST(the_end_of_a_dump_an_error_and_a_change_are_told_apart)
{
    const struct nlmsghdr done = {.nlmsg_type = NLMSG_DONE, .nlmsg_flags = NLM_F_DUMP_INTR};
    const int32_t fine = 0;
    const int32_t denied = -EPERM;
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &done, sizeof(done));
    memcpy(bytes + sizeof(done), &fine, sizeof(fine));
    len = sizeof(done) + sizeof(fine);
    end();
    ck_assert_int_eq(take(len), CG_NFT_DONE);
    ck_assert(message.interrupted);
    memcpy(bytes + sizeof(done), &denied, sizeof(denied));
    ck_assert_int_eq(take(len), CG_NFT_ERROR);
    ck_assert_int_eq(message.errnum, EPERM);
    ((struct nlmsghdr *)(void *)bytes)->nlmsg_type = NLMSG_ERROR;
    ck_assert_int_eq(take(len), CG_NFT_ERROR);
    ((struct nlmsghdr *)(void *)bytes)->nlmsg_type = NLMSG_NOOP;
    ck_assert_int_eq(take(len), CG_NFT_NONE);
}
END_TEST

START_TEST(a_request_asks_for_everything)
{
    char request[CG_NFT_REQUEST_BYTES];
    cg_nft_request(true, 5, request);
    struct nlmsghdr header;
    memcpy(&header, request, sizeof(header));
    ck_assert_uint_eq(header.nlmsg_len, sizeof(request));
    ck_assert_uint_eq(header.nlmsg_type, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE);
    ck_assert_uint_eq(header.nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
    ck_assert_uint_eq(header.nlmsg_seq, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nft_message");
    TCase *all = tcase_create("all");
    tcase_add_test(all, a_rule_is_read_with_its_counter);
    tcase_add_test(all, a_table_is_read_with_its_handle);
    tcase_add_test(all, a_message_cut_anywhere_is_refused);
    tcase_add_test(all, no_changed_byte_leads_beyond_the_end);
    tcase_add_test(all, the_end_of_a_dump_an_error_and_a_change_are_told_apart);
    tcase_add_test(all, a_request_asks_for_everything);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
