/* test_http.c - the Host guard, the table of clients, and listening addresses. */
#include "http/clients.h"
#include "http/guard.h"
#include "http/listen.h"

#include "cellgate/clock.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(only_addresses_localhost_and_configured_names_are_allowed)
{
    static const char *const names[] = {"gate.example", "h7"};
    const struct cg_strings hosts = {names, 2};
    static const char *const allowed[] = {
        "127.0.0.1",      "127.0.0.1:9464", "10.1.2.3:80",  "localhost",
        "LocalHost:9464", "gate.example:1", "GATE.example", "h7",
        "[::1]",          "[::1]:9464",     "[fe80::1]:80", "localhost:",
    };
    static const char *const refused[] = {
        "",
        "evil.example",
        "evil.example:9464",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "[::1",
        "::1",
        "[::1]evil",
        "[::1]:x",
        "127.0.0.1:80:80",
        "127.0.0.1 ",
        "[127.0.0.1]",
        "[[::1]]",
        "127.1",
    };
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        ck_assert_msg(cg_host_allowed(allowed[i], hosts), "%s", allowed[i]);
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        ck_assert_msg(!cg_host_allowed(refused[i], hosts), "%s", refused[i]);
    }
    char longest[1000];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    ck_assert(!cg_host_allowed(longest, hosts));
}
END_TEST

static struct sockaddr_in peer_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    ck_assert_int_eq(inet_pton(AF_INET, text, &address.sin_addr), 1);
    return address;
}

static struct cg_http_clients *new_clients(uint32_t max, uint32_t per_address)
{
    const struct cg_http_clients_limits limits = {
        .max = max, .per_address_max = per_address, .request_ns = 5, .idle_ns = 75};
    struct cg_http_clients *clients = NULL;
    ck_assert(cg_http_clients_new(&limits, &clients, NULL));
    return clients;
}

START_TEST(the_address_at_its_limit_loses_its_own_stalest_connection)
{
    struct cg_http_clients *clients = new_clients(10, 2);
    struct sockaddr_in one = peer_address("127.0.0.1");
    struct sockaddr_in two = peer_address("127.0.0.2");
    int evict = 0;
    ck_assert_ptr_nonnull(cg_http_clients_add(clients, 50, (void *)&two, 1, &evict));
    struct cg_http_peer *first = cg_http_clients_add(clients, 10, (void *)&one, 2, &evict);
    ck_assert_ptr_nonnull(cg_http_clients_add(clients, 11, (void *)&one, 3, &evict));
    ck_assert_int_eq(evict, -1);
    cg_http_clients_request_done(clients, first, 4); /* makes 11 the stalest */
    ck_assert_ptr_nonnull(cg_http_clients_add(clients, 12, (void *)&one, 5, &evict));
    ck_assert_int_eq(evict, 11);
    ck_assert_ptr_nonnull(cg_http_clients_add(clients, 13, (void *)&one, 6, &evict));
    ck_assert_int_eq(evict, 10);
    cg_http_clients_free(clients);
}
END_TEST

START_TEST(who_is_being_worked_for_has_all_time_and_keeps_its_place)
{
    struct cg_http_clients *clients = new_clients(2, 2);
    int evict = 0;
    struct cg_http_peer *first = cg_http_clients_add(clients, 10, NULL, 1, &evict);
    cg_http_clients_request_working(first);
    ck_assert_uint_eq(cg_http_clients_next_deadline(clients), UINT64_MAX);
    struct cg_http_peer *second = cg_http_clients_add(clients, 11, NULL, 2, &evict);
    ck_assert_ptr_nonnull(cg_http_clients_add(clients, 12, NULL, 3, &evict));
    ck_assert_int_eq(evict, 11); /* though 10 has made no progress for longer */
    cg_http_clients_remove(clients, second);
    struct cg_http_peer *third = cg_http_clients_add(clients, 13, NULL, 4, &evict);
    ck_assert_int_eq(evict, 12);
    cg_http_clients_request_working(third);
    ck_assert_ptr_null(cg_http_clients_add(clients, 14, NULL, 5, &evict));
    ck_assert_int_eq(evict, -1);
    cg_http_clients_request_worked(clients, first, 100);
    ck_assert_uint_eq(cg_http_clients_next_deadline(clients), 105);
    cg_http_clients_free(clients);
}
END_TEST

START_TEST(a_full_table_loses_the_stalest_of_all)
{
    struct cg_http_clients *clients = new_clients(3, 3);
    int evict = 0;
    for (int i = 0; i < 3; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "127.0.0.%d", i + 1);
        struct sockaddr_in address = peer_address(text);
        ck_assert_ptr_nonnull(cg_http_clients_add(clients, 10 + i, (void *)&address, 10, &evict));
        ck_assert_int_eq(evict, -1);
    }
    ck_assert_ptr_nonnull(cg_http_clients_add(clients, 20, NULL, 11, &evict));
    ck_assert_int_eq(evict, 10);
    cg_http_clients_free(clients);
}
END_TEST

