#include "cells/registry.h"

#include "cellgate/limits.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cg_spool *spool;
static struct cg_registry *registry;
static struct cg_error err;

static const struct cg_cell_spec good = {
    .cell_id = "cell-a",
    .run_id = "run-1",
    .spec_signature_hash = "sha256:00",
    .vsock_uds_base = "/run/vm/a.vsock",
};

static void set_up(void)
{
    const struct cg_spool_config config = {
        .bytes_max = 16 << 20, .sync = CG_SPOOL_SYNC_NEVER, .clock = &cg_clock_system};
    struct cg_spool_recovery recovery;
    err = (struct cg_error){0};
    ck_assert_msg(cg_spool_open(&config, &spool, &recovery, &err), "%s", err.text);
    ck_assert_msg(cg_registry_new(spool, 3, 10 * CG_NS_PER_S, &registry, &err), "%s", err.text);
}

static void tear_down(void)
{
    cg_registry_free(registry);
    cg_spool_close(spool);
}

static struct cg_cell *add(const struct cg_cell_spec *spec)
{
    struct cg_cell *cell = NULL;
    ck_assert_msg(cg_registry_add(registry, spec, 77, &cell, &err), "%s", err.text);
    return cell;
}

static bool equals(struct cg_bytes bytes, const char *text)
{
    return cg_bytes_equal(bytes, cg_bytes_str(text));
}

/* --- what a specification may say --- */

static char long_id[CG_ID_BYTES_MAX + 2];
static char long_hash[CG_SPEC_HASH_BYTES_MAX + 2];

static void fill(char *text, size_t len)
{
    memset(text, 'x', len);
    text[len] = '\0';
}

START_TEST(good_values_are_accepted)
{
    struct cg_cell_spec spec = good;
    ck_assert_msg(cg_cell_spec_check(&spec, &err), "%s", err.text);
    spec.cell_id = spec.run_id = "aZ09._:-";
    ck_assert_msg(cg_cell_spec_check(&spec, &err), "%s", err.text);
    fill(long_id, CG_ID_BYTES_MAX);
    spec.cell_id = spec.run_id = long_id;
    fill(long_hash, CG_SPEC_HASH_BYTES_MAX);
    spec.spec_signature_hash = long_hash;
    spec.vsock_uds_base = "/a";
    spec.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    spec.socket_mode = 0777;
    spec.owner = (struct cg_range){.present = true, .first = 0, .last = UINT32_MAX - 1};
    ck_assert_msg(cg_cell_spec_check(&spec, &err), "%s", err.text);
    spec.spec_signature_hash = "sha256:\"caf\xC3\xA9\"";
    ck_assert_msg(cg_cell_spec_check(&spec, &err), "%s", err.text);
    spec.traceparent = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-follows";
    ck_assert_msg(cg_cell_spec_check(&spec, &err), "%s", err.text);
}
END_TEST

static const struct cg_pair repeated_labels[] = {{"a", "1"}, {"b", "2"}, {"a", "3"}};
static const struct cg_pair bad_label_value[] = {{"a", "\xff"}};
static const struct cg_pair bad_label_key[] = {{"", "1"}};
static struct cg_pair many_labels[CG_LABELS_MAX + 1];
static char many_keys[CG_LABELS_MAX + 1][4];

/* A specification by its values: id, run, hash, base, and whatever else. */
#define SPEC(id, run, hash, base, ...)                                                             \
    {                                                                                              \
        .cell_id = (id), .run_id = (run), .spec_signature_hash = (hash), .vsock_uds_base = (base), \
        __VA_ARGS__                                                                                \
    }

