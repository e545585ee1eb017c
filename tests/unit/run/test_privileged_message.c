#include "run/privileged_message.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* A request as an honest gateway sends it, and the configuration that it is judged by. */
static const char *const roots[] = {"/srv/jailer", "/run/vm/"};
static const char *const files[] = {"/etc/cellgate/signing.key", "token"};
static struct cg_privileged_cell cells[] = {
    {.base = "/other/b.vsock", .owner = {.present = true, .first = 55, .last = 66}},
    {.base = "/other/a.vsock"},
};
static struct cg_privileged_policy policy;
static struct cg_privileged_request request;
static struct cg_privileged_request judged;
static struct cg_error err;

static void set_up(void)
{
    cg_privileged_cells_sort(cells, 2);
    policy = (struct cg_privileged_policy){
        .gateway_uid = 990,
        .gateway_gid = 991,
        .roots = {roots, 2},
        .uids = {.present = true, .first = 10000, .last = 19999},
        .gids = {.present = true, .first = 20000, .last = 29999},
        .files = files,
        .files_count = 2,
        .cells = cells,
        .cells_count = 2,
    };
    request = (struct cg_privileged_request){
        .magic = CG_PRIVILEGED_MAGIC,
        .op = CG_PRIVILEGED_ENTER,
        .flags = CG_PRIVILEGED_MAKING,
        .mode = 0600,
        .uid = 10000,
        .gid = 20000,
        .temporary = ".cellgate-0123456789abcdef",
        .path = "/srv/jailer/vm-1/v.sock_9001",
    };
    err = (struct cg_error){0};
}

static bool is_taken(void)
{
    err = (struct cg_error){0};
    bool taken = cg_privileged_judge(&policy, &request, sizeof(request), &judged, &err);
    ck_assert(taken == (err.text[0] == '\0'));
    return taken;
}

static void set_path(const char *path)
{
    memset(request.path, 0, sizeof(request.path));
    memcpy(request.path, path, strlen(path));
}

/* A request of another kind, with none of the members of an ENTER. */
static void make_plain(enum cg_privileged_op op)
{
    request = (struct cg_privileged_request){.magic = CG_PRIVILEGED_MAGIC, .op = (uint32_t)op};
}

START_TEST(an_honest_request_is_taken)
{
    ck_assert_msg(is_taken(), "%s", err.text);
    ck_assert_mem_eq(&judged, &request, sizeof(request));
    set_path("/run/vm/a.vsock_9001"); /* a root with a slash behind it */
    ck_assert(is_taken());
}
END_TEST

START_TEST(a_request_of_another_size_is_refused)
{
    static char longer[sizeof(request) + 1];
    memcpy(longer, &request, sizeof(request));
    for (size_t len = 0; len < sizeof(request); len++) {
        ck_assert(!cg_privileged_judge(&policy, &request, len, &judged, &err));
    }
    ck_assert(!cg_privileged_judge(&policy, longer, sizeof(longer), &judged, &err));
}
END_TEST

START_TEST(another_magic_or_operation_is_refused)
{
    const uint32_t ops[] = {0, CG_PRIVILEGED_OPEN + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        request.op = ops[i];
        ck_assert(!is_taken());
    }
    request.op = CG_PRIVILEGED_ENTER;
    request.magic++;
    ck_assert(!is_taken());
}
END_TEST

START_TEST(a_path_outside_the_roots_is_refused)
{
    static const char *const paths[] = {
        "",
        "srv/jailer/v.sock_9001",
        "/srv/jailerx/v.sock_9001",
        "/srv/v.sock_9001",
        "/etc/v.sock_9001",
        "/srv/jailer/../../etc/v.sock_9001",
        "/srv/jailer/./v.sock_9001",
        "/srv/jailer//v.sock_9001",
        "/srv/jailer/v.sock_9001/",
        "/srv/jailer/..",
        "/other/a.vsock_9001", /* a cell of the configuration, but there are roots */
    };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        set_path(paths[i]);
        ck_assert_msg(!is_taken(), "%s", paths[i]);
    }
}
END_TEST