START_TEST(a_request_has_its_time_and_an_idle_connection_more)
{
    struct cg_http_clients *clients = new_clients(3, 3);
    int evict = 0;
    struct cg_http_peer *peer = cg_http_clients_add(clients, 10, NULL, 100, &evict);
    ck_assert_uint_eq(cg_http_clients_next_deadline(clients), 105);
    cg_http_clients_request_begun(clients, peer, 104); /* a slow first line gains nothing */
    ck_assert_int_eq(cg_http_clients_overdue(clients, 104), -1);
    cg_http_clients_request_done(clients, peer, 104);
    ck_assert_uint_eq(cg_http_clients_next_deadline(clients), 179);
    cg_http_clients_request_begun(clients, peer, 150);
    ck_assert_int_eq(cg_http_clients_overdue(clients, 154), -1);
    ck_assert_int_eq(cg_http_clients_overdue(clients, 155), 10);
    ck_assert_int_eq(cg_http_clients_overdue(clients, 155), -1);
    cg_http_clients_remove(clients, peer);
    ck_assert_uint_eq(cg_http_clients_next_deadline(clients), UINT64_MAX);
    cg_http_clients_free(clients);
}
END_TEST

START_TEST(a_table_filled_with_closing_connections_refuses_without_evicting)
{
    struct cg_http_clients *clients = new_clients(1, 1);
    int evict = 0;
    int fd = 10;
    while (cg_http_clients_add(clients, fd, NULL, (uint64_t)fd, &evict) != NULL) {
        ck_assert_int_eq(evict, fd == 10 ? -1 : fd - 1);
        fd++;
        ck_assert_int_lt(fd, 10000);
    }
    ck_assert_int_eq(evict, -1);
    cg_http_clients_free(clients);
}
END_TEST

START_TEST(port_zero_is_named_as_the_kernel_chose_it)
{
    int fd = -1;
    char name[CG_ADDRESS_TEXT_MAX];
    struct cg_error err = {0};
    ck_assert_msg(cg_http_listen("127.0.0.1:0", NULL, &fd, name, &err), "%s", err.text);
    ck_assert_int_eq(strncmp(name, "127.0.0.1:", 10), 0);
    ck_assert_int_gt(atoll(name + 10), 0);
    (void)close(fd);
}
END_TEST

START_TEST(what_is_no_address_is_refused_with_the_address_named)
{
    static const char *const bad[] = {"",
                                      "127.0.0.1",
                                      ":80",
                                      "127.0.0.1:",
                                      "::1:80",
                                      "[::1:80",
                                      "127.0.0.1:http",
                                      "127.0.0.1:70000"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int fd = -1;
        char name[CG_ADDRESS_TEXT_MAX];
        struct cg_error err = {0};
        ck_assert_msg(!cg_http_listen(bad[i], NULL, &fd, name, &err), "%s", bad[i]);
        ck_assert_int_eq(fd, -1);
        ck_assert_ptr_nonnull(strstr(err.text, "listen "));
    }
}
END_TEST

START_TEST(a_unix_socket_replaces_an_abandoned_one_and_nothing_else)
{
    char dir[] = "/tmp/cellgate-test-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    char address[128];
    (void)snprintf(address, sizeof(address), "unix:%s/http.sock", dir);
    const char *path = address + 5;
    int fd = -1;
    char name[CG_ADDRESS_TEXT_MAX];
    struct cg_error err = {0};
    ck_assert_msg(cg_http_listen(address, NULL, &fd, name, &err), "%s", err.text);
    ck_assert_str_eq(name, address);
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0660);

    int second = -1;
    ck_assert(!cg_http_listen(address, NULL, &second, name, &err)); /* somebody listens */
    (void)close(fd);
    ck_assert_msg(cg_http_listen(address, NULL, &second, name, &err), "%s", err.text);
    (void)close(second);
    cg_http_unlisten(address);
    ck_assert_int_ne(stat(path, &info), 0);

    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    (void)fclose(file);
    ck_assert(!cg_http_listen(address, NULL, &second, name, &err));
    ck_assert_int_eq(stat(path, &info), 0); /* a file of somebody's stays */
    (void)unlink(path);
    (void)rmdir(dir);
}
END_TEST

int main(void)
{
    (void)umask(0); /* as the gateway does */
    Suite *suite = suite_create("http");
    TCase *tests = tcase_create("http");
    tcase_add_test(tests, only_addresses_localhost_and_configured_names_are_allowed);
    tcase_add_test(tests, the_address_at_its_limit_loses_its_own_stalest_connection);
    tcase_add_test(tests, a_full_table_loses_the_stalest_of_all);
    tcase_add_test(tests, who_is_being_worked_for_has_all_time_and_keeps_its_place);
    tcase_add_test(tests, a_request_has_its_time_and_an_idle_connection_more);
    tcase_add_test(tests, a_table_filled_with_closing_connections_refuses_without_evicting);
    tcase_add_test(tests, port_zero_is_named_as_the_kernel_chose_it);
    tcase_add_test(tests, what_is_no_address_is_refused_with_the_address_named);
    tcase_add_test(tests, a_unix_socket_replaces_an_abandoned_one_and_nothing_else);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
