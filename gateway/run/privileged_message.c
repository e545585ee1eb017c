#include "run/privileged_message.h"

#include "cellgate/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char temporary_prefix[] = ".cellgate-";
enum { TEMPORARY_DIGITS = 16, MODE_MAX = 0777 };

/* --- texts --- */

/* Terminated, and nothing but zeroes behind: one text has one form. */
static bool is_text(const char *text, size_t size)
{
    size_t len = strnlen(text, size);
    for (size_t i = len; i < size; i++) {
        if (text[i] != '\0') {
            return false;
        }
    }
    return len < size;
}

/* Absolute, and each component a name: nothing empty, no "." or "..". */
static bool is_plain_path(const char *path)
{
    if (path[0] != '/') {
        return false;
    }
    for (const char *at = path; *at == '/';) {
        const char *name = at + 1;
        size_t len = strcspn(name, "/");
        if (len == 0 || strncmp(name, ".", len) == 0 || (len == 2 && strncmp(name, "..", 2) == 0)) {
            return false;
        }
        at = name + len;
    }
    return true;
}

static bool is_temporary(const char *name)
{
    size_t prefix = sizeof(temporary_prefix) - 1;
    return strncmp(name, temporary_prefix, prefix) == 0 &&
           strspn(name + prefix, "0123456789abcdef") == TEMPORARY_DIGITS &&
           name[prefix + TEMPORARY_DIGITS] == '\0';
}

/* --- what the configuration lets --- */

static int by_base(const void *left, const void *right)
{
    const struct cg_privileged_cell *a = left;
    const struct cg_privileged_cell *b = right;
    return strcmp(a->base, b->base);
}

void cg_privileged_cells_sort(struct cg_privileged_cell *cells, size_t count)
{
    if (count > 0) {
        qsort(cells, count, sizeof(cells[0]), by_base);
    }
}

/* The length of a socket's path without the port behind it; 0: it is no guest's socket. */
static size_t base_len(const char *path)
{
    char suffix[16];
    size_t suffix_len = (size_t)snprintf(suffix, sizeof(suffix), "_%d", CG_TELEMETRY_PORT);
    size_t len = strlen(path);
    return len > suffix_len && strcmp(path + len - suffix_len, suffix) == 0 ? len - suffix_len : 0;
}

static const struct cg_privileged_cell *find_cell(const struct cg_privileged_policy *policy,
                                                  const char *path)
{
    char base[PATH_MAX];
    (void)snprintf(base, sizeof(base), "%.*s", (int)base_len(path), path);
    const struct cg_privileged_cell wanted = {.base = base};
    return policy->cells_count == 0 ? NULL
                                    : bsearch(&wanted, policy->cells, policy->cells_count,
                                              sizeof(policy->cells[0]), by_base);
}

static bool is_beneath_a_root(const struct cg_privileged_policy *policy, const char *path)
{
    for (size_t i = 0; i < policy->roots.count; i++) {
        if (cg_socket_path_beneath(path, policy->roots.items[i])) {
            return true;
        }
    }
    return false;
}

static bool in_range(const struct cg_range *range, uint64_t value)
{
    return range->present && value >= range->first && value <= range->last;
}

static bool is_owner(const struct cg_privileged_policy *policy,
                     const struct cg_privileged_cell *cell, uint32_t uid, uint32_t gid)
{
    return (uid == policy->gateway_uid && gid == policy->gateway_gid) ||
           (in_range(&policy->uids, uid) && in_range(&policy->gids, gid)) ||
           (cell != NULL && cell->owner.present && cell->owner.first == uid &&
            cell->owner.last == gid);
}

/* --- each kind of request --- */

static bool judge_enter(const struct cg_privileged_policy *policy,
                        const struct cg_privileged_request *request, struct cg_error *err)
{
    if (!is_plain_path(request->path) || base_len(request->path) == 0) {
        return cg_error_set(err, "not the path of a guest's socket");
    }
    const struct cg_privileged_cell *cell = find_cell(policy, request->path);
    if (!is_beneath_a_root(policy, request->path) && (policy->roots.count > 0 || cell == NULL)) {
        return cg_error_set(err, "not beneath one of ingress.roots");
    }
    if ((request->flags & CG_PRIVILEGED_MAKING) == 0) {
        return true;
    }
    if (!is_temporary(request->temporary)) {
        return cg_error_set(err, "not a temporary name");
    }
    if (request->mode == 0 || request->mode > MODE_MAX) {
        return cg_error_set(err, "not a socket's mode");
    }
    return is_owner(policy, cell, request->uid, request->gid) ||
           cg_error_set(err, "an owner outside ingress.owners");
}

