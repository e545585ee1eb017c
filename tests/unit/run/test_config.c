#include "run/config.h"

#include "cellgate/cleanup.h"
#include "exporters/registry.h"
#include "run/node.h"
#include "run/schema.h"

#include <check.h>
#include <stdlib.h>

#define EXPORTERS "exporters: [{name: out, type: jsonl, path: \"-\"}]\n"
#define CELL(id, path)                                                                             \
    "{cell_id: " id ", run_id: r, spec_signature_hash: 'sha256:00', vsock_uds_base: " path "}"
#define CONFIG_DIR CELLGATE_GOLDEN_DIR "/../../config/"

/* Parses and returns the problems' lines ("" for none); the configuration goes to *ret_config if
 * that is wanted. */
static void parse(const char *text, const char *const *settings, struct cg_config **ret_config,
                  struct cg_buf *problems)
{
    size_t count = 0;
    while (settings != NULL && settings[count] != NULL) {
        count++;
    }
    struct cg_config *config = NULL;
    bool good = cg_config_parse("c.yaml", cg_bytes_str(text), settings, count, &config, problems);
    ck_assert(good == (config != NULL));
    ck_assert(good == (problems->len == 0));
    if (ret_config != NULL) {
        *ret_config = config;
    } else {
        cg_config_free(config);
    }
}

static struct cg_config *must_parse(const char *text, const char *const *settings)
{
    struct cg_config *config = NULL;
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, 1 << 20);
    parse(text, settings, &config, &problems);
    ck_assert_str_eq(cg_buf_str(&problems), "");
    return config;
}

static void check_problems(const char *text, const char *const *settings, const char *expected)
{
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, 1 << 20);
    parse(text, settings, NULL, &problems);
    ck_assert_str_eq(cg_buf_str(&problems), expected);
}

START_TEST(one_exporter_is_configuration_enough)
{
    struct cg_config *config = must_parse(EXPORTERS, NULL);
    ck_assert_ptr_nonnull(config->node);
    ck_assert_ptr_null(config->state_dir);
    ck_assert_uint_eq(config->ingress.threads, 0);
    ck_assert_uint_eq(config->ingress.connections_max, 16);
    ck_assert_uint_eq(config->ingress.frames_per_second, 2000);
    ck_assert_uint_eq(config->ingress.frame_deadline_ns, 30 * CG_NS_PER_S);
    ck_assert_uint_eq(config->ingress.partial_bytes_max, 16 << 20);
    ck_assert_uint_eq(config->keepalive.window_ns, 10 * CG_NS_PER_S);
    ck_assert_uint_eq(config->http.listen.count, 1);
    ck_assert_str_eq(config->http.listen.items[0], "127.0.0.1:9464");
    ck_assert_str_eq(config->event.source, "/cellos-supervisor/host-telemetry");
    ck_assert_ptr_null(config->signing.mode);
    ck_assert_ptr_null(config->spool.dir);
    ck_assert_uint_eq(config->spool.bytes_max, 64 << 20);
    ck_assert_int_eq(config->spool.sync, CG_SPOOL_SYNC_INTERVAL);
    ck_assert_uint_eq(config->spool.sync_interval_ns, 200 * CG_NS_PER_MS);
    ck_assert_int_eq(config->spool.when_full, CG_SPOOL_FULL_PAUSE);
    ck_assert_int_eq(config->log.level, CG_LOG_INFO);
    ck_assert_uint_eq(config->exporters_count, 1);
    const struct cg_exporter_config *exporter = config->exporters;
    ck_assert_str_eq(exporter->name, "out");
    ck_assert_ptr_eq(exporter->ops, cg_exporter_find("jsonl"));
    ck_assert_ptr_nonnull(exporter->own);
    ck_assert_uint_eq(exporter->batch_events, exporter->ops->batch_events);
    ck_assert_uint_eq(exporter->batch_bytes, exporter->ops->batch_bytes);
    ck_assert_uint_eq(exporter->linger_ns, 200 * CG_NS_PER_MS);
    ck_assert_uint_eq(exporter->backoff_max_ns, 60 * CG_NS_PER_S);
    ck_assert_uint_eq(exporter->retry_after_max_ns, 3600 * CG_NS_PER_S);
    ck_assert_uint_eq(exporter->suspect_after, 8);
    cg_config_free(config);
}
END_TEST

