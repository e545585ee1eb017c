#include "ingress/socket_file.h"

#include "cellgate/bytes.h"
#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

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

bool cg_socket_path_beneath(const char *path, const char *root)
{
    return beneath(root, path) != NULL;
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
static enum cg_listening_outcome find_place(const char *path, struct cg_strings roots,
                                            struct cg_socket_place *place, struct cg_error *err)
{
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

/* The address of `name` in the directory, by way of its descriptor, whatever its path's length. */
static bool make_address(const struct cg_socket_place *place, const char *name,
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

/* What can be seen before anything is made. */
static enum cg_listening_outcome check_place(const struct cg_socket_place *place,
                                             const char *temporary, struct cg_error *err)
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

static enum cg_listening_outcome enter(void *context, const char *path, const char *temporary,
                                       const struct cg_socket_look *look, struct cg_strings roots,
                                       struct cg_socket_place *ret_place, struct cg_error *err)
{
    (void)context;
    ret_place->dir_fd = -1;
    enum cg_listening_outcome outcome = find_place(path, roots, ret_place, err);
    if (outcome == CG_LISTENING_DONE && look != NULL) {
        outcome = check_place(ret_place, temporary, err);
    }
    if (outcome != CG_LISTENING_DONE) {
        cg_cleanup_close(&ret_place->dir_fd);
    }
    return outcome;
}

static void leave(void *context, const struct cg_socket_place *place)
{
    (void)context;
    (void)close(place->dir_fd);
}

/* --- the socket --- */

/*
 * Gives the inode behind `file_fd` its owner and mode. `fchmod` before bind has set the mode but
 * for what the umask took away; the umask belongs to the whole process and is not touched.
 */
static bool dress(int file_fd, const struct cg_socket_look *look, struct stat *ret_found,
                  struct cg_error *err)
{
    struct stat found;
    if (fstat(file_fd, &found) != 0) {
        return cg_error_errno(err, errno, "look at it");
    }
    if (!S_ISSOCK(found.st_mode) || found.st_nlink != 1 || found.st_uid != geteuid()) {
        return cg_error_set(err, "somebody changes the directory while the socket is made");
    }
    bool leave = look->uid == (uid_t)-1 && look->gid == (gid_t)-1;
    if (!leave && fchownat(file_fd, "", look->uid, look->gid, AT_EMPTY_PATH) != 0) {
        return cg_error_errno(err, errno, "give it to user %ju, group %ju", (uintmax_t)look->uid,
                              (uintmax_t)look->gid);
    }
    if ((found.st_mode & 0777) != look->mode) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
        if (chmod(path, look->mode) != 0) {
            return cg_error_errno(err, errno, "set its mode");
        }
    }
    *ret_found = found;
    return true;
}

/* Binds under the temporary name, and returns with the socket listening and its file dressed. */
static bool bind_temporary(const struct cg_socket_place *place, const char *temporary,
                           const struct cg_socket_look *look, struct cg_listening *ret_listening,
                           struct cg_error *err)
{
    struct sockaddr_un address;
    if (!make_address(place, temporary, &address, err)) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make a socket");
    }
    if (fchmod(fd, look->mode) != 0) {
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
    if (!dress(file_fd, look, &found, err)) {
        return false;
    }
    if (listen(fd, CG_LISTEN_BACKLOG) != 0) {
        return cg_error_errno(err, errno, "listen");
    }
    *ret_listening = (struct cg_listening){
        .fd = cg_steal_fd(&fd), .device = found.st_dev, .inode = found.st_ino};
    return true;
}

static bool make(void *context, const struct cg_socket_place *place, const char *temporary,
                 const struct cg_socket_look *look, struct cg_listening *ret_listening,
                 struct cg_error *err)
{
    (void)context;
    if (!bind_temporary(place, temporary, look, ret_listening, err)) {
        (void)unlinkat(place->dir_fd, temporary, 0); /* a drawn name: ours, if it is there */
        return false;
    }
    return true;
}

static enum cg_listening_outcome put(void *context, const struct cg_socket_place *place,
                                     const char *temporary, struct cg_error *err)
{
    (void)context;
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

/* --- what was made --- */

/* Refused is the only answer that says so; anything else may be a listener. */
static bool nobody_listens(const struct cg_socket_place *place, const char *name)
{
    struct sockaddr_un address;
    if (!make_address(place, name, &address, NULL)) {
        return false;
    }
    cg_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 &&
           errno == ECONNREFUSED;
}

static bool is_ours(const struct stat *found, const struct cg_socket_identity *made)
{
    return S_ISSOCK(found->st_mode) &&
           (made->inode == 0 ||
            ((uint64_t)found->st_dev == made->device && (uint64_t)found->st_ino == made->inode));
}

static bool find_made(void *context, const struct cg_socket_place *place,
                      const struct cg_socket_identity *made)
{
    (void)context;
    struct stat found;
    return made->inode != 0 &&
           fstatat(place->dir_fd, place->name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
           is_ours(&found, made);
}

static void remove_made(void *context, const struct cg_socket_place *place, const char *name,
                        const struct cg_socket_identity *made, bool abandoned)
{
    (void)context;
    struct stat found;
    if (*name != '\0' && fstatat(place->dir_fd, name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_ours(&found, made) && (!abandoned || nobody_listens(place, name))) {
        (void)unlinkat(place->dir_fd, name, 0);
    }
}

const struct cg_socket_steps cg_socket_steps_direct = {
    .enter = enter,
    .make = make,
    .put = put,
    .find = find_made,
    .remove = remove_made,
    .leave = leave,
};
