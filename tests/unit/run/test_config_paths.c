#include "run/config_paths.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char seen[1024];

static void note(void *context, const char *path, bool written)
{
    (void)context;
    size_t len = strlen(seen);
    (void)snprintf(seen + len, sizeof(seen) - len, "%s%s ", written ? "w:" : "r:", path);
}

static const char *paths_of(const char *text)
{
    struct cg_config *config = NULL;
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, 1 << 16);
    ck_assert_msg(cg_config_parse("c.yaml", cg_bytes_str(text), NULL, 0, &config, &problems), "%s",
                  cg_buf_str(&problems));
    seen[0] = '\0';
    cg_config_paths(config, note, NULL);
    cg_config_free(config);
    return seen;
}

START_TEST(paths_of_the_gateway_and_of_exporters_are_seen)
{
    ck_assert_str_eq(
        paths_of("state_dir: /state\n"
                 "spool: {dir: /spool}\n"
                 "control: {socket: /run/c.sock}\n"
                 "signing: {mode: ed25519, kid: k, key_file: /keys/k}\n"
                 "exporters:\n"
                 "- {name: a, type: jsonl, path: /log/a.jsonl}\n"
                 "- {name: b, type: cloudevents-http, url: 'https://x/', bearer_token_file: /t,\n"
                 "   tls: {ca_file: /ca, cert_file: /cert, key_file: /key}}\n"),
        "w:/run/c.sock r:/keys/k w:/log/a.jsonl r:/t r:/ca r:/cert r:/key ");
}
END_TEST

START_TEST(what_is_not_given_is_not_seen)
{
    ck_assert_str_eq(paths_of("exporters: [{name: a, type: jsonl, path: '-'}]\n"), "w:- ");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_paths");
    TCase *tests = tcase_create("paths");
    tcase_add_test(tests, paths_of_the_gateway_and_of_exporters_are_seen);
    tcase_add_test(tests, what_is_not_given_is_not_seen);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
