#include "ingress/handover_table.h"

#include "cellgate/limits.h"
#include "spool/crc32c.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_VERSION = 1, HEADER_BYTES = 24, VERSION_AT = 8, SUM_AT = 12, LENGTH_AT = 16 };

static const char magic[] = "CGHANDOV";
enum { MAGIC_BYTES = sizeof(magic) - 1 };

/* What the least of each takes, so that a count beyond the bytes allocates nothing. */
enum { CELL_BYTES_MIN = 3 * 2 + 3 * 8 + 3 * 4 + 5 * 8 + 2 * 4, CONNECTION_BYTES_MIN = 32 };

/* --- writing --- */

static void put_u16(struct cg_buf *out, uint16_t value)
{
    const uint16_t little = htole16(value);
    (void)cg_buf_append(out, cg_bytes((const char *)&little, sizeof(little)));
}

static void put_u32(struct cg_buf *out, uint32_t value)
{
    const uint32_t little = htole32(value);
    (void)cg_buf_append(out, cg_bytes((const char *)&little, sizeof(little)));
}

static void put_u64(struct cg_buf *out, uint64_t value)
{
    const uint64_t little = htole64(value);
    (void)cg_buf_append(out, cg_bytes((const char *)&little, sizeof(little)));
}

static void put_text(struct cg_buf *out, struct cg_bytes text)
{
    CG_ASSERT(text.len <= UINT16_MAX);
    put_u16(out, (uint16_t)text.len);
    (void)cg_buf_append(out, text);
}

void cg_handover_table_begin(uint64_t witness_cookie, uint32_t cells, struct cg_buf *out)
{
    (void)cg_buf_append(out, cg_bytes(magic, MAGIC_BYTES));
    put_u32(out, FORMAT_VERSION);
    put_u32(out, 0); /* the seal's */
    put_u64(out, 0);
    put_u64(out, witness_cookie);
    put_u32(out, cells);
}

void cg_handover_table_add_cell(const struct cg_handover_cell *cell, struct cg_buf *out)
{
    put_text(out, cell->cell_id);
    put_text(out, cell->run_id);
    put_text(out, cell->vsock_uds_base);
    put_u64(out, cell->cookie);
    put_u64(out, cell->device);
    put_u64(out, cell->inode);
    put_u32(out, cell->mode);
    put_u32(out, cell->uid);
    put_u32(out, cell->gid);
    put_u64(out, cell->frames);
    put_u64(out, cell->frame_bytes);
    put_u64(out, cell->frames_rejected);
    put_u64(out, cell->connections_refused);
    put_u64(out, cell->last_frame_ns);
    put_u32(out, cell->connections_opened);
    put_u32(out, cell->connections_count);
}

void cg_handover_table_add_connection(const struct cg_handover_connection *connection,
                                      struct cg_buf *out)
{
    put_u64(out, connection->cookie);
    put_u32(out, connection->ordinal);
    put_u64(out, connection->frames);
    put_u64(out, connection->bytes);
    put_u32(out, (uint32_t)connection->partial.len);
    (void)cg_buf_append(out, connection->partial);
}

bool cg_handover_table_seal(struct cg_buf *out)
{
    if (out->failed) {
        return false;
    }
    CG_ASSERT(out->len >= HEADER_BYTES);
    uint64_t body_bytes = out->len - HEADER_BYTES;
    const uint32_t sum = htole32(cg_crc32c(0, out->data + HEADER_BYTES, body_bytes));
    const uint64_t length = htole64(body_bytes);
    memcpy(out->data + SUM_AT, &sum, sizeof(sum));
    memcpy(out->data + LENGTH_AT, &length, sizeof(length));
    return true;
}

/* --- reading --- */

/* What is left; once something did not fit, `failed` stays and all reads give zeros. */
struct reading {
    struct cg_bytes rest;
    bool failed;
};

static struct cg_bytes take(struct reading *reading, size_t len)
{
    if (reading->failed || reading->rest.len < len) {
        reading->failed = true;
        return cg_bytes(NULL, 0);
    }
    struct cg_bytes taken = cg_bytes(reading->rest.data, len);
    reading->rest = cg_bytes(reading->rest.data + len, reading->rest.len - len);
    return taken;
}

static uint16_t take_u16(struct reading *reading)
{
    uint16_t value = 0;
    struct cg_bytes bytes = take(reading, sizeof(value));
    memcpy(&value, bytes.len == 0 ? (const char *)&value : bytes.data, bytes.len);
    return le16toh(value);
}

static uint32_t take_u32(struct reading *reading)
{
    uint32_t value = 0;
    struct cg_bytes bytes = take(reading, sizeof(value));
    memcpy(&value, bytes.len == 0 ? (const char *)&value : bytes.data, bytes.len);
    return le32toh(value);
}

