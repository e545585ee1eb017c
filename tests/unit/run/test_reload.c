/* What a reload may change, by the tables. */
#include "run/compare.h"
#include "run/config.h"
#include "run/judge.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[] = "/tmp/cellgate-reload-XXXXXX";
static struct cg_buf problems;

#define EXPORTERS "exporters: [{name: a, type: jsonl, path: /tmp/a}]\n"
#define CELL(id, run, more)                                                                        \
    "{cell_id: " id ", run_id: " run ", spec_signature_hash: h, vsock_uds_base: /run/" id more "}"

static void set_up(void)
{
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    cg_buf_init(&problems, 1 << 16);
}

static void tear_down(void)
{
    (void)unlink(path);
    cg_buf_fini(&problems);
}

static struct cg_config *load(const char *text)
{
    struct cg_config *config = NULL;
    bool good = cg_config_parse("f", cg_bytes_str(text), NULL, 0, &config, &problems);
    ck_assert_msg(good, "%s", cg_buf_str(&problems));
    return config;
}

/* Whether `after` may follow `before`; `problems` says why not. */
static bool follows(const char *before, const char *after)
{
    struct cg_config *running = load(before);
    struct cg_config *config = NULL;
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    (void)fputs(after, file);
    (void)fclose(file);
    cg_buf_clear(&problems);
    bool good = cg_config_reload(path, NULL, 0, running, &config, &problems);
    if (good) {
        cg_config_free(config);
    }
    cg_config_free(running);
    return good;
}

START_TEST(what_is_live_may_change)
{
    static const char *const texts[] = {
        "keepalive: {window: 3s, boot_grace: 1s, once: true}\n" EXPORTERS,
        "ingress: {frames_per_second: 1, frames_burst: 2, frame_deadline: 1s}\n" EXPORTERS,
        "ingress: {cells: [" CELL("a", "r", "") "]}\n" EXPORTERS,
        "http: {hosts: [x]}\n" EXPORTERS,
        "log: {level: debug}\n" EXPORTERS,
        "signing: {mode: ed25519, kid: k, key_file: /k}\n" EXPORTERS,
        "shutdown: {drain: 1s, handover: on}\n" EXPORTERS,
        "exporters: [{name: b, type: jsonl, path: /tmp/b}]\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ck_assert_msg(follows(EXPORTERS, texts[i]), "%s", cg_buf_str(&problems));
        ck_assert_msg(follows(texts[i], EXPORTERS), "%s", cg_buf_str(&problems));
    }
}
END_TEST

