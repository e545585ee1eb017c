/* Cells come and go: over a spool in memory, real sockets, and a journal on disk. */
#include "http/enrolment.h"

#include "unit/ingress/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static char top[64];
static char vm_dir[128];
static char journal_path[128];
static struct cg_ingress *ingress;
static struct cg_enrolment *enrolment;
static const char *roots[1];
static struct cg_enrol_result result;

static void open_gateway(void)
{
    set_up_common();
    config.clock = &cg_clock_system;
    cg_registrations_close(registrations);
    struct cg_registrations_found found;
    ck_assert_msg(
        cg_registrations_open(journal_path, &cg_clock_system, &registrations, &found, &err), "%s",
        err.text);
    config.registrations = registrations;
    config.roots = (struct cg_strings){roots, 1};
    ck_assert_msg(cg_ingress_start(&config, envelope, key, spool, &ingress, &err), "%s", err.text);
    const struct cg_enrolment_config enrolment_config = {
        .registry = registry,
        .ingress = ingress,
        .registrations = registrations,
        .roots = {roots, 1},
        .forget_timeout_ns = 2 * CG_NS_PER_S,
        .retry_interval_ns = CG_NS_PER_S / 100,
        .clock = &cg_clock_system,
    };
    ck_assert_msg(cg_enrolment_new(&enrolment_config, &enrolment, &err), "%s", err.text);
}

static void open_restored(void)
{
    open_gateway();
    ck_assert(cg_enrolment_restore(enrolment, &err));
}

/* As a process that is told to end: `drained` removes the sockets, else they are left. */
static void close_gateway(bool drained)
{
    cg_enrolment_free(enrolment);
    if (drained) {
        cg_ingress_drain(ingress, 0);
    }
    cg_ingress_stop(ingress);
    tear_down_common();
}

