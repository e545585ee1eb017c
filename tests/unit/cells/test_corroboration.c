/* What guests declare, what hosts see, and what becomes of the two side by side. */
#include "cells/corroboration.h"

#include "cellgate/buf.h"
#include "cellgate/clock.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct cg_witness *witness;
static struct cg_corroboration_totals totals;
static const struct cg_corroboration_rules rules = {.packets_min = 100, .cpu_min_ns = CG_NS_PER_S};
static struct cg_life_event event;

static void set_up(void)
{
    witness = cg_witness_new(UINT64_C(1795431600000000000));
    ck_assert_ptr_nonnull(witness);
    totals = (struct cg_corroboration_totals){0};
}

static void tear_down(void)
{
    cg_witness_free(witness);
}

static void declare(const char *source, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        cg_witness_declare(witness, cg_bytes_str(source));
    }
}

static void see(enum cg_facts_kind kind, enum cg_fact fact, uint64_t value)
{
    struct cg_facts facts = {0};
    cg_facts_set(&facts, fact, value);
    cg_witness_see(witness, kind, &facts);
}

/* A member of the event, terminated, until the next call. */
static const char *member(const char *key)
{
    static char text[CG_LIFE_TEXT_BYTES_MAX + 1];
    for (size_t i = 0; i < event.count; i++) {
        if (cg_bytes_equal(event.members[i].key, cg_bytes_str(key))) {
            memcpy(text, event.members[i].json.data, event.members[i].json.len);
            text[event.members[i].json.len] = '\0';
            return text;
        }
    }
    ck_abort_msg("no member %s", key);
}

static bool corroborate(void)
{
    return cg_corroborate(witness, &totals, &rules, false, &event);
}

START_TEST(declarations_are_counted_by_their_source)
{
    declare("process.spawned", 3);
    declare("net.connect_attempted", 2);
    declare("process.spawned", 1);
    declare("Not Plain", 4);
    declare("", 1);
    ck_assert_uint_eq(cg_witness_declared(witness, CG_BYTES("process.spawned")), 4);
    ck_assert_uint_eq(cg_witness_declared(witness, CG_BYTES("net.connect_attempted")), 2);
    ck_assert_uint_eq(cg_witness_declared(witness, CG_BYTES("file.opened")), 0);
    ck_assert(!corroborate());
    ck_assert_str_eq(member("declared"),
                     "{\"bySource\":{\"net.connect_attempted\":2,\"process.spawned\":4},"
                     "\"events\":11,\"otherSources\":5}");
}
END_TEST

START_TEST(a_guest_with_many_sources_has_them_counted_together)
{
    char name[32];
    for (unsigned i = 0; i < 2 * CG_WITNESS_SOURCES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "source.%u", i);
        declare(name, 1);
    }
    char long_name[CG_WITNESS_SOURCE_BYTES_MAX + 2];
    memset(long_name, 'a', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    declare(long_name, 1);
    ck_assert_uint_eq(witness->sources_count, CG_WITNESS_SOURCES_MAX);
    ck_assert_uint_eq(witness->declared, 2 * CG_WITNESS_SOURCES_MAX + 1);
    ck_assert_uint_eq(witness->declared_other, CG_WITNESS_SOURCES_MAX + 1);
    ck_assert(!corroborate());
}
END_TEST

START_TEST(counters_count_from_where_they_stood)
{
    struct cg_facts base = {0};
    cg_facts_set(&base, CG_FACT_TAP_PACKETS_FROM_GUEST, 1000);
    cg_witness_base(witness, &base);
    ck_assert(!cg_witness_knows(witness, CG_FACT_TAP_PACKETS_FROM_GUEST));
    see(CG_FACTS_COUNTERS, CG_FACT_TAP_PACKETS_FROM_GUEST, 1010);
    see(CG_FACTS_COUNTERS, CG_FACT_TAP_PACKETS_FROM_GUEST, 1025);
    ck_assert_uint_eq(witness->total[CG_FACT_TAP_PACKETS_FROM_GUEST], 25);
    /* The interface is another one, whose counters begin anew. */
    see(CG_FACTS_COUNTERS, CG_FACT_TAP_PACKETS_FROM_GUEST, 7);
    ck_assert_uint_eq(witness->total[CG_FACT_TAP_PACKETS_FROM_GUEST], 32);
    /* What was not there at the beginning counts whole. */
    see(CG_FACTS_COUNTERS, CG_FACT_CGROUP_OOM_KILLS, 2);
    ck_assert_uint_eq(witness->total[CG_FACT_CGROUP_OOM_KILLS], 2);
}
END_TEST

