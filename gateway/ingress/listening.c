#include "ingress/listening.h"

#include "ingress/handover.h"

#include "cellgate/buf.h"
#include "cellgate/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cg_socket_steps *steps_of(struct cg_socket_files files)
{
    return files.steps == NULL ? &cg_socket_steps_direct : files.steps;
}

/* --- what a gateway that died has left --- */

struct sweep {
    struct cg_strings roots;
    struct cg_socket_files files;
    const struct cg_handover *handover;
    struct cg_buf paths; /* terminated, one behind the other */
};

static void sweep_one(void *context, const struct cg_socket_made *made)
{
    struct sweep *sweep = context;
    const struct cg_socket_steps *steps = steps_of(sweep->files);
    const struct cg_socket_identity identity = {made->device, made->inode};
    struct cg_socket_place place;
    if (sweep->handover != NULL && made->inode != 0 &&
        cg_handover_holds(sweep->handover, made->device, made->inode)) {
        return; /* to look whether anybody listens there would be a guest's connection */
    }
    (void)cg_buf_append(&sweep->paths, cg_bytes(made->path, strlen(made->path) + 1));
    if (made->path[0] != '/' || strchr(made->temporary, '/') != NULL ||
        steps->enter(sweep->files.context, made->path, NULL, NULL, sweep->roots, &place, NULL) !=
            CG_LISTENING_DONE) {
        return; /* the directory is gone, and the socket with it */
    }
    steps->remove(sweep->files.context, &place, made->temporary, &identity, true);
    if (made->inode != 0) {
        steps->remove(sweep->files.context, &place, place.name, &identity, true);
    }
    steps->leave(sweep->files.context, &place);
}

void cg_listening_sweep(struct cg_registrations *journal, struct cg_strings roots,
                        struct cg_socket_files files, const struct cg_handover *handover)
{
    struct sweep sweep = {.roots = roots, .files = files, .handover = handover};
    cg_buf_init(&sweep.paths, CG_REGISTRATIONS_BYTES_MAX);
    cg_registrations_visit_sockets(journal, sweep_one, &sweep);
    for (size_t at = 0; at < sweep.paths.len; at += strlen(sweep.paths.data + at) + 1) {
        cg_registrations_unmade(journal, sweep.paths.data + at);
    }
    cg_buf_fini(&sweep.paths);
}

/* --- the socket --- */

/* The socket is made; before it gets its place it is in the journal. */
static enum cg_listening_outcome
keep_and_put(const struct cg_listening_request *request, const struct cg_socket_place *place,
             const char *temporary, struct cg_registrations *journal,
             const struct cg_kept_registration *registration, const struct cg_listening *listening,
             struct cg_error *err)
{
    const struct cg_socket_made made = {.path = place->path,
                                        .temporary = temporary,
                                        .device = (uint64_t)listening->device,
                                        .inode = (uint64_t)listening->inode};
    if (!cg_registrations_put(journal, &made, registration, err)) {
        return CG_LISTENING_NOT_KEPT;
    }
    return steps_of(request->files)->put(request->files.context, place, temporary, err);
}

static enum cg_listening_outcome
make_socket(const struct cg_listening_request *request, const struct cg_socket_place *place,
            const char *temporary, struct cg_registrations *journal,
            const struct cg_kept_registration *registration, struct cg_listening *ret_listening,
            struct cg_error *err)
{
    const struct cg_socket_steps *steps = steps_of(request->files);
    struct cg_listening listening = {.fd = -1};
    if (!steps->make(request->files.context, place, temporary, &request->look, &listening, err)) {
        return CG_LISTENING_FAILED;
    }
    enum cg_listening_outcome outcome =
        keep_and_put(request, place, temporary, journal, registration, &listening, err);
    if (outcome != CG_LISTENING_DONE) {
        const struct cg_socket_identity identity = {listening.device, listening.inode};
        steps->remove(request->files.context, place, temporary, &identity, false);
        cg_listening_close(&listening);
        return outcome;
    }
    *ret_listening = listening;
    return CG_LISTENING_DONE;
}

