/* Files of cgroups: what the kernel writes, and what it never would. */
#include "probes/cgroup_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    enum cg_cgroup_format format;
    const char *text;
    const char *json; /* NULL: refused */
} cases[] = {
    {CG_CGROUP_NUMBER, "4096\n", "4096"},
    {CG_CGROUP_NUMBER, "0", "0"},
    {CG_CGROUP_NUMBER, "18446744073709551615\n", "18446744073709551615"},
    {CG_CGROUP_NUMBER, "18446744073709551616\n", NULL},
    {CG_CGROUP_NUMBER, "max\n", NULL},
    {CG_CGROUP_NUMBER, "", NULL},
    {CG_CGROUP_NUMBER, "-1\n", NULL},
    {CG_CGROUP_NUMBER, "1\n2\n", NULL},
    /* memory.events and cpu.stat, as a kernel 6.1 writes them */
    {CG_CGROUP_FLAT, "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n",
     "{\"high\":0,\"low\":0,\"max\":12,\"oom\":2,\"oom_group_kill\":0,\"oom_kill\":1}"},
    {CG_CGROUP_FLAT,
     "usage_usec 123456789\nuser_usec 1\nsystem_usec 2\ncore_sched.force_idle_usec 0\n"
     "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n",
     "{\"burst_usec\":0,\"core_sched.force_idle_usec\":0,\"nr_bursts\":0,\"nr_periods\":0,"
     "\"nr_throttled\":0,\"system_usec\":2,\"throttled_usec\":0,\"usage_usec\":123456789,"
     "\"user_usec\":1}"},
    {CG_CGROUP_FLAT, "max 0\n", "{\"max\":0}"},
    {CG_CGROUP_FLAT, "", "{}"},
    {CG_CGROUP_FLAT, "max 0", "{\"max\":0}"},
    {CG_CGROUP_FLAT, "max\n", NULL},
    {CG_CGROUP_FLAT, "max 1 2\n", NULL},
    {CG_CGROUP_FLAT, "max  1\n", NULL},
    {CG_CGROUP_FLAT, "\n", NULL},
    {CG_CGROUP_FLAT, " 1\n", NULL},
    {CG_CGROUP_FLAT, "a 1\na 2\n", NULL},
    {CG_CGROUP_FLAT, "a\"b 1\n", NULL},
    {CG_CGROUP_FLAT, "a\\b 1\n", NULL},
    {CG_CGROUP_FLAT, "caf\xc3\xa9 1\n", NULL},
    {CG_CGROUP_FLAT, "a 1\r\n", NULL},
    {CG_CGROUP_FLAT, "a -1\n", NULL},
    {CG_CGROUP_FLAT, "a 18446744073709551616\n", NULL},
    /* io.stat */
    {CG_CGROUP_NESTED,
     "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
     "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n",
     "{\"8:0\":{\"dbytes\":50331648,\"dios\":3021,\"rbytes\":90430464,\"rios\":8950,\"wbytes\":"
     "299008000,\"wios\":1252},\"8:16\":{\"dbytes\":0,\"dios\":0,\"rbytes\":1459200,\"rios\":192,"
     "\"wbytes\":314773504,\"wios\":353}}"},
    {CG_CGROUP_NESTED, "", "{}"},
    {CG_CGROUP_NESTED, "254:0 \n", "{\"254:0\":{}}"},
    {CG_CGROUP_NESTED, "8:0 rbytes=1 cost.vrate=100.00 cost.usage=7\n",
     "{\"8:0\":{\"cost.usage\":7,\"rbytes\":1}}"},
    {CG_CGROUP_NESTED, "8:0 rbytes=1\n8:0 rbytes=2\n", NULL},
    {CG_CGROUP_NESTED, "8:0 rbytes=1 rbytes=2\n", NULL},
    {CG_CGROUP_NESTED, "8:0 =1\n", NULL},
    {CG_CGROUP_NESTED, "8:\"0 a=1\n", NULL},
    /* pressure */
    {CG_CGROUP_PRESSURE,
     "some avg10=0.00 avg60=1.48 avg300=22.24 total=28676024\n"
     "full avg10=100.00 avg60=0.05 avg300=0.50 total=0\n",
     "{\"full\":{\"avg10\":10000,\"avg300\":50,\"avg60\":5,\"total\":0},\"some\":{\"avg10\":0,"
     "\"avg300\":2224,\"avg60\":148,\"total\":28676024}}"},
    {CG_CGROUP_PRESSURE, "some avg10=1.5 total=1\n", "{\"some\":{\"avg10\":150,\"total\":1}}"},
    {CG_CGROUP_PRESSURE, "some avg10=2 total=1\n", "{\"some\":{\"avg10\":200,\"total\":1}}"},
    {CG_CGROUP_PRESSURE, "some avg10=1.234 total=1\n", NULL},
    {CG_CGROUP_PRESSURE, "some avg10=.5 total=1\n", NULL},
    {CG_CGROUP_PRESSURE, "some avg10=x total=1\n", NULL},
    {CG_CGROUP_PRESSURE, "some avg10=99999999999.00 total=1\n", NULL},
    {CG_CGROUP_PRESSURE, "some avg10=1.00 total=1.5\n", NULL},
};

