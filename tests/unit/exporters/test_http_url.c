#include "exporters/http_url.h"

#include "cellgate/cleanup.h"

#include <check.h>

static const struct {
    const char *url;
    const char *complete; /* with /v1/logs */
    bool bare;
} table[] = {
    {"http://host", "http://host/v1/logs", true},
    {"http://host/", "http://host/v1/logs", true},
    {"https://user:p%2fw@host:4318/", "https://user:p%2fw@host:4318/v1/logs", true},
    {"http://[::1]:4318", "http://[::1]:4318/v1/logs", true},
    {"http://host?x=/1", "http://host/v1/logs?x=/1", false},
    {"http://host/?x=1", "http://host/v1/logs?x=1", false},
    {"http://host/in", "http://host/in", false},
    {"http://host/in/?x=1", "http://host/in/?x=1", false},
    {"http://host//", "http://host//", false},
};

START_TEST(only_a_missing_path_is_filled_in)
{
    cg_auto_free char *complete = cg_http_url_complete(table[_i].url, "/v1/logs");
    cg_auto_free char *same = cg_http_url_complete(table[_i].url, NULL);
    ck_assert_str_eq(complete, table[_i].complete);
    ck_assert_str_eq(same, table[_i].url);
    ck_assert_int_eq(cg_http_url_is_bare(table[_i].url), table[_i].bare);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("http_url");
    tcase_add_loop_test(tcase, only_a_missing_path_is_filled_in, 0,
                        sizeof(table) / sizeof(table[0]));
    Suite *suite = suite_create("exporters/http_url");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