START_TEST(growth_adds_up_without_end)
{
    see(CG_FACTS_GROWTH, CG_FACT_FC_NET_TX_PACKETS, 5);
    see(CG_FACTS_GROWTH, CG_FACT_FC_NET_TX_PACKETS, 3);
    ck_assert_uint_eq(witness->total[CG_FACT_FC_NET_TX_PACKETS], 8);
    see(CG_FACTS_GROWTH, CG_FACT_FC_NET_TX_PACKETS, UINT64_MAX);
    ck_assert_uint_eq(witness->total[CG_FACT_FC_NET_TX_PACKETS], UINT64_MAX);
}
END_TEST

START_TEST(what_was_seen_stands_in_groups)
{
    see(CG_FACTS_COUNTERS, CG_FACT_TAP_PACKETS_FROM_GUEST, 3);
    see(CG_FACTS_COUNTERS, CG_FACT_CGROUP_CPU_USEC, 1500);
    totals = (struct cg_corroboration_totals){
        .frames = 9, .frame_bytes = 900, .connections = 2, .silences = 1, .drops = 4};
    ck_assert(!corroborate());
    ck_assert_str_eq(member("observed"),
                     "{\"cgroup\":{\"cpuUsageUsec\":1500},"
                     "\"gateway\":{\"connections\":2,\"drops\":4,\"frameBytes\":900,\"frames\":9,"
                     "\"framesRejected\":0,\"silences\":1},"
                     "\"tapLink\":{\"packetsFromGuest\":3}}");
    ck_assert_str_eq(member("findings"), "[]");
    ck_assert_str_eq(member("runOver"), "false");
    ck_assert_str_eq(member("since"), "\"2026-11-23T11:00:00.000000000Z\"");
    ck_assert_int_eq(event.severity, CG_SEVERITY_INFO);
    (void)cg_corroborate(witness, &totals, &rules, true, &event);
    ck_assert_str_eq(member("runOver"), "true");
}
END_TEST

/* --- one case a rule, and the next one below its threshold --- */

static const struct rule_case {
    const char *source; /* declared so often */
    unsigned times;
    enum cg_fact fact;
    enum cg_facts_kind kind;
    uint64_t value;
    uint64_t rejected;
    const char *findings;
} rule_cases[] = {
    {"process.spawned", 1, CG_FACT_TAP_PACKETS_FROM_GUEST, CG_FACTS_COUNTERS, 1284, 0,
     "[{\"declared\":0,\"observed\":1284,\"rule\":\"network_undeclared\",\"text\":\"declared "
     "net.connect_attempted = 0, host saw 1,284 packets out\",\"threshold\":100}]"},
    {"process.spawned", 1, CG_FACT_TAP_PACKETS_FROM_GUEST, CG_FACTS_COUNTERS, 99, 0, "[]"},
    {"net.connect_attempted", 1, CG_FACT_TAP_PACKETS_FROM_GUEST, CG_FACTS_COUNTERS, 1284, 0, "[]"},
    {"process.spawned", 1, CG_FACT_FC_NET_TX_PACKETS, CG_FACTS_GROWTH, 1000000, 0,
     "[{\"declared\":0,\"observed\":1000000,\"rule\":\"network_undeclared\",\"text\":\"declared "
     "net.connect_attempted = 0, host saw 1,000,000 packets out\",\"threshold\":100}]"},
    {"net.connect_attempted", 12, CG_FACT_TAP_PACKETS_FROM_GUEST, CG_FACTS_COUNTERS, 0, 0,
     "[{\"declared\":12,\"observed\":0,\"rule\":\"network_unseen\",\"text\":\"declared "
     "net.connect_attempted = 12, host saw 0 packets out\",\"threshold\":1}]"},
    /* Nobody looked at its packets: no finding. */
    {"net.connect_attempted", 12, CG_FACT_NFT_PACKETS, CG_FACTS_COUNTERS, 0, 0, "[]"},
    {"net.connect_attempted", 1, CG_FACT_CGROUP_CPU_USEC, CG_FACTS_COUNTERS, 1500999, 0,
     "[{\"declared\":0,\"observed\":1500,\"rule\":\"cpu_undeclared\",\"text\":\"declared "
     "process.spawned = 0, host saw 1,500 ms of CPU time\",\"threshold\":1000}]"},
    {"process.spawned", 1, CG_FACT_CGROUP_CPU_USEC, CG_FACTS_COUNTERS, 1500999, 0, "[]"},
    {"", 0, CG_FACT_CGROUP_CPU_USEC, CG_FACTS_COUNTERS, 999999, 0, "[]"},
    {"", 0, CG_FACT_CGROUP_CPU_USEC, CG_FACTS_COUNTERS, 1000000, 0,
     "[{\"declared\":0,\"observed\":1000,\"rule\":\"mute_but_busy\",\"text\":\"declared events = "
     "0, "
     "host saw 1,000 ms of CPU time\",\"threshold\":1000}]"},
    {"process.spawned", 1, CG_FACT_CGROUP_CPU_USEC, CG_FACTS_COUNTERS, 0, 3,
     "[{\"declared\":1,\"observed\":3,\"rule\":\"frames_refused\",\"text\":\"declared events = 1, "
     "host saw 3 refused frames\",\"threshold\":1}]"},
};