START_TEST(a_file_is_read_or_refused)
{
    cg_auto_buf struct cg_buf out;
    cg_buf_init(&out, 65536);
    bool good = cg_cgroup_append(cases[_i].format, cg_bytes_str(cases[_i].text), &out);
    ck_assert_msg(good == (cases[_i].json != NULL), "%s", cases[_i].text);
    if (good) {
        ck_assert_str_eq(cg_buf_str(&out), cases[_i].json);
    }
}
END_TEST

START_TEST(a_file_with_too_much_in_it_is_refused)
{
    cg_auto_buf struct cg_buf text, out;
    cg_buf_init(&text, 65536);
    cg_buf_init(&out, 65536);
    for (unsigned i = 0; i < CG_CGROUP_KEYS_MAX; i++) {
        cg_buf_printf(&text, "k%u 1\n", i);
    }
    ck_assert(cg_cgroup_append(CG_CGROUP_FLAT, cg_buf_bytes(&text), &out));
    cg_buf_append_str(&text, "more 1\n");
    ck_assert(!cg_cgroup_append(CG_CGROUP_FLAT, cg_buf_bytes(&text), &out));
    cg_buf_clear(&text);
    for (unsigned i = 0; i <= CG_CGROUP_LINES_MAX; i++) {
        cg_buf_printf(&text, "8:%u a=1\n", i);
    }
    ck_assert(!cg_cgroup_append(CG_CGROUP_NESTED, cg_buf_bytes(&text), &out));
    cg_buf_clear(&text);
    for (unsigned i = 0; i <= CG_CGROUP_KEY_BYTES_MAX; i++) {
        cg_buf_append_char(&text, 'k');
    }
    cg_buf_append_str(&text, " 1\n");
    ck_assert(!cg_cgroup_append(CG_CGROUP_FLAT, cg_buf_bytes(&text), &out));
}
END_TEST

START_TEST(a_value_is_found_by_its_key)
{
    struct cg_cgroup_pair pairs[CG_CGROUP_KEYS_MAX];
    size_t count = 0;
    uint64_t value = 0;
    ck_assert(cg_cgroup_flat_parse(CG_BYTES("oom 3\noom_kill 2\n"), pairs, &count));
    ck_assert(cg_cgroup_pairs_find(pairs, count, CG_BYTES("oom_kill"), &value));
    ck_assert_uint_eq(value, 2);
    ck_assert(!cg_cgroup_pairs_find(pairs, count, CG_BYTES("oom_"), &value));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cgroup_files");
    TCase *all = tcase_create("all");
    tcase_add_loop_test(all, a_file_is_read_or_refused, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(all, a_file_with_too_much_in_it_is_refused);
    tcase_add_test(all, a_value_is_found_by_its_key);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