static void set_up(void)
{
    (void)snprintf(top, sizeof(top), "/tmp/cellgate-enrolment-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    (void)snprintf(vm_dir, sizeof(vm_dir), "%s/vm", top);
    (void)snprintf(journal_path, sizeof(journal_path), "%s/registrations", top);
    ck_assert_int_eq(mkdir(vm_dir, 0700), 0);
    roots[0] = vm_dir;
}

static size_t files_in_vm_dir(void)
{
    DIR *dir = opendir(vm_dir);
    ck_assert_ptr_nonnull(dir);
    size_t count = 0;
    for (const struct dirent *at; (at = readdir(dir)) != NULL;) {
        count += strcmp(at->d_name, ".") != 0 && strcmp(at->d_name, "..") != 0;
    }
    (void)closedir(dir);
    return count;
}

static void tear_down(void)
{
    (void)unlink(journal_path);
    ck_assert_uint_eq(files_in_vm_dir(), 0);
    ck_assert_int_eq(rmdir(vm_dir), 0);
    ck_assert_int_eq(rmdir(top), 0);
}

static char bases[1024][160];

static struct cg_enrol_request request_of(unsigned cell, const char *cell_id, const char *run_id)
{
    (void)snprintf(bases[cell], sizeof(bases[cell]), "%s/%u.vsock", vm_dir, cell);
    return (struct cg_enrol_request){.spec = {.cell_id = cell_id,
                                              .run_id = run_id,
                                              .spec_signature_hash = "sha256:00",
                                              .vsock_uds_base = bases[cell]}};
}

static enum cg_enrol_outcome put(const struct cg_enrol_request *request)
{
    cg_enrol_put(enrolment, request, &result);
    return result.outcome;
}

static enum cg_enrol_outcome remove_cell(const char *cell_id)
{
    cg_enrol_delete(enrolment, cell_id, &result);
    return result.outcome;
}

static int try_connect(unsigned cell)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.60s/%u.vsock_9001", vm_dir, cell);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static bool listens(unsigned cell)
{
    int fd = try_connect(cell);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

START_TEST(a_cell_comes_and_goes_and_its_run_does_not_come_again)
{
    open_restored();
    const struct cg_enrol_request a = request_of(0, "a", "r1");
    ck_assert_msg(put(&a) == CG_ENROL_CREATED, "%s", result.detail.text);
    ck_assert(listens(0));
    ck_assert_int_eq(put(&a), CG_ENROL_EXISTS);
    struct cg_enrol_request other = request_of(0, "a", "r2");
    ck_assert_int_eq(put(&other), CG_ENROL_CONFLICT);
    ck_assert_str_eq(result.member, "cell_id");
    other = request_of(0, "b", "r1");
    ck_assert_int_eq(put(&other), CG_ENROL_CONFLICT);
    ck_assert_str_eq(result.member, "vsock_uds_base");
    other = a;
    other.spec.socket_mode = 0660;
    ck_assert_int_eq(put(&other), CG_ENROL_CONFLICT);
    ck_assert_str_eq(result.member, "mode");

    ck_assert_int_eq(remove_cell("a"), CG_ENROL_REMOVED);
    ck_assert(!listens(0));
    ck_assert_int_eq(remove_cell("a"), CG_ENROL_NOT_FOUND);
    ck_assert_int_eq(put(&a), CG_ENROL_CONFLICT);
    ck_assert_str_eq(result.member, "run_id");
    other = request_of(0, "a", "r2");
    ck_assert_int_eq(put(&other), CG_ENROL_CREATED);
    close_gateway(true);
}
END_TEST

START_TEST(what_may_not_be_is_refused_and_leaves_nothing)
{
    open_restored();
    struct cg_enrol_request request = request_of(0, "a", "r1");
    request.spec.vsock_uds_base = "/tmp/outside.vsock";
    ck_assert_int_eq(put(&request), CG_ENROL_FORBIDDEN);
    request = request_of(0, "a/b", "r1");
    ck_assert_int_eq(put(&request), CG_ENROL_INVALID);
    ck_assert_str_eq(result.member, "cell_id");
    request = request_of(0, "a", "r1");
    request.spec.owner = (struct cg_range){.present = true, .first = 1, .last = 1};
    ck_assert_int_eq(put(&request), CG_ENROL_FORBIDDEN);
    ck_assert_str_eq(result.member, "owner");
    char missing[200];
    (void)snprintf(missing, sizeof(missing), "%s/none/a.vsock", vm_dir);
    request = request_of(0, "a", "r1");
    request.spec.vsock_uds_base = missing;
    ck_assert_int_eq(put(&request), CG_ENROL_INVALID);
    ck_assert_str_eq(result.member, "vsock_uds_base");
    ck_assert_uint_eq(files_in_vm_dir(), 0);
    request = request_of(0, "a", "r1");
    ck_assert_int_eq(put(&request), CG_ENROL_CREATED);
    close_gateway(true);
}
END_TEST

START_TEST(a_cell_of_the_configuration_is_not_removed_and_wins_over_the_journal)
{
    open_restored();
    struct cg_enrol_request request = request_of(0, "a", "r1");
    ck_assert_int_eq(put(&request), CG_ENROL_CREATED);
    close_gateway(false);

    open_gateway();
    request = request_of(1, "a", "r9");
    struct cg_cell *cell = NULL;
    ck_assert(cg_registry_add(registry, &request.spec, 1, &cell, &err));
    ck_assert(cg_ingress_listen(ingress, cell, &err));
    ck_assert(cg_enrolment_restore(enrolment, &err));
    ck_assert(!listens(0) && listens(1));
    ck_assert_int_eq(remove_cell("a"), CG_ENROL_CONFLICT);
    close_gateway(true);
}
END_TEST

/* --- many at once --- */

enum { CLIENTS = 8, ROUNDS = 25 };

static void *race(void *context)
{
    const struct cg_enrol_request *request = context;
    struct cg_enrol_result *mine = calloc(1, sizeof(*mine));
    cg_enrol_put(enrolment, request, mine);
    return mine;
}

START_TEST(of_many_that_put_the_same_one_creates_it)
{
    open_restored();
    for (unsigned round = 0; round < ROUNDS; round++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%u", round);
        struct cg_enrol_request request = request_of(0, "a", run_id);
        pthread_t threads[CLIENTS];
        unsigned created = 0;
        for (unsigned i = 0; i < CLIENTS; i++) {
            ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &request), 0);
        }
        for (unsigned i = 0; i < CLIENTS; i++) {
            void *got;
            ck_assert_int_eq(pthread_join(threads[i], &got), 0);
            const struct cg_enrol_result *its = got;
            ck_assert(its->outcome == CG_ENROL_CREATED || its->outcome == CG_ENROL_EXISTS);
            created += its->outcome == CG_ENROL_CREATED;
            free(got);
        }
        ck_assert_uint_eq(created, 1);
        ck_assert_int_eq(remove_cell("a"), CG_ENROL_REMOVED);
    }
    close_gateway(true);
}
END_TEST