/* The refusal names the member. */
static const struct bad_spec {
    const char *member;
    struct cg_cell_spec spec;
} bad_specs[] = {
    {"cell_id", SPEC(NULL, "r", "h", "/a")},
    {"cell_id", SPEC("", "r", "h", "/a")},
    {"cell_id", SPEC(".", "r", "h", "/a")},
    {"cell_id", SPEC("..", "r", "h", "/a")},
    {"cell_id", SPEC("a/b", "r", "h", "/a")},
    {"cell_id", SPEC("a b", "r", "h", "/a")},
    {"cell_id", SPEC("caf\xC3\xA9", "r", "h", "/a")},
    {"cell_id", SPEC(long_id, "r", "h", "/a")},
    {"run_id", SPEC("c", NULL, "h", "/a")},
    {"run_id", SPEC("c", "r\n", "h", "/a")},
    {"spec_signature_hash", SPEC("c", "r", NULL, "/a")},
    {"spec_signature_hash", SPEC("c", "r", "", "/a")},
    {"spec_signature_hash", SPEC("c", "r", "\x80", "/a")},
    {"spec_signature_hash", SPEC("c", "r", "a\tb", "/a")},
    {"spec_signature_hash", SPEC("c", "r", long_hash, "/a")},
    {"vsock_uds_base", SPEC("c", "r", "h", NULL)},
    {"vsock_uds_base", SPEC("c", "r", "h", "a.vsock")},
    {"vsock_uds_base", SPEC("c", "r", "h", "/")},
    {"vsock_uds_base", SPEC("c", "r", "h", "/a/")},
    {"vsock_uds_base", SPEC("c", "r", "h", "/a//b")},
    {"vsock_uds_base", SPEC("c", "r", "h", "/a/./b")},
    {"vsock_uds_base", SPEC("c", "r", "h", "/a/../b")},
    {"vsock_uds_base", SPEC("c", "r", "h", "/a\nb")},
    {"traceparent", SPEC("c", "r", "h", "/a", .traceparent = "")},
    {"traceparent", SPEC("c", "r", "h", "/a",
                         .traceparent = "00-00000000000000000000000000000000-b7ad6b7169203331-01")},
    {"traceparent", SPEC("c", "r", "h", "/a",
                         .traceparent = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")},
    {"traceparent", SPEC("c", "r", "h", "/a",
                         .traceparent = "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
    {"traceparent", SPEC("c", "r", "h", "/a",
                         .traceparent = "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
    {"traceparent",
     SPEC("c", "r", "h", "/a",
          .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x")},
    {"labels", SPEC("c", "r", "h", "/a", .labels = {repeated_labels, 3})},
    {"labels", SPEC("c", "r", "h", "/a", .labels = {bad_label_value, 1})},
    {"labels", SPEC("c", "r", "h", "/a", .labels = {bad_label_key, 1})},
    {"labels", SPEC("c", "r", "h", "/a", .labels = {many_labels, CG_LABELS_MAX + 1})},
    {"mode", SPEC("c", "r", "h", "/a", .socket_mode = 04755)},
    {"owner", SPEC("c", "r", "h", "/a", .owner = {true, UINT32_MAX, 0})},
    {"owner", SPEC("c", "r", "h", "/a", .owner = {true, 0, UINT64_C(1) << 32})},
};

START_TEST(a_bad_value_is_refused_and_its_member_named)
{
    fill(long_id, CG_ID_BYTES_MAX + 1);
    fill(long_hash, CG_SPEC_HASH_BYTES_MAX + 1);
    for (size_t i = 0; i < CG_LABELS_MAX + 1; i++) {
        (void)snprintf(many_keys[i], sizeof(many_keys[i]), "k%zu", i);
        many_labels[i] = (struct cg_pair){many_keys[i], "v"};
    }
    const struct bad_spec *bad = &bad_specs[_i];
    ck_assert_msg(!cg_cell_spec_check(&bad->spec, &err), "accepted: %s, case %d", bad->member, _i);
    ck_assert_msg(strncmp(err.text, bad->member, strlen(bad->member)) == 0, "%s", err.text);
    struct cg_cell *cell = NULL;
    ck_assert(!cg_registry_add(registry, &bad->spec, 1, &cell, &err));
    ck_assert_ptr_null(cell);
}
END_TEST

/* --- the registry --- */

START_TEST(a_cell_is_what_its_specification_says)
{
    static const struct cg_pair labels[] = {{"zone", "eu"}, {"a\"b", "c\\d"}, {"Zone", ""}};
    struct cg_cell_spec spec = good;
    spec.spec_signature_hash = "sha256:\"x\"";
    spec.labels = (struct cg_pairs){labels, 3};
    spec.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    spec.keepalive_window_ns = 5;
    spec.socket_mode = 0660;
    spec.owner = (struct cg_range){.present = true, .first = 10, .last = 20};
    const struct cg_cell *cell = add(&spec);
    ck_assert(equals(cell->identity.cell_id, "cell-a"));
    ck_assert(equals(cell->identity.run_id, "run-1"));
    ck_assert(equals(cell->identity.spec_hash_json, "sha256:\\\"x\\\""));
    ck_assert(equals(cell->identity.traceparent_json, spec.traceparent));
    ck_assert(equals(cell->identity.labels_json,
                     "{\"Zone\":\"\",\"a\\\"b\":\"c\\\\d\",\"zone\":\"eu\"}"));
    ck_assert_str_eq(cell->vsock_uds_base, spec.vsock_uds_base);
    ck_assert_uint_eq(cell->keepalive_window_ns, 5);
    ck_assert_uint_eq(cell->socket_mode, 0660);
    ck_assert_uint_eq(cell->socket_uid, 10);
    ck_assert_uint_eq(cell->socket_gid, 20);
    ck_assert_uint_eq(cell->registered_ns, 77);
    ck_assert_uint_eq(cell->sequence, 0);
    ck_assert_uint_eq(cell->connections_opened, 0);
}
END_TEST

START_TEST(what_is_not_said_has_a_default)
{
    const struct cg_cell *cell = add(&good);
    ck_assert_uint_eq(cell->keepalive_window_ns, 10 * CG_NS_PER_S);
    ck_assert_uint_eq(cell->socket_mode, 0600);
    ck_assert_uint_eq(cell->socket_uid, (uid_t)-1);
    ck_assert_uint_eq(cell->socket_gid, (gid_t)-1);
    ck_assert_uint_eq(cell->identity.labels_json.len, 0);
    ck_assert_uint_eq(cell->identity.traceparent_json.len, 0);
}
END_TEST

START_TEST(an_id_and_a_path_belong_to_one_cell)
{
    (void)add(&good);
    struct cg_cell *cell = NULL;
    struct cg_cell_spec spec = good;
    spec.run_id = "run-2";
    spec.vsock_uds_base = "/run/vm/b.vsock";
    ck_assert(!cg_registry_add(registry, &spec, 1, &cell, &err));
    ck_assert_ptr_eq(strstr(err.text, "cell_id: "), err.text);
    spec.cell_id = "cell-b";
    spec.vsock_uds_base = good.vsock_uds_base;
    ck_assert(!cg_registry_add(registry, &spec, 1, &cell, &err));
    ck_assert_ptr_eq(strstr(err.text, "vsock_uds_base: "), err.text);
    ck_assert_ptr_nonnull(strstr(err.text, "cell-a"));
    spec.vsock_uds_base = "/run/vm/b.vsock";
    (void)add(&spec);
}
END_TEST

enum { MANY = 1000 };

struct seen {
    unsigned count;
    unsigned of_thread[3];
};

static void see(void *context, const struct cg_cell *cell)
{
    struct seen *seen = context;
    char expected[16];
    (void)snprintf(expected, sizeof(expected), "cell-%u", seen->count);
    ck_assert(equals(cell->identity.cell_id, expected));
    seen->of_thread[cell->ingress_thread]++;
    seen->count++;
}

START_TEST(many_cells_keep_their_order_and_share_the_threads)
{
    char id[16];
    char base[32];
    struct cg_cell_spec spec = good;
    spec.cell_id = id;
    spec.vsock_uds_base = base;
    for (unsigned i = 0; i < MANY; i++) {
        (void)snprintf(id, sizeof(id), "cell-%u", i);
        (void)snprintf(base, sizeof(base), "/run/vm/%u.vsock", i);
        (void)add(&spec);
    }
    for (unsigned i = 0; i < MANY; i++) {
        struct cg_cell *cell = NULL;
        (void)snprintf(id, sizeof(id), "cell-%u", i);
        (void)snprintf(base, sizeof(base), "/run/vm/other");
        ck_assert(!cg_registry_add(registry, &spec, 1, &cell, &err));
    }
    struct seen seen = {0};
    cg_registry_visit(registry, see, &seen);
    ck_assert_uint_eq(seen.count, MANY);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_ge(seen.of_thread[i], MANY / 3);
    }
}
END_TEST

START_TEST(a_cell_lives_as_long_as_somebody_holds_it)
{
    struct cg_cell *cell = cg_cell_ref(add(&good));
    cg_registry_free(registry);
    ck_assert(equals(cell->identity.cell_id, "cell-a"));
    cg_cell_unref(cell);
    ck_assert(cg_registry_new(spool, 1, 1, &registry, &err));
}
END_TEST

/* --- cells that come and go --- */

static struct cg_cell *enrolled;

static enum cg_registry_outcome enrol(const struct cg_cell_spec *spec, uint64_t vmm_pid)
{
    return cg_registry_enrol(registry, spec, vmm_pid, 77, &enrolled, &err);
}

START_TEST(an_enrolled_cell_is_found_until_it_is_removed)
{
    ck_assert_int_eq(enrol(&good, 0), CG_REGISTRY_ADDED);
    ck_assert(!enrolled->configured);
    struct cg_cell *found = cg_registry_find(registry, CG_BYTES("cell-a"));
    ck_assert_ptr_eq(found, enrolled);
    cg_registry_remove(registry, enrolled);
    ck_assert_ptr_null(cg_registry_find(registry, CG_BYTES("cell-a")));
    ck_assert(equals(found->identity.run_id, "run-1")); /* references keep the memory */
    cg_cell_unref(found);
    cg_cell_unref(enrolled);
    ck_assert_int_eq(enrol(&good, 0), CG_REGISTRY_ADDED);
    cg_cell_unref(enrolled);
}
END_TEST

START_TEST(the_same_registration_is_the_same_however_it_is_spelled)
{
    static const struct cg_pair one[] = {{"a", "1"}, {"b", "2"}};
    static const struct cg_pair other[] = {{"b", "2"}, {"a", "1"}};
    struct cg_cell_spec spec = good;
    spec.labels = (struct cg_pairs){one, 2};
    ck_assert_int_eq(enrol(&spec, 9), CG_REGISTRY_ADDED);
    struct cg_cell *first = enrolled;
    spec.labels.items = other;
    spec.socket_mode = 0600;
    spec.keepalive_window_ns = 10 * CG_NS_PER_S;
    ck_assert_int_eq(enrol(&spec, 9), CG_REGISTRY_EXISTS);
    ck_assert_ptr_eq(first, enrolled);
    cg_cell_unref(enrolled);
    cg_cell_unref(first);
}
END_TEST

START_TEST(a_conflict_names_the_member)
{
    ck_assert_int_eq(enrol(&good, 0), CG_REGISTRY_ADDED);
    cg_cell_unref(enrolled);
    const struct {
        const char *cell_id, *run_id, *hash, *base;
        uint64_t vmm_pid;
        const char *member;
    } cases[] = {
        {"cell-a", "run-2", "sha256:00", "/run/vm/a.vsock", 0, "cell_id:"},
        {"cell-a", "run-1", "sha256:01", "/run/vm/a.vsock", 0, "spec_signature_hash:"},
        {"cell-a", "run-1", "sha256:00", "/run/vm/b.vsock", 0, "vsock_uds_base:"},
        {"cell-b", "run-1", "sha256:00", "/run/vm/a.vsock", 0, "vsock_uds_base:"},
        {"cell-a", "run-1", "sha256:00", "/run/vm/a.vsock", 5, "vmm_pid:"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct cg_cell_spec spec = {.cell_id = cases[i].cell_id,
                                          .run_id = cases[i].run_id,
                                          .spec_signature_hash = cases[i].hash,
                                          .vsock_uds_base = cases[i].base};
        ck_assert_int_eq(enrol(&spec, cases[i].vmm_pid), CG_REGISTRY_CONFLICT);
        ck_assert_int_eq(strncmp(err.text, cases[i].member, strlen(cases[i].member)), 0);
    }
}
END_TEST

static void count_cell(void *context, const struct cg_cell *cell)
{
    (void)cell;
    ++*(size_t *)context;
}

START_TEST(cells_are_removed_from_any_place)
{
    enum { CELLS = 300 };
    static struct cg_cell *cells[CELLS];
    char ids[CELLS][16];
    char paths[CELLS][32];
    for (size_t i = 0; i < CELLS; i++) {
        struct cg_cell_spec spec = good;
        (void)snprintf(ids[i], sizeof(ids[i]), "c%zu", i);
        (void)snprintf(paths[i], sizeof(paths[i]), "/run/vm/%zu", i);
        spec.cell_id = ids[i];
        spec.vsock_uds_base = paths[i];
        ck_assert_int_eq(enrol(&spec, 0), CG_REGISTRY_ADDED);
        cells[i] = enrolled;
    }
    size_t left = CELLS;
    for (size_t step = 0; step < CELLS; step++) {
        size_t i = step * 7 % CELLS; /* every one once, the first and the last among them */
        cg_registry_remove(registry, cells[i]);
        cg_cell_unref(cells[i]);
        size_t seen = 0;
        cg_registry_visit(registry, count_cell, &seen);
        ck_assert_uint_eq(seen, --left);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("registry");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, good_values_are_accepted);
    tcase_add_loop_test(tcase, a_bad_value_is_refused_and_its_member_named, 0,
                        sizeof(bad_specs) / sizeof(bad_specs[0]));
    tcase_add_test(tcase, a_cell_is_what_its_specification_says);
    tcase_add_test(tcase, what_is_not_said_has_a_default);
    tcase_add_test(tcase, an_id_and_a_path_belong_to_one_cell);
    tcase_add_test(tcase, many_cells_keep_their_order_and_share_the_threads);
    tcase_add_test(tcase, a_cell_lives_as_long_as_somebody_holds_it);
    TCase *going = tcase_create("coming and going");
    tcase_add_checked_fixture(going, set_up, tear_down);
    tcase_add_test(going, an_enrolled_cell_is_found_until_it_is_removed);
    tcase_add_test(going, the_same_registration_is_the_same_however_it_is_spelled);
    tcase_add_test(going, a_conflict_names_the_member);
    tcase_add_test(going, cells_are_removed_from_any_place);
    Suite *suite = suite_create("registry");
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, going);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