START_TEST(cells_become_specifications)
{
    struct cg_config *config =
        must_parse(EXPORTERS "ingress:\n  cells:\n"
                             "    - {cell_id: a.b:c, run_id: 007, spec_signature_hash: sha256:00,\n"
                             "       vsock_uds_base: /run/vm/a, keepalive: 3s, owner: [10000, 0],\n"
                             "       mode: 0660, labels: {x: 1, y: ''}}\n"
                             "    - " CELL("d", "/run/vm/d") "\n",
                   NULL);
    ck_assert_uint_eq(config->ingress.cells.count, 2);
    const struct cg_cell_spec *cells = config->ingress.cells.items;
    ck_assert_str_eq(cells[0].cell_id, "a.b:c");
    ck_assert_str_eq(cells[0].run_id, "007");
    ck_assert_str_eq(cells[0].spec_signature_hash, "sha256:00");
    ck_assert_uint_eq(cells[0].keepalive_window_ns, 3 * CG_NS_PER_S);
    ck_assert(cells[0].owner.present && cells[0].owner.first == 10000 && cells[0].owner.last == 0);
    ck_assert_uint_eq(cells[0].socket_mode, 0660);
    ck_assert_uint_eq(cells[0].labels.count, 2);
    ck_assert_str_eq(cells[0].labels.items[1].value, "");
    ck_assert(!cells[1].owner.present);
    ck_assert_uint_eq(cells[1].socket_mode, 0);
    ck_assert_uint_eq(cells[1].keepalive_window_ns, 0);
    ck_assert_ptr_null(cells[1].traceparent);
    cg_config_free(config);
}
END_TEST