static void *flood(void *context)
{
    int fd = *(int *)context;
    cg_auto_buf struct cg_buf frames;
    cg_buf_init(&frames, 1 << 20);
    for (unsigned i = 0; i < 500; i++) {
        put_frame(&frames, i);
    }
    while (send(fd, frames.data, frames.len, MSG_NOSIGNAL) > 0) {
    }
    return NULL;
}

START_TEST(a_flooding_cell_ends)
{
    open_restored();
    const struct cg_enrol_request request = request_of(0, "a", "r1");
    ck_assert_int_eq(put(&request), CG_ENROL_CREATED);
    cg_auto_close int guest = try_connect(0);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, flood, &guest), 0);
    ck_assert(cg_spool_reader_wait(events, 100, UINT64_MAX, UINT64_MAX));
    ck_assert_int_eq(remove_cell("a"), CG_ENROL_REMOVED);
    ck_assert_uint_gt(result.totals.frames, 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    close_gateway(true);
}
END_TEST

/* --- the process that ends the run --- */

static pid_t start_vmm(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
    return pid;
}

static void end_vmm(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

static void await_gone(const char *cell_id)
{
    struct cg_cell *cell;
    while ((cell = cg_registry_find(registry, cg_bytes_str(cell_id))) != NULL) {
        cg_cell_unref(cell);
        (void)poll(NULL, 0, 1);
    }
}

START_TEST(the_end_of_its_vmm_ends_the_run_also_after_a_restart)
{
    open_restored();
    struct cg_enrol_request request = request_of(0, "a", "r1");
    pid_t vmm = start_vmm();
    request.vmm_pid = (uint64_t)vmm;
    ck_assert_int_eq(put(&request), CG_ENROL_CREATED);
    end_vmm(vmm);
    await_gone("a");
    ck_assert_int_eq(put(&request), CG_ENROL_CONFLICT);
    request.spec.run_id = "r2";
    ck_assert_int_eq(put(&request), CG_ENROL_INVALID);
    ck_assert_str_eq(result.member, "vmm_pid");

    vmm = start_vmm();
    request.vmm_pid = (uint64_t)vmm;
    ck_assert_int_eq(put(&request), CG_ENROL_CREATED);
    close_gateway(false);
    open_restored();
    ck_assert(listens(0));
    end_vmm(vmm);
    await_gone("a");

    vmm = start_vmm();
    request.spec.run_id = "r3";
    request.vmm_pid = (uint64_t)vmm;
    ck_assert_int_eq(put(&request), CG_ENROL_CREATED);
    close_gateway(false);
    end_vmm(vmm);
    open_restored();
    await_gone("a");
    ck_assert(!listens(0));
    close_gateway(true);
}
END_TEST

/* --- kill -9 --- */

enum { KILLS = 50, CELLS = 6 };

/* What a child says of one step; written after the step was confirmed. */
struct step {
    uint32_t cell, run;
    bool put;
};

static void put_and_delete(int to)
{
    open_restored();
    for (uint32_t run = 1;; run++) {
        for (uint32_t cell = 0; cell < CELLS; cell++) {
            char cell_id[16];
            char run_id[32];
            (void)snprintf(cell_id, sizeof(cell_id), "c%u", cell);
            (void)snprintf(run_id, sizeof(run_id), "p%d-r%u", getpid(), run);
            (void)remove_cell(cell_id);
            struct step step = {.cell = cell, .run = run, .put = false};
            (void)!write(to, &step, sizeof(step));
            if (run % 3 != 0) {
                struct cg_enrol_request request = request_of(cell, cell_id, run_id);
                if (put(&request) == CG_ENROL_CREATED) {
                    step.put = true;
                    (void)!write(to, &step, sizeof(step));
                }
            }
        }
    }
}

START_TEST(killed_at_any_instant_it_keeps_what_it_has_confirmed)
{
    for (unsigned i = 0; i < KILLS; i++) {
        int ends[2];
        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        ck_assert_int_ge(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20), 0);
        pid_t child = fork();
        if (child == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            put_and_delete(ends[1]);
        }
        (void)close(ends[1]);
        uint16_t random;
        ck_assert_int_eq(getrandom(&random, sizeof(random), 0), sizeof(random));
        struct pollfd readable = {.fd = ends[0], .events = POLLIN};
        (void)poll(&readable, 1, 10000);
        (void)poll(NULL, 0, random % 40);
        end_vmm(child);

        struct step last[CELLS];
        bool known[CELLS] = {false};
        uint32_t begun[CELLS] = {0}; /* cells whose next step may have happened unconfirmed */
        struct step step;
        uint32_t last_cell = 0;
        while (read(ends[0], &step, sizeof(step)) == (ssize_t)sizeof(step)) {
            last[step.cell] = step;
            known[step.cell] = true;
            last_cell = step.cell;
        }
        (void)close(ends[0]);
        begun[last_cell] = 1;
        begun[(last_cell + 1) % CELLS] = 1;

        open_restored();
        size_t registered = 0;
        for (uint32_t cell = 0; cell < CELLS; cell++) {
            char cell_id[16];
            (void)snprintf(cell_id, sizeof(cell_id), "c%u", cell);
            struct cg_cell *found = cg_registry_find(registry, cg_bytes_str(cell_id));
            ck_assert_int_eq(found != NULL, listens(cell));
            if (known[cell] && !begun[cell]) {
                ck_assert_int_eq(found != NULL, last[cell].put);
            }
            if (found != NULL) {
                registered++;
                cg_cell_unref(found);
            }
        }
        ck_assert_uint_eq(files_in_vm_dir(), registered);
        if (i + 1 == KILLS) {
            close_gateway(true);
        } else {
            close_gateway(i % 2 == 0);
        }
    }
}
END_TEST

