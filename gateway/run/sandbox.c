#include "run/sandbox.h"

#include "base/secret_file.h"
#include "cellgate/buf.h"
#include "cellgate/cleanup.h"
#include "cellgate/limits.h"
#include "cellgate/log.h"
#include "run/config_paths.h"
#include "run/landlock.h"
#include "run/privileged.h"
#include "run/privileges.h"
#include "run/sandbox_needs.h"
#include "run/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 8 * CG_EXPORTERS_MAX + 3, MISSING_BYTES_MAX = 4096 };

struct cg_sandbox {
    const struct cg_config *config;
    const char *path; /* of the configuration */
    bool changes_user;
    struct cg_identity identity; /* who the gateway will be */
    gid_t control_group;         /* -1: none */
    struct cg_privileged *helper;
    struct cg_sandbox_status status;

    struct cg_buf missing; /* why parts are not in force */

    /* What the policy points at. */
    struct cg_privileged_cell *cells;
    size_t files_count;
    const char *files[FILES_MAX];
    char *credential; /* the signing key's path, if it is named among systemd's */
};

/* A part that cannot be had: an error where it must be. */
static bool miss(struct cg_sandbox *sandbox, int wanted, const char *part,
                 const struct cg_error *why, struct cg_error *err)
{
    if (wanted == CG_PART_ON) {
        return cg_error_set(err, "sandbox: %s: %s", part, why->text);
    }
    cg_buf_printf(&sandbox->missing, "%s%s: %s", sandbox->missing.len == 0 ? "" : "; ", part,
                  why->text);
    return true;
}

/* --- who it will be --- */

/* A directory that root made in an earlier life of the gateway is not given away: it may be another
 * one by mistake. */
static void check_owner(const struct cg_sandbox *sandbox, const char *path)
{
    struct stat found;
    if (sandbox->changes_user && path != NULL && stat(path, &found) == 0 &&
        found.st_uid != sandbox->identity.uid) {
        CG_LOG(CG_LOG_WARNING, "directory_not_own", CG_F_STR("path", path),
               CG_F_U64("owner", found.st_uid), CG_F_U64("user", sandbox->identity.uid),
               CG_F_STR("advice", "chown -R it to sandbox.user"));
    }
}

static bool find_identity(struct cg_sandbox *sandbox, struct cg_error *err)
{
    const struct cg_config *config = sandbox->config;
    sandbox->identity = (struct cg_identity){.uid = geteuid(), .gid = getegid()};
    sandbox->control_group = (gid_t)-1;
    if (config->sandbox.user == NULL) {
        return true;
    }
    struct cg_identity wanted;
    if (!cg_identity_find(config->sandbox.user, config->sandbox.group, &wanted, err)) {
        return cg_error_context(err, "sandbox.user");
    }
    if (geteuid() != 0) {
        const struct cg_error why = {"only root can become another user"};
        return wanted.uid == geteuid() || miss(sandbox, config->sandbox.enable, "user", &why, err);
    }
    /* Only a member of a group can give a socket to it. */
    if (config->control.group != NULL && config->control.socket != NULL &&
        !cg_group_find(config->control.group, &sandbox->control_group, err)) {
        return cg_error_context(err, "control.group");
    }
    sandbox->identity = wanted;
    sandbox->changes_user = true;
    return true;
}

bool cg_sandbox_own(const struct cg_sandbox *sandbox, const char *path, struct cg_error *err)
{
    if (sandbox->changes_user && lchown(path, sandbox->identity.uid, sandbox->identity.gid) != 0) {
        return cg_error_errno(err, errno, "give %s to user %u", path,
                              (unsigned)sandbox->identity.uid);
    }
    return true;
}

/* --- the helper --- */

static void add_file(struct cg_sandbox *sandbox, const char *path)
{
    if (sandbox->files_count < FILES_MAX) {
        sandbox->files[sandbox->files_count++] = path;
    }
}

static void visit_file(void *context, const char *path, bool written)
{
    if (!written) {
        add_file(context, path);
    }
}

/* A bare name of a key may be one of systemd's credentials. */
static void add_credential(struct cg_sandbox *sandbox)
{
    const char *name = sandbox->config->signing.key_file;
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (name != NULL && dir != NULL && dir[0] == '/' && strchr(name, '/') == NULL &&
        asprintf(&sandbox->credential, "%s/%s", dir, name) > 0) {
        add_file(sandbox, sandbox->credential);
    }
}