START_TEST(signing_that_is_false_is_off)
{
    static const struct {
        const char *written;
        const char *means;
    } cases[] = {{"off", "off"},          {"'off'", "off"},
                 {"false", "off"},        {"no", "off"},
                 {"ed25519", "ed25519"},  {"Ed25519", "ed25519"},
                 {"hmac", "hmac-sha256"}, {"hmac-sha256", "hmac-sha256"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cg_auto_buf struct cg_buf text;
        cg_buf_init(&text, 4096);
        (void)cg_buf_printf(&text, "signing: {mode: %s}\n" EXPORTERS, cases[i].written);
        struct cg_config *config = must_parse(cg_buf_str(&text), NULL);
        ck_assert_str_eq(config->signing.mode, cases[i].means);
        cg_config_free(config);
    }
}
END_TEST

START_TEST(sync_is_a_word_or_an_interval)
{
    struct cg_config *config = must_parse("spool: {sync: always}\n" EXPORTERS, NULL);
    ck_assert_int_eq(config->spool.sync, CG_SPOOL_SYNC_ALWAYS);
    cg_config_free(config);
    config = must_parse("spool: {sync: never, dir: /s}\n" EXPORTERS, NULL);
    ck_assert_int_eq(config->spool.sync, CG_SPOOL_SYNC_NEVER);
    ck_assert_uint_eq(config->spool.bytes_max, 1 << 30);
    cg_config_free(config);
    config = must_parse("spool: {sync: 1s, max_bytes: 2MiB}\n" EXPORTERS, NULL);
    ck_assert_int_eq(config->spool.sync, CG_SPOOL_SYNC_INTERVAL);
    ck_assert_uint_eq(config->spool.sync_interval_ns, CG_NS_PER_S);
    ck_assert_uint_eq(config->spool.bytes_max, 2 << 20);
    cg_config_free(config);
}
END_TEST

static const struct bad_case {
    const char *text;
    const char *problems;
} bad_cases[] = {
    {"", "c.yaml:1:1: missing key 'exporters'\n"},
    {"# nothing\n", "c.yaml:1:1: missing key 'exporters'\n"},
    {"[a]", "c.yaml:1:1: expected a map of keys\n"},
    {"exporters: []", "c.yaml:1:12: exporters: at least 1 needed\n"},
    {"exporters: {a: b}", "c.yaml:1:12: exporters: expected a list of maps, not a map\n"},
    {"exporters:\n- name: a\n  path: /x\n", "c.yaml:2:3: missing key 'type'\n"},
    {"exporters:\n- {name: a, type: jsnol, path: /x}\n",
     "c.yaml:2:19: type: no exporter 'jsnol' (did you mean 'jsonl'?)\n"},
    {"exporters:\n- {name: a, type: jsonl, pth: /x}\n",
     "c.yaml:2:3: missing key 'path'\n"
     "c.yaml:2:26: unknown key 'pth' (did you mean 'path'?)\n"},
    {"exporters:\n- {name: .a, type: jsonl, path: /x}\n- {name: b, type: jsonl, path: /x}\n"
     "- {name: b, type: jsonl, path: /y}\n- {name: 'a/b', type: jsonl, path: /y}\n",
     "c.yaml:2:10: name: expected 1 to 64 of A-Z a-z 0-9 . _ - (no dot in front), not '.a'\n"
     "c.yaml:3:32: path: '/x' is another exporter's already\n"
     "c.yaml:4:10: name: 'b' is another exporter's already\n"
     "c.yaml:5:10: name: expected 1 to 64 of A-Z a-z 0-9 . _ - (no dot in front), not 'a/b'\n"
     "c.yaml:5:36: path: '/y' is another exporter's already\n"},
    {"exporters:\n- {name: a, type: jsonl, path: /x, retry: {initial: 2s, max: 1s}}\n",
     "c.yaml:2:3: retry.max: less than retry.initial\n"},
    {"exporters:\n- {name: a, type: jsonl, path: '-'}\n- {name: b, type: jsonl, path: /-}\n"
     "- {name: c, type: jsonl, path: '-'}\n- {name: d, type: jsonl}\n",
     "c.yaml:4:32: path: '-' is another exporter's already\n"
     "c.yaml:5:3: missing key 'path'\n"},
    {EXPORTERS "ingress: {cells: [{cell_id: a}]}\n",
     "c.yaml:2:19: missing key 'run_id'\n"
     "c.yaml:2:19: missing key 'spec_signature_hash'\n"
     "c.yaml:2:19: missing key 'vsock_uds_base'\n"},
    {EXPORTERS "ingress:\n  cells:\n  - " CELL("a", "/x/a") "\n  - " CELL(
         "b", "/x/a") "\n  - " CELL("a", "/x/c") "\n",
     "c.yaml:5:79: vsock_uds_base: '/x/a' belongs to another cell already\n"
     "c.yaml:6:15: cell_id: 'a' belongs to another cell already\n"},
    {EXPORTERS "ingress:\n  cells:\n  - " CELL("a/b", "/x/a") "\n  - " CELL("b", "x") "\n",
     "c.yaml:4:15: cell_id: may have letters, digits and . _ : - only\n"
     "c.yaml:5:79: vsock_uds_base: must be an absolute path\n"},
    {EXPORTERS "ingress:\n  roots: [/run/vm/, srv]\n  cells:\n  - " CELL("a", "/run/vmx/a") "\n",
     "c.yaml:3:10: roots: must be an absolute path\n"
     "c.yaml:5:79: vsock_uds_base: lies beneath none of ingress.roots\n"},
    {EXPORTERS "ingress:\n  cells:\n  - {cell_id: a, run_id: r, spec_signature_hash: h,\n"
               "     vsock_uds_base: /a, traceparent: x}\n",
     "c.yaml:5:39: traceparent: must have the W3C form 00-<32 hex digits>-<16 hex digits>-<2 hex "
     "digits>\n"},
    {EXPORTERS "state_dir: var\nspool: {dir: s, sync: 3}\n",
     "c.yaml:2:12: state_dir: must be an absolute path\n"
     "c.yaml:3:14: dir: must be an absolute path\n"
     "c.yaml:3:23: sync: expected always, never or a duration from 1ms to 1h, not '3'\n"},
    {EXPORTERS "signing: {mode: rsa}\n",
     "c.yaml:2:17: mode: expected off, hmac-sha256 or ed25519, not 'rsa'\n"},
    {EXPORTERS "signing: {mode: off, key_file: k}\n",
     "c.yaml:2:32: key_file: a key is given, and the mode is off\n"},
    {EXPORTERS "http: {lisen: x}\n", "c.yaml:2:8: unknown key 'lisen' (did you mean 'listen'?)\n"},
    {EXPORTERS "http: {listen: ['127.0.0.1:9464', '1.2.3:4', 'h:99999', '::1:80', 'unix:x']}\n",
     "c.yaml:2:35: listen: expected HOST:PORT, [V6]:PORT or unix:/path, not '1.2.3:4'\n"
     "c.yaml:2:46: listen: expected HOST:PORT, [V6]:PORT or unix:/path, not 'h:99999'\n"
     "c.yaml:2:57: listen: expected HOST:PORT, [V6]:PORT or unix:/path, not '::1:80'\n"
     "c.yaml:2:67: listen: expected HOST:PORT, [V6]:PORT or unix:/path, not 'unix:x'\n"},
    {EXPORTERS "contrl: {socket: /x}\n",
     "c.yaml:2:1: unknown key 'contrl' (did you mean 'control'?)\n"},
    {EXPORTERS "control: {socket: /x}\n",
     "c.yaml:2:19: socket: needs a state_dir, for registrations survive a restart\n"},
    {EXPORTERS "state_dir: /s\ncontrol: {socket: x}\n",
     "c.yaml:3:19: socket: must be an absolute path\n"},
    {EXPORTERS "ingress: {owners: {uids: [9, 8]}}\n",
     "c.yaml:2:19: uids: the first is greater than the last\n"},
};

START_TEST(a_bad_configuration_is_refused_with_every_problem)
{
    check_problems(bad_cases[_i].text, NULL, bad_cases[_i].problems);
}
END_TEST

START_TEST(good_addresses_are_taken)
{
    cg_config_free(must_parse(EXPORTERS "http: {listen: ['[::1]:0', 'localhost:80', unix:/run/x, "
                                        "'gw-1.example:9464', '0.0.0.0:65535']}\n",
                              NULL));
}
END_TEST

START_TEST(settings_go_over_the_file)
{
    static const char text[] =
        EXPORTERS "node: a\ningress: {cells: [" CELL("x.y", "/x") ", " CELL("z", "/z") "]}\n";
    const char *const settings[] = {"node=b",
                                    "exporters.out.path=/o: *x",
                                    "exporters.0.batch={events: 7}",
                                    "exporters.second.type=jsonl",
                                    "exporters.second.path=-",
                                    "ingress.cells.x.y.vsock_uds_base=/new",
                                    "ingress.cells.1.labels.a.b=c",
                                    "ingress.roots=[/new, '/']",
                                    "spool.max_bytes=2MiB",
                                    "http.listen='127.0.0.1:1'",
                                    NULL};
    struct cg_config *config = must_parse(text, settings);
    ck_assert_str_eq(config->node, "b");
    ck_assert_uint_eq(config->exporters_count, 2);
    cg_auto_buf struct cg_buf shown;
    cg_buf_init(&shown, 1 << 20);
    cg_config_print(config, &shown);
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&shown), "    path: \"/o: *x\"\n"));
    ck_assert_ptr_nonnull(strstr(cg_buf_str(&shown), "    path: \"-\"\n"));
    ck_assert_uint_eq(config->exporters[0].batch_events, 7);
    ck_assert_str_eq(config->exporters[1].name, "second");
    const struct cg_cell_spec *cells = config->ingress.cells.items;
    ck_assert_uint_eq(config->ingress.cells.count, 2);
    ck_assert_str_eq(cells[0].vsock_uds_base, "/new");
    ck_assert_str_eq(cells[1].labels.items[0].key, "a.b");
    ck_assert_uint_eq(config->ingress.roots.count, 2);
    ck_assert_uint_eq(config->spool.bytes_max, 2 << 20);
    ck_assert_str_eq(config->http.listen.items[0], "127.0.0.1:1");
    cg_config_free(config);
}
END_TEST