/* --- a directory whose owner is hostile --- */

enum {
    HOSTILE_ROUNDS_MIN = 200,
    HOSTILE_ROUNDS_MAX = 20000, /* until enough got through that their removal was attacked too */
    HOSTILE_CREATED_WANTED = 25,
};

static char sub_dir[160]; /* of the cell's socket, in vm_dir */

/* The directory gives way to a symlink for a moment, or for as long as several system calls. */
static void swap_directory(const char *victim_dir, unsigned i)
{
    char away[200];
    (void)snprintf(away, sizeof(away), "%s/away", vm_dir);
    (void)rename(sub_dir, away);
    (void)symlink(victim_dir, sub_dir);
    for (unsigned wait = i % 7; wait > 0; wait--) {
        (void)access(away, F_OK);
    }
    (void)unlink(sub_dir);
    (void)rename(away, sub_dir);
}

/* Swaps what is in the directory, and the directory, and holds still for a time that is never the
 * same, so that every instant of a registration and of its end is met. */
static void be_hostile(const char *victim, const char *victim_dir)
{
    char socket_path[200];
    char moved[200];
    (void)snprintf(socket_path, sizeof(socket_path), "%s/a.vsock_9001", sub_dir);
    (void)snprintf(moved, sizeof(moved), "%s/moved", sub_dir);
    if (geteuid() == 0) {
        ck_assert_int_eq(setgid(65534), 0);
        ck_assert_int_eq(setuid(65534), 0);
    }
    for (unsigned i = 0;; i++) {
        const char *target = i % 2 == 0 ? victim : victim_dir;
        (void)rename(socket_path, moved);
        (void)symlink(target, socket_path);
        DIR *dir = opendir(sub_dir);
        for (const struct dirent *at; dir != NULL && (at = readdir(dir)) != NULL;) {
            if (strncmp(at->d_name, ".cellgate-", 10) == 0) {
                (void)unlinkat(dirfd(dir), at->d_name, 0);
                (void)symlinkat(target, dirfd(dir), at->d_name);
            }
        }
        if (dir != NULL) {
            (void)closedir(dir);
        }
        swap_directory(victim_dir, i);
        (void)unlink(socket_path);
        (void)mkdir(socket_path, 0700);
        (void)rmdir(socket_path);
        (void)unlink(moved);
        swap_directory(victim_dir, i);
        const struct timespec still = {.tv_nsec = (long)(i % 64) * 20000};
        (void)nanosleep(&still, NULL);
    }
}

