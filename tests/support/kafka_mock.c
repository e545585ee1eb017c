/*
 * kafka_mock.c - librdkafka's mock cluster in a process of its own, for tests without a broker and
 * for benchmarks.
 *
 * Prints the address of its one broker, then obeys a command a line on stdin, answering each with a
 * line "ok": `topic NAME PARTITIONS`, `error TOPIC CODE` (0: none), `down`, `up`. Ends with stdin.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdio.h>
#include <string.h>

enum { BROKER = 1 };

static int obey(rd_kafka_mock_cluster_t *cluster, const char *line)
{
    char name[256];
    int number;
    if (sscanf(line, "topic %255s %d", name, &number) == 2) {
        rd_kafka_resp_err_t made = rd_kafka_mock_topic_create(cluster, name, number, 1);
        return made == RD_KAFKA_RESP_ERR_NO_ERROR || made == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    }
    if (sscanf(line, "error %255s %d", name, &number) == 2) {
        rd_kafka_mock_topic_set_error(cluster, name, (rd_kafka_resp_err_t)number);
        return 1;
    }
    if (strcmp(line, "down\n") == 0) {
        return rd_kafka_mock_broker_set_down(cluster, BROKER) == RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    return strcmp(line, "up\n") == 0 &&
           rd_kafka_mock_broker_set_up(cluster, BROKER) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

int main(void)
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (handle == NULL) {
        rd_kafka_conf_destroy(conf);
        (void)fprintf(stderr, "%s\n", text);
        return 1;
    }
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(handle, 1);
    (void)printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
    (void)fflush(stdout);
    int good = 1;
    while (good && fgets(text, sizeof(text), stdin) != NULL) {
        good = obey(cluster, text);
        (void)printf("%s\n", good ? "ok" : "what?");
        (void)fflush(stdout);
    }
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(handle);
    return good ? 0 : 1;
}