static enum cg_listening_outcome open_at(const struct cg_listening_request *request,
                                         const struct cg_socket_place *place, const char *temporary,
                                         struct cg_registrations *journal,
                                         const struct cg_kept_registration *registration,
                                         struct cg_listening *ret_listening, struct cg_error *err)
{
    if (!cg_registrations_making(journal, place->path, temporary, err)) {
        return CG_LISTENING_NOT_KEPT;
    }
    enum cg_listening_outcome outcome =
        make_socket(request, place, temporary, journal, registration, ret_listening, err);
    if (outcome != CG_LISTENING_DONE) {
        cg_registrations_unmade(journal, place->path);
    }
    return outcome;
}

static void socket_path(const struct cg_listening_request *request, char *ret_path, size_t max)
{
    (void)snprintf(ret_path, max, "%s_%d", request->vsock_uds_base, CG_TELEMETRY_PORT);
}

enum cg_listening_outcome cg_listening_open(const struct cg_listening_request *request,
                                            struct cg_registrations *journal,
                                            const struct cg_kept_registration *registration,
                                            struct cg_listening *ret_listening,
                                            struct cg_error *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        (void)cg_error_errno(err, errno, "draw a temporary name");
        return CG_LISTENING_FAILED;
    }
    char temporary[CG_SOCKET_NAME_BYTES_MAX];
    (void)snprintf(temporary, sizeof(temporary), ".cellgate-%016" PRIx64, random);
    char path[PATH_MAX + 16];
    socket_path(request, path, sizeof(path));

    const struct cg_socket_steps *steps = steps_of(request->files);
    struct cg_socket_place place;
    enum cg_listening_outcome outcome = steps->enter(request->files.context, path, temporary,
                                                     &request->look, request->roots, &place, err);
    if (outcome == CG_LISTENING_DONE) {
        outcome = open_at(request, &place, temporary, journal, registration, ret_listening, err);
        steps->leave(request->files.context, &place);
    }
    if (outcome != CG_LISTENING_DONE) {
        (void)cg_error_context(err, "%s", path);
    }
    return outcome;
}

bool cg_listening_resume(const struct cg_listening_request *request,
                         struct cg_registrations *journal, const struct cg_listening *listening,
                         struct cg_error *err)
{
    const struct cg_socket_steps *steps = steps_of(request->files);
    char path[PATH_MAX + 16];
    socket_path(request, path, sizeof(path));
    struct cg_socket_place place;
    if (steps->enter(request->files.context, path, NULL, NULL, request->roots, &place, err) !=
        CG_LISTENING_DONE) {
        return false;
    }
    const struct cg_socket_identity identity = {listening->device, listening->inode};
    bool there = steps->find(request->files.context, &place, &identity);
    steps->leave(request->files.context, &place);
    const struct cg_socket_made made = {.path = place.path,
                                        .temporary = "",
                                        .device = (uint64_t)listening->device,
                                        .inode = (uint64_t)listening->inode};
    return there ? cg_registrations_put(journal, &made, NULL, err)
                 : cg_error_set(err, "its file is gone");
}

void cg_listening_unlink(const struct cg_listening *listening,
                         const struct cg_listening_request *request)
{
    char path[PATH_MAX + 16];
    socket_path(request, path, sizeof(path));
    const struct cg_socket_steps *steps = steps_of(request->files);
    const struct cg_socket_identity identity = {listening->device, listening->inode};
    struct cg_socket_place place;
    if (steps->enter(request->files.context, path, NULL, NULL, request->roots, &place, NULL) ==
        CG_LISTENING_DONE) {
        steps->remove(request->files.context, &place, place.name, &identity, false);
        steps->leave(request->files.context, &place);
    } /* else the directory is gone, and the socket with it */
}

void cg_listening_close(struct cg_listening *listening)
{
    if (listening->fd >= 0) {
        (void)close(listening->fd);
        listening->fd = -1;
    }
}
