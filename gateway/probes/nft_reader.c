#include "probes/nft_reader.h"

#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "probes/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <sys/socket.h>

enum {
    DUMP_BYTES_MAX = 65536,
    DUMPS_MAX = 3,
    COMMAND_BYTES_MAX = 4096,
    LISTING_MS_MAX = 200, /* of looking up what rules say, in one reading */
};

/* A dump under way. */
struct dump {
    struct cg_nft_result *result;
    struct cg_nft_ruleset *before; /* whose texts move over */
    bool interrupted, good;
};

void cg_nft_reader_init(struct cg_nft_reader *reader, const struct cg_clock *clock)
{
    *reader = (struct cg_nft_reader){
        .clock = clock, .own_netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)};
}

static void close_context(struct cg_nft_reader *reader)
{
    if (reader->nft != NULL) {
        nft_ctx_free(cg_steal_ptr(reader->nft));
    }
}

void cg_nft_reader_leave(struct cg_nft_reader *reader)
{
    close_context(reader);
}

void cg_nft_reader_fini(struct cg_nft_reader *reader)
{
    if (reader->own_netns_fd >= 0) {
        (void)close(cg_steal_fd(&reader->own_netns_fd));
    }
}

/* --- namespaces --- */

/* Into the namespace, unless it is there. */
static bool enter(struct cg_nft_reader *reader, int netns_fd, const struct cg_netns_id *id,
                  struct cg_nft_result *result)
{
    if (cg_netns_is_same(&reader->place, id)) {
        return true;
    }
    close_context(reader);
    if (setns(netns_fd < 0 ? reader->own_netns_fd : netns_fd, CLONE_NEWNET) != 0) {
        int errnum = errno;
        (void)cg_error_errno(&result->err, errnum, "enter the network namespace");
        result->outcome = cg_probe_outcome_of(errnum);
        return false;
    }
    reader->place = *id;
    return true;
}

void cg_nft_reader_go_home(struct cg_nft_reader *reader)
{
    static const struct cg_netns_id own = {0};
    if (cg_netns_is_same(&reader->place, &own)) {
        return;
    }
    close_context(reader);
    if (setns(reader->own_netns_fd, CLONE_NEWNET) == 0) {
        reader->place = own;
    }
}

/* --- libnftables --- */

static bool open_context(struct cg_nft_reader *reader, struct cg_nft_result *result)
{
    if (reader->nft != NULL) {
        return true;
    }
    /* The library ends the process when it cannot have this socket: so it is tried first. */
    cg_auto_close int fd = -1;
    result->outcome = cg_netns_netlink(-1, NETLINK_NETFILTER, &fd, &result->err);
    if (result->outcome != CG_PROBE_READ) {
        return false;
    }
    reader->nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (reader->nft == NULL || nft_ctx_buffer_output(reader->nft) != 0 ||
        nft_ctx_buffer_error(reader->nft) != 0) {
        (void)cg_error_set(&result->err, "libnftables does not start");
        result->outcome = CG_PROBE_UNREADABLE;
        close_context(reader);
        return false;
    }
    nft_ctx_output_set_flags(reader->nft, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE |
                                              NFT_CTX_OUTPUT_NUMERIC_ALL | NFT_CTX_OUTPUT_TERSE);
    return true;
}

/* --- counters, from the kernel --- */

static bool refuse(struct cg_nft_result *result, int errnum, const char *what)
{
    result->outcome = cg_probe_outcome_of(errnum);
    return cg_error_errno(&result->err, errnum, "%s", what);
}

/* One message of a dump; false if it is its end. */
static bool hear(const struct cg_nft_message *message, enum cg_nft_kind kind, bool rules,
                 struct dump *dump)
{
    struct cg_nft_result *result = dump->result;
    dump->interrupted |= message->interrupted;
    if (kind == CG_NFT_ERROR) {
        dump->good = refuse(result, message->errnum, "list the ruleset");
        return false;
    }
    if (kind == CG_NFT_TABLE && !rules &&
        !cg_nft_ruleset_add_table(&result->rules, message, dump->before)) {
        dump->good = refuse(result, ENOMEM, "list the tables");
        return false;
    }
    if (kind == CG_NFT_RULE && rules) {
        cg_nft_ruleset_add_rule(&result->rules, message);
    }
    return kind != CG_NFT_DONE;
}

