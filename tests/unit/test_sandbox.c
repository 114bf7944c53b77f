#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/sandbox.h"

/*
 * Each probe is one process that enters the sandbox and makes one system call. It leaves with the call's
 * errno, 0 when the call was let through; a signal shows as 128 and its number, as in a shell.
 *
 * Where the filter is not there the probes of system calls are skipped, visibly: with AddressSanitizer it is
 * off by design (host/sandbox.c), and an emulator of another machine's instructions has no seccomp to install
 * it with.
 */

enum { NO_SANDBOX = 250, BY_SIGNAL = 128 };

#if defined(__SANITIZE_ADDRESS__)
#define HAS_FILTER false
#else
#define HAS_FILTER true
#endif

static pid_t parent; /* getppid is not among what the sandbox allows */

static int run(int (*probe)(void))
{
    fflush(NULL);
    parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct error err = ERROR_INIT;
        signal(SIGSYS, SIG_DFL);
        if (sandbox_enter(&err) < 0)
            _exit(NO_SANDBOX);
        _exit(probe());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static int nothing(void)
{
    return 0;
}

static void require_filter(void)
{
    if (!HAS_FILTER || (run(nothing) == NO_SANDBOX && prctl(PR_GET_SECCOMP) < 0))
        skip();
}

static int said(long result)
{
    return result < 0 ? errno : 0;
}

/* ---- refused ------------------------------------------------------------------------------------------- */

static char *const no_words[] = {NULL};

#define PROBE(name, ...)                                                                                     \
    static int name(void)                                                                                    \
    {                                                                                                        \
        return said(__VA_ARGS__);                                                                            \
    }

PROBE(start_program, syscall(SYS_execve, "/proc/self/exe", no_words, no_words))
PROBE(start_program_at, syscall(SYS_execveat, AT_FDCWD, "/proc/self/exe", no_words, no_words, 0))
PROBE(be_traced, syscall(SYS_ptrace, PTRACE_TRACEME, 0, NULL, NULL))
PROBE(trace_parent, syscall(SYS_ptrace, PTRACE_ATTACH, parent, NULL, NULL))
PROBE(read_memory_of_others, syscall(SYS_process_vm_readv, parent, NULL, 0UL, NULL, 0UL, 0UL))
PROBE(open_for_writing, syscall(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY))
PROBE(open_for_both, syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR))
PROBE(open_to_create, syscall(SYS_openat, AT_FDCWD, "/tmp/fumidai-sandbox", O_RDONLY | O_CREAT, 0600))
PROBE(open_to_truncate, syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_TRUNC))
PROBE(open_unnamed, syscall(SYS_openat, AT_FDCWD, "/tmp", O_TMPFILE | O_WRONLY, 0600))
PROBE(open_the_newer_way, syscall(SYS_openat2, AT_FDCWD, "/dev/null", NULL, 0UL))
PROBE(make_memory_file, syscall(SYS_memfd_create, "x", 0U))
PROBE(make_directory, syscall(SYS_mkdirat, AT_FDCWD, "/tmp/fumidai-sandbox", 0700))
PROBE(remove_file, syscall(SYS_unlinkat, AT_FDCWD, "/tmp/fumidai-sandbox", 0))
PROBE(rename_file, syscall(SYS_renameat2, AT_FDCWD, "/tmp/a", AT_FDCWD, "/tmp/b", 0U))
PROBE(change_mode, syscall(SYS_fchmodat, AT_FDCWD, "/tmp", 0777))
PROBE(map_code, syscall(SYS_mmap, NULL, 4096UL, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L))
PROBE(map_all, syscall(SYS_mmap, NULL, 4096UL, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L))
PROBE(connect_locally, syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0))
PROBE(send_locally, syscall(SYS_socket, AF_UNIX, SOCK_DGRAM, 0))
PROBE(talk_to_kernel, syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0))
PROBE(sniff, syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0))
PROBE(talk_to_host, syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0))
PROBE(talk_to_kernel_crypto, syscall(SYS_socket, AF_ALG, SOCK_SEQPACKET, 0))
PROBE(send_raw, syscall(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_RAW))
PROBE(send_raw_6, syscall(SYS_socket, AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6))
PROBE(ping, syscall(SYS_socket, AF_INET, SOCK_DGRAM, IPPROTO_ICMP))
PROBE(use_multipath_tcp, syscall(SYS_socket, AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */))
PROBE(use_sctp, syscall(SYS_socket, AF_INET, SOCK_STREAM, IPPROTO_SCTP))
PROBE(use_sctp_6, syscall(SYS_socket, AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP))
PROBE(use_udp_lite, syscall(SYS_socket, AF_INET, SOCK_DGRAM, 136 /* IPPROTO_UDPLITE */))
PROBE(mix_stream_and_udp, syscall(SYS_socket, AF_INET, SOCK_STREAM, IPPROTO_UDP))
PROBE(mix_datagram_and_tcp, syscall(SYS_socket, AF_INET, SOCK_DGRAM, IPPROTO_TCP))
PROBE(let_kernel_signal_parent, syscall(SYS_fcntl, 0, F_SETOWN, parent))
PROBE(choose_kernels_signal, syscall(SYS_fcntl, 0, F_SETSIG, SIGKILL))
PROBE(let_kernel_signal_thread, syscall(SYS_fcntl, 0, F_SETOWN_EX, NULL))
PROBE(tell_kernels_signal, syscall(SYS_fcntl, 0, F_GETSIG))
PROBE(be_told_of_changes, syscall(SYS_fcntl, 0, F_NOTIFY, 0))
PROBE(take_lease, syscall(SYS_fcntl, 0, F_SETLEASE, F_RDLCK))
PROBE(lock_file, syscall(SYS_fcntl, 0, F_SETLK, NULL))
PROBE(duplicate, syscall(SYS_fcntl, 0, F_DUPFD, 0))
PROBE(resize_pipe, syscall(SYS_fcntl, 0, F_SETPIPE_SZ, 1 << 20))
PROBE(control_device, syscall(SYS_ioctl, 0, FIOSETOWN, &parent))
PROBE(make_pair, syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (int[2]){0, 0}))
PROBE(open_port, syscall(SYS_listen, 0, 1))
PROBE(signal_self, syscall(SYS_kill, getpid(), 0))
PROBE(signal_parent, syscall(SYS_kill, parent, 0))
PROBE(signal_thread, syscall(SYS_tgkill, getpid(), getpid(), 0))
PROBE(make_process, syscall(SYS_clone, (unsigned long) SIGCHLD, NULL, NULL, NULL, NULL))
PROBE(make_process_sharing,
      syscall(SYS_clone, (unsigned long) (CLONE_VM | CLONE_FILES | SIGCHLD), NULL, NULL, NULL, NULL))