START_TEST(only_a_guests_socket_is_made)
{
    static const char *const paths[] = {"/srv/jailer/v.sock", "/srv/jailer/v.sock_9002",
                                        "/srv/jailer/passwd"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        set_path(paths[i]);
        ck_assert_msg(!is_taken(), "%s", paths[i]);
    }
}
END_TEST

START_TEST(without_roots_only_the_cells_of_the_configuration_have_sockets)
{
    policy.roots.count = 0;
    ck_assert(!is_taken());
    request.uid = policy.gateway_uid;
    request.gid = policy.gateway_gid;
    set_path("/other/a.vsock_9001");
    ck_assert_msg(is_taken(), "%s", err.text);
    set_path("/other/c.vsock_9001");
    ck_assert(!is_taken());
}
END_TEST

START_TEST(an_owner_outside_the_ranges_is_refused)
{
    static const uint32_t owners[][2] = {
        {0, 0},         {9999, 20000}, {20000, 20000},           {10000, 19999},
        {10000, 30000}, {10000, 0},    {UINT32_MAX, UINT32_MAX}, {990, 20000},
        {55, 66}, /* another cell's */
    };
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
        request.uid = owners[i][0];
        request.gid = owners[i][1];
        ck_assert_msg(!is_taken(), "%u %u", request.uid, request.gid);
    }
    request.uid = policy.gateway_uid;
    request.gid = policy.gateway_gid;
    ck_assert(is_taken());
    policy.uids.present = false;
    request.uid = 10000;
    request.gid = 20000;
    ck_assert(!is_taken());
}
END_TEST

START_TEST(the_owner_of_a_cell_of_the_configuration_is_taken_for_that_cell)
{
    policy.roots.count = 0;
    request.uid = 55;
    request.gid = 66;
    set_path("/other/b.vsock_9001");
    ck_assert_msg(is_taken(), "%s", err.text);
    set_path("/other/a.vsock_9001");
    ck_assert(!is_taken());
}
END_TEST

START_TEST(a_mode_with_more_than_permissions_is_refused)
{
    static const uint32_t modes[] = {0, 01000, 04755, 0100600, UINT32_MAX};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        request.mode = modes[i];
        ck_assert(!is_taken());
    }
}
END_TEST

START_TEST(a_temporary_name_has_one_form)
{
    static const char *const names[] = {
        "",
        "x",
        ".cellgate-0123456789abcde",
        ".cellgate-0123456789abcdef0",
        ".cellgate-0123456789ABCDEF",
        ".cellgate-012345678/abcdef",
        "../cellgate-0123456789abcd",
        "a.sock_9001",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        memset(request.temporary, 0, sizeof(request.temporary));
        memcpy(request.temporary, names[i], strlen(names[i]));
        ck_assert_msg(!is_taken(), "%s", names[i]);
    }
}
END_TEST

START_TEST(texts_are_terminated_and_nothing_stands_behind_them)
{
    memset(request.path, 'a', sizeof(request.path));
    request.path[0] = '/';
    ck_assert(!is_taken());
    set_up();
    request.path[sizeof(request.path) - 1] = 'x';
    ck_assert(!is_taken());
    set_up();
    memset(request.temporary, 'a', sizeof(request.temporary));
    ck_assert(!is_taken());
    set_up();
    request.temporary[sizeof(request.temporary) - 1] = 'x';
    ck_assert(!is_taken());
}
END_TEST

START_TEST(members_that_a_request_does_not_have_are_zero)
{
    request.reserved = 1;
    ck_assert(!is_taken());
    set_up();
    request.ticket = 1;
    ck_assert(!is_taken());
    set_up();
    request.inode = 1;
    ck_assert(!is_taken());
    set_up();
    request.flags |= CG_PRIVILEGED_ABANDONED;
    ck_assert(!is_taken());
    set_up();
    request.flags = 0; /* to remove one: no look, no name */
    ck_assert(!is_taken());
    memset(request.temporary, 0, sizeof(request.temporary));
    ck_assert(!is_taken());
    request.mode = request.uid = request.gid = 0;
    ck_assert_msg(is_taken(), "%s", err.text);
}
END_TEST