/* All tables, or all rules, over a socket that blocks: the kernel answers at once. */
static bool dump_all(int fd, bool rules, struct dump *dump)
{
    char request[CG_NFT_REQUEST_BYTES];
    char buffer[DUMP_BYTES_MAX];
    const uint32_t sequence = rules ? 2 : 1;
    cg_nft_request(rules, sequence, request);
    if (send(fd, request, sizeof(request), 0) != (ssize_t)sizeof(request)) {
        return refuse(dump->result, errno, "ask for the ruleset");
    }
    dump->good = true;
    for (bool more = true; more;) {
        ssize_t got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got < 0) {
            return refuse(dump->result, errno, "read the ruleset");
        }
        struct cg_bytes bytes = cg_bytes(buffer, (size_t)got);
        while (more && bytes.len > 0) {
            struct cg_nft_message message;
            enum cg_nft_kind kind = cg_nft_message_take(&bytes, &message);
            if (kind == CG_NFT_BAD) {
                return refuse(dump->result, EPROTO, "read the ruleset");
            }
            more = message.sequence != sequence || hear(&message, kind, rules, dump);
        }
    }
    return dump->good;
}

/* A dump during which the ruleset changed is no snapshot, and done again. */
static bool read_counters(struct cg_nft_result *result, struct cg_nft_ruleset *before)
{
    struct dump dump = {.result = result, .before = before};
    cg_auto_close int fd = -1;
    result->outcome = cg_netns_netlink(-1, NETLINK_NETFILTER, &fd, &result->err);
    if (result->outcome != CG_PROBE_READ || !dump_all(fd, false, &dump)) {
        return false;
    }
    cg_nft_ruleset_finish(&result->rules);
    for (unsigned i = 0; i < DUMPS_MAX; i++) {
        dump.interrupted = false;
        cg_nft_ruleset_clear_rows(&result->rules);
        if (!dump_all(fd, true, &dump)) {
            return false;
        }
        if (!dump.interrupted) {
            break;
        }
    }
    return true;
}

/* --- what rules say, from libnftables --- */

static bool list_table(struct nft_ctx *nft, struct cg_nft_table *table)
{
    cg_auto_buf struct cg_buf command;
    cg_buf_init(&command, COMMAND_BYTES_MAX);
    table->reprs.known_to = table->last_handle; /* even if it fails: not again and again */
    if (!cg_nft_list_command(table, &command) || cg_buf_str(&command) == NULL) {
        return false;
    }
    bool good = nft_run_cmd_from_buffer(nft, cg_buf_str(&command)) == 0;
    /* Asking for the buffers empties them. */
    const char *text = nft_ctx_get_output_buffer(nft);
    (void)nft_ctx_get_error_buffer(nft);
    return good && cg_nft_reprs_read(cg_bytes_str(text), table, NULL);
}

/* Looks up what new rules say, as far as there is time; true if there are any. */
static bool read_reprs(struct cg_nft_reader *reader, struct cg_nft_result *result)
{
    const struct cg_clock *clock = reader->clock;
    uint64_t until_ns = cg_clock_monotonic(clock) + LISTING_MS_MAX * CG_NS_PER_MS;
    bool any = false;
    for (size_t i = 0; i < result->rules.count; i++) {
        struct cg_nft_table *table = &result->rules.tables[i];
        if (table->rules == 0 || table->last_handle <= table->reprs.known_to) {
            continue;
        }
        struct cg_nft_result ignored = {0};
        if (cg_clock_monotonic(clock) >= until_ns || !open_context(reader, &ignored)) {
            break;
        }
        any |= list_table(reader->nft, table);
    }
    return any;
}

void cg_nft_reader_read(struct cg_nft_reader *reader, int netns_fd, const struct cg_netns_id *id,
                        struct cg_nft_ruleset *known, struct cg_nft_result *ret_result)
{
    struct cg_nft_result *result = ret_result;
    *result = (struct cg_nft_result){.begun_ns = cg_clock_monotonic(reader->clock),
                                     .read_ns = cg_clock_realtime(reader->clock)};
    if (!enter(reader, netns_fd, id, result)) {
        return;
    }
    bool good = read_counters(result, known);
    if (good && read_reprs(reader, result)) {
        struct cg_nft_ruleset with_reprs = result->rules;
        result->rules = (struct cg_nft_ruleset){0};
        good = read_counters(result, &with_reprs);
        cg_nft_ruleset_fini(&with_reprs);
    }
    if (good && !cg_nft_ruleset_keep_reprs(known, &result->rules)) {
        (void)refuse(result, ENOMEM, "keep what rules say");
    }
}