/* The kernel, if it were asked, would refuse these flags itself, with EINVAL. */
PROBE(make_thread, syscall(SYS_clone, (unsigned long) CLONE_THREAD, NULL, NULL, NULL, NULL))
PROBE(make_process_the_newer_way, syscall(SYS_clone3, NULL, 0UL))
PROBE(wait_for_thread, syscall(SYS_futex, NULL, 0, 0, NULL, NULL, 0))
PROBE(bind_port, syscall(SYS_bind, 0, NULL, 0))
PROBE(make_namespace, syscall(SYS_unshare, CLONE_NEWUSER))
PROBE(enter_namespace, syscall(SYS_setns, 0, 0))
PROBE(mount_something, syscall(SYS_mount, "none", "/mnt", "tmpfs", 0UL, NULL))
PROBE(change_root, syscall(SYS_chroot, "/"))
PROBE(become_root, syscall(SYS_setresuid, 0, 0, 0))
PROBE(become_root_group, syscall(SYS_setresgid, 0, 0, 0))
PROBE(become_dumpable, syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0))
PROBE(allow_core_dumps, syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, NULL))
PROBE(add_filter, syscall(SYS_seccomp, 0U, 0U, NULL))
PROBE(load_program, syscall(SYS_bpf, 0, NULL, 0U))
PROBE(use_ring, syscall(SYS_io_uring_setup, 1U, NULL))
PROBE(handle_faults, syscall(SYS_userfaultfd, 0))
PROBE(use_keys, syscall(SYS_keyctl, 0, 0, 0, 0, 0))
PROBE(make_code_possible, syscall(SYS_personality, 0x0400000UL))