START_TEST(a_setting_of_null_takes_a_key_away)
{
    const char *const settings[] = {"state_dir=null", "signing=null", NULL};
    struct cg_config *config =
        must_parse(EXPORTERS "state_dir: /x\nsigning: {mode: ed25519, kid: k}\n", settings);
    ck_assert_ptr_null(config->state_dir);
    ck_assert_ptr_null(config->signing.mode);
    cg_config_free(config);
}
END_TEST

START_TEST(settings_alone_make_a_configuration)
{
    const char *const settings[] = {"exporters.a.type=jsonl", "exporters.a.path=-", NULL};
    cg_config_free(must_parse("", settings));
}
END_TEST

static const struct bad_setting {
    const char *setting;
    const char *problems;
} bad_settings[] = {
    {"node", "--set: expected path.to.key=value\n"},
    {"=x", "--set: expected path.to.key=value\n"},
    {"a..b=x", "--set: expected path.to.key=value\n"},
    {"spool.", "--set: expected path.to.key=value\n"},
    {"spool.max_byte=1MiB",
     "--set spool.max_byte: unknown key 'max_byte' (did you mean 'max_bytes'?)\n"},
    {"spool.max_bytes=many", "--set spool.max_bytes: max_bytes: expected a size of at least 1MiB "
                             "(512, 64KiB, 1MiB), not 'many'\n"},
    {"spool.dir=", "--set spool.dir: dir: nothing given (write null for the default)\n"},
    {"node.x=1", "--set node.x: the path goes through what is not a map or list\n"},
    {"spool=[", "--set spool: not YAML: while parsing a flow node, did not find expected node "
                "content\n"},
    {"log.level='a\x1b'", "--set log.level: not YAML: control characters are not allowed\n"},
    {"log.level=\xff", "--set log.level: not UTF-8\n"},
};