START_TEST(a_ticket_is_one_of_a_few)
{
    static const enum cg_privileged_op ops[] = {CG_PRIVILEGED_MAKE, CG_PRIVILEGED_PUT,
                                                CG_PRIVILEGED_LEAVE};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        make_plain(ops[i]);
        request.ticket = CG_PRIVILEGED_PLACES_MAX - 1;
        ck_assert(is_taken());
        request.ticket++;
        ck_assert(!is_taken());
        request.ticket = 0;
        set_path("/srv/jailer/v.sock_9001");
        ck_assert(!is_taken());
    }
}
END_TEST

START_TEST(what_is_removed_is_named_by_its_identity_or_its_drawn_name)
{
    make_plain(CG_PRIVILEGED_REMOVE);
    ck_assert(!is_taken());
    request.inode = 7;
    ck_assert(is_taken());
    request.flags = CG_PRIVILEGED_ABANDONED;
    ck_assert(is_taken());
    request.flags = CG_PRIVILEGED_TEMPORARY;
    ck_assert(!is_taken());
    memcpy(request.temporary, ".cellgate-00000000000000ff", 26);
    request.inode = 0;
    ck_assert_msg(is_taken(), "%s", err.text);
}
END_TEST

START_TEST(only_a_listed_file_is_opened)
{
    make_plain(CG_PRIVILEGED_OPEN);
    set_path("/etc/cellgate/signing.key");
    ck_assert_msg(is_taken(), "%s", err.text);
    set_path("token");
    ck_assert(is_taken());
    static const char *const paths[] = {"", "/etc/shadow", "/etc/cellgate/../cellgate/signing.key",
                                        "/etc/cellgate/signing.keys", "./token"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        set_path(paths[i]);
        ck_assert_msg(!is_taken(), "%s", paths[i]);
    }
}
END_TEST

START_TEST(a_reply_is_to_what_was_asked)
{
    struct cg_privileged_reply reply = {.magic = CG_PRIVILEGED_MAGIC, .op = CG_PRIVILEGED_PUT};
    struct cg_privileged_reply read;
    ck_assert(cg_privileged_reply_read(&reply, sizeof(reply), CG_PRIVILEGED_PUT, &read));
    ck_assert(!cg_privileged_reply_read(&reply, sizeof(reply), CG_PRIVILEGED_MAKE, &read));
    ck_assert(!cg_privileged_reply_read(&reply, sizeof(reply) - 1, CG_PRIVILEGED_PUT, &read));
    reply.outcome = CG_LISTENING_FAILED + 1;
    ck_assert(!cg_privileged_reply_read(&reply, sizeof(reply), CG_PRIVILEGED_PUT, &read));
    reply.outcome = CG_LISTENING_FAILED;
    memset(reply.text, 'x', sizeof(reply.text));
    ck_assert(!cg_privileged_reply_read(&reply, sizeof(reply), CG_PRIVILEGED_PUT, &read));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("privileged_message");
    TCase *tests = tcase_create("requests and replies");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, an_honest_request_is_taken);
    tcase_add_test(tests, a_request_of_another_size_is_refused);
    tcase_add_test(tests, another_magic_or_operation_is_refused);
    tcase_add_test(tests, a_path_outside_the_roots_is_refused);
    tcase_add_test(tests, only_a_guests_socket_is_made);
    tcase_add_test(tests, without_roots_only_the_cells_of_the_configuration_have_sockets);
    tcase_add_test(tests, an_owner_outside_the_ranges_is_refused);
    tcase_add_test(tests, the_owner_of_a_cell_of_the_configuration_is_taken_for_that_cell);
    tcase_add_test(tests, a_mode_with_more_than_permissions_is_refused);
    tcase_add_test(tests, a_temporary_name_has_one_form);
    tcase_add_test(tests, texts_are_terminated_and_nothing_stands_behind_them);
    tcase_add_test(tests, members_that_a_request_does_not_have_are_zero);
    tcase_add_test(tests, a_ticket_is_one_of_a_few);
    tcase_add_test(tests, what_is_removed_is_named_by_its_identity_or_its_drawn_name);
    tcase_add_test(tests, only_a_listed_file_is_opened);
    tcase_add_test(tests, a_reply_is_to_what_was_asked);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
