/*
 * fuzz_probes.c - any bytes through what probes parse: files of cgroups, lines of a Firecracker's
 * metrics, tables of libnftables, messages of
 * nfnetlink and rtnetlink. What is accepted becomes JSON that the strict reader
 * takes, with integers only. The first byte says which parser.
 */
#include "event/canonical.h"
#include "probes/cgroup_files.h"
#include "probes/fc_document.h"
#include "probes/link_message.h"
#include "probes/nft_rules.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 65536, JSON_BYTES_MAX = 1 << 20 };

/* Whole, unambiguous, and its own canonical form: keys sorted, integers, no white space. */
static void check_json(struct cg_bytes text, bool unique)
{
    struct cg_json json;
    struct cg_canonical canonical = {0};
    struct cg_buf again;
    struct cg_error err = {0};
    uint64_t cut = 0;
    cg_buf_init(&again, JSON_BYTES_MAX);
    cg_json_init(&json, (struct cg_json_limits){.bytes_max = JSON_BYTES_MAX,
                                                .nodes_max = JSON_BYTES_MAX,
                                                .levels_max = 64,
                                                .unique_members = unique});
    CG_ASSERT(cg_json_parse(&json, text, &err));
    CG_ASSERT(cg_canonical_render_cut(&canonical, &json, 0, &cut, &again));
    CG_ASSERT(cut == 0 && cg_bytes_equal(cg_buf_bytes(&again), text));
    cg_json_fini(&json);
    cg_canonical_fini(&canonical);
    cg_buf_fini(&again);
}

static void try_cgroup(enum cg_cgroup_format format, struct cg_bytes text)
{
    struct cg_buf out;
    cg_buf_init(&out, JSON_BYTES_MAX);
    if (text.len < CG_CGROUP_FILE_BYTES_MAX && cg_cgroup_append(format, text, &out)) {
        check_json(cg_buf_bytes(&out), true);
    }
    cg_buf_fini(&out);
}

static void try_document(struct cg_bytes line)
{
    struct cg_fc_reader reader;
    struct cg_output *output = malloc(sizeof(*output));
    struct cg_facts facts = {0};
    struct cg_error err = {0};
    struct cg_buf out;
    uint64_t cut = 0;
    CG_ASSERT(output != NULL);
    cg_fc_reader_init(&reader);
    cg_output_init(output);
    output->wrapper = "metrics";
    cg_buf_init(&out, JSON_BYTES_MAX);
    if (cg_fc_document_read(&reader, line, output, &facts, &cut, &err)) {
        CG_ASSERT(cg_output_render(output, 36864, &out) && out.len <= 36864);
        check_json(cg_buf_bytes(&out), true);
    } else {
        CG_ASSERT(err.text[0] != '\0');
    }
    cg_buf_fini(&out);
    cg_output_fini(output);
    cg_fc_reader_fini(&reader);
    free(output);
    (void)cg_fc_answer_status(line);
}

/* A table whose rules say what the text says, and as many rules as it has texts, and one more. */
static void try_table(struct cg_bytes text)
{
    struct cg_nft_ruleset ruleset = {0};
    struct cg_error err = {0};
    struct cg_nft_message message = {.family = 1, .table = CG_BYTES("t"), .handle = 1};
    struct cg_buf rows;
    CG_ASSERT(cg_nft_ruleset_add_table(&ruleset, &message, NULL));
    cg_nft_ruleset_finish(&ruleset);
    struct cg_nft_table *table = cg_nft_ruleset_find(&ruleset, "inet", CG_BYTES("t"));
    CG_ASSERT(table != NULL);
    if (!cg_nft_reprs_read(text, table, &err)) {
        CG_ASSERT(err.text[0] != '\0');
    }
    message.counted = true;
    for (size_t i = 0; i <= table->reprs.count; i++) {
        message.handle = i < table->reprs.count ? table->reprs.items[i].handle : UINT64_MAX;
        cg_nft_ruleset_add_rule(&ruleset, &message);
    }
    cg_buf_init(&rows, JSON_BYTES_MAX);
    cg_buf_append_char(&rows, '[');
    cg_buf_append(&rows, cg_buf_bytes(&table->rows));
    cg_buf_append_char(&rows, ']');
    check_json(cg_buf_bytes(&rows), true);
    CG_ASSERT(table->rows.len <= CG_NFT_ROWS_BYTES_MAX);
    cg_buf_fini(&rows);
    cg_nft_ruleset_fini(&ruleset);
}

/* Messages of both dumps: tables first, then rules. */
static void try_dump(struct cg_bytes bytes)
{
    struct cg_nft_ruleset ruleset = {0};
    struct cg_buf rows;
    cg_buf_init(&rows, JSON_BYTES_MAX);
    for (unsigned pass = 0; pass < 2; pass++) {
        struct cg_bytes rest = bytes;
        struct cg_nft_message message;
        enum cg_nft_kind kind;
        while (rest.len > 0 && (kind = cg_nft_message_take(&rest, &message)) != CG_NFT_BAD) {
            if (kind == CG_NFT_TABLE && pass == 0) {
                CG_ASSERT(cg_nft_ruleset_add_table(&ruleset, &message, NULL));
            } else if (kind == CG_NFT_RULE && pass == 1) {
                cg_nft_ruleset_add_rule(&ruleset, &message);
            }
        }
        cg_nft_ruleset_finish(&ruleset);
    }
    for (size_t i = 0; i < ruleset.count; i++) {
        cg_buf_clear(&rows);
        cg_buf_append_char(&rows, '[');
        cg_buf_append(&rows, cg_buf_bytes(&ruleset.tables[i].rows));
        cg_buf_append_char(&rows, ']');
        check_json(cg_buf_bytes(&rows), true);
    }
    cg_buf_fini(&rows);
    cg_nft_ruleset_fini(&ruleset);
}

static void try_link(struct cg_bytes bytes)
{
    uint32_t sequence;
    struct cg_link link;
    int errnum = 0;
    while (bytes.len > 0) {
        size_t before = bytes.len;
        enum cg_link_kind kind = cg_link_message_take(&bytes, &sequence, &link, &errnum);
        if (kind == CG_LINK_BAD && bytes.len == before) {
            break;
        }
        CG_ASSERT(bytes.len < before);
        if (kind == CG_LINK_NEW) {
            CG_ASSERT(memchr(link.name, '\0', sizeof(link.name)) != NULL || link.name[0] == '\0');
            CG_ASSERT(cg_link_operstate_name(link.operstate) != NULL);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > BYTES_MAX) {
        return 0;
    }
    struct cg_bytes rest = cg_bytes(data + 1, size - 1);
    switch (data[0]) {
    case '0':
        try_cgroup(CG_CGROUP_NUMBER, rest);
        break;
    case '1':
        try_cgroup(CG_CGROUP_FLAT, rest);
        break;
    case '2':
        try_cgroup(CG_CGROUP_NESTED, rest);
        break;
    case '3':
        try_cgroup(CG_CGROUP_PRESSURE, rest);
        break;
    case 'f':
        try_document(rest);
        break;
    case 'n':
        try_table(rest);
        break;
    case 'd':
        try_dump(rest);
        break;
    case 'l':
        try_link(rest);
        break;
    default:
        break;
    }
    return 0;
}