static uint64_t take_u64(struct reading *reading)
{
    uint64_t value = 0;
    struct cg_bytes bytes = take(reading, sizeof(value));
    memcpy(&value, bytes.len == 0 ? (const char *)&value : bytes.data, bytes.len);
    return le64toh(value);
}

static struct cg_bytes take_text(struct reading *reading, size_t max)
{
    size_t len = take_u16(reading);
    reading->failed = reading->failed || len == 0 || len > max;
    return take(reading, len);
}

static void read_cell(struct reading *reading, struct cg_handover_cell *cell)
{
    cell->cell_id = take_text(reading, CG_ID_BYTES_MAX);
    cell->run_id = take_text(reading, CG_ID_BYTES_MAX);
    cell->vsock_uds_base = take_text(reading, CG_HANDOVER_BASE_BYTES_MAX);
    cell->cookie = take_u64(reading);
    cell->device = take_u64(reading);
    cell->inode = take_u64(reading);
    cell->mode = take_u32(reading);
    cell->uid = take_u32(reading);
    cell->gid = take_u32(reading);
    cell->frames = take_u64(reading);
    cell->frame_bytes = take_u64(reading);
    cell->frames_rejected = take_u64(reading);
    cell->connections_refused = take_u64(reading);
    cell->last_frame_ns = take_u64(reading);
    cell->connections_opened = take_u32(reading);
    cell->connections_count = take_u32(reading);
}

static void read_connection(struct reading *reading, struct cg_handover_connection *connection)
{
    connection->cookie = take_u64(reading);
    connection->ordinal = take_u32(reading);
    connection->frames = take_u64(reading);
    connection->bytes = take_u64(reading);
    connection->partial = take(reading, take_u32(reading));
}

/* The connections of all cells stand in one array, which grows. */
static bool read_connections(struct reading *reading, struct cg_handover_table *table,
                             uint32_t count)
{
    if (count > reading->rest.len / CONNECTION_BYTES_MIN ||
        count > CG_HANDOVER_CONNECTIONS_MAX - table->connections_count) {
        reading->failed = true;
        return true;
    }
    size_t more = table->connections_count + count;
    struct cg_handover_connection *grown =
        reallocarray(table->connections, more + 1, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    table->connections = grown;
    for (; table->connections_count < more; table->connections_count++) {
        read_connection(reading, &table->connections[table->connections_count]);
    }
    return true;
}

static bool read_body(struct reading *reading, struct cg_handover_table *table,
                      struct cg_error *err)
{
    table->witness_cookie = take_u64(reading);
    uint32_t count = take_u32(reading);
    if (reading->failed || count > CG_HANDOVER_CELLS_MAX ||
        count > reading->rest.len / CELL_BYTES_MIN) {
        return cg_error_set(err, "the table does not hold together");
    }
    table->cells = calloc((size_t)count + 1, sizeof(table->cells[0]));
    bool memory = table->cells != NULL;
    for (uint32_t i = 0; memory && i < count && !reading->failed; i++) {
        struct cg_handover_cell *cell = &table->cells[i];
        read_cell(reading, cell);
        memory = read_connections(reading, table, cell->connections_count);
        table->cells_count = i + 1;
    }
    if (!memory) {
        return cg_error_set(err, "out of memory for the table");
    }
    return (!reading->failed && reading->rest.len == 0) ||
           cg_error_set(err, "the table does not hold together");
}

bool cg_handover_table_read(struct cg_bytes bytes, struct cg_handover_table *ret_table,
                            struct cg_error *err)
{
    struct reading reading = {.rest = bytes};
    struct cg_bytes found = take(&reading, MAGIC_BYTES);
    uint32_t version = take_u32(&reading);
    uint32_t sum = take_u32(&reading);
    uint64_t length = take_u64(&reading);
    if (reading.failed || memcmp(found.data, magic, MAGIC_BYTES) != 0) {
        return cg_error_set(err, "there is no table of ours");
    }
    if (version != FORMAT_VERSION) {
        return cg_error_set(err, "the table has format %u, and this gateway knows %d", version,
                            FORMAT_VERSION);
    }
    if (length != reading.rest.len || cg_crc32c(0, reading.rest.data, reading.rest.len) != sum) {
        return cg_error_set(err, "the table is damaged");
    }
    struct cg_handover_table table = {0};
    if (!read_body(&reading, &table, err)) {
        cg_handover_table_fini(&table);
        return false;
    }
    const struct cg_handover_connection *at = table.connections;
    for (size_t i = 0; i < table.cells_count; i++) {
        table.cells[i].connections = at;
        at += table.cells[i].connections_count;
    }
    *ret_table = table;
    return true;
}

void cg_handover_table_fini(struct cg_handover_table *table)
{
    free(table->cells);
    free(table->connections);
    *table = (struct cg_handover_table){0};
}
