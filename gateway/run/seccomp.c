#include "run/seccomp.h"

#include "run/sanitized.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- what is let through whatever its arguments --- */

/* clang-format off */

/* Both processes: memory, plain files, waiting, and the way to the end. */
static const int common[] = {
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(read),
    SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
    SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2),
    SCMP_SYS(fstat), SCMP_SYS(fstat64), SCMP_SYS(stat), SCMP_SYS(stat64), SCMP_SYS(lstat),
    SCMP_SYS(lstat64), SCMP_SYS(newfstatat), SCMP_SYS(fstatat64), SCMP_SYS(statx), SCMP_SYS(lseek),
    SCMP_SYS(_llseek), SCMP_SYS(fcntl), SCMP_SYS(fcntl64), SCMP_SYS(bind), SCMP_SYS(listen),
    SCMP_SYS(connect), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(chmod), SCMP_SYS(fchown),
    SCMP_SYS(fchownat), SCMP_SYS(chown), SCMP_SYS(lchown), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
    SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
    SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(futex),
    SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
    SCMP_SYS(getegid), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static const int gateway_only[] = {
    /* memory, keys' pages among it */
    SCMP_SYS(mlock), SCMP_SYS(mlock2), SCMP_SYS(munlock), SCMP_SYS(mincore), SCMP_SYS(msync),
    SCMP_SYS(memfd_create), SCMP_SYS(membarrier), SCMP_SYS(rseq), SCMP_SYS(get_mempolicy),
    /* the spool, files of exporters, /proc and /sys */
    SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64),
    SCMP_SYS(truncate), SCMP_SYS(fallocate), SCMP_SYS(fadvise64), SCMP_SYS(readahead),
    SCMP_SYS(copy_file_range), SCMP_SYS(sendfile), SCMP_SYS(sendfile64), SCMP_SYS(splice),
    SCMP_SYS(tee), SCMP_SYS(vmsplice), SCMP_SYS(flock), SCMP_SYS(getdents), SCMP_SYS(getdents64),
    SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(rmdir), SCMP_SYS(link), SCMP_SYS(linkat),
    SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(access), SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2), SCMP_SYS(utimensat), SCMP_SYS(fstatfs), SCMP_SYS(fstatfs64),
    SCMP_SYS(statfs), SCMP_SYS(statfs64), SCMP_SYS(getcwd), SCMP_SYS(umask), SCMP_SYS(dup),
    SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(mknod),
    SCMP_SYS(mknodat), /* FIFOs; a device needs a capability */
    SCMP_SYS(fgetxattr), SCMP_SYS(getxattr), SCMP_SYS(lgetxattr), /* ACLs */
    /* sockets */
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(sendmmsg), SCMP_SYS(recvmmsg),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
    SCMP_SYS(socketpair),
    /* waiting */
    SCMP_SYS(select), SCMP_SYS(_newselect), SCMP_SYS(pselect6), SCMP_SYS(epoll_create),
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2), SCMP_SYS(eventfd), SCMP_SYS(eventfd2), SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime), SCMP_SYS(signalfd), SCMP_SYS(signalfd4),
    SCMP_SYS(inotify_init), SCMP_SYS(inotify_init1), SCMP_SYS(inotify_add_watch),
    SCMP_SYS(inotify_rm_watch), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(pause),
    SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(futex_waitv), SCMP_SYS(time), SCMP_SYS(clock_getres), SCMP_SYS(timer_create),
    SCMP_SYS(timer_settime), SCMP_SYS(timer_delete),
    /* threads, and the processes of VMMs and the helper */
    SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(set_tid_address),
    SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity),
    SCMP_SYS(sched_getparam), SCMP_SYS(sched_getscheduler), SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_get_priority_max), SCMP_SYS(sched_get_priority_min), SCMP_SYS(getpriority),
    SCMP_SYS(setpriority), SCMP_SYS(getcpu), SCMP_SYS(pidfd_open), SCMP_SYS(wait4),
    SCMP_SYS(waitid), SCMP_SYS(getppid), SCMP_SYS(arch_prctl),
    /* facts */
    SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrlimit), SCMP_SYS(ugetrlimit),
    SCMP_SYS(getrusage), SCMP_SYS(times), SCMP_SYS(getresuid), SCMP_SYS(getresgid),
    SCMP_SYS(getgroups), SCMP_SYS(getpgrp), SCMP_SYS(getpgid), SCMP_SYS(getsid), SCMP_SYS(capget),
};

