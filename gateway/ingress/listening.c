#include "ingress/listening.h"

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

static bool open_beneath(const char *root, const char *rest, int *ret_fd, struct cg_error *err)
{
    cg_auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        return cg_error_errno(err, errno, "open directory %s", root);
    }
    const struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, root_fd, *rest == '\0' ? "." : rest, &how, sizeof(how));
    if (fd < 0 && errno == ELOOP) {
        return cg_error_set(err, "a symlink is in the way: name the real directory");
    }
    if (fd < 0) {
        return cg_error_errno(err, errno, "open its directory");
    }
    *ret_fd = fd;
    return true;
}

static bool open_directory(const char *dir, struct cg_strings roots, int *ret_fd,
                           struct cg_error *err)
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
    return cg_error_set(err, "not beneath one of ingress.roots");
}

static bool find_place(const struct cg_listening_request *request, struct place *ret_place,
                       struct cg_error *err)
{
    struct place *place = ret_place;
    int len = snprintf(place->path, sizeof(place->path), "%s_%d", request->vsock_uds_base,
                       CG_TELEMETRY_PORT);
    if (len < 0 || (size_t)len >= sizeof(place->path)) {
        return cg_error_set(err, "the path is too long");
    }
    char *slash = strrchr(place->path, '/');
    CG_ASSERT(slash != NULL && place->path[0] == '/');
    place->name = slash + 1;

    char dir[PATH_MAX];
    size_t dir_len = (size_t)(slash - place->path);
    memcpy(dir, place->path, dir_len);
    dir[dir_len] = '\0';
    return open_directory(dir_len == 0 ? "/" : dir, request->roots, &place->dir_fd, err);
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

/* --- a file that is there already --- */

/* Refused is the only answer that says so; anything else may be a listener. */
static bool nobody_listens(const struct place *place)
{
    struct sockaddr_un address;
    if (!make_address(place, place->name, &address, NULL)) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 &&
           errno == ECONNREFUSED;
}

static bool clear_stale(const struct place *place, const struct cg_sockets_made *made,
                        struct cg_error *err)
{
    struct stat found;
    if (fstatat(place->dir_fd, place->name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT || cg_error_errno(err, errno, "look at it");
    }
    if (made == NULL || !S_ISSOCK(found.st_mode) ||
        !cg_sockets_made_has(made, place->path, found.st_dev, found.st_ino)) {
        return cg_error_set(err, "exists already, and is not ours to remove");
    }
    if (!nobody_listens(place)) {
        return cg_error_set(err, "exists already, and somebody listens on it");
    }
    if (unlinkat(place->dir_fd, place->name, 0) != 0 && errno != ENOENT) {
        return cg_error_errno(err, errno, "remove the one left by a crash");
    }
    return true;
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
    if (!make_address(place, place->name, &address, err) ||
        !make_address(place, temporary, &address, err)) {
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

static bool make_socket(const struct place *place, const struct cg_listening_request *request,
                        struct cg_sockets_made *made, struct cg_listening *ret_listening,
                        struct cg_error *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return cg_error_errno(err, errno, "draw a temporary name");
    }
    char temporary[32];
    (void)snprintf(temporary, sizeof(temporary), ".cellgate-%016" PRIx64, random);

    struct cg_listening listening = {.fd = -1};
    bool done = bind_temporary(place, temporary, request, &listening, err);
    /* Recorded before it gets its name: after a crash in between nothing is unaccounted for. */
    if (done && made != NULL) {
        done = cg_sockets_made_add(made, place->path, listening.device, listening.inode, err);
    }
    if (done &&
        renameat2(place->dir_fd, temporary, place->dir_fd, place->name, RENAME_NOREPLACE) != 0) {
        done = errno == EEXIST ? cg_error_set(err, "exists already, and is not ours to remove")
                               : cg_error_errno(err, errno, "rename it into its place");
    }
    if (!done) {
        (void)unlinkat(place->dir_fd, temporary, 0);
        cg_listening_close(&listening);
        return false;
    }
    *ret_listening = listening;
    return true;
}

bool cg_listening_open(const struct cg_listening_request *request, struct cg_sockets_made *made,
                       struct cg_listening *ret_listening, struct cg_error *err)
{
    struct place place = {.dir_fd = -1};
    bool done = find_place(request, &place, err) && clear_stale(&place, made, err) &&
                make_socket(&place, request, made, ret_listening, err);
    if (place.dir_fd >= 0) {
        (void)close(place.dir_fd);
    }
    return done || cg_error_context(err, "%s_%d", request->vsock_uds_base, CG_TELEMETRY_PORT);
}

void cg_listening_unlink(const struct cg_listening *listening,
                         const struct cg_listening_request *request)
{
    struct place place = {.dir_fd = -1};
    if (!find_place(request, &place, NULL)) {
        return; /* the directory is gone, and the socket with it */
    }
    struct stat found;
    if (fstatat(place.dir_fd, place.name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISSOCK(found.st_mode) && found.st_dev == listening->device &&
        found.st_ino == listening->inode) {
        (void)unlinkat(place.dir_fd, place.name, 0);
    }
    (void)close(place.dir_fd);
}

void cg_listening_close(struct cg_listening *listening)
{
    if (listening->fd >= 0) {
        (void)close(listening->fd);
        listening->fd = -1;
    }
}