START_TEST(what_is_not_live_is_named_at_its_place)
{
    static const struct {
        const char *text;
        const char *place;
        const char *key;
    } cases[] = {
        {"node: other\n" EXPORTERS, ":1:7: ", "node: "},
        {"\nspool:\n  max_bytes: 3MiB\n" EXPORTERS, ":3:14: ", "spool.max_bytes: "},
        {"ingress:\n  owners: {uids: [1, 2]}\n" EXPORTERS, ":2:18: ", "ingress.owners.uids: "},
        {"ingress: {roots: [/a]}\n" EXPORTERS, ":1:18: ", "ingress.roots: "},
        {"log: {format: json}\n" EXPORTERS, ":1:15: ", "log.format: "},
        {"http: {listen: ['127.0.0.1:1', '127.0.0.1:2']}\n" EXPORTERS, ":1:16: ", "http.listen: "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert(!follows(EXPORTERS, cases[i].text));
        const char *said = cg_buf_str(&problems);
        ck_assert_msg(strstr(said, cases[i].place) != NULL, "%s", said);
        ck_assert_msg(strstr(said, cases[i].key) != NULL, "%s", said);
        /* A key that is not there any more is missed in the whole file. */
        ck_assert(!follows(cases[i].text, EXPORTERS));
        ck_assert_ptr_nonnull(strstr(cg_buf_str(&problems), ":1:1: "));
    }
}
END_TEST

START_TEST(values_count_and_not_how_they_are_written)
{
    static const char *const same[] = {
        "exporters:\n  - {type: jsonl, path: /tmp/a, name: a}\n",
        "{\"exporters\": [{\"name\": \"a\", \"type\": \"jsonl\", \"path\": \"/tmp/a\"}]}",
        ("spool: {max_bytes: 64MiB, sync: 200ms}\ningress: {threads: 0}\n" EXPORTERS),
        "exporters: [{name: a, type: jsonl, path: /tmp/a, retry: {initial: 500ms, max: 1m}}]\n",
    };
    struct cg_config *running = load(EXPORTERS);
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        ck_assert_msg(follows(EXPORTERS, same[i]), "%s", cg_buf_str(&problems));
        struct cg_config *config = load(same[i]);
        ck_assert(cg_config_exporter_equal(&running->exporters[0], &config->exporters[0]));
        cg_config_free(config);
    }
    static const char *const others[] = {
        "exporters: [{name: a, type: jsonl, path: /tmp/b}]\n",
        "exporters: [{name: a, type: jsonl, path: /tmp/a, batch: {linger: 1s}}]\n",
        "exporters: [{name: a, type: jsonl, path: /tmp/a, rotate: {bytes: 1MiB}}]\n",
        "exporters: [{name: a, type: cloudevents-http, url: 'http://h/'}]\n",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct cg_config *config = load(others[i]);
        ck_assert(!cg_config_exporter_equal(&running->exporters[0], &config->exporters[0]));
        cg_config_free(config);
    }
    cg_config_free(running);
}
END_TEST

START_TEST(pairs_and_ranges_are_compared_too)
{
    static const char *const url =
        "exporters: [{name: a, type: cloudevents-http, url: 'http://h/', "
        "headers: {%s}}]\n";
    char a[256], b[256];
    (void)snprintf(a, sizeof(a), url, "X: y");
    (void)snprintf(b, sizeof(b), url, "X: z");
    struct cg_config *one = load(a);
    struct cg_config *two = load(b);
    ck_assert(cg_config_exporter_equal(&one->exporters[0], &one->exporters[0]));
    ck_assert(!cg_config_exporter_equal(&one->exporters[0], &two->exporters[0]));
    cg_config_free(one);
    cg_config_free(two);
}
END_TEST

START_TEST(a_run_is_what_it_was_registered_as)
{
    static const char before[] =
        "ingress: {cells: [" CELL("a", "r", "") ", " CELL("b", "r", "") "]}\n" EXPORTERS;
    ck_assert(follows(before, "ingress: {cells: [" CELL("b", "r", "") "]}\n" EXPORTERS));
    ck_assert(
        follows(before, "ingress: {cells: [" CELL("a", "r2", ", labels: {x: y}") "]}\n" EXPORTERS));
    ck_assert(!follows(before, "ingress: {cells: [" CELL("b", "r", "") ", " CELL(
                                   "a", "r", ", labels: {x: y}") "]}\n" EXPORTERS));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&problems), "labels: cannot change while a run of cell "
                                                        "'a' goes on"));
    ck_assert(!follows(before, "ingress: {cells: [" CELL("a", "r", "x") "]}\n" EXPORTERS));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&problems), "vsock_uds_base: cannot change"));
}
END_TEST

START_TEST(standard_input_cannot_be_read_again)
{
    struct cg_config *running = load(EXPORTERS);
    struct cg_config *config = NULL;
    ck_assert(!cg_config_reload("-", NULL, 0, running, &config, &problems));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&problems), "(stdin):1:1: "));
    cg_config_free(running);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run/reload");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, what_is_live_may_change);
    tcase_add_test(tcase, what_is_not_live_is_named_at_its_place);
    tcase_add_test(tcase, values_count_and_not_how_they_are_written);
    tcase_add_test(tcase, pairs_and_ranges_are_compared_too);
    tcase_add_test(tcase, a_run_is_what_it_was_registered_as);
    tcase_add_test(tcase, standard_input_cannot_be_read_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