START_TEST(a_bad_setting_is_cited)
{
    const char *const settings[] = {bad_settings[_i].setting, NULL};
    check_problems(EXPORTERS "node: a\n", settings, bad_settings[_i].problems);
}
END_TEST

START_TEST(a_printed_configuration_reads_back_the_same)
{
    struct cg_config *config = must_parse(
        EXPORTERS "ingress: {cells: [" CELL("a", "/x") "]}\nspool: {sync: always}\n", NULL);
    cg_auto_buf struct cg_buf first;
    cg_buf_init(&first, 1 << 20);
    cg_config_print(config, &first);
    cg_config_free(config);
    config = must_parse(cg_buf_str(&first), NULL);
    cg_auto_buf struct cg_buf second;
    cg_buf_init(&second, 1 << 20);
    cg_config_print(config, &second);
    cg_config_free(config);
    ck_assert_str_eq(cg_buf_str(&first), cg_buf_str(&second));
}
END_TEST

START_TEST(ten_thousand_cells_fit)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, CG_CONFIG_BYTES_MAX);
    (void)cg_buf_append_str(&text, EXPORTERS "ingress:\n  cells:\n");
    for (unsigned i = 0; i < 10000; i++) {
        (void)cg_buf_printf(&text,
                            "    - cell_id: cell-%u\n      run_id: run-%u\n"
                            "      spec_signature_hash: sha256:%064u\n"
                            "      vsock_uds_base: /run/vm/cells/of/this/host/%u.vsock\n"
                            "      labels: {team: a, pool: b}\n",
                            i, i, i, i);
    }
    struct cg_config *config = must_parse(cg_buf_str(&text), NULL);
    ck_assert_uint_eq(config->ingress.cells.count, 10000);
    cg_config_free(config);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_a_problem)
{
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, 4096);
    struct cg_config *config = NULL;
    ck_assert(!cg_config_load("/nowhere/c.yaml", NULL, 0, &config, &problems));
    ck_assert_str_eq(cg_buf_str(&problems),
                     "/nowhere/c.yaml:1:1: cannot be opened: No such file or directory\n");
}
END_TEST

/* --- the files in config/ --- */

static void read_text(const char *path, struct cg_buf *ret_text)
{
    cg_auto_fclose FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s", path);
    char piece[4096];
    for (size_t got = 1; got > 0;) {
        got = fread(piece, 1, sizeof(piece), file);
        ck_assert(cg_buf_append(ret_text, cg_bytes(piece, got)));
    }
}

