#include "keeper/worker_process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/log.h"

static const char *const call_names[IPC_CALL_COUNT] = {
    [IPC_TASK_METADATA] = "task metadata",        [IPC_DESCRIBE_TASKS] = "DescribeTasks",
    [IPC_DESCRIBE_SERVICES] = "DescribeServices", [IPC_STOP_TASK] = "StopTask",
    [IPC_UPDATE_SERVICE] = "UpdateService",       [IPC_TASK_PROTECTION] = "UpdateTaskProtection"};

static struct loop *loop_of(const struct worker_process *worker)
{
    return worker->program->loop;
}

/* The process may have left already; signals_reap() collects it. */
static void end_process(struct worker_process *worker)
{
    int fd = worker->watch.fd;
    loop_timer_remove(loop_of(worker), &worker->deadline);
    if (fd >= 0) {
        loop_watch_remove(loop_of(worker), &worker->watch);
        close(fd);
    }
    if (worker->child.pid > 0)
        kill(worker->child.pid, SIGKILL);
    worker->leaving = worker->child;
    worker->child.pid = 0;
    worker->active = false;
}

static void finish(struct worker_process *worker)
{
    end_process(worker);
    worker->done(worker);
}

static void fail(struct worker_process *worker, enum error_code code, const char *what)
{
    worker->result = IPC_RETRY;
    error_set(&worker->err, code, "%s: the process that makes this call %s", call_names[worker->kind], what);
    finish(worker);
}

static void deadline_expired(struct loop_timer *timer)
{
    struct worker_process *worker = LOOP_OWNER(timer, struct worker_process, deadline);
    if (worker->watch.fd < 0) /* it could not be started */
        finish(worker);
    else
        fail(worker, ERROR_TIMEOUT, "did not end in time");
}

static void take_answer(struct worker_process *worker)
{
    const struct ipc_answer *answer = &worker->answer;
    worker->program->clock_offset_ms = answer->clock_offset_ms;
    worker->result = (enum ipc_result) answer->result;
    error_set(&worker->err, (enum error_code) answer->error, "%s", answer->text);
    finish(worker);
}

static void readable(struct loop_watch *watch, uint32_t events)
{
    struct worker_process *worker = LOOP_OWNER(watch, struct worker_process, watch);
    (void) events;
    while (worker->active) {
        uint8_t message[sizeof worker->answer];
        ssize_t got = recv(watch->fd, message, sizeof message, MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0 && worker->answered)
            take_answer(worker);
        else if (got <= 0)
            fail(worker, ERROR_UNAVAILABLE, "ended without an answer");
        else if (worker->answered || !ipc_read_answer(&worker->answer, message, (size_t) got, worker->kind))
            fail(worker, ERROR_UNAVAILABLE, "sent a malformed answer");
        else
            worker->answered = true;
    }
}

static int start(struct worker_process *worker, const struct ipc_call *call, struct error *err)
{
    int fd;
    int result = child_start_self(&worker->child, IPC_WORKER_NAME, worker->program->argv, &fd, err);
    if (result < 0)
        return result;
    (void) send(fd, call, sizeof *call,
                MSG_DONTWAIT | MSG_NOSIGNAL); /* should it have died: the end follows */
    result = loop_watch_add(loop_of(worker), &worker->watch, fd, EPOLLIN, readable, err);
    if (result < 0)
        close(fd);
    return result;
}

void worker_process_init(struct worker_process *worker, struct worker_program *program,
                         void (*done)(struct worker_process *worker))
{
    memset(worker, 0, sizeof *worker);
    worker->program = program;
    worker->done = done;
    worker->watch = LOOP_WATCH_INIT;
    loop_timer_init(&worker->deadline, deadline_expired);
}

void worker_process_start(struct worker_process *worker, struct ipc_call *call, int64_t deadline_ms)
{
    call->deadline_ms = deadline_ms - WORKER_PROCESS_RESERVE_MS;
    call->clock_offset_ms = worker->program->clock_offset_ms;
    worker->active = true;
    worker->answered = false;
    worker->kind = (enum ipc_call_kind) call->kind;
    worker->result = IPC_RETRY;
    worker->err = (struct error) ERROR_INIT;
    if (start(worker, call, &worker->err) < 0) {
        error_prefix(&worker->err, "%s: ", call_names[call->kind]);
        deadline_ms = loop_now_ms(loop_of(worker));
    }
    loop_timer_set(loop_of(worker), &worker->deadline, deadline_ms);
}

void worker_process_cancel(struct worker_process *worker)
{
    if (worker->active)
        end_process(worker);
}

bool worker_process_ended(struct worker_process *worker, pid_t pid)
{
    struct child *child = pid == worker->child.pid ? &worker->child : &worker->leaving;
    if (pid != child->pid)
        return false;
    child_ended(child);
    return true;
}
