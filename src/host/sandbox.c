#include "host/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#else
#define THIS_ARCH AUDIT_ARCH_X86_64
#endif

/* What an event loop of sockets and musl's allocator need. There are no threads. */
static const int allowed[] = {
    /* descriptors that are open already, and the files that names are looked up in (fcntl: see below) */
    SYS_read, SYS_write, SYS_writev, SYS_close, SYS_fstat,
    /* sockets (socket itself: see below) */
    SYS_connect, SYS_accept4, SYS_sendto, SYS_sendmsg, SYS_recvfrom, SYS_recvmsg, SYS_shutdown,
    SYS_setsockopt, SYS_getsockopt, SYS_getsockname, SYS_getpeername,
    /* waiting */
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_restart_syscall,
#if !defined(__aarch64__)
    SYS_epoll_wait, SYS_poll,
#endif
    /* time and randomness */
    SYS_clock_gettime, SYS_gettimeofday, SYS_getrandom,
    /* memory (mmap and mprotect: see below) */
    SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk,
    /* signals, and leaving */
    SYS_getpid, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_exit, SYS_exit_group};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t) offsetof(struct seccomp_data, field))
#define LOAD_ARGUMENT(n)                                                                                     \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t) (offsetof(struct seccomp_data, args) + 8 * (n)))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE         (SECCOMP_RET_ERRNO | EPERM)
/* The call number is loaded. If it is this one: refused when argument n has one of `bits`, else allowed. */
#define ALLOW_WITHOUT_BITS(number, n, bits)                                                                  \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 4), LOAD_ARGUMENT(n),                                   \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, 1), RETURN(REFUSE), RETURN(SECCOMP_RET_ALLOW)

/* Everything about an open that could change a file. O_PATH gives no bytes, but nothing here needs it. */
enum { WRITING = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_PATH | (O_TMPFILE & ~O_DIRECTORY) };

static const struct sock_filter prologue[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 1, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS), /* another ABI has other numbers: no list would mean anything */
    LOAD(nr),
    ALLOW_WITHOUT_BITS(SYS_openat, 2, WRITING),
#if !defined(__aarch64__)
    ALLOW_WITHOUT_BITS(SYS_open, 1, WRITING),
#endif
    ALLOW_WITHOUT_BITS(SYS_mmap, 2, PROT_EXEC),
    ALLOW_WITHOUT_BITS(SYS_mprotect, 2, PROT_EXEC),
    /* fcntl only to read and set flags. F_SETOWN with F_SETSIG would make the kernel send any signal to any
     * process of the same user, and in the image that includes PID 1. */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 5),
    LOAD_ARGUMENT(1),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, F_GETFD, 0, 1),
    BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, F_SETFL, 0, 1),
    RETURN(REFUSE),
    RETURN(SECCOMP_RET_ALLOW),
    /* TCP and UDP over IP, and no other socket */
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 14),
    LOAD_ARGUMENT(0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 9),
    LOAD_ARGUMENT(1),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(uint32_t) (SOCK_CLOEXEC | SOCK_NONBLOCK)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_DGRAM, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 0, 5),
    LOAD_ARGUMENT(2),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 4, 2),
    LOAD_ARGUMENT(2),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
    RETURN(REFUSE),
    RETURN(SECCOMP_RET_ALLOW),
};
_Static_assert(F_GETFD == 1 && F_SETFD == 2 && F_GETFL == 3 && F_SETFL == 4, "the four are a range");

enum {
    PROLOGUE_LEN = sizeof prologue / sizeof prologue[0],
    ALLOWED_LEN = sizeof allowed / sizeof allowed[0],
    FILTER_LEN = PROLOGUE_LEN + ALLOWED_LEN + 2
};

static void build_filter(struct sock_filter filter[FILTER_LEN])
{
    memcpy(filter, prologue, sizeof prologue);
    for (size_t i = 0; i < ALLOWED_LEN; i++) /* a match jumps over the rest of the list and the refusal */
        filter[PROLOGUE_LEN + i] = (struct sock_filter) BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (uint32_t) allowed[i], (uint8_t) (ALLOWED_LEN - i), 0);
    filter[FILTER_LEN - 2] = (struct sock_filter) RETURN(REFUSE);
    filter[FILTER_LEN - 1] = (struct sock_filter) RETURN(SECCOMP_RET_ALLOW);
}

static int failed(struct error *err, const char *step)
{
    return error_set(err, ERROR_SYSTEM, "sandbox: %s: %s", step, strerror(errno));
}

/* By the kernel's calls: the C library's would change every thread, and there is only one. */
static int leave_root(struct error *err)
{
    if (geteuid() != 0)
        return 0;
    if (syscall(SYS_setgroups, 0, NULL) < 0)
        return failed(err, "setgroups");
    if (syscall(SYS_setresgid, SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0)
        return failed(err, "setresgid");
    if (syscall(SYS_setresuid, SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) < 0)
        return failed(err, "setresuid");
    return 0;
}

/* Leaving root clears what takes effect; this clears what could be had back, and
 * whatever another user was given. */
static int drop_capabilities(struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capset, &header, none) < 0)
        return failed(err, "capset");
    return 0;
}

static int install_filter(struct error *err)
{
/* The sanitizers' runtimes map, trace and read more than the product does; an emulated program gets no filter
 * from the emulator. Neither build is for anything but tests. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(SANDBOX_WITHOUT_FILTER)
    struct sock_filter filter[FILTER_LEN];
    struct sock_fprog program = {.len = FILTER_LEN, .filter = filter};
    build_filter(filter);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return failed(err, "seccomp");
#else
    (void) build_filter;
    (void) err;
#endif
    return 0;
}

int sandbox_enter(struct error *err)
{
    struct rlimit none = {0, 0};
    int result = leave_root(err);
    if (result == 0)
        result = drop_capabilities(err);
    if (result < 0)
        return result;
    /* The kernel forgets this with every change of identity; the keeper's end must be ours. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return failed(err, "PR_SET_PDEATHSIG");
    if (prctl(PR_SET_DUMPABLE, 0) < 0 || prlimit(0, RLIMIT_CORE, &none, NULL) < 0)
        return failed(err, "no core dumps");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return failed(err, "no_new_privs");
    return install_filter(err);
}