START_TEST(the_files_of_this_repository_are_good)
{
    static const char *const paths[] = {CONFIG_DIR "cellgate.yaml", CONFIG_DIR "quickstart.yaml"};
#ifdef CELLGATE_EXPORTERS_LEFT_OUT
    if (_i == 0) {
        return; /* cellgate.yaml shows every exporter there is, built or not */
    }
#endif
    cg_auto_buf struct cg_buf problems;
    cg_buf_init(&problems, 1 << 20);
    struct cg_config *config = NULL;
    bool good = cg_config_load(paths[_i], NULL, 0, &config, &problems);
    ck_assert_msg(good, "%s", cg_buf_str(&problems));
    cg_config_free(config);
}
END_TEST

/* Every key of the table is a member of `map`, with the default where there is one. */
static void check_complete(const struct cg_option *options, const struct cg_node *map,
                           const char *where)
{
    ck_assert_msg(map != NULL && map->kind == CG_NODE_MAP, "%s", where);
    for (const struct cg_option *option = options; option->key != NULL; option++) {
        const struct cg_node *member = cg_node_member(map, cg_bytes_str(option->key));
        ck_assert_msg(member != NULL, "%s.%s is not in cellgate.yaml", where, option->key);
        if (option->fallback != NULL) {
            ck_assert_msg(cg_bytes_equal(member->text, cg_bytes_str(option->fallback)),
                          "%s.%s is not its default", where, option->key);
        }
        if (option->type == CG_OPTION_SECTION) {
            check_complete(option->fields, member, option->key);
        } else if (option->type == CG_OPTION_SECTIONS && option->fields != cg_schema_exporter) {
            check_complete(option->fields, member->first, option->key);
        }
    }
}

START_TEST(cellgate_yaml_has_every_key_with_its_default)
{
    cg_auto_buf struct cg_buf text;
    cg_buf_init(&text, 1 << 20);
    read_text(CONFIG_DIR "cellgate.yaml", &text);
    struct cg_config_memory *memory = cg_config_memory_new();
    struct cg_problems problems;
    cg_problems_init(&problems);
    struct cg_node *root = NULL;
    ck_assert(cg_node_parse(memory, "f", true, cg_buf_bytes(&text), &root, &problems));
    check_complete(cg_schema, root, "");
    const struct cg_node *exporters = cg_node_member(root, CG_BYTES("exporters"));
    check_complete(cg_schema_exporter, exporters->first, "exporters");
    for (size_t i = 0; cg_exporters[i] != NULL; i++) {
        const struct cg_node *element = exporters->first;
        while (element != NULL && !cg_bytes_equal(cg_node_member(element, CG_BYTES("type"))->text,
                                                  cg_bytes_str(cg_exporters[i]->type))) {
            element = element->next;
        }
        check_complete(cg_exporters[i]->options, element, cg_exporters[i]->type);
    }
    cg_problems_fini(&problems);
    cg_config_memory_free(memory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, one_exporter_is_configuration_enough);
    tcase_add_test(tests, cells_become_specifications);
    tcase_add_test(tests, signing_that_is_false_is_off);
    tcase_add_test(tests, sync_is_a_word_or_an_interval);
    tcase_add_loop_test(tests, a_bad_configuration_is_refused_with_every_problem, 0,
                        sizeof(bad_cases) / sizeof(bad_cases[0]));
    tcase_add_test(tests, good_addresses_are_taken);
    tcase_add_test(tests, settings_go_over_the_file);
    tcase_add_test(tests, a_setting_of_null_takes_a_key_away);
    tcase_add_test(tests, settings_alone_make_a_configuration);
    tcase_add_loop_test(tests, a_bad_setting_is_cited, 0,
                        sizeof(bad_settings) / sizeof(bad_settings[0]));
    tcase_add_test(tests, a_printed_configuration_reads_back_the_same);
    tcase_add_test(tests, ten_thousand_cells_fit);
    tcase_add_test(tests, a_file_that_is_not_there_is_a_problem);
    tcase_add_loop_test(tests, the_files_of_this_repository_are_good, 0, 2);
    tcase_add_test(tests, cellgate_yaml_has_every_key_with_its_default);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