/* What the runtimes of the sanitizers need beside it: a tracer of their own when they look for
 * leaks, among others. Never in a released gateway. */
static const int sanitizers_only[] = {
    SCMP_SYS(ptrace), SCMP_SYS(clone), SCMP_SYS(prctl), SCMP_SYS(mprotect), SCMP_SYS(mmap),
    SCMP_SYS(personality), SCMP_SYS(wait4), SCMP_SYS(readlink), SCMP_SYS(tgkill), SCMP_SYS(kill),
    SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(sched_yield), SCMP_SYS(set_robust_list),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(mincore), SCMP_SYS(getppid), SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep), SCMP_SYS(arch_prctl), SCMP_SYS(setrlimit), SCMP_SYS(prlimit64),
    SCMP_SYS(getrlimit), SCMP_SYS(getrusage), SCMP_SYS(readlinkat), SCMP_SYS(getcwd),
    SCMP_SYS(uname), SCMP_SYS(rseq), SCMP_SYS(sigaltstack),
};

/* --- what no honest gateway tries --- */

static const int deadly[] = {
    /* other programs, and other processes' memory */
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev), SCMP_SYS(process_madvise), SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd),
    SCMP_SYS(userfaultfd),
    /* the tree of files */
    SCMP_SYS(mount), SCMP_SYS(umount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot),
    SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr), SCMP_SYS(swapon),
    SCMP_SYS(swapoff), SCMP_SYS(quotactl), SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at),
    /* namespaces */
    SCMP_SYS(unshare),
    /* the kernel */
    SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
    SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(acct), SCMP_SYS(syslog), SCMP_SYS(modify_ldt),
    SCMP_SYS(lookup_dcookie), SCMP_SYS(uselib), SCMP_SYS(vhangup), SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime), SCMP_SYS(adjtimex), SCMP_SYS(clock_adjtime),
    /* keys of the kernel's */
    SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl),
};

/* clang-format on */

/* --- making the filter --- */

/* Adds rules; after the first that fails, no more. */
struct filter {
    scmp_filter_ctx context;
    int status; /* 0, or a negative errno */
};

/* A system call that this architecture does not have needs no rule. */
static void add(struct filter *filter, uint32_t action, int call, unsigned count,
                const struct scmp_arg_cmp *conditions)
{
    if (filter->status == 0) {
        int status = seccomp_rule_add_exact_array(filter->context, action, call, count, conditions);
        filter->status = status == -EEXIST || status == -EDOM || call < 0 ? 0 : status;
    }
}

static void add_all(struct filter *filter, uint32_t action, const int *calls, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        add(filter, action, calls[i], 0, NULL);
    }
}

static struct scmp_arg_cmp equals(unsigned argument, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value};
}

static struct scmp_arg_cmp masked(unsigned argument, scmp_datum_t mask, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){
        .arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

/* Lets a call through if its argument is one of the values. */
static void allow_values(struct filter *filter, int call, unsigned argument, const uint64_t *values,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct scmp_arg_cmp is = equals(argument, values[i]);
        add(filter, SCMP_ACT_ALLOW, call, 1, &is);
    }
}

/* Memory is written or run, and what was written is not made runnable. Libraries that are loaded
 * late (for name services) are mapped, read and run. */
static void allow_memory(struct filter *filter)
{
    static const int good[] = {0, PROT_WRITE, PROT_EXEC};
    for (size_t i = 0; i < COUNT(good); i++) {
        const struct scmp_arg_cmp is = masked(2, PROT_WRITE | PROT_EXEC, (scmp_datum_t)good[i]);
        add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, &is);
        add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap2), 1, &is);
    }
    const struct scmp_arg_cmp not_run = masked(2, PROT_EXEC, 0);
    add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, &not_run);
}

/* A thread shares all that a thread of the C library shares; a new process would not. clone3 has
 * its flags in memory, where no filter looks: the C library takes clone when it is not there. */