static void remove_all_in(const char *path)
{
    DIR *dir = opendir(path);
    for (const struct dirent *at; dir != NULL && (at = readdir(dir)) != NULL;) {
        (void)(unlinkat(dirfd(dir), at->d_name, 0) == 0 ||
               unlinkat(dirfd(dir), at->d_name, AT_REMOVEDIR) == 0);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

/* Registers and ends a cell in the hostile directory; whether it was registered. */
static bool round_in_hostile_directory(unsigned i)
{
    char run_id[16];
    char base[200];
    (void)snprintf(run_id, sizeof(run_id), "r%u", i);
    (void)snprintf(base, sizeof(base), "%s/a.vsock", sub_dir);
    struct cg_enrol_request request = request_of(0, "a", run_id);
    request.spec.vsock_uds_base = base;
    request.spec.socket_mode = 0666;
    enum cg_enrol_outcome outcome = put(&request);
    ck_assert_msg(outcome == CG_ENROL_CREATED || outcome == CG_ENROL_CONFLICT ||
                      outcome == CG_ENROL_INVALID || outcome == CG_ENROL_FAILED,
                  "%d: %s", outcome, result.detail.text);
    if (outcome == CG_ENROL_CREATED) {
        ck_assert_int_eq(remove_cell("a"), CG_ENROL_REMOVED);
    }
    return outcome == CG_ENROL_CREATED;
}

START_TEST(a_hostile_owner_of_the_directory_harms_nobody_else)
{
    char victim[128];
    char victim_dir[128];
    char inside[160];
    (void)snprintf(victim, sizeof(victim), "%s/victim", top);
    (void)snprintf(victim_dir, sizeof(victim_dir), "%s/victim-dir", top);
    (void)snprintf(inside, sizeof(inside), "%s/inside", victim_dir);
    ck_assert_int_eq(chmod(top, 0755), 0);
    ck_assert_int_eq(mkdir(victim_dir, 0750), 0);
    cg_auto_close int fd = open(victim, O_CREAT | O_RDWR | O_CLOEXEC, 0640);
    ck_assert_int_eq(write(fd, "precious", 8), 8);
    cg_auto_close int inside_fd = open(inside, O_CREAT | O_RDWR | O_CLOEXEC, 0640);
    ck_assert_int_ge(inside_fd, 0);
    struct stat before;
    struct stat dir_before;
    ck_assert_int_eq(fstat(fd, &before), 0);
    ck_assert_int_eq(stat(victim_dir, &dir_before), 0);
    (void)snprintf(sub_dir, sizeof(sub_dir), "%s/sub", vm_dir);
    ck_assert_int_eq(mkdir(sub_dir, 0700), 0);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(vm_dir, 65534, 65534), 0);
        ck_assert_int_eq(chown(sub_dir, 65534, 65534), 0);
    }
    open_restored();
    pid_t enemy = fork();
    if (enemy == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        be_hostile(victim, victim_dir);
    }
    unsigned created = 0;
    for (unsigned i = 0;
         i < HOSTILE_ROUNDS_MIN || (created < HOSTILE_CREATED_WANTED && i < HOSTILE_ROUNDS_MAX);
         i++) {
        created += round_in_hostile_directory(i);
    }
    ck_assert_uint_gt(created, 0);
    end_vmm(enemy);
    close_gateway(true);

    struct stat after;
    ck_assert_int_eq(stat(victim, &after), 0);
    ck_assert(after.st_ino == before.st_ino && after.st_mode == before.st_mode &&
              after.st_uid == before.st_uid && after.st_size == 8 && after.st_nlink == 1);
    ck_assert_int_eq(stat(victim_dir, &after), 0);
    ck_assert(after.st_mode == dir_before.st_mode && after.st_uid == dir_before.st_uid);
    ck_assert_int_eq(unlink(inside), 0);
    ck_assert_int_eq(rmdir(victim_dir), 0);
    ck_assert_int_eq(unlink(victim), 0);

    char away[200];
    (void)snprintf(away, sizeof(away), "%s/away", vm_dir);
    remove_all_in(sub_dir); /* what the enemy left is the enemy's */
    remove_all_in(away);
    remove_all_in(vm_dir);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("enrolment");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, a_cell_comes_and_goes_and_its_run_does_not_come_again);
    tcase_add_test(tcase, what_may_not_be_is_refused_and_leaves_nothing);
    tcase_add_test(tcase, a_cell_of_the_configuration_is_not_removed_and_wins_over_the_journal);
    tcase_add_test(tcase, of_many_that_put_the_same_one_creates_it);
    tcase_add_test(tcase, a_flooding_cell_ends);
    tcase_add_test(tcase, the_end_of_its_vmm_ends_the_run_also_after_a_restart);
    tcase_add_test(tcase, killed_at_any_instant_it_keeps_what_it_has_confirmed);
    tcase_add_test(tcase, a_hostile_owner_of_the_directory_harms_nobody_else);
    tcase_set_timeout(tcase, 200);
    Suite *suite = suite_create("enrolment");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
