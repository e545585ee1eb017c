#include "probes/ruleset.h"

#include "base/thread.h"
#include "cellgate/cleanup.h"
#include "cellgate/clock.h"
#include "probes/nft_reader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct cg_ruleset {
    struct cg_rulesets *all;
    struct cg_netns_id id;
    int netns_fd; /* -1: the gateway's own */

    /* The probes' thread's. */
    struct cg_list in_all;
    struct cg_list users;
    unsigned users_count;
    struct cg_nft_result current;
    bool answered;     /* `current` is a reading */
    bool under_way;    /* asked for, and not taken: `next` is the reader's */
    bool again;        /* what is under way began too early for somebody */
    uint64_t asked_ns; /* monotonic */

    struct cg_list in_queue;     /* under the lock: to be read, or read */
    struct cg_nft_result next;   /* the reader's while it is under way */
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

    struct cg_nft_reader reader; /* the thread's */
};

/* --- the reader --- */

static bool is_idle(struct cg_rulesets *all)
{
    (void)pthread_mutex_lock(&all->lock);
    bool idle = cg_list_is_empty(&all->queue);
    (void)pthread_mutex_unlock(&all->lock);
    return idle;
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
        cg_nft_reader_read(&all->reader, ruleset->netns_fd, &ruleset->id, &ruleset->known,
                           &ruleset->next);
        (void)pthread_mutex_lock(&all->lock);
        cg_list_append(&all->done, &ruleset->in_queue);
        (void)pthread_mutex_unlock(&all->lock);
        ssize_t written = write(all->event_fd, &one, sizeof(one));
        (void)written; /* if it is full, it can be read */
        if (is_idle(all)) {
            cg_nft_reader_go_home(&all->reader);
        }
    }
    cg_nft_reader_leave(&all->reader);
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
    const struct cg_nft_result *current = &ruleset->current;
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
    ruleset->next = (struct cg_nft_result){0};
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
        if (cg_netns_is_same(&ruleset->id, id)) {
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
        enum cg_probe_outcome outcome = cg_netns_open(rulesets->host->policy, path, &fd, &id, err);
        if (outcome != CG_PROBE_READ) {
            cg_ruleset_leave(user);
            return outcome;
        }
    }
    if (user->ruleset != NULL && cg_netns_is_same(&user->ruleset->id, &id)) {
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
    cg_nft_reader_fini(&all->reader);
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
    if (!cg_probe_host_add(all->host, all->event_fd, &all->source, err)) {
        (void)close(cg_steal_fd(&all->event_fd));
        return false;
    }
    int errnum = cg_thread_start(&all->thread, "probes-nft", run, all);
    if (errnum != 0) {
        return cg_error_errno(err, errnum, "start the reader of rulesets");
    }
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
    all->event_fd = -1;
    cg_nft_reader_init(&all->reader, host->clock);
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
