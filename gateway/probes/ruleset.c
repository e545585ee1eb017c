#include "probes/ruleset.h"

#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "probes/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
    DUMP_BYTES_MAX = 65536,
    DUMPS_MAX = 3,
    COMMAND_BYTES_MAX = 4096,
    LISTING_MS_MAX = 200, /* of looking up what rules say, in one reading */
};

struct result {
    struct cg_nft_ruleset rules;
    uint64_t begun_ns, read_ns;
    enum cg_probe_outcome outcome;
    struct cg_error err;
};

/* A dump under way. */
struct dump {
    struct result *result;
    struct cg_nft_ruleset *before; /* whose texts move over */
    bool interrupted, good;
};

struct cg_ruleset {
    struct cg_rulesets *all;
    struct cg_netns_id id;
    int netns_fd; /* -1: the gateway's own */

    /* The probes' thread's. */
    struct cg_list in_all;
    struct cg_list users;
    unsigned users_count;
    struct result current;
    bool answered;     /* `current` is a reading */
    bool under_way;    /* asked for, and not taken: `next` is the reader's */
    bool again;        /* what is under way began too early for somebody */
    uint64_t asked_ns; /* monotonic */

    struct cg_list in_queue;     /* under the lock: to be read, or read */
    struct result next;          /* the reader's while it is under way */
    struct cg_nft_ruleset known; /* likewise: what rules say, so that each is asked for once */
};

struct cg_rulesets {
    struct cg_probe_host *host;
    struct cg_probe_source source;
    int event_fd;
    struct cg_list all;
    unsigned count;

    pthread_t thread;
    pthread_mutex_t lock; /* covers what follows */
    pthread_cond_t wanted;
    struct cg_list queue; /* to be read */
    struct cg_list done;
    bool ending;

    /* The reader's. */
    int own_netns_fd;
    struct cg_netns_id place; /* the namespace it is in; zero: its own */
    struct nft_ctx *nft;      /* of that namespace; NULL: none yet */
};

/* --- the reader --- */

static void close_context(struct cg_rulesets *all)
{
    if (all->nft != NULL) {
        nft_ctx_free(cg_steal_ptr(all->nft));
    }
}

static bool is_same(const struct cg_netns_id *a, const struct cg_netns_id *b)
{
    return a->device == b->device && a->inode == b->inode;
}

/* Into the namespace, unless it is there. */
static bool enter(struct cg_rulesets *all, const struct cg_ruleset *ruleset, struct result *result)
{
    if (is_same(&all->place, &ruleset->id)) {
        return true;
    }
    close_context(all);
    if (setns(ruleset->netns_fd < 0 ? all->own_netns_fd : ruleset->netns_fd, CLONE_NEWNET) != 0) {
        int errnum = errno;
        (void)cg_error_errno(&result->err, errnum, "enter the network namespace");
        result->outcome = cg_probe_outcome_of(errnum);
        return false;
    }
    all->place = ruleset->id;
    return true;
}

static bool open_context(struct cg_rulesets *all, struct result *result)
{
    if (all->nft != NULL) {
        return true;
    }
    /* The library ends the process when it cannot have this socket: so it is tried first. */
    cg_auto_close int fd = -1;
    result->outcome = cg_netns_netlink(-1, NETLINK_NETFILTER, &fd, &result->err);
    if (result->outcome != CG_PROBE_READ) {
        return false;
    }
    all->nft = nft_ctx_new(NFT_CTX_DEFAULT);
    if (all->nft == NULL || nft_ctx_buffer_output(all->nft) != 0 ||
        nft_ctx_buffer_error(all->nft) != 0) {
        (void)cg_error_set(&result->err, "libnftables does not start");
        result->outcome = CG_PROBE_UNREADABLE;
        close_context(all);
        return false;
    }
    nft_ctx_output_set_flags(all->nft, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE |
                                           NFT_CTX_OUTPUT_NUMERIC_ALL | NFT_CTX_OUTPUT_TERSE);
    return true;
}

/* --- counters, from the kernel --- */

static bool refuse(struct result *result, int errnum, const char *what)
{
    result->outcome = cg_probe_outcome_of(errnum);
    return cg_error_errno(&result->err, errnum, "%s", what);
}

