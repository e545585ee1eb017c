#include "run/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRY_BYTES_MAX = 16384, GROUPS_MAX = 1024, HALVES = _LINUX_CAPABILITY_U32S_3 };

/* --- capabilities --- */

static bool get_capabilities(struct __user_cap_data_struct data[HALVES])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, data) == 0;
}

static uint64_t joined(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

uint64_t cg_capabilities(void)
{
    struct __user_cap_data_struct data[HALVES];
    return get_capabilities(data) ? joined(data[0].effective, data[1].effective) : 0;
}

static bool set_capabilities(uint64_t set)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[HALVES];
    for (unsigned i = 0; i < HALVES; i++) {
        uint32_t half = (uint32_t)(set >> (32 * i));
        data[i] = (struct __user_cap_data_struct){.effective = half, .permitted = half};
    }
    return syscall(SYS_capset, &header, data) == 0;
}

/* What a program that is run could get back; without the right to change it (CAP_SETPCAP) it
 * stays, and no_new_privs has to do. */
static void shrink_bounds(uint64_t kept)
{
    for (unsigned long i = 0; i < 64 && prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++) {
        if ((kept & CG_CAPABILITY(i)) == 0) {
            (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
        }
    }
}

bool cg_capabilities_keep(uint64_t kept, struct cg_error *err)
{
    struct __user_cap_data_struct data[HALVES];
    if (!get_capabilities(data)) {
        return cg_error_errno(err, errno, "read the capabilities");
    }
    uint64_t all = joined(data[0].permitted, data[1].permitted);
    if (all == 0) {
        return true; /* nor may a filter of whoever started us let anything be set */
    }
    (void)set_capabilities(all); /* a change of user has taken them out of effect */
    shrink_bounds(kept);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return set_capabilities(kept & all) || cg_error_errno(err, errno, "give up capabilities");
}

/* --- users --- */

static bool parse_id(const char *text, uint32_t *ret_id)
{
    char *end = NULL;
    errno = 0;
    unsigned long id = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || id >= UINT32_MAX) {
        return false;
    }
    *ret_id = (uint32_t)id;
    return true;
}

bool cg_group_find(const char *group, gid_t *ret_gid, struct cg_error *err)
{
    char buffer[ENTRY_BYTES_MAX];
    struct group entry;
    struct group *found = NULL;
    if (parse_id(group, ret_gid)) {
        return true;
    }
    int errnum = getgrnam_r(group, &entry, buffer, sizeof(buffer), &found);
    if (errnum != 0) {
        return cg_error_errno(err, errnum, "look up group %s", group);
    }
    if (found == NULL) {
        return cg_error_set(err, "there is no group %s", group);
    }
    *ret_gid = found->gr_gid;
    return true;
}

bool cg_identity_find(const char *user, const char *group, struct cg_identity *ret_identity,
                      struct cg_error *err)
{
    char buffer[ENTRY_BYTES_MAX];
    struct passwd entry;
    struct passwd *found = NULL;
    uint32_t uid = 0;
    bool number = parse_id(user, &uid);
    int errnum = number ? getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found)
                        : getpwnam_r(user, &entry, buffer, sizeof(buffer), &found);
    if (!number && errnum != 0) {
        return cg_error_errno(err, errnum, "look up user %s", user);
    }
    if (!number && found == NULL) {
        return cg_error_set(err, "there is no user %s", user);
    }
    struct cg_identity identity = {
        .uid = found != NULL ? found->pw_uid : uid,
        .gid = found != NULL ? found->pw_gid : (gid_t)-1,
        .name = number ? NULL : user,
    };
    if (group != NULL && !cg_group_find(group, &identity.gid, err)) {
        return false;
    }
    if (identity.gid == (gid_t)-1) {
        return cg_error_set(err, "user %s has no entry, so its group must be named too", user);
    }
    *ret_identity = identity;
    return true;
}

static bool set_groups(const struct cg_identity *identity, gid_t also, struct cg_error *err)
{
    gid_t groups[GROUPS_MAX + 1] = {identity->gid};
    int count = GROUPS_MAX;
    if (identity->name == NULL) {
        count = 1;
    } else if (getgrouplist(identity->name, identity->gid, groups, &count) < 0) {
        return cg_error_set(err, "user %s is in more than %d groups", identity->name, GROUPS_MAX);
    }
    if (also != (gid_t)-1) {
        groups[count++] = also;
    }
    if (setgroups((size_t)count, groups) != 0) {
        return cg_error_errno(err, errno, "take on groups");
    }
    return true;
}

bool cg_identity_become(const struct cg_identity *identity, gid_t also, struct cg_error *err)
{
    if (!set_groups(identity, also, err)) {
        return false;
    }
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
        setresgid(identity->gid, identity->gid, identity->gid) != 0 ||
        setresuid(identity->uid, identity->uid, identity->uid) != 0) {
        return cg_error_errno(err, errno, "become user %u, group %u", (unsigned)identity->uid,
                              (unsigned)identity->gid);
    }
    return true;
}

/* --- dumps --- */

bool cg_dumps_forbid(struct cg_error *err)
{
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return cg_error_errno(err, errno, "forbid core dumps");
    }
    return true;
}

bool cg_privileges_forbid_new(struct cg_error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return cg_error_errno(err, errno, "set no_new_privs");
    }
    return true;
}
