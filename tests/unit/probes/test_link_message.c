/* Messages of rtnetlink: good ones, and every way in which a length may lie. */
#include "probes/link_message.h"

#include <check.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

static char bytes[2048];
static size_t len;

static void begin(unsigned type, uint32_t sequence)
{
    const struct nlmsghdr header = {.nlmsg_type = (uint16_t)type, .nlmsg_seq = sequence};
    const struct ifinfomsg info = {.ifi_index = 12};
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), &info, sizeof(info));
    len = sizeof(header) + sizeof(info);
}

static void add(unsigned short type, const void *value, size_t value_len)
{
    const struct rtattr attribute = {.rta_type = type,
                                     .rta_len = (unsigned short)(sizeof(attribute) + value_len)};
    memcpy(bytes + len, &attribute, sizeof(attribute));
    memcpy(bytes + len + sizeof(attribute), value, value_len);
    len += RTA_ALIGN(attribute.rta_len);
}

static void end(void)
{
    ((struct nlmsghdr *)(void *)bytes)->nlmsg_len = (uint32_t)len;
}

static uint32_t sequence;
static struct cg_link found;
static int errnum;

static enum cg_link_kind take(size_t available)
{
    /* In memory of just that size: reading beyond it shows. */
    char *copy = malloc(available == 0 ? 1 : available);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, available);
    struct cg_bytes rest = cg_bytes(copy, available);
    enum cg_link_kind kind = cg_link_message_take(&rest, &sequence, &found, &errnum);
    free(copy);
    return kind;
}

static void make_link(unsigned type)
{
    const struct rtnl_link_stats64 stats = {.rx_packets = 7, .tx_bytes = UINT64_MAX};
    begin(type, 3);
    add(IFLA_IFNAME, "tap0", 5);
    add(IFLA_OPERSTATE, "\6", 1);
    add(IFLA_CARRIER, "\1", 1);
    add(IFLA_STATS64, &stats, sizeof(stats));
    end();
}

START_TEST(an_interface_is_read)
{
    make_link(RTM_NEWLINK);
    ck_assert_int_eq(take(len), CG_LINK_NEW);
    ck_assert_uint_eq(sequence, 3);
    ck_assert_int_eq(found.index, 12);
    ck_assert_str_eq(found.name, "tap0");
    ck_assert_str_eq(cg_link_operstate_name(found.operstate), "up");
    ck_assert(found.carrier && found.has_stats);
    ck_assert_uint_eq(found.stats.rx_packets, 7);
    ck_assert_uint_eq(found.stats.tx_bytes, UINT64_MAX);
    make_link(RTM_DELLINK);
    ck_assert_int_eq(take(len), CG_LINK_GONE);
}
END_TEST

START_TEST(a_message_cut_anywhere_is_refused)
{
    make_link(RTM_NEWLINK);
    for (size_t i = 0; i < len; i++) {
        ck_assert_int_eq(take(i), CG_LINK_BAD);
    }
}
END_TEST

START_TEST(no_changed_byte_leads_beyond_the_end)
{
    make_link(RTM_NEWLINK);
    for (size_t i = 0; i < len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (char)(1U << bit);
            (void)take(len);
            bytes[i] ^= (char)(1U << bit);
        }
    }
}
END_TEST

START_TEST(an_attribute_that_lies_about_its_length_is_refused)
{
    static const unsigned short lengths[] = {0, 3, 2000, UINT16_MAX};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        begin(RTM_NEWLINK, 1);
        size_t at = len;
        add(IFLA_IFNAME, "tap0", 5);
        end();
        ((struct rtattr *)(void *)(bytes + at))->rta_len = lengths[i];
        ck_assert_int_eq(take(len), CG_LINK_BAD);
    }
}
END_TEST

START_TEST(a_name_without_end_is_cut)
{
    begin(RTM_NEWLINK, 1);
    add(IFLA_IFNAME, "0123456789abcdefXYZ", 19);
    end();
    ck_assert_int_eq(take(len), CG_LINK_NEW);
    ck_assert_str_eq(found.name, "0123456789abcde");
}
END_TEST

START_TEST(counters_of_another_kernel_are_read_as_far_as_they_go)
{
    const uint64_t few[2] = {5, 6};
    begin(RTM_NEWLINK, 1);
    add(IFLA_STATS64, few, sizeof(few));
    end();
    ck_assert_int_eq(take(len), CG_LINK_NEW);
    ck_assert_uint_eq(found.stats.rx_packets, 5);
    ck_assert_uint_eq(found.stats.tx_packets, 6);
    ck_assert_uint_eq(found.stats.rx_bytes, 0);
}
END_TEST

START_TEST(errors_and_other_messages_are_told_apart)
{
    const struct nlmsghdr header = {.nlmsg_type = NLMSG_ERROR, .nlmsg_seq = 4};
    const int32_t error = -ENODEV;
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), &error, sizeof(error));
    len = sizeof(header) + sizeof(error);
    end();
    ck_assert_int_eq(take(len), CG_LINK_ERROR);
    ck_assert_int_eq(errnum, ENODEV);
    ck_assert_uint_eq(sequence, 4);
    begin(NLMSG_DONE, 5);
    end();
    ck_assert_int_eq(take(len), CG_LINK_NONE);
}
END_TEST

START_TEST(a_request_names_its_interface)
{
    char request[CG_LINK_REQUEST_BYTES_MAX];
    size_t request_len = cg_link_request("0123456789abcde", 77, request);
    ck_assert_uint_le(request_len, sizeof(request));
    const struct nlmsghdr *header = (const void *)request;
    ck_assert_uint_eq(header->nlmsg_len, request_len);
    ck_assert_uint_eq(header->nlmsg_type, RTM_GETLINK);
    ck_assert_uint_eq(header->nlmsg_seq, 77);
    ck_assert_ptr_nonnull(memmem(request, request_len, "0123456789abcde", 16));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("link_message");
    TCase *all = tcase_create("all");
    tcase_add_test(all, an_interface_is_read);
    tcase_add_test(all, a_message_cut_anywhere_is_refused);
    tcase_add_test(all, no_changed_byte_leads_beyond_the_end);
    tcase_add_test(all, an_attribute_that_lies_about_its_length_is_refused);
    tcase_add_test(all, a_name_without_end_is_cut);
    tcase_add_test(all, counters_of_another_kernel_are_read_as_far_as_they_go);
    tcase_add_test(all, errors_and_other_messages_are_told_apart);
    tcase_add_test(all, a_request_names_its_interface);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