static bool judge_remove(const struct cg_privileged_policy *policy,
                         const struct cg_privileged_request *request, struct cg_error *err)
{
    (void)policy;
    bool temporary = (request->flags & CG_PRIVILEGED_TEMPORARY) != 0;
    if (temporary != is_temporary(request->temporary)) {
        return cg_error_set(err, "not a temporary name");
    }
    return temporary || request->inode != 0 || cg_error_set(err, "whose socket is not said");
}

static bool judge_open(const struct cg_privileged_policy *policy,
                       const struct cg_privileged_request *request, struct cg_error *err)
{
    for (size_t i = 0; i < policy->files_count; i++) {
        if (strcmp(policy->files[i], request->path) == 0) {
            return true;
        }
    }
    return cg_error_set(err, "not a file that the configuration names");
}

/* Which members a kind of request has; the others are zero. */
static const struct kind {
    bool ticket, path, look, identity;
    uint32_t flags;
    bool (*judge)(const struct cg_privileged_policy *policy,
                  const struct cg_privileged_request *request, struct cg_error *err);
} kinds[] = {
    [CG_PRIVILEGED_ENTER] = {.path = true,
                             .look = true,
                             .flags = CG_PRIVILEGED_MAKING,
                             .judge = judge_enter},
    [CG_PRIVILEGED_MAKE] = {.ticket = true},
    [CG_PRIVILEGED_PUT] = {.ticket = true},
    [CG_PRIVILEGED_FIND] = {.ticket = true, .identity = true, .judge = judge_remove},
    [CG_PRIVILEGED_REMOVE] = {.ticket = true,
                              .identity = true,
                              .flags = CG_PRIVILEGED_TEMPORARY | CG_PRIVILEGED_ABANDONED,
                              .judge = judge_remove},
    [CG_PRIVILEGED_LEAVE] = {.ticket = true},
    [CG_PRIVILEGED_OPEN] = {.path = true, .judge = judge_open},
};

/* A temporary name goes with the flag that says so. */
static bool has_only_its_members(const struct kind *kind,
                                 const struct cg_privileged_request *request)
{
    bool named = (request->flags & (CG_PRIVILEGED_MAKING | CG_PRIVILEGED_TEMPORARY)) != 0;
    bool looks = kind->look && (request->flags & CG_PRIVILEGED_MAKING) != 0;
    return request->reserved == 0 && (request->flags & ~kind->flags) == 0 &&
           (kind->ticket ? request->ticket < CG_PRIVILEGED_PLACES_MAX : request->ticket == 0) &&
           (kind->path || request->path[0] == '\0') && (named || request->temporary[0] == '\0') &&
           (looks || (request->mode == 0 && request->uid == 0 && request->gid == 0)) &&
           (kind->identity || (request->device == 0 && request->inode == 0));
}

bool cg_privileged_judge(const struct cg_privileged_policy *policy, const void *bytes, size_t len,
                         struct cg_privileged_request *ret_request, struct cg_error *err)
{
    struct cg_privileged_request request;
    if (len != sizeof(request)) {
        return cg_error_set(err, "a request of %zu bytes", len);
    }
    memcpy(&request, bytes, sizeof(request));
    if (request.magic != CG_PRIVILEGED_MAGIC || request.op < CG_PRIVILEGED_ENTER ||
        request.op > CG_PRIVILEGED_OPEN) {
        return cg_error_set(err, "no such request");
    }
    const struct kind *kind = &kinds[request.op];
    if (!is_text(request.temporary, sizeof(request.temporary)) ||
        !is_text(request.path, sizeof(request.path)) || !has_only_its_members(kind, &request)) {
        return cg_error_set(err, "a request that no gateway sends");
    }
    if (kind->judge != NULL && !kind->judge(policy, &request, err)) {
        return false;
    }
    *ret_request = request;
    return true;
}

bool cg_privileged_reply_read(const void *bytes, size_t len, enum cg_privileged_op op,
                              struct cg_privileged_reply *ret_reply)
{
    struct cg_privileged_reply reply;
    if (len != sizeof(reply)) {
        return false;
    }
    memcpy(&reply, bytes, sizeof(reply));
    if (reply.magic != CG_PRIVILEGED_MAGIC || reply.op != (uint32_t)op ||
        reply.outcome > CG_LISTENING_FAILED || reply.ticket >= CG_PRIVILEGED_PLACES_MAX ||
        !is_text(reply.text, sizeof(reply.text))) {
        return false;
    }
    *ret_reply = reply;
    return true;
}
