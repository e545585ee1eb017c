#include "ingress/listening.h"

#include "ingress/handover.h"

#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

/* The directory, open, and the names in it. */
struct place {
    int dir_fd;
    char path[PATH_MAX]; /* of the socket */
    const char *name;    /* its last component, in `path` */
};

/* --- the directory --- */

/* What of `dir` lies beneath `root`, without a leading slash; NULL if nothing does. */
static const char *beneath(const char *root, const char *dir)
{
    size_t len = strlen(root);
    while (len > 0 && root[len - 1] == '/') {
        len--;
    }
    if (strncmp(dir, root, len) != 0 || (dir[len] != '/' && dir[len] != '\0')) {
        return NULL;
    }
    return dir[len] == '/' ? dir + len + 1 : dir + len;
}

static enum cg_listening_outcome open_beneath(const char *root, const char *rest, int *ret_fd,
                                              struct cg_error *err)
{
    cg_auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        (void)cg_error_errno(err, errno, "open directory %s", root);
        return CG_LISTENING_FAILED;
    }
    const struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, root_fd, *rest == '\0' ? "." : rest, &how, sizeof(how));
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
        (void)cg_error_errno(err, errno, "open its directory");
        return CG_LISTENING_FAILED;
    }
    if (fd < 0 && errno == ELOOP) {
        (void)cg_error_set(err, "a symlink is in the way: name the real directory");
        return CG_LISTENING_BAD_PATH;
    }
    if (fd < 0) {
        (void)cg_error_errno(err, errno, "open its directory");
        return CG_LISTENING_BAD_PATH;
    }
    *ret_fd = fd;
    return CG_LISTENING_DONE;
}

static enum cg_listening_outcome open_directory(const char *dir, struct cg_strings roots,
                                                int *ret_fd, struct cg_error *err)
{
    if (roots.count == 0) {
        return open_beneath("/", dir + 1, ret_fd, err);
    }
    for (size_t i = 0; i < roots.count; i++) {
        const char *rest = beneath(roots.items[i], dir);
        if (rest != NULL) {
            return open_beneath(roots.items[i], rest, ret_fd, err);
        }
    }
    (void)cg_error_set(err, "not beneath one of ingress.roots");
    return CG_LISTENING_FORBIDDEN;
}

/* The directory of `path`, whose last component becomes the name. */
static enum cg_listening_outcome find_place_of(const char *path, struct cg_strings roots,
                                               struct place *ret_place, struct cg_error *err)
{
    struct place *place = ret_place;
    int len = snprintf(place->path, sizeof(place->path), "%s", path);
    if (len < 0 || (size_t)len >= sizeof(place->path)) {
        (void)cg_error_set(err, "the path is too long");
        return CG_LISTENING_BAD_PATH;
    }
    char *slash = strrchr(place->path, '/');
    CG_ASSERT(slash != NULL && place->path[0] == '/');
    place->name = slash + 1;

    char dir[PATH_MAX];
    size_t dir_len = (size_t)(slash - place->path);
    memcpy(dir, place->path, dir_len);
    dir[dir_len] = '\0';
    return open_directory(dir_len == 0 ? "/" : dir, roots, &place->dir_fd, err);
}

static enum cg_listening_outcome find_place(const struct cg_listening_request *request,
                                            struct place *ret_place, struct cg_error *err)
{
    char path[PATH_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s_%d", request->vsock_uds_base, CG_TELEMETRY_PORT);
    return find_place_of(path, request->roots, ret_place, err);
}

/* The address of `name` in the directory, by way of its descriptor, whatever its path's length. */
static bool make_address(const struct place *place, const char *name,
                         struct sockaddr_un *ret_address, struct cg_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
                       place->dir_fd, name);
    if (len < 0 || (size_t)len >= sizeof(address.sun_path)) {
        return cg_error_set(err, "the last component is too long for a socket");
    }
    *ret_address = address;
    return true;
}

/* --- what a gateway that died has left --- */

/* Refused is the only answer that says so; anything else may be a listener. */
static bool nobody_listens(const struct place *place, const char *name)
{
    struct sockaddr_un address;
    if (!make_address(place, name, &address, NULL)) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 &&
           errno == ECONNREFUSED;
}

/* Without an identity it had only been about to be bound: then its drawn name must do. */
static bool is_ours(const struct stat *found, const struct cg_socket_made *made)
{
    return S_ISSOCK(found->st_mode) &&
           (made->inode == 0 ? found->st_uid == geteuid()
                             : (uint64_t)found->st_dev == made->device &&
                                   (uint64_t)found->st_ino == made->inode);
}

