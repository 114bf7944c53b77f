#include "host/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/format.h"
#include "base/str.h"

/* Room for the program's path and the session id; the rest of a command line is of no interest. */
enum { COMMAND_LINE_SIZE = 512, FILE_BUFFER_SIZE = 1024, DIRECTORY_BUFFER_SIZE = 4096 };

/* getdents64's record, which the kernel defines and libc hides. opendir() would do, but takes 32 KiB (glibc)
 * of heap for what happens once a second. */
struct directory_entry {
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

static struct str base_name(struct str path)
{
    struct str directory;
    struct str name;
    return str_cut_last(path, '/', &directory, &name) ? name : path;
}

static void note_command(struct proc_scan *scan, int pid, struct str command_line)
{
    struct str program;
    struct str rest;
    str_cut(command_line, '\0', &program, &rest);
    struct str name = base_name(program);
    if (str_equal_text(name, "amazon-ssm-agent") || str_equal_text(name, "ssm-agent-worker")) {
        scan->agent_running = true;
        return;
    }
    if (!str_equal_text(name, "ssm-session-worker"))
        return;
    struct str session_id;
    struct str others;
    str_cut(rest, '\0', &session_id, &others);
    if (session_id.len == 0)
        return; /* exec has not happened yet, or it is not the worker of a session */
    struct proc_worker *worker = &scan->workers[scan->worker_count];
    if (scan->worker_count == PROC_WORKERS_MAX ||
        !str_copy(session_id, worker->session_id, sizeof worker->session_id)) {
        scan->complete = false;
        return;
    }
    worker->pid = pid;
    scan->worker_count++;
}

static void look_at_process(int proc_fd, const char *pid_text, struct proc_scan *scan)
{
    char path[32];
    char command_line[COMMAND_LINE_SIZE];
    format_text(path, sizeof path, "%.12s/cmdline", pid_text);
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* it ended in between */
    ssize_t got = read(fd, command_line, sizeof command_line);
    close(fd);
    uint32_t pid;
    if (got > 0 && str_parse_u32(str_from(pid_text), &pid))
        note_command(scan, (int) pid, (struct str){command_line, (size_t) got});
}

/* One buffer of directory entries; false when the bound on processes was hit. */
static bool look_at_entries(int proc_fd, const char *buffer, size_t len, size_t *seen, struct proc_scan *scan)
{
    for (size_t at = 0; at < len;) {
        const struct directory_entry *entry = (const void *) (buffer + at);
        at += entry->length;
        if (entry->name[0] < '1' || entry->name[0] > '9')
            continue;
        if ((*seen)++ == PROC_SCAN_MAX)
            return false;
        look_at_process(proc_fd, entry->name, scan);
    }
    return true;
}

int proc_scan(const char *root, struct proc_scan *scan, struct error *err)
{
    scan->worker_count = 0;
    scan->agent_running = false;
    scan->complete = false;
    int proc_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proc_fd < 0)
        return error_set(err, ERROR_SYSTEM, "open %s: %s", root, strerror(errno));
    scan->complete = true;
    _Alignas(struct directory_entry) char buffer[DIRECTORY_BUFFER_SIZE];
    size_t seen = 0;
    long got;
    while ((got = syscall(SYS_getdents64, proc_fd, buffer, sizeof buffer)) > 0) {
        if (!look_at_entries(proc_fd, buffer, (size_t) got, &seen, scan)) {
            scan->complete = false;
            break;
        }
    }
    if (got < 0)
        scan->complete = false;
    close(proc_fd);
    return 0;
}

/* Whether the file holds the words, wherever; a buffer at a time, with what could
 * be the words' beginning kept. */
static bool file_contains(int fd, const char *words)
{
    char buffer[FILE_BUFFER_SIZE];
    size_t kept = 0;
    size_t words_len = strlen(words);
    ssize_t got;
    while ((got = read(fd, buffer + kept, sizeof buffer - kept)) > 0) {
        struct str text = {buffer, kept + (size_t) got};
        size_t at;
        if (str_find(text, words, &at))
            return true;
        kept = text.len < words_len ? text.len : words_len - 1;
        memmove(buffer, buffer + text.len - kept, kept);
    }
    return false;
}

static bool is_among(int pid, const int *pids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

/* Appends the children of a process to the `n` in `all`; how many there are now. */
static size_t append_children(int pid, const int *except, size_t count, int all[PROC_DESCENDANTS_MAX],
                              size_t n)
{
    char text[FILE_BUFFER_SIZE]; /* a hundred children and more */
    uint32_t child;
    format_text(text, sizeof text, "/proc/%d/task/%d/children", pid, pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return n;
    ssize_t got = read(fd, text, sizeof text);
    close(fd);
    struct str rest = {text, got > 0 ? (size_t) got : 0}, item;
    while (n < PROC_DESCENDANTS_MAX && str_take_item(&rest, &item))
        if (str_parse_u32(item, &child) && !is_among((int) child, except, count))
            all[n++] = (int) child;
    return n;
}

void proc_signal_descendants(int number, int group, const int *except, size_t count)
{
    int all[PROC_DESCENDANTS_MAX];
    size_t n = append_children(getpid(), except, count, all, 0);
    for (size_t i = 0; i < n; i++)
        n = append_children(all[i], except, count, all, n);
    for (; n > 0; n--)
        if (getpgid(all[n - 1]) != group)
            kill(all[n - 1], number);
}

bool proc_exec_agent_mounted(const char *root)
{
    char path[256];
    if (format_text(path, sizeof path, "%s/self/mountinfo", root) >= sizeof path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool mounted = file_contains(fd, "/managed-agents/execute-command");
    close(fd);
    return mounted;
}
