#include "exporters/otlp.h"

#include "cellgate/cleanup.h"

#include <check.h>
#include <otlp.pb-c.h>
#include <stdlib.h>

#define UNSIGNED                                                                                   \
    "{\"id\":\"0192\",\"source\":\"/sup\",\"type\":\"t.process_spawned\",\"data\":{\"cellId\":"    \
    "\"cell-1\",\"guest\":{\"guestComm\":\"curl\",\"guestPid\":7,\"probeSource\":"                 \
    "\"process.spawned\"},\"host\":{\"runId\":\"run-1\",\"specSignatureHash\":\"sha256:00\"}}}"

static struct cg_otlp *otlp;
static struct cg_otlp_request request;

static void open_encoder(enum cg_otlp_encoding encoding, const char *instance_id)
{
    struct cg_error err = {0};
    const struct cg_exporter_env env = {.name = "n", .node = "host-\"7\"", .version = "9.9"};
    ck_assert_msg(cg_otlp_new(encoding, instance_id, &env, &otlp, &err), "%s", err.text);
}

/* The span of the value behind `key` in an event's text; the key must be there. */
static struct cg_event_span find(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    ck_assert_ptr_nonnull(at);
    at += strlen(key);
    const char *end = at;
    while (*end != '"') {
        end += *end == '\\' ? 2 : 1;
    }
    return (struct cg_event_span){.offset = (uint16_t)(at - text), .len = (uint16_t)(end - at)};
}

static struct cg_event event_of(const char *text)
{
    struct cg_event event = {
        .meta = {.sequence = 17,
                 .received_ns = UINT64_C(1795629566600099624),
                 .pid = 7,
                 .kind = CG_EVENT_GUEST},
        .bytes = cg_bytes_str(text),
    };
    event.meta.text[CG_TEXT_ID] = find(text, "\"id\":\"");
    event.meta.text[CG_TEXT_SOURCE] = find(text, "\"source\":\"");
    event.meta.text[CG_TEXT_TYPE] = find(text, "\"type\":\"");
    event.meta.text[CG_TEXT_CELL] = find(text, "\"cellId\":\"");
    event.meta.text[CG_TEXT_RUN] = find(text, "\"runId\":\"");
    event.meta.text[CG_TEXT_SPEC_HASH] = find(text, "\"specSignatureHash\":\"");
    event.meta.text[CG_TEXT_PROBE_SOURCE] = find(text, "\"probeSource\":\"");
    event.meta.text[CG_TEXT_COMM] = find(text, "\"guestComm\":\"");
    return event;
}

static void encode(const struct cg_event *events, size_t count)
{
    struct cg_batch batch = {.events = events, .count = count};
    for (size_t i = 0; i < count; i++) {
        batch.bytes += events[i].bytes.len;
    }
    ck_assert(cg_otlp_encode(otlp, &batch, &request));
    ck_assert_uint_eq(request.pieces[0].len, 0);
}

/* The request in one piece, terminated; to be freed. */
static char *join(void)
{
    char *whole = malloc(request.bytes + 1);
    size_t len = 0;
    ck_assert_ptr_nonnull(whole);
    for (size_t i = 0; i < request.count; i++) {
        ck_assert_uint_le(request.pieces[i].len, request.bytes - len);
        memcpy(whole + len, request.pieces[i].data, request.pieces[i].len);
        len += request.pieces[i].len;
    }
    ck_assert_uint_eq(len, request.bytes);
    whole[len] = '\0';
    return whole;
}

/* What protobuf-c makes of it, which must also be what it would write, but for the order. */
static Cg__Otlp__ExportLogsServiceRequest *decode(void)
{
    cg_auto_free char *whole = join();
    Cg__Otlp__ExportLogsServiceRequest *decoded =
        cg__otlp__export_logs_service_request__unpack(NULL, request.bytes, (uint8_t *)whole);
    ck_assert_ptr_nonnull(decoded);
    ck_assert_uint_eq(cg__otlp__export_logs_service_request__get_packed_size(decoded),
                      request.bytes);
    ck_assert_uint_eq(decoded->base.n_unknown_fields, 0);
    ck_assert_uint_eq(decoded->n_resource_logs, 1);
    ck_assert_uint_eq(decoded->resource_logs[0]->n_scope_logs, 1);
    return decoded;
}

static void finish(Cg__Otlp__ExportLogsServiceRequest *decoded)
{
    if (decoded != NULL) {
        cg__otlp__export_logs_service_request__free_unpacked(decoded, NULL);
    }
    cg_otlp_free(otlp);
    otlp = NULL;
}

