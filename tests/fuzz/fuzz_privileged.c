/*
 * fuzz_privileged.c - any bytes as a request to the privileged helper, and as a reply of it.
 *
 * What is taken must be within what the configuration lets, judged here a second time and
 * otherwise.
 */
#include "run/privileged_message.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char root[] = "/r/";

static void check_enter(const struct cg_privileged_request *request)
{
    size_t len = strlen(request->path);
    CG_ASSERT(strncmp(request->path, root, sizeof(root) - 1) == 0);
    CG_ASSERT(strstr(request->path, "/../") == NULL && strstr(request->path, "//") == NULL);
    CG_ASSERT(len > 5 && strcmp(request->path + len - 5, "_9001") == 0);
    if ((request->flags & CG_PRIVILEGED_MAKING) != 0) {
        CG_ASSERT(request->mode <= 0777);
        CG_ASSERT(
            (request->uid == 1 && request->gid == 2) ||
            (request->uid >= 10 && request->uid <= 19 && request->gid >= 20 && request->gid <= 29));
        CG_ASSERT(strchr(request->temporary, '/') == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const roots[] = {"/r"};
    static const char *const files[] = {"/k"};
    const struct cg_privileged_policy policy = {
        .gateway_uid = 1,
        .gateway_gid = 2,
        .roots = {roots, 1},
        .uids = {.present = true, .first = 10, .last = 19},
        .gids = {.present = true, .first = 20, .last = 29},
        .files = files,
        .files_count = 1,
    };
    struct cg_privileged_request request;
    struct cg_error err = {0};
    bool taken = cg_privileged_judge(&policy, data, size, &request, &err);
    CG_ASSERT(taken == (err.text[0] == '\0'));
    if (taken) {
        CG_ASSERT(memchr(request.path, '\0', sizeof(request.path)) != NULL);
        CG_ASSERT(request.ticket < CG_PRIVILEGED_PLACES_MAX);
        if (request.op == CG_PRIVILEGED_ENTER) {
            check_enter(&request);
        } else if (request.op == CG_PRIVILEGED_OPEN) {
            CG_ASSERT(strcmp(request.path, "/k") == 0);
        }
    }
    struct cg_privileged_reply reply;
    for (unsigned op = 0; op <= CG_PRIVILEGED_OPEN; op++) {
        if (cg_privileged_reply_read(data, size, (enum cg_privileged_op)op, &reply)) {
            CG_ASSERT(memchr(reply.text, '\0', sizeof(reply.text)) != NULL);
        }
    }
    return 0;
}