static bool list_cells(struct cg_sandbox *sandbox, struct cg_error *err)
{
    const struct cg_sections *cells = &sandbox->config->ingress.cells;
    const struct cg_cell_spec *specs = cells->items;
    sandbox->cells = calloc(cells->count + 1, sizeof(sandbox->cells[0]));
    if (sandbox->cells == NULL) {
        return cg_error_set(err, "out of memory");
    }
    for (size_t i = 0; i < cells->count; i++) {
        sandbox->cells[i] =
            (struct cg_privileged_cell){.base = specs[i].vsock_uds_base, .owner = specs[i].owner};
    }
    cg_privileged_cells_sort(sandbox->cells, cells->count);
    return true;
}

static bool start_helper(struct cg_sandbox *sandbox, bool *ret_is_helper, struct cg_error *err)
{
    const struct cg_config *config = sandbox->config;
    cg_config_paths(config, visit_file, sandbox);
    add_file(sandbox, sandbox->path);
    add_credential(sandbox);
    if (!list_cells(sandbox, err)) {
        return false;
    }
    const struct cg_privileged_policy policy = {
        .gateway_uid = sandbox->identity.uid,
        .gateway_gid = sandbox->identity.gid,
        .roots = config->ingress.roots,
        .uids = config->ingress.owners.uids,
        .gids = config->ingress.owners.gids,
        .files = sandbox->files,
        .files_count = sandbox->files_count,
        .cells = sandbox->cells,
        .cells_count = config->ingress.cells.count,
    };
    unsigned wanted = (config->sandbox.seccomp != CG_PART_OFF ? CG_CONFINED_SECCOMP : 0U) |
                      (config->sandbox.landlock != CG_PART_OFF ? CG_CONFINED_LANDLOCK : 0U);
    return cg_privileged_start(&policy, wanted, config->sandbox.enable == CG_PART_ON,
                               &sandbox->helper, ret_is_helper, err);
}

/* Rights that the gateway has and gives up, and may miss later. */
static bool has_rights(void)
{
    const uint64_t useful =
        CG_CAPABILITY(CAP_CHOWN) | CG_CAPABILITY(CAP_FOWNER) | CG_CAPABILITY(CAP_DAC_OVERRIDE);
    return (cg_capabilities() & useful) == useful;
}

bool cg_sandbox_prepare(const char *path, const struct cg_config *config,
                        struct cg_sandbox **ret_sandbox, bool *ret_is_helper, struct cg_error *err)
{
    struct cg_sandbox *sandbox = calloc(1, sizeof(*sandbox));
    if (sandbox == NULL) {
        return cg_error_set(err, "out of memory");
    }
    sandbox->config = config;
    sandbox->path = path;
    cg_buf_init(&sandbox->missing, MISSING_BYTES_MAX);
    bool is_helper = false;
    bool good = true;
    if (config->sandbox.enable != CG_PART_OFF) {
        good = find_identity(sandbox, err) &&
               (!has_rights() || start_helper(sandbox, &is_helper, err));
    }
    *ret_is_helper = is_helper;
    if (!good || is_helper) {
        cg_sandbox_free(sandbox);
        return good;
    }
    *ret_sandbox = sandbox;
    return true;
}

/* --- giving up --- */

/* sd_notify may speak to an abstract socket of systemd's. */
static bool notifies_abstract(void)
{
    const char *socket = getenv("NOTIFY_SOCKET");
    return socket != NULL && socket[0] == '@';
}

/* Made while the directories can still be reached. */
static bool make_rules(struct cg_sandbox *sandbox, struct cg_landlock *landlock,
                       struct cg_error *err)
{
    const struct cg_config *config = sandbox->config;
    struct cg_error why = {0};
    sandbox->status.landlock_abi = cg_landlock_abi();
    if (config->sandbox.landlock == CG_PART_OFF) {
        return true;
    }
    if (cg_landlock_init(landlock, notifies_abstract(), &why) &&
        cg_sandbox_allow_files(sandbox->path, config, landlock, &why)) {
        return true;
    }
    cg_landlock_fini(landlock);
    int wanted = config->sandbox.enable == CG_PART_ON ? CG_PART_ON : config->sandbox.landlock;
    return miss(sandbox, wanted, "landlock", &why, err);
}