static const Cg__Otlp__AnyValue *find_value(Cg__Otlp__KeyValue *const *pairs, size_t count,
                                            const char *key)
{
    const Cg__Otlp__AnyValue *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(pairs[i]->key, key) == 0) {
            ck_assert_ptr_null(found);
            found = pairs[i]->value;
        }
    }
    return found;
}

static const char *text_of(const Cg__Otlp__LogRecord *record, const char *key)
{
    const Cg__Otlp__AnyValue *value = find_value(record->attributes, record->n_attributes, key);
    ck_assert_msg(value == NULL || value->value_case == CG__OTLP__ANY_VALUE__VALUE_STRING_VALUE,
                  "%s", key);
    return value == NULL ? NULL : value->string_value;
}

static int64_t number_of(const Cg__Otlp__LogRecord *record, const char *key)
{
    const Cg__Otlp__AnyValue *value = find_value(record->attributes, record->n_attributes, key);
    ck_assert_ptr_nonnull(value);
    ck_assert_int_eq(value->value_case, CG__OTLP__ANY_VALUE__VALUE_INT_VALUE);
    return value->int_value;
}

START_TEST(a_record_says_what_the_event_and_its_header_say)
{
    open_encoder(CG_OTLP_PROTOBUF, NULL);
    const struct cg_event event = event_of(UNSIGNED);
    encode(&event, 1);
    Cg__Otlp__ExportLogsServiceRequest *decoded = decode();
    const Cg__Otlp__ScopeLogs *logs = decoded->resource_logs[0]->scope_logs[0];
    ck_assert_uint_eq(logs->n_log_records, 1);
    const Cg__Otlp__LogRecord *record = logs->log_records[0];
    ck_assert_str_eq(record->body->string_value, UNSIGNED);
    ck_assert_uint_eq(record->time_unix_nano, event.meta.received_ns);
    ck_assert_uint_eq(record->observed_time_unix_nano, event.meta.received_ns);
    ck_assert_int_eq(record->severity_number, 9);
    ck_assert_str_eq(record->severity_text, "INFO");
    ck_assert_str_eq(text_of(record, "cloudevents.event_id"), "0192");
    ck_assert_str_eq(text_of(record, "cloudevents.event_source"), "/sup");
    ck_assert_str_eq(text_of(record, "cloudevents.event_spec_version"), "1.0");
    ck_assert_str_eq(text_of(record, "cloudevents.event_type"), "t.process_spawned");
    ck_assert_str_eq(text_of(record, "cellos.cell.id"), "cell-1");
    ck_assert_str_eq(text_of(record, "cellos.run.id"), "run-1");
    ck_assert_str_eq(text_of(record, "cellos.spec.signature_hash"), "sha256:00");
    ck_assert_str_eq(text_of(record, "cellos.probe_source"), "process.spawned");
    ck_assert_str_eq(text_of(record, "process.command"), "curl");
    ck_assert_int_eq(number_of(record, "cellos.sequence"), 17);
    ck_assert_int_eq(number_of(record, "process.pid"), 7);
    ck_assert_uint_eq(record->n_attributes, 11);
    finish(decoded);
}
END_TEST

START_TEST(resource_and_scope_say_who_sends)
{
    for (int given = 0; given < 2; given++) {
        open_encoder(CG_OTLP_PROTOBUF, given ? "gateway-3" : NULL);
        const struct cg_event event = event_of(UNSIGNED);
        encode(&event, 1);
        Cg__Otlp__ExportLogsServiceRequest *decoded = decode();
        const Cg__Otlp__Resource *resource = decoded->resource_logs[0]->resource;
#define RESOURCE(key) find_value(resource->attributes, resource->n_attributes, key)->string_value
        ck_assert_uint_eq(resource->n_attributes, 4);
        ck_assert_str_eq(RESOURCE("service.name"), "cellgate");
        ck_assert_str_eq(RESOURCE("service.version"), "9.9");
        ck_assert_str_eq(RESOURCE("service.instance.id"), given ? "gateway-3" : "host-\"7\"");
        ck_assert_str_eq(RESOURCE("host.name"), "host-\"7\"");
#undef RESOURCE
        const Cg__Otlp__InstrumentationScope *scope =
            decoded->resource_logs[0]->scope_logs[0]->scope;
        ck_assert_str_eq(scope->name, "cellgate");
        ck_assert_str_eq(scope->version, "9.9");
        finish(decoded);
    }
}
END_TEST

