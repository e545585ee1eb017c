/* What the exporter says before it connects. The wire is shown against a real broker
 * (tests/flow/test_kafka.py). */
#include "exporters/kafka_properties.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const brokers[] = {"one:9092", "two"};
#define BROKERS                                                                                    \
    {                                                                                              \
        brokers, 2                                                                                 \
    }

static bool validate(const struct cg_pair *given, size_t count, const struct cg_pair *files,
                     size_t file_count, struct cg_error *err)
{
    const struct cg_kafka_properties properties = {
        .brokers = BROKERS, .given = {given, count}, .from_files = {files, file_count}};
    return cg_kafka_properties_validate(&properties, err);
}

START_TEST(test_properties_on_which_delivery_rests_are_refused_with_the_reason)
{
    static const struct cg_pair refused[] = {
        {"acks", "1"},
        {"request.required.acks", "0"},
        {"enable.idempotence", "true"},
        {"enable.gapless.guarantee", "false"},
        {"message.timeout.ms", "1000"},
        {"delivery.timeout.ms", "1000"},
        {"retries", "3"},
        {"transactional.id", "x"},
        {"bootstrap.servers", "h"},
        {"plugin.library.paths", "/tmp/x"},
        {"test.mock.num.brokers", "1"},
        {"ssl.ca.location", "/ca"},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct cg_error err = {0};
        ck_assert(!validate(&refused[i], 1, NULL, 0, &err));
        bool explained = strstr(err.text, " is ") != NULL || strstr(err.text, " would ") != NULL;
        ck_assert_msg(explained && strstr(err.text, refused[i].key) != NULL, "%s", err.text);
        struct cg_error again = {0};
        ck_assert(!validate(NULL, 0, &refused[i], 1, &again));
    }
}
END_TEST

START_TEST(test_every_other_property_passes_through)
{
    static const struct cg_pair given[] = {
        {"compression.type", "zstd"},  {"linger.ms", "20"},
        {"sasl.mechanism", "PLAIN"},   {"security.protocol", "sasl_ssl"},
        {"socket.timeout.ms", "9000"}, {"partitioner", "murmur2_random"},
    };
    const struct cg_kafka_properties properties = {.brokers = BROKERS, .given = {given, 6}};
    struct cg_error err = {0};
    ck_assert_msg(cg_kafka_properties_validate(&properties, &err), "%s", err.text);
    rd_kafka_conf_t *conf;
    ck_assert_msg(cg_kafka_properties_make(&properties, "client", &conf, &err), "%s", err.text);
    static const struct cg_pair expected[] = {
        {"compression.codec", "zstd"},
        {"linger.ms", "20"},
        {"bootstrap.servers", "one:9092,two"},
        {"enable.idempotence", "true"},
        {"acks", "-1"},
        {"message.timeout.ms", "0"},
        {"security.protocol", "sasl_ssl"},
        {"client.id", "client"},
        {"ssl.endpoint.identification.algorithm", "https"},
    };
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        char value[128] = "";
        size_t size = sizeof(value);
        ck_assert_int_eq(rd_kafka_conf_get(conf, expected[i].key, value, &size), RD_KAFKA_CONF_OK);
        ck_assert_str_eq(value, expected[i].value);
    }
    rd_kafka_conf_destroy(conf);
}
END_TEST

START_TEST(test_unknown_properties_and_wrong_values_are_named_without_the_value)
{
    struct cg_error err = {0};
    ck_assert(!validate(&(struct cg_pair){"no.such.thing", "x"}, 1, NULL, 0, &err));
    ck_assert_str_eq(err.text, "properties: no.such.thing: librdkafka has no such property");
    ck_assert(!validate(&(struct cg_pair){"linger.ms", "hunter2"}, 1, NULL, 0, &err));
    ck_assert_str_eq(err.text, "properties: linger.ms: librdkafka does not take this value");
    ck_assert(!validate(NULL, 0, &(struct cg_pair){"no.such.thing", "/x"}, 1, &err));
    ck_assert_str_eq(err.text, "property_files: no.such.thing: librdkafka has no such property");
    const struct cg_pair both[] = {{"sasl.password", "x"}};
    ck_assert(!validate(both, 1, both, 1, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "is among the properties too"));
}
END_TEST