START_TEST(a_rule_speaks_from_its_threshold_on)
{
    const struct rule_case *rule = &rule_cases[_i];
    declare(rule->source, rule->times);
    see(rule->kind, rule->fact, rule->value);
    totals.frames_rejected = rule->rejected;
    bool found = corroborate();
    ck_assert_str_eq(member("findings"), rule->findings);
    ck_assert_int_eq(found, strcmp(rule->findings, "[]") != 0);
    ck_assert_int_eq(event.severity, found ? CG_SEVERITY_WARN : CG_SEVERITY_INFO);
}
END_TEST

START_TEST(several_findings_stand_one_behind_the_other)
{
    declare("net.connect_attempted", 1);
    see(CG_FACTS_COUNTERS, CG_FACT_TAP_PACKETS_FROM_GUEST, 0);
    see(CG_FACTS_COUNTERS, CG_FACT_CGROUP_CPU_USEC, 0);
    see(CG_FACTS_COUNTERS, CG_FACT_CGROUP_OOM_KILLS, 1);
    totals.frames_rejected = 1;
    ck_assert(corroborate());
    const char *findings = member("findings");
    const char *unseen = strstr(findings, "network_unseen");
    const char *oom = strstr(findings, "oom_killed");
    const char *refused = strstr(findings, "frames_refused");
    ck_assert(unseen != NULL && oom > unseen && refused > oom);
    ck_assert_ptr_nonnull(strstr(findings, "host saw 1 OOM kills\",\"threshold\":1},{"));
}
END_TEST

START_TEST(the_largest_event_fits)
{
    char name[CG_WITNESS_SOURCE_BYTES_MAX + 1];
    memset(name, 'z', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    for (unsigned i = 0; i < CG_WITNESS_SOURCES_MAX; i++) {
        name[0] = (char)('a' + i % 26);
        name[1] = (char)('a' + i / 26);
        declare(name, 1);
        witness->sources[i]->count = UINT64_MAX;
    }
    for (unsigned fact = 0; fact < CG_FACT_COUNT; fact++) {
        see(CG_FACTS_COUNTERS, fact, UINT64_MAX);
    }
    totals.frames_rejected = UINT64_MAX;
    ck_assert(corroborate());
    ck_assert_uint_lt(event.text_len, sizeof(event.text) / 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("corroboration");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, declarations_are_counted_by_their_source);
    tcase_add_test(all, a_guest_with_many_sources_has_them_counted_together);
    tcase_add_test(all, counters_count_from_where_they_stood);
    tcase_add_test(all, growth_adds_up_without_end);
    tcase_add_test(all, what_was_seen_stands_in_groups);
    tcase_add_loop_test(all, a_rule_speaks_from_its_threshold_on, 0,
                        sizeof(rule_cases) / sizeof(rule_cases[0]));
    tcase_add_test(all, several_findings_stand_one_behind_the_other);
    tcase_add_test(all, the_largest_event_fits);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
