#include "run/landlock.h"

#include "cellgate/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the headers of Debian 12 do not know yet. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14) /* ABI 3 */
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#endif
#ifndef LANDLOCK_SCOPE_SIGNAL
#define LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0) /* ABI 6 */
#define LANDLOCK_SCOPE_SIGNAL               (UINT64_C(1) << 1)
#endif

enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_IOCTL_DEV = 5, ABI_SCOPE = 6 };

/* As the newest kernels have it; older ones take it if what they do not know is zero. */
struct ruleset {
    uint64_t access_fs;
    uint64_t access_net;
    uint64_t scoped;
};

#define ACCESS_FILE                                                                                \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |   \
     LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV)
#define ACCESS_READ   (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_DEVICE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define ACCESS_SOCKETS                                                                             \
    (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                                 \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                               \
    (ACCESS_READ | ACCESS_SOCKETS | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |  \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR |   \
     LANDLOCK_ACCESS_FS_REFER)

static const uint64_t accesses[] = {
    [CG_LANDLOCK_READ] = ACCESS_READ,
    [CG_LANDLOCK_DEVICE] = ACCESS_DEVICE,
    [CG_LANDLOCK_SOCKETS] = ACCESS_SOCKETS,
    [CG_LANDLOCK_WRITE] = ACCESS_WRITE,
};

/* All that a version can restrict in the file system. */
static uint64_t handled_by(int abi)
{
    uint64_t handled = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1; /* the first version's, 0 to 12 */
    handled |= abi >= ABI_REFER ? LANDLOCK_ACCESS_FS_REFER : 0;
    handled |= abi >= ABI_TRUNCATE ? LANDLOCK_ACCESS_FS_TRUNCATE : 0;
    handled |= abi >= ABI_IOCTL_DEV ? LANDLOCK_ACCESS_FS_IOCTL_DEV : 0;
    return handled;
}

int cg_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi < 0 ? 0 : (int)abi;
}

bool cg_landlock_init(struct cg_landlock *landlock, bool abstract, struct cg_error *err)
{
    int abi = cg_landlock_abi();
    if (abi == 0) {
        return cg_error_set(err, "the kernel has no Landlock");
    }
    struct ruleset ruleset = {.access_fs = handled_by(abi)};
    if (abi >= ABI_SCOPE) {
        ruleset.scoped =
            LANDLOCK_SCOPE_SIGNAL | (abstract ? 0 : LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET);
    }
    long fd = syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
    if (fd < 0) {
        return cg_error_errno(err, errno, "make a Landlock ruleset");
    }
    *landlock = (struct cg_landlock){.fd = (int)fd, .abi = abi};
    return true;
}

void cg_landlock_fini(struct cg_landlock *landlock)
{
    cg_cleanup_close(&landlock->fd);
    landlock->fd = -1;
}

bool cg_landlock_allow(const struct cg_landlock *landlock, const char *path,
                       enum cg_landlock_access access, struct cg_error *err)
{
    cg_auto_close int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat found;
    if (fd < 0 || fstat(fd, &found) != 0) {
        return true; /* what cannot be reached now cannot be let through */
    }
    struct landlock_path_beneath_attr rule = {
        .allowed_access = accesses[access] & handled_by(landlock->abi),
        .parent_fd = fd,
    };
    if (!S_ISDIR(found.st_mode)) {
        rule.allowed_access &= ACCESS_FILE;
    }
    if (syscall(SYS_landlock_add_rule, landlock->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
        return cg_error_errno(err, errno, "a Landlock rule for %s", path);
    }
    return true;
}

bool cg_landlock_restrict(const struct cg_landlock *landlock, struct cg_error *err)
{
    if (syscall(SYS_landlock_restrict_self, landlock->fd, 0) != 0) {
        return cg_error_errno(err, errno, "restrict this process by Landlock");
    }
    return true;
}