/* User and capabilities: what the gateway may not go on with, if the operator names a user. */
static bool give_up_rights(struct cg_sandbox *sandbox, struct cg_error *err)
{
    struct cg_sandbox_status *status = &sandbox->status;
    if (sandbox->changes_user &&
        !cg_identity_become(&sandbox->identity, sandbox->control_group, err)) {
        return cg_error_context(err, "sandbox.user");
    }
    status->capabilities = cg_sandbox_capabilities(sandbox->config);
    if (!cg_capabilities_keep(status->capabilities, err) || !cg_privileges_forbid_new(err)) {
        return false;
    }
    status->capabilities = cg_capabilities();
    status->in_force[CG_SANDBOX_CAPABILITIES] = true;
    status->in_force[CG_SANDBOX_USER] = geteuid() != 0;
    struct cg_error why = {0};
    status->in_force[CG_SANDBOX_DUMPS] = cg_dumps_forbid(&why);
    return status->in_force[CG_SANDBOX_DUMPS] ||
           miss(sandbox, sandbox->config->sandbox.enable, "dumps", &why, err);
}

static bool restrict_calls(struct cg_sandbox *sandbox, struct cg_error *err)
{
    const struct cg_config *config = sandbox->config;
    struct cg_error why = {0};
    if (config->sandbox.seccomp == CG_PART_OFF) {
        return true;
    }
    sandbox->status.in_force[CG_SANDBOX_SECCOMP] =
        cg_seccomp_gateway(cg_sandbox_calls(config), &why);
    int wanted = config->sandbox.enable == CG_PART_ON ? CG_PART_ON : config->sandbox.seccomp;
    return sandbox->status.in_force[CG_SANDBOX_SECCOMP] ||
           miss(sandbox, wanted, "seccomp", &why, err);
}

static void say(struct cg_sandbox *sandbox)
{
    const struct cg_sandbox_status *status = &sandbox->status;
    const char *missing = cg_buf_str(&sandbox->missing);
    char in_force[128] = "";
    size_t len = 0;
    for (unsigned part = 0; part < CG_SANDBOX_PARTS; part++) {
        if (status->in_force[part]) {
            len += (size_t)snprintf(in_force + len, sizeof(in_force) - len, "%s%s",
                                    len == 0 ? "" : ",",
                                    cg_sandbox_part_name((enum cg_sandbox_part)part));
        }
    }
    CG_LOG(CG_LOG_INFO, "sandbox", CG_F_STR("in_force", in_force), CG_F_U64("uid", geteuid()),
           CG_F_U64("gid", getegid()), CG_F_U64("capabilities", status->capabilities),
           CG_F_U64("landlock_abi", (uint64_t)status->landlock_abi),
           CG_F_STR("helper", cg_helper_state_name(cg_sandbox_helper(status))),
           CG_F_I64("helper_pid", sandbox->helper == NULL ? 0 : cg_privileged_pid(sandbox->helper)),
           CG_F_STR("missing", missing == NULL ? "" : missing));
}

bool cg_sandbox_enter(struct cg_sandbox *sandbox, struct cg_error *err)
{
    if (sandbox->config->sandbox.enable == CG_PART_OFF) {
        sandbox->status.capabilities = cg_capabilities();
        sandbox->status.in_force[CG_SANDBOX_USER] = geteuid() != 0;
        say(sandbox);
        return true;
    }
    check_owner(sandbox, sandbox->config->spool.dir);
    check_owner(sandbox, sandbox->config->state_dir);
    __attribute__((cleanup(cg_landlock_fini))) struct cg_landlock landlock = {.fd = -1};
    if (!make_rules(sandbox, &landlock, err) || !give_up_rights(sandbox, err)) {
        return false;
    }
    if (landlock.fd >= 0) {
        if (!cg_landlock_restrict(&landlock, err)) {
            return false;
        }
        sandbox->status.in_force[CG_SANDBOX_LANDLOCK] = true;
    }
    if (!restrict_calls(sandbox, err)) {
        return false;
    }
    if (sandbox->helper != NULL) {
        sandbox->status.has_helper = true;
        cg_secret_file_set_opener(cg_privileged_open_file, sandbox->helper);
        if (!cg_privileged_watch(sandbox->helper, &sandbox->status.helper_alive, err)) {
            return false;
        }
    }
    say(sandbox);
    return true;
}

/* --- the sandbox --- */

struct cg_socket_files cg_sandbox_socket_files(const struct cg_sandbox *sandbox)
{
    return sandbox->helper == NULL ? (struct cg_socket_files){0}
                                   : cg_privileged_socket_files(sandbox->helper);
}

const struct cg_sandbox_status *cg_sandbox_status(const struct cg_sandbox *sandbox)
{
    return &sandbox->status;
}

void cg_sandbox_free(struct cg_sandbox *sandbox)
{
    if (sandbox == NULL) {
        return;
    }
    cg_secret_file_set_opener(NULL, NULL);
    cg_privileged_stop(sandbox->helper);
    cg_buf_fini(&sandbox->missing);
    free(sandbox->cells);
    free(sandbox->credential);
    free(sandbox);
}