static int protect_as_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NO_SANDBOX : said(syscall(SYS_mprotect, page, 4096UL, PROT_READ | PROT_EXEC));
}

static const struct {
    const char *name;
    int (*probe)(void);
} refused[] = {
    {"execve", start_program},
    {"execveat", start_program_at},
    {"ptrace TRACEME", be_traced},
    {"ptrace ATTACH", trace_parent},
    {"process_vm_readv", read_memory_of_others},
    {"openat O_WRONLY", open_for_writing},
    {"openat O_RDWR", open_for_both},
    {"openat O_CREAT", open_to_create},
    {"openat O_TRUNC", open_to_truncate},
    {"openat O_TMPFILE", open_unnamed},
    {"openat2", open_the_newer_way},
    {"memfd_create", make_memory_file},
    {"mkdirat", make_directory},
    {"unlinkat", remove_file},
    {"renameat2", rename_file},
    {"fchmodat", change_mode},
    {"mmap PROT_READ|PROT_EXEC", map_code},
    {"mmap PROT_EXEC and writable", map_all},
    {"mprotect PROT_EXEC", protect_as_code},
    {"socket AF_UNIX SOCK_STREAM", connect_locally},
    {"socket AF_UNIX SOCK_DGRAM", send_locally},
    {"socket AF_NETLINK", talk_to_kernel},
    {"socket AF_PACKET", sniff},
    {"socket AF_VSOCK", talk_to_host},
    {"socket AF_ALG", talk_to_kernel_crypto},
    {"socket AF_INET SOCK_RAW", send_raw},
    {"socket AF_INET6 SOCK_RAW", send_raw_6},
    {"socket IPPROTO_ICMP", ping},
    {"socket IPPROTO_MPTCP", use_multipath_tcp},
    {"socket SOCK_STREAM IPPROTO_SCTP", use_sctp},
    {"socket SOCK_SEQPACKET", use_sctp_6},
    {"socket IPPROTO_UDPLITE", use_udp_lite},
    {"socket SOCK_STREAM IPPROTO_UDP", mix_stream_and_udp},
    {"socket SOCK_DGRAM IPPROTO_TCP", mix_datagram_and_tcp},
    {"fcntl F_SETOWN", let_kernel_signal_parent},
    {"fcntl F_SETSIG", choose_kernels_signal},
    {"fcntl F_SETOWN_EX", let_kernel_signal_thread},
    {"fcntl F_GETSIG", tell_kernels_signal},
    {"fcntl F_NOTIFY", be_told_of_changes},
    {"fcntl F_SETLEASE", take_lease},
    {"fcntl F_SETLK", lock_file},
    {"fcntl F_DUPFD", duplicate},
    {"fcntl F_SETPIPE_SZ", resize_pipe},
    {"ioctl FIOSETOWN", control_device},
    {"socketpair", make_pair},
    {"listen", open_port},
    {"kill itself", signal_self},
    {"kill its parent", signal_parent},
    {"tgkill", signal_thread},
    {"clone without CLONE_THREAD", make_process},
    {"clone with CLONE_VM, without CLONE_THREAD", make_process_sharing},
    {"clone with CLONE_THREAD", make_thread},
    {"clone3", make_process_the_newer_way},
    {"futex", wait_for_thread},
    {"bind", bind_port},
    {"unshare", make_namespace},
    {"setns", enter_namespace},
    {"mount", mount_something},
    {"chroot", change_root},
    {"setresuid", become_root},
    {"setresgid", become_root_group},
    {"prctl PR_SET_DUMPABLE", become_dumpable},
    {"prlimit64", allow_core_dumps},
    {"seccomp", add_filter},
    {"bpf", load_program},
    {"io_uring_setup", use_ring},
    {"userfaultfd", handle_faults},
    {"keyctl", use_keys},
    {"personality READ_IMPLIES_EXEC", make_code_possible},
};

static void test_refused_calls_say_eperm(void **state)
{
    (void) state;
    require_filter();
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int got = run(refused[i].probe);
        if (got != EPERM)
            fail_msg("%s: %d (%s), not EPERM", refused[i].name, got, strerror(got));
    }
    assert_int_not_equal(access("/tmp/fumidai-sandbox", F_OK), 0);
}