START_TEST(test_a_secret_comes_from_a_file_that_is_nobody_elses)
{
    char path[] = "/tmp/cellgate-kafka-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "hunter2\n", 8), 8);
    (void)close(fd);
    const struct cg_pair file = {"sasl.password", path};
    const struct cg_kafka_properties properties = {.brokers = BROKERS, .from_files = {&file, 1}};
    struct cg_error err = {0};
    rd_kafka_conf_t *conf;
    ck_assert_msg(cg_kafka_properties_validate(&properties, &err), "%s", err.text);
    ck_assert_msg(cg_kafka_properties_make(&properties, "client", &conf, &err), "%s", err.text);
    rd_kafka_conf_destroy(conf);
    ck_assert_int_eq(chmod(path, 0644), 0);
    ck_assert(!cg_kafka_properties_make(&properties, "client", &conf, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "group or others have access"));
    ck_assert_ptr_null(strstr(err.text, "hunter2"));
    (void)unlink(path);
}
END_TEST

static const struct {
    struct cg_pair given;
    struct cg_tls_files tls;
    const char *protocol;
} protocols[] = {
    {{NULL, NULL}, {.ca_file = NULL}, "plaintext"},
    {{"sasl.mechanisms", "PLAIN"}, {.ca_file = NULL}, "sasl_plaintext"},
    {{NULL, NULL}, {.ca_file = "/ca"}, "ssl"},
    {{"sasl.mechanism", "PLAIN"}, {.ca_file = "/ca"}, "sasl_ssl"},
    {{"security.protocol", "plaintext"}, {.ca_file = "/ca"}, "plaintext"},
};

START_TEST(test_the_protocol_follows_from_what_is_given)
{
    const struct cg_kafka_properties properties = {
        .brokers = BROKERS,
        .given = {&protocols[_i].given, protocols[_i].given.key != NULL},
        .tls = protocols[_i].tls,
    };
    struct cg_error err = {0};
    rd_kafka_conf_t *conf;
    ck_assert_msg(cg_kafka_properties_make(&properties, "client", &conf, &err), "%s", err.text);
    char value[64] = "";
    size_t size = sizeof(value);
    ck_assert_int_eq(rd_kafka_conf_get(conf, "security.protocol", value, &size), RD_KAFKA_CONF_OK);
    ck_assert_str_eq(value, protocols[_i].protocol);
    rd_kafka_conf_destroy(conf);
}
END_TEST

START_TEST(test_brokers_are_hosts_and_nothing_else)
{
    static const char *const wrong[] = {"", "kafka://h", "u@h", "a,b", "a b"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const struct cg_kafka_properties properties = {.brokers = {&wrong[i], 1}};
        struct cg_error err = {0};
        ck_assert_msg(!cg_kafka_properties_validate(&properties, &err), "%s", wrong[i]);
    }
}
END_TEST

START_TEST(test_a_broker_has_a_host)
{
    static const struct cg_pair hosts[] = {
        {"h:9092", "h"},
        {"h", "h"},
        {"[::1]:9092", "::1"},
        {"[::1]", "::1"},
        {"127.0.0.1:1", "127.0.0.1"},
    };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        char host[16];
        cg_kafka_broker_host(hosts[i].key, host, sizeof(host));
        ck_assert_str_eq(host, hosts[i].value);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kafka");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_properties_on_which_delivery_rests_are_refused_with_the_reason);
    tcase_add_test(tcase, test_every_other_property_passes_through);
    tcase_add_test(tcase, test_unknown_properties_and_wrong_values_are_named_without_the_value);
    tcase_add_test(tcase, test_a_secret_comes_from_a_file_that_is_nobody_elses);
    tcase_add_loop_test(tcase, test_the_protocol_follows_from_what_is_given, 0,
                        sizeof(protocols) / sizeof(protocols[0]));
    tcase_add_test(tcase, test_brokers_are_hosts_and_nothing_else);
    tcase_add_test(tcase, test_a_broker_has_a_host);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
