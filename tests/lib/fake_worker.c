#include "lib/fake_worker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/child.h"
#include "host/signals.h"

/* The script and the notes are files, which both processes know by the worker's arguments. */
static char script_path[64], notes_path[64];
static char *argv_of_worker[] = {NULL, script_path, notes_path, NULL};

static void fill(const char *path, int flags, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0666);
    if (fd < 0 || write(fd, data, len) != (ssize_t) len)
        abort();
    close(fd);
}

static size_t load(const char *path, void *data, size_t len)
{
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? 0 : read(fd, data, len);
    close(fd);
    return got > 0 ? (size_t) got : 0;
}

static void refuse(struct ipc_answer *answer, enum ipc_result result, enum error_code code)
{
    answer->result = result;
    answer->error = code;
    snprintf(answer->text, sizeof answer->text, "call %u fails", answer->kind);
}

static void act(const struct fake_worker *fake, const struct ipc_call *call)
{
    struct ipc_answer answer = fake->answer;
    answer.kind = call->kind;
    answer.result = IPC_DONE;
    switch (fake->script[call->kind]) {
    case 'a':
        answer.already = 1;
        break;
    case 'f':
        refuse(&answer, IPC_FAILED, ERROR_DENIED);
        break;
    case 'n':
        refuse(&answer, IPC_FAILED, ERROR_NOT_FOUND);
        break;
    case 'r':
        refuse(&answer, IPC_RETRY, ERROR_UNAVAILABLE);
        break;
    case 'x':
        return;
    default:
        break;
    }
    (void) send(CHILD_CHANNEL_FD, &answer, sizeof answer, 0);
}

void fake_worker_main(int argc, char **argv)
{
    struct fake_worker fake;
    struct ipc_call call;
    signals_block_all();
    if (argc < 3 || strcmp(argv[0], IPC_WORKER_NAME) != 0)
        return;
    (void) fcntl(CHILD_CHANNEL_FD, F_SETFL, 0);
    if (load(argv[1], &fake, sizeof fake) != sizeof fake ||
        recv(CHILD_CHANNEL_FD, &call, sizeof call, 0) != (ssize_t) sizeof call)
        exit(1);
    fill(argv[2], O_APPEND, &call, sizeof call);
    act(&fake, &call);
    exit(0);
}

void fake_worker_set(const struct fake_worker *fake)
{
    fill(script_path, O_TRUNC, fake, sizeof *fake);
    fill(notes_path, O_TRUNC, "", 0);
}

static void remove_files(void)
{
    unlink(script_path);
    unlink(notes_path);
}

struct worker_program fake_worker_program(struct loop *loop, const struct fake_worker *fake)
{
    if (script_path[0] == '\0') {
        snprintf(script_path, sizeof script_path, "/tmp/fumidai-script-%d", getpid());
        snprintf(notes_path, sizeof notes_path, "/tmp/fumidai-notes-%d", getpid());
        atexit(remove_files);
    }
    fake_worker_set(fake);
    return (struct worker_program){.loop = loop, .argv = argv_of_worker};
}

int fake_worker_calls(struct ipc_call *calls, int max)
{
    return (int) (load(notes_path, calls, (size_t) max * sizeof *calls) / sizeof *calls);
}

void fake_worker_reap(struct worker_process *worker)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        worker_process_ended(worker, pid);
}