/* One message of a dump; false if it is its end. */
static bool hear(const struct cg_nft_message *message, enum cg_nft_kind kind, bool rules,
                 struct dump *dump)
{
    struct result *result = dump->result;
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
static bool read_counters(struct result *result, struct cg_nft_ruleset *before)
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
static bool read_reprs(struct cg_rulesets *all, struct result *result)
{
    const struct cg_clock *clock = all->host->clock;
    uint64_t until_ns = cg_clock_monotonic(clock) + LISTING_MS_MAX * CG_NS_PER_MS;
    bool any = false;
    for (size_t i = 0; i < result->rules.count; i++) {
        struct cg_nft_table *table = &result->rules.tables[i];
        if (table->rules == 0 || table->last_handle <= table->reprs.known_to) {
            continue;
        }
        struct result ignored = {0};
        if (cg_clock_monotonic(clock) >= until_ns || !open_context(all, &ignored)) {
            break;
        }
        any |= list_table(all->nft, table);
    }
    return any;
}

static void read_ruleset(struct cg_rulesets *all, struct cg_ruleset *ruleset)
{
    const struct cg_clock *clock = all->host->clock;
    struct result *result = &ruleset->next;
    *result =
        (struct result){.begun_ns = cg_clock_monotonic(clock), .read_ns = cg_clock_realtime(clock)};
    if (!enter(all, ruleset, result)) {
        return;
    }
    bool good = read_counters(result, &ruleset->known);
    if (good && read_reprs(all, result)) {
        struct cg_nft_ruleset with_reprs = result->rules;
        result->rules = (struct cg_nft_ruleset){0};
        good = read_counters(result, &with_reprs);
        cg_nft_ruleset_fini(&with_reprs);
    }
    if (good && !cg_nft_ruleset_keep_reprs(&ruleset->known, &result->rules)) {
        (void)refuse(result, ENOMEM, "keep what rules say");
    }
}

/* Nobody's namespace is kept alive by a reader that has nothing to do there. */
static void go_home(struct cg_rulesets *all)
{
    static const struct cg_netns_id own = {0};
    (void)pthread_mutex_lock(&all->lock);
    bool idle = cg_list_is_empty(&all->queue);
    (void)pthread_mutex_unlock(&all->lock);
    if (idle && !is_same(&all->place, &own)) {
        close_context(all);
        if (setns(all->own_netns_fd, CLONE_NEWNET) == 0) {
            all->place = own;
        }
    }
}

/* The next one, or NULL at the end. */
static struct cg_ruleset *wait_for_order(struct cg_rulesets *all)
{
    struct cg_ruleset *ruleset = NULL;
    (void)pthread_mutex_lock(&all->lock);
    while (cg_list_is_empty(&all->queue) && !all->ending) {
        (void)pthread_cond_wait(&all->wanted, &all->lock);
    }
    if (!all->ending) {
        ruleset = CG_LIST_ENTRY(all->queue.next, struct cg_ruleset, in_queue);
        cg_list_remove(&ruleset->in_queue);
    }
    (void)pthread_mutex_unlock(&all->lock);
    return ruleset;
}

static void *run(void *context)
{
    struct cg_rulesets *all = context;
    struct cg_ruleset *ruleset;
    while ((ruleset = wait_for_order(all)) != NULL) {
        const uint64_t one = 1;
        read_ruleset(all, ruleset);
        (void)pthread_mutex_lock(&all->lock);
        cg_list_append(&all->done, &ruleset->in_queue);
        (void)pthread_mutex_unlock(&all->lock);
        ssize_t written = write(all->event_fd, &one, sizeof(one));
        (void)written; /* if it is full, it can be read */
        go_home(all);
    }
    close_context(all);
    return NULL;
}

/* --- asking and answering, on the probes' thread --- */

static void order(struct cg_ruleset *ruleset)
{
    struct cg_rulesets *all = ruleset->all;
    ruleset->under_way = true;
    ruleset->again = false;
    ruleset->asked_ns = cg_clock_monotonic(all->host->clock);
    (void)pthread_mutex_lock(&all->lock);
    cg_list_append(&all->queue, &ruleset->in_queue);
    (void)pthread_cond_signal(&all->wanted);
    (void)pthread_mutex_unlock(&all->lock);
}

void cg_ruleset_request(struct cg_ruleset *ruleset, uint64_t not_before_ns)
{
    if (!ruleset->under_way) {
        order(ruleset);
    } else if (ruleset->asked_ns < not_before_ns) {
        ruleset->again = true;
    }
}

void cg_ruleset_get(const struct cg_ruleset *ruleset, struct cg_ruleset_answer *ret_answer)
{
    const struct result *current = &ruleset->current;
    bool good = ruleset->answered && current->outcome == CG_PROBE_READ;
    *ret_answer = (struct cg_ruleset_answer){
        .rules = good ? &current->rules : NULL,
        .begun_ns = ruleset->answered ? current->begun_ns : 0,
        .read_ns = current->read_ns,
        .outcome = ruleset->answered ? current->outcome : CG_PROBE_LATER,
        .detail = current->err.text,
    };
}

static void free_ruleset(struct cg_ruleset *ruleset)
{
    cg_nft_ruleset_fini(&ruleset->current.rules);
    cg_nft_ruleset_fini(&ruleset->known);
    if (ruleset->netns_fd >= 0) {
        (void)close(ruleset->netns_fd);
    }
    cg_list_remove(&ruleset->in_all);
    ruleset->all->count--;
    free(ruleset);
}

static void take(struct cg_ruleset *ruleset)
{
    cg_nft_ruleset_fini(&ruleset->current.rules);
    ruleset->current = ruleset->next;
    ruleset->next = (struct result){0};
    ruleset->answered = true;
    ruleset->under_way = false;
    if (ruleset->users_count == 0) {
        free_ruleset(ruleset);
        return;
    }
    if (ruleset->again) {
        order(ruleset);
    }
    struct cg_list *next;
    for (struct cg_list *at = ruleset->users.next; at != &ruleset->users; at = next) {
        next = at->next;
        cg_probe_answered(CG_LIST_ENTRY(at, struct cg_ruleset_user, in_ruleset)->instance);
    }
}

static struct cg_ruleset *take_done(struct cg_rulesets *all)
{
    struct cg_ruleset *ruleset = NULL;
    (void)pthread_mutex_lock(&all->lock);
    if (!cg_list_is_empty(&all->done)) {
        ruleset = CG_LIST_ENTRY(all->done.next, struct cg_ruleset, in_queue);
        cg_list_remove(&ruleset->in_queue);
    }
    (void)pthread_mutex_unlock(&all->lock);
    return ruleset;
}

static void serve(void *context)
{
    struct cg_rulesets *all = context;
    uint64_t count;
    ssize_t got = read(all->event_fd, &count, sizeof(count));
    (void)got;
    struct cg_ruleset *ruleset;
    while ((ruleset = take_done(all)) != NULL) {
        take(ruleset);
    }
}

/* --- users --- */

void cg_ruleset_leave(struct cg_ruleset_user *user)
{
    struct cg_ruleset *ruleset = user->ruleset;
    if (ruleset == NULL) {
        return;
    }
    cg_list_remove(&user->in_ruleset);
    user->ruleset = NULL;
    if (--ruleset->users_count == 0 && !ruleset->under_way) {
        free_ruleset(ruleset); /* and else when its answer is there */
    }
}

static struct cg_ruleset *find(struct cg_rulesets *all, const struct cg_netns_id *id)
{
    for (struct cg_list *at = all->all.next; at != &all->all; at = at->next) {
        struct cg_ruleset *ruleset = CG_LIST_ENTRY(at, struct cg_ruleset, in_all);
        if (is_same(&ruleset->id, id)) {
            return ruleset;
        }
    }
    return NULL;
}

static struct cg_ruleset *make(struct cg_rulesets *all, const struct cg_netns_id *id, int *netns_fd,
                               struct cg_error *err)
{
    if (all->count >= CG_RULESETS_MAX) {
        (void)cg_error_set(err, "there are %d network namespaces already", CG_RULESETS_MAX);
        return NULL;
    }
    struct cg_ruleset *ruleset = calloc(1, sizeof(*ruleset));
    if (ruleset == NULL) {
        (void)cg_error_set(err, "out of memory");
        return NULL;
    }
    ruleset->all = all;
    ruleset->id = *id;
    ruleset->netns_fd = cg_steal_fd(netns_fd);
    cg_list_init(&ruleset->in_queue);
    cg_list_init(&ruleset->users);
    cg_list_init(&ruleset->in_all);
    cg_list_append(&all->all, &ruleset->in_all);
    all->count++;
    return ruleset;
}

enum cg_probe_outcome cg_ruleset_use(struct cg_rulesets *rulesets, struct cg_ruleset_user *user,
                                     const char *path, struct cg_error *err)
{
    struct cg_netns_id id = {0};
    cg_auto_close int fd = -1;
    if (path != NULL) {
        enum cg_probe_outcome outcome =
            cg_netns_open(rulesets->host->policy->roots, path, &fd, &id, err);
        if (outcome != CG_PROBE_READ) {
            cg_ruleset_leave(user);
            return outcome;
        }
    }
    if (user->ruleset != NULL && is_same(&user->ruleset->id, &id)) {
        return CG_PROBE_READ;
    }
    cg_ruleset_leave(user);
    struct cg_ruleset *ruleset = find(rulesets, &id);
    ruleset = ruleset == NULL ? make(rulesets, &id, &fd, err) : ruleset;
    if (ruleset == NULL) {
        return CG_PROBE_UNREADABLE;
    }
    ruleset->users_count++;
    cg_list_append(&ruleset->users, &user->in_ruleset);
    user->ruleset = ruleset;
    return CG_PROBE_READ;
}

/* --- start and stop --- */

static void free_all(struct cg_rulesets *all)
{
    while (!cg_list_is_empty(&all->all)) {
        struct cg_ruleset *ruleset = CG_LIST_ENTRY(all->all.next, struct cg_ruleset, in_all);
        cg_nft_ruleset_fini(&ruleset->next.rules);
        free_ruleset(ruleset);
    }
    if (all->event_fd >= 0) {
        cg_probe_host_remove(all->host, all->event_fd);
        (void)close(all->event_fd);
    }
    if (all->own_netns_fd >= 0) {
        (void)close(all->own_netns_fd);
    }
    (void)pthread_mutex_destroy(&all->lock);
    (void)pthread_cond_destroy(&all->wanted);
    free(all);
}

static bool start_reader(struct cg_rulesets *all, struct cg_error *err)
{
    all->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (all->event_fd < 0) {
        return cg_error_errno(err, errno, "make an eventfd");
    }
    /* Without it there is no way back from another namespace, and then none there. */
    all->own_netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (!cg_probe_host_add(all->host, all->event_fd, &all->source, err)) {
        (void)close(cg_steal_fd(&all->event_fd));
        return false;
    }
    int errnum = pthread_create(&all->thread, NULL, run, all);
    if (errnum != 0) {
        return cg_error_errno(err, errnum, "start the reader of rulesets");
    }
    (void)pthread_setname_np(all->thread, "probes-nft");
    return true;
}

bool cg_rulesets_start(struct cg_probe_host *host, struct cg_rulesets **ret_rulesets,
                       struct cg_error *err)
{
    struct cg_rulesets *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return cg_error_set(err, "out of memory for the nftables probe");
    }
    all->host = host;
    all->source = (struct cg_probe_source){serve, all};
    all->event_fd = all->own_netns_fd = -1;
    (void)pthread_mutex_init(&all->lock, NULL);
    (void)pthread_cond_init(&all->wanted, NULL);
    cg_list_init(&all->all);
    cg_list_init(&all->queue);
    cg_list_init(&all->done);
    if (!start_reader(all, err)) {
        free_all(all);
        return false;
    }
    *ret_rulesets = all;
    return true;
}

void cg_rulesets_stop(struct cg_rulesets *rulesets)
{
    (void)pthread_mutex_lock(&rulesets->lock);
    rulesets->ending = true;
    (void)pthread_cond_signal(&rulesets->wanted);
    (void)pthread_mutex_unlock(&rulesets->lock);
    (void)pthread_join(rulesets->thread, NULL);
    free_all(rulesets);
}
