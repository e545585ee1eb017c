#include "probes/fc_document.h"

/* Figures of the witness. */
static const struct figure {
    struct cg_bytes part, name;
    enum cg_fact fact;
} figures[] = {
    {CG_BYTES("net"), CG_BYTES("rx_bytes_count"), CG_FACT_FC_NET_RX_BYTES},
    {CG_BYTES("net"), CG_BYTES("rx_packets_count"), CG_FACT_FC_NET_RX_PACKETS},
    {CG_BYTES("net"), CG_BYTES("tx_bytes_count"), CG_FACT_FC_NET_TX_BYTES},
    {CG_BYTES("net"), CG_BYTES("tx_packets_count"), CG_FACT_FC_NET_TX_PACKETS},
    {CG_BYTES("vsock"), CG_BYTES("rx_bytes_count"), CG_FACT_FC_VSOCK_RX_BYTES},
    {CG_BYTES("vsock"), CG_BYTES("rx_packets_count"), CG_FACT_FC_VSOCK_RX_PACKETS},
    {CG_BYTES("vsock"), CG_BYTES("tx_bytes_count"), CG_FACT_FC_VSOCK_TX_BYTES},
    {CG_BYTES("vsock"), CG_BYTES("tx_packets_count"), CG_FACT_FC_VSOCK_TX_PACKETS},
};
enum { FIGURES = sizeof(figures) / sizeof(figures[0]) };

void cg_fc_reader_init(struct cg_fc_reader *reader)
{
    *reader = (struct cg_fc_reader){0};
    cg_json_init(&reader->json, (struct cg_json_limits){.bytes_max = CG_FC_LINE_BYTES_MAX,
                                                        .nodes_max = CG_FC_DOCUMENT_NODES_MAX,
                                                        .levels_max = CG_FC_LEVELS_MAX});
}

void cg_fc_reader_fini(struct cg_fc_reader *reader)
{
    cg_json_fini(&reader->json);
    cg_canonical_fini(&reader->canonical);
}

/* Where the last document in the line begins, but for the line's own beginning; nothing if there is
 * none. */
static struct cg_bytes find_last_document(struct cg_bytes line)
{
    static const struct cg_bytes beginning = CG_BYTES("{\"utc_timestamp_ms\"");
    struct cg_bytes found = {0};
    struct cg_bytes rest = line;
    const char *at;
    while (rest.len > 1 &&
           (at = memmem(rest.data + 1, rest.len - 1, beginning.data, beginning.len)) != NULL) {
        rest = cg_bytes(at, (size_t)(line.data + line.len - at));
        found = rest;
    }
    return found;
}

static bool parse(struct cg_json *json, struct cg_bytes line, struct cg_error *err)
{
    return cg_json_parse(json, line, err) &&
           (cg_json_type(json, 0) == CG_JSON_OBJECT || cg_error_set(err, "it is no object"));
}

static void take_figures(const struct cg_json *json, struct cg_facts *facts)
{
    for (size_t i = 0; i < FIGURES; i++) {
        uint32_t part = cg_json_find(json, 0, figures[i].part);
        uint32_t node = part == 0 ? 0 : cg_json_find(json, part, figures[i].name);
        uint64_t value = 0;
        if (node != 0 && cg_json_u64(json, node, &value)) {
            cg_facts_set(facts, figures[i].fact, value);
        }
    }
}

bool cg_fc_document_read(struct cg_fc_reader *reader, struct cg_bytes line,
                         struct cg_output *output, struct cg_facts *facts, uint64_t *ret_cut,
                         struct cg_error *err)
{
    const struct cg_json *json = &reader->json;
    if (!parse(&reader->json, line, err)) {
        struct cg_bytes last = find_last_document(line);
        if (last.len == 0 || !parse(&reader->json, last, NULL)) {
            return cg_error_context(err, "a line is no document");
        }
    }
    uint64_t cut = 0;
    cg_auto_buf struct cg_buf key;
    cg_buf_init(&key, CG_FC_LINE_BYTES_MAX);
    for (uint32_t node = 1; node < json->nodes[0].next; node = json->nodes[node + 1].next) {
        cg_buf_clear(&key);
        if (!cg_json_decode(json, node, &key)) {
            return cg_error_set(err, "out of memory");
        }
        cg_output_open(output, cg_buf_bytes(&key));
        if (!cg_canonical_render_cut(&reader->canonical, json, node + 1, &cut, &output->text)) {
            return cg_error_set(err, "out of memory");
        }
        cg_output_close(output);
    }
    take_figures(json, facts);
    *ret_cut = cut;
    return true;
}

uint32_t cg_fc_answer_status(struct cg_bytes answer)
{
    static const struct cg_bytes version = CG_BYTES("HTTP/1.");
    static const char form[] = "HTTP/1.x 000";
    size_t known = answer.len < version.len ? answer.len : version.len;
    if (known > 0 && memcmp(answer.data, version.data, known) != 0) {
        return UINT32_MAX;
    }
    if (answer.len < sizeof(form) - 1) {
        return 0;
    }
    uint32_t status = 0;
    for (size_t i = sizeof(form) - 4; i < sizeof(form) - 1; i++) {
        unsigned digit = (unsigned)(answer.data[i] - '0');
        if (digit > 9 || answer.data[sizeof(form) - 5] != ' ') {
            return UINT32_MAX;
        }
        status = status * 10 + digit;
    }
    return status < 100 ? UINT32_MAX : status;
}