static void allow_threads(struct filter *filter)
{
    const scmp_datum_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    const scmp_datum_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    const struct scmp_arg_cmp is = masked(0, thread | spaces, thread);
    add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &is);
    add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0, NULL);
}

/* Signals to this process only; abort and the ends of threads need them. */
static void allow_own_signals(struct filter *filter)
{
    const struct scmp_arg_cmp own = equals(0, (scmp_datum_t)getpid());
    add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &own);
}

static void allow_gateway(struct filter *filter, unsigned more)
{
    static const uint64_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
    static const uint64_t ioctls[] = {FIONREAD,    FIONBIO,      FIOCLEX,     TCGETS,  SIOCGIFINDEX,
                                      SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFADDR, SIOCOUTQ};
    static const uint64_t prctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE,
                                      PR_GET_NO_NEW_PRIVS, PR_SET_TIMERSLACK};
    add_all(filter, SCMP_ACT_ALLOW, common, COUNT(common));
    add_all(filter, SCMP_ACT_ALLOW, gateway_only, COUNT(gateway_only));
    allow_memory(filter);
    allow_threads(filter);
    allow_own_signals(filter);
    allow_values(filter, SCMP_SYS(socket), 0, families, COUNT(families));
    allow_values(filter, SCMP_SYS(ioctl), 1, ioctls, COUNT(ioctls));
    allow_values(filter, SCMP_SYS(prctl), 0, prctls, COUNT(prctls));
    /* Limits may be read, not set. */
    const struct scmp_arg_cmp no_new_limit = equals(2, 0);
    add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, &no_new_limit);
    if ((more & CG_SECCOMP_NETWORK_NAMESPACES) != 0) {
        const struct scmp_arg_cmp network = equals(1, CLONE_NEWNET);
        add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setns), 1, &network);
    }
}

static void allow_helper(struct filter *filter, unsigned more)
{
    (void)more;
    static const uint64_t families[] = {AF_UNIX};
    add_all(filter, SCMP_ACT_ALLOW, common, COUNT(common));
    allow_memory(filter);
    allow_own_signals(filter);
    allow_values(filter, SCMP_SYS(socket), 0, families, COUNT(families));
}

static bool load(struct filter *filter)
{
    scmp_filter_ctx context = filter->context;
    const struct {
        enum scmp_filter_attr attribute;
        uint32_t value;
    } attributes[] = {
        {SCMP_FLTATR_CTL_NNP, 1},
        {SCMP_FLTATR_CTL_TSYNC, 1},
        {SCMP_FLTATR_CTL_LOG, 1},
        {SCMP_FLTATR_CTL_OPTIMIZE, 2}, /* a tree: the cost does not grow with the list */
        {SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS},
    };
    for (size_t i = 0; filter->status == 0 && i < COUNT(attributes); i++) {
        filter->status = seccomp_attr_set(context, attributes[i].attribute, attributes[i].value);
    }
    filter->status = filter->status == 0 ? seccomp_load(context) : filter->status;
    return filter->status == 0;
}

static bool apply(void (*allow)(struct filter *filter, unsigned more), unsigned more,
                  struct cg_error *err)
{
    struct filter filter = {.context = seccomp_init(SCMP_ACT_ERRNO(EPERM))};
    if (filter.context == NULL) {
        return cg_error_set(err, "no memory for a seccomp filter");
    }
    if (CG_SANITIZED) {
        add_all(&filter, SCMP_ACT_ALLOW, sanitizers_only, COUNT(sanitizers_only));
    }
    allow(&filter, more);
    for (size_t i = 0; i < COUNT(deadly); i++) {
        if (!CG_SANITIZED || deadly[i] != SCMP_SYS(ptrace)) {
            add(&filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0, NULL);
        }
    }
    bool loaded = load(&filter);
    int status = filter.status;
    seccomp_release(filter.context);
    return loaded || cg_error_errno(err, -status, "load the seccomp filter");
}

bool cg_seccomp_gateway(unsigned more, struct cg_error *err)
{
    return apply(allow_gateway, more, err);
}

bool cg_seccomp_helper(struct cg_error *err)
{
    return apply(allow_helper, 0, err);
}