#if defined(__x86_64__)
/* The 32-bit ABI, whose call 20 is getpid, 64-bit writev; and the x32 ABI, whose
 * numbers are marked with bit 30. */
static int call_32_bit(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
    return 0;
}

PROBE(call_x32, syscall((long) SYS_getpid | 0x40000000L))

static void test_other_abis(void **state)
{
    (void) state;
    require_filter();
    assert_int_equal(run(call_32_bit), BY_SIGNAL + SIGSYS);
    assert_int_equal(run(call_x32), EPERM);
}
#endif

/* ---- allowed: a filter that refuses everything would pass what is above -------------------------------- */

PROBE(read_file, syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC))
PROBE(use_tcp, syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
PROBE(use_tcp_by_name, syscall(SYS_socket, AF_INET6, SOCK_STREAM, IPPROTO_TCP))
PROBE(use_udp, syscall(SYS_socket, AF_INET6, SOCK_DGRAM, 0))
PROBE(use_udp_by_name,
      syscall(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP)) /* musl's resolver */

static int use_flags(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return errno;
    flags = fcntl(fd, F_GETFD);
    return flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0 ? errno : 0;
}

static int map_memory(void)
{
    return mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? errno
               : 0;
}

static void test_what_the_relay_needs_goes_on(void **state)
{
    (void) state;
    require_filter();
    assert_int_equal(run(nothing), 0);
    assert_int_equal(run(read_file), 0);
    assert_int_equal(run(use_tcp), 0);
    assert_int_equal(run(use_tcp_by_name), 0);
    assert_int_equal(run(use_udp), 0);
    assert_int_equal(run(use_udp_by_name), 0);
    assert_int_equal(run(use_flags), 0);
    assert_int_equal(run(map_memory), 0);
}

/* ---- who it is then ------------------------------------------------------------------------------------ */

static bool status_holds(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    return at != NULL && (at == text || at[-1] == '\n') && at[strlen(line)] == '\n';
}

/* The number of the first line of /proc/self/status that is not as it has to be, 0 when all are. */
static int check_lines(const char *const lines[], size_t count)
{
    static char text[8192];
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (len <= 0)
        return NO_SANDBOX;
    for (size_t i = 0; i < count; i++)
        if (!status_holds(text, lines[i]))
            return 1 + (int) i;
    return 0;
}

static int check_privileges(void)
{
    static const char *const lines[] = {"NoNewPrivs:\t1", "CapInh:\t0000000000000000",
                                        "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
                                        "CapAmb:\t0000000000000000"};
    return check_lines(lines, sizeof lines / sizeof lines[0]);
}

static int check_user(void)
{
    static const char *const lines[] = {"Uid:\t65532\t65532\t65532\t65532",
                                        "Gid:\t65532\t65532\t65532\t65532", "Groups:\t "};
    return check_lines(lines, sizeof lines / sizeof lines[0]);
}

static int check_filter(void)
{
    static const char *const lines[] = {"Seccomp:\t2"};
    return check_lines(lines, 1);
}

static void test_privileges_are_gone(void **state)
{
    (void) state;
    if (HAS_FILTER)
        require_filter();
    assert_int_equal(run(check_privileges), 0);
}

static void test_root_becomes_nobody(void **state)
{
    (void) state;
    if (geteuid() != 0)
        skip(); /* there is nothing to leave */
    if (HAS_FILTER)
        require_filter();
    assert_int_equal(SANDBOX_UID, 65532);
    assert_int_equal(run(check_user), 0);
}

static void test_filter_is_in_force(void **state)
{
    (void) state;
    require_filter();
    assert_int_equal(run(check_filter), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_calls_say_eperm),
#if defined(__x86_64__)
        cmocka_unit_test(test_other_abis),
#endif
        cmocka_unit_test(test_what_the_relay_needs_goes_on),
        cmocka_unit_test(test_privileges_are_gone),
        cmocka_unit_test(test_root_becomes_nobody),
        cmocka_unit_test(test_filter_is_in_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