static void remove_left(const struct place *place, const char *name,
                        const struct cg_socket_made *made)
{
    struct stat found;
    if (*name != '\0' && fstatat(place->dir_fd, name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_ours(&found, made) && nobody_listens(place, name)) {
        (void)unlinkat(place->dir_fd, name, 0);
    }
}

struct sweep {
    struct cg_strings roots;
    const struct cg_handover *handover;
    struct cg_buf paths; /* terminated, one behind the other */
};

static void sweep_one(void *context, const struct cg_socket_made *made)
{
    struct sweep *sweep = context;
    struct place place = {.dir_fd = -1};
    if (sweep->handover != NULL && made->inode != 0 &&
        cg_handover_holds(sweep->handover, made->device, made->inode)) {
        return; /* to look whether anybody listens there would be a guest's connection */
    }
    (void)cg_buf_append(&sweep->paths, cg_bytes(made->path, strlen(made->path) + 1));
    if (made->path[0] != '/' || strchr(made->temporary, '/') != NULL ||
        find_place_of(made->path, sweep->roots, &place, NULL) != CG_LISTENING_DONE) {
        return; /* the directory is gone, and the socket with it */
    }
    remove_left(&place, made->temporary, made);
    if (made->inode != 0) {
        remove_left(&place, place.name, made);
    }
    (void)close(place.dir_fd);
}

void cg_listening_sweep(struct cg_registrations *journal, struct cg_strings roots,
                        const struct cg_handover *handover)
{
    struct sweep sweep = {.roots = roots, .handover = handover};
    cg_buf_init(&sweep.paths, CG_REGISTRATIONS_BYTES_MAX);
    cg_registrations_visit_sockets(journal, sweep_one, &sweep);
    for (size_t at = 0; at < sweep.paths.len; at += strlen(sweep.paths.data + at) + 1) {
        cg_registrations_unmade(journal, sweep.paths.data + at);
    }
    cg_buf_fini(&sweep.paths);
}

/* --- the socket --- */

/*
 * Gives the inode behind `file_fd` its owner and mode. `fchmod` before bind has set the mode but
 * for what the umask took away; the umask belongs to the whole process and is not touched.
 */
static bool dress(int file_fd, const struct cg_listening_request *request, struct stat *ret_found,
                  struct cg_error *err)
{
    struct stat found;
    if (fstat(file_fd, &found) != 0) {
        return cg_error_errno(err, errno, "look at it");
    }
    if (!S_ISSOCK(found.st_mode) || found.st_nlink != 1 || found.st_uid != geteuid()) {
        return cg_error_set(err, "somebody changes the directory while the socket is made");
    }
    bool leave = request->uid == (uid_t)-1 && request->gid == (gid_t)-1;
    if (!leave && fchownat(file_fd, "", request->uid, request->gid, AT_EMPTY_PATH) != 0) {
        return cg_error_errno(err, errno, "give it to user %ju, group %ju", (uintmax_t)request->uid,
                              (uintmax_t)request->gid);
    }
    if ((found.st_mode & 0777) != request->mode) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
        if (chmod(path, request->mode) != 0) {
            return cg_error_errno(err, errno, "set its mode");
        }
    }
    *ret_found = found;
    return true;
}

/* Binds under the temporary name, and returns with the socket listening and its file dressed. */
static bool bind_temporary(const struct place *place, const char *temporary,
                           const struct cg_listening_request *request,
                           struct cg_listening *ret_listening, struct cg_error *err)
{
    struct sockaddr_un address;
    if (!make_address(place, temporary, &address, err)) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make a socket");
    }
    if (fchmod(fd, request->mode) != 0) {
        return cg_error_errno(err, errno, "set its mode");
    }
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return cg_error_errno(err, errno, "bind");
    }
    cg_auto_close int file_fd = openat(place->dir_fd, temporary, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat found = {0};
    if (file_fd < 0) {
        return cg_error_errno(err, errno, "open what was bound");
    }
    if (!dress(file_fd, request, &found, err)) {
        return false;
    }
    if (listen(fd, CG_LISTEN_BACKLOG) != 0) {
        return cg_error_errno(err, errno, "listen");
    }
    *ret_listening = (struct cg_listening){
        .fd = cg_steal_fd(&fd), .device = found.st_dev, .inode = found.st_ino};
    return true;
}

static enum cg_listening_outcome put_in_place(const struct place *place, const char *temporary,
                                              struct cg_error *err)
{
    if (renameat2(place->dir_fd, temporary, place->dir_fd, place->name, RENAME_NOREPLACE) == 0) {
        return CG_LISTENING_DONE;
    }
    if (errno == EEXIST) {
        (void)cg_error_set(err, "exists already, and is not ours to remove");
        return CG_LISTENING_TAKEN;
    }
    (void)cg_error_errno(err, errno, "rename it into its place");
    return CG_LISTENING_FAILED;
}