START_TEST(escaped_texts_are_said_in_full)
{
    static const char text[] =
        "{\"id\":\"1\",\"source\":\"/a\\\"b\",\"type\":\"t\",\"data\":{\"cellId\":\"c\",\"guest\":{"
        "\"guestComm\":\"\\u0007\\\\\\n\xe2\x82\xac\",\"probeSource\":\"a\\tb\"},\"host\":{"
        "\"runId\":\"r\",\"specSignatureHash\":\"s\\\\\"}}}";
    open_encoder(CG_OTLP_PROTOBUF, NULL);
    const struct cg_event event = event_of(text);
    encode(&event, 1);
    Cg__Otlp__ExportLogsServiceRequest *decoded = decode();
    const Cg__Otlp__LogRecord *record = decoded->resource_logs[0]->scope_logs[0]->log_records[0];
    ck_assert_str_eq(record->body->string_value, text);
    ck_assert_str_eq(text_of(record, "cloudevents.event_source"), "/a\"b");
    ck_assert_str_eq(text_of(record, "process.command"), "\a\\\n\xe2\x82\xac");
    ck_assert_str_eq(text_of(record, "cellos.probe_source"), "a\tb");
    ck_assert_str_eq(text_of(record, "cellos.spec.signature_hash"), "s\\");
    finish(decoded);
}
END_TEST

START_TEST(a_text_that_is_no_json_string_is_taken_as_it_stands)
{
    open_encoder(CG_OTLP_PROTOBUF, NULL);
    struct cg_event event = event_of(UNSIGNED);
    static const char bad[] = "{\"id\":\"\\x\",\"y\":\"\\ud800\"} \\";
    event.bytes = cg_bytes_str(bad);
    memset(event.meta.text, 0, sizeof(event.meta.text));
    event.meta.text[CG_TEXT_SOURCE] = find(bad, "\"id\":\"");
    event.meta.text[CG_TEXT_PROBE_SOURCE] = find(bad, "\"y\":\"");
    event.meta.text[CG_TEXT_COMM] =
        (struct cg_event_span){.offset = (uint16_t)(sizeof(bad) - 2), .len = 1}; /* at the end */
    event.meta.text[CG_TEXT_SPEC_HASH] = (struct cg_event_span){.offset = 0, .len = 8};
    encode(&event, 1);
    Cg__Otlp__ExportLogsServiceRequest *decoded = decode();
    const Cg__Otlp__LogRecord *record = decoded->resource_logs[0]->scope_logs[0]->log_records[0];
    ck_assert_str_eq(text_of(record, "cloudevents.event_source"), "\\x");
    ck_assert_str_eq(text_of(record, "cellos.probe_source"), "\\ud800");
    ck_assert_str_eq(text_of(record, "process.command"), "\\");
    ck_assert_str_eq(text_of(record, "cellos.spec.signature_hash"), "{\"id\":\"\\");
    ck_assert_ptr_null(text_of(record, "cloudevents.event_id"));
    finish(decoded);
}
END_TEST

START_TEST(events_of_the_gateway_have_no_process_and_may_warn)
{
    open_encoder(CG_OTLP_PROTOBUF, NULL);
    struct cg_event event = event_of(UNSIGNED);
    event.meta.kind = CG_EVENT_GATEWAY;
    event.meta.severity = CG_SEVERITY_WARN;
    event.meta.text[CG_TEXT_PROBE_SOURCE] = (struct cg_event_span){0};
    encode(&event, 1);
    Cg__Otlp__ExportLogsServiceRequest *decoded = decode();
    const Cg__Otlp__LogRecord *record = decoded->resource_logs[0]->scope_logs[0]->log_records[0];
    ck_assert_int_eq(record->severity_number, 13);
    ck_assert_str_eq(record->severity_text, "WARN");
    ck_assert_uint_eq(record->n_attributes, 8);
    ck_assert_ptr_null(text_of(record, "cellos.probe_source"));
    ck_assert_ptr_null(text_of(record, "process.command"));
    finish(decoded);
}
END_TEST

