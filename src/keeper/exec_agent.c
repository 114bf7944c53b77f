#include "keeper/exec_agent.h"

#include <string.h>

#include "host/log.h"

enum {
    READ_BYTES = 16 * 1024,
    READS_PER_POLL =
        64 /* 1 MiB a poll: an old log of any size is caught up with in little time, in small steps */
};

#define PROC_ROOT "/proc"

void exec_agent_open(struct exec_agent *watch, const char *log_path, int64_t now_ms)
{
    memset(watch, 0, sizeof *watch);
    tail_open(&watch->tail, log_path);
    exec_log_init(&watch->log, now_ms);
}

void exec_agent_close(struct exec_agent *watch)
{
    tail_close(&watch->tail);
}

static void read_log(struct exec_agent *watch, int64_t now_ms)
{
    char buffer[READ_BYTES];
    for (int i = 0; i < READS_PER_POLL; i++) {
        size_t len = 0;
        switch (tail_poll(&watch->tail, buffer, sizeof buffer, &len)) {
        case TAIL_BYTES:
            exec_log_feed(&watch->log, (struct str){buffer, len}, !watch->caught_up, now_ms);
            break;
        case TAIL_RESTART:
            exec_log_restart(&watch->log, now_ms);
            break;
        case TAIL_TROUBLE:
            log_event(LOG_WARN, "can't read the exec agent's log; its processes are watched all the same",
                      LOG_TEXT("path", watch->tail.path), LOG_ERR(&watch->tail.err));
            watch->caught_up = true;
            return;
        case TAIL_IDLE:
            watch->caught_up = true;
            return;
        }
    }
}

static void look_at_processes(struct exec_agent *watch, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    struct str ids[PROC_WORKERS_MAX];
    if (proc_scan(PROC_ROOT, &watch->scan, &err) < 0) {
        if (!watch->scan_trouble)
            log_event(LOG_WARN, "can't look at processes; the exec agent's log is watched all the same",
                      LOG_ERR(&err));
        watch->scan_trouble = true;
        return;
    }
    watch->scan_trouble = false;
    for (size_t i = 0; i < watch->scan.worker_count; i++)
        ids[i] = str_from(watch->scan.workers[i].session_id);
    exec_log_processes(&watch->log, ids, watch->scan.worker_count,
                       watch->scan.complete && watch->scan.agent_running, now_ms);
}

static void tell(struct exec_agent *watch)
{
    struct exec_log_event event;
    while (exec_log_next(&watch->log, &event)) {
        if (event.opened)
            log_event(LOG_INFO, "exec session opened", LOG_STR("session", event.session_id));
        else
            log_event(LOG_INFO, "exec session closed", LOG_STR("session", event.session_id),
                      LOG_DURATION_MS("alive", event.alive_ms),
                      LOG_TEXT("told_by", event.closed_by == EXEC_LOG_BY_PROCESS ? "process" : "log"));
    }
}

void exec_agent_poll(struct exec_agent *watch, int64_t now_ms)
{
    read_log(watch, now_ms);
    look_at_processes(watch, now_ms);
    exec_log_tick(&watch->log, now_ms);
    tell(watch);
}

bool exec_agent_is_present(void)
{
    static struct proc_scan scan;
    struct error err = ERROR_INIT;
    return proc_exec_agent_mounted(PROC_ROOT) ||
           (proc_scan(PROC_ROOT, &scan, &err) == 0 && scan.agent_running);
}