/* Removes the file of that name if it is the socket that was made. */
static void remove_made(const struct place *place, const char *name,
                        const struct cg_listening *listening)
{
    struct stat found;
    if (fstatat(place->dir_fd, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(found.st_mode) &&
        found.st_dev == listening->device && found.st_ino == listening->inode) {
        (void)unlinkat(place->dir_fd, name, 0);
    }
}

static enum cg_listening_outcome
make_socket(const struct place *place, const struct cg_listening_request *request,
            const char *temporary, struct cg_registrations *journal,
            const struct cg_kept_registration *registration, struct cg_listening *ret_listening,
            struct cg_error *err)
{
    struct cg_listening listening = {.fd = -1};
    if (!bind_temporary(place, temporary, request, &listening, err)) {
        (void)unlinkat(place->dir_fd, temporary, 0); /* a drawn name: ours, if it is there */
        return CG_LISTENING_FAILED;
    }
    const struct cg_socket_made made = {.path = place->path,
                                        .temporary = temporary,
                                        .device = (uint64_t)listening.device,
                                        .inode = (uint64_t)listening.inode};
    enum cg_listening_outcome outcome = cg_registrations_put(journal, &made, registration, err)
                                            ? put_in_place(place, temporary, err)
                                            : CG_LISTENING_NOT_KEPT;
    if (outcome != CG_LISTENING_DONE) {
        remove_made(place, temporary, &listening);
        cg_listening_close(&listening);
        return outcome;
    }
    *ret_listening = listening;
    return CG_LISTENING_DONE;
}

/* What can be seen before anything is made. */
static enum cg_listening_outcome check_place(const struct place *place, const char *temporary,
                                             struct cg_error *err)
{
    struct sockaddr_un address;
    if (!make_address(place, place->name, &address, err) ||
        !make_address(place, temporary, &address, err)) {
        return CG_LISTENING_BAD_PATH;
    }
    struct stat found;
    if (fstatat(place->dir_fd, place->name, &found, AT_SYMLINK_NOFOLLOW) == 0) {
        (void)cg_error_set(err, "exists already, and is not ours to remove");
        return CG_LISTENING_TAKEN;
    }
    if (errno != ENOENT) {
        (void)cg_error_errno(err, errno, "look at it");
        return CG_LISTENING_FAILED;
    }
    return CG_LISTENING_DONE;
}

static enum cg_listening_outcome open_at(const struct place *place,
                                         const struct cg_listening_request *request,
                                         struct cg_registrations *journal,
                                         const struct cg_kept_registration *registration,
                                         struct cg_listening *ret_listening, struct cg_error *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        (void)cg_error_errno(err, errno, "draw a temporary name");
        return CG_LISTENING_FAILED;
    }
    char temporary[CG_SOCKET_NAME_BYTES_MAX];
    (void)snprintf(temporary, sizeof(temporary), ".cellgate-%016" PRIx64, random);
    enum cg_listening_outcome outcome = check_place(place, temporary, err);
    if (outcome != CG_LISTENING_DONE) {
        return outcome;
    }
    if (!cg_registrations_making(journal, place->path, temporary, err)) {
        return CG_LISTENING_NOT_KEPT;
    }
    outcome = make_socket(place, request, temporary, journal, registration, ret_listening, err);
    if (outcome != CG_LISTENING_DONE) {
        cg_registrations_unmade(journal, place->path);
    }
    return outcome;
}

enum cg_listening_outcome cg_listening_open(const struct cg_listening_request *request,
                                            struct cg_registrations *journal,
                                            const struct cg_kept_registration *registration,
                                            struct cg_listening *ret_listening,
                                            struct cg_error *err)
{
    struct place place = {.dir_fd = -1};
    enum cg_listening_outcome outcome = find_place(request, &place, err);
    if (outcome == CG_LISTENING_DONE) {
        outcome = open_at(&place, request, journal, registration, ret_listening, err);
        (void)close(place.dir_fd);
    }
    if (outcome != CG_LISTENING_DONE) {
        (void)cg_error_context(err, "%s_%d", request->vsock_uds_base, CG_TELEMETRY_PORT);
    }
    return outcome;
}

bool cg_listening_resume(const struct cg_listening_request *request,
                         struct cg_registrations *journal, const struct cg_listening *listening,
                         struct cg_error *err)
{
    struct place place = {.dir_fd = -1};
    struct stat found;
    if (find_place(request, &place, err) != CG_LISTENING_DONE) {
        return false;
    }
    bool there = fstatat(place.dir_fd, place.name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
                 S_ISSOCK(found.st_mode) && found.st_dev == listening->device &&
                 found.st_ino == listening->inode;
    (void)close(place.dir_fd);
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
    struct place place = {.dir_fd = -1};
    if (find_place(request, &place, NULL) == CG_LISTENING_DONE) {
        remove_made(&place, place.name, listening);
        (void)close(place.dir_fd);
    } /* else the directory is gone, and the socket with it */
}

void cg_listening_close(struct cg_listening *listening)
{
    if (listening->fd >= 0) {
        (void)close(listening->fd);
        listening->fd = -1;
    }
}