START_TEST(lengths_of_every_size_are_written_right)
{
    /* Around each step of protobuf's lengths, of record, body and texts; and batch after batch. */
    static const size_t lengths[] = {0,   1,    50,   99,    100,   101,   126,   127,  128,
                                     129, 1000, 8000, 16100, 16383, 16384, 16385, 60000};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    static char texts[COUNT][61000];
    struct cg_event events[COUNT];
    open_encoder(CG_OTLP_PROTOBUF, NULL);
    for (size_t i = 0; i < COUNT; i++) {
        char *at =
            stpcpy(texts[i], "{\"id\":\"1\",\"source\":\"/\",\"type\":\"t\",\"cellId\":\"c\","
                             "\"runId\":\"r\",\"specSignatureHash\":\"s\",\"probeSource\":\""
                             "p\",\"guestComm\":\"");
        memset(at, 'x', lengths[i]);
        memcpy(at + lengths[i], "\"}", 3);
        events[i] = event_of(texts[i]);
        events[i].meta.sequence = UINT64_C(1) << (i * 3);
        events[i].meta.pid = (uint32_t)(UINT64_C(1) << (i * 2)) - 1;
    }
    for (size_t count = 1; count <= COUNT; count++) {
        encode(events, count);
        Cg__Otlp__ExportLogsServiceRequest *decoded = decode();
        const Cg__Otlp__ScopeLogs *logs = decoded->resource_logs[0]->scope_logs[0];
        ck_assert_uint_eq(logs->n_log_records, count);
        for (size_t i = 0; i < count; i++) {
            const Cg__Otlp__LogRecord *record = logs->log_records[i];
            ck_assert_str_eq(record->body->string_value, texts[i]);
            ck_assert_int_eq(number_of(record, "cellos.sequence"),
                             (int64_t)events[i].meta.sequence);
            ck_assert_int_eq(number_of(record, "process.pid"), events[i].meta.pid);
            const char *comm = text_of(record, "process.command");
            ck_assert_uint_eq(comm == NULL ? 0 : strlen(comm), lengths[i]);
            /* The event goes out from where it lies. */
            ck_assert_ptr_eq(request.pieces[3 + 2 * i].data, texts[i]);
        }
        cg__otlp__export_logs_service_request__free_unpacked(decoded, NULL);
    }
    finish(NULL);
}
END_TEST

START_TEST(in_json_the_same_is_written_by_the_rules_of_otlp)
{
    open_encoder(CG_OTLP_JSON, NULL);
    struct cg_event events[2] = {event_of(UNSIGNED), event_of(UNSIGNED)};
    events[1].meta.kind = CG_EVENT_GATEWAY;
    events[1].meta.severity = CG_SEVERITY_WARN;
    encode(events, 2);
    cg_auto_free char *whole = join();
    static const char opening[] =
        "{\"resourceLogs\":[{\"resource\":{\"attributes\":["
        "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"cellgate\"}},"
        "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"9.9\"}},"
        "{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"host-\\\"7\\\"\"}},"
        "{\"key\":\"host.name\",\"value\":{\"stringValue\":\"host-\\\"7\\\"\"}}]},"
        "\"scopeLogs\":[{\"scope\":{\"name\":\"cellgate\",\"version\":\"9.9\"},\"logRecords\":["
        "{\"timeUnixNano\":\"1795629566600099624\",\"observedTimeUnixNano\":"
        "\"1795629566600099624\",\"severityNumber\":9,\"severityText\":\"INFO\","
        "\"body\":{\"stringValue\":\"{\\\"id\\\":\\\"0192\\\",";
    ck_assert_int_eq(strncmp(whole, opening, sizeof(opening) - 1), 0);
    ck_assert_ptr_nonnull(
        strstr(whole, "{\"key\":\"cellos.sequence\",\"value\":{\"intValue\":\"17\"}}"));
    ck_assert_ptr_nonnull(
        strstr(whole, "{\"key\":\"process.command\",\"value\":{\"stringValue\":\"curl\"}}]},"
                      "{\"timeUnixNano\""));
    ck_assert_ptr_nonnull(strstr(whole, "\"severityNumber\":13,\"severityText\":\"WARN\""));
    ck_assert_str_eq(whole + request.bytes - strlen("\"}}]}]}]}]}"), "\"}}]}]}]}]}");
    finish(NULL);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("otlp");
    tcase_add_test(tcase, a_record_says_what_the_event_and_its_header_say);
    tcase_add_test(tcase, resource_and_scope_say_who_sends);
    tcase_add_test(tcase, escaped_texts_are_said_in_full);
    tcase_add_test(tcase, a_text_that_is_no_json_string_is_taken_as_it_stands);
    tcase_add_test(tcase, events_of_the_gateway_have_no_process_and_may_warn);
    tcase_add_test(tcase, lengths_of_every_size_are_written_right);
    tcase_add_test(tcase, in_json_the_same_is_written_by_the_rules_of_otlp);
    Suite *suite = suite_create("exporters/otlp");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
