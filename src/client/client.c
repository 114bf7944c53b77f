#include "client/client.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/env.h"
#include "base/json.h"
#include "base/time.h"
#include "base/utf8.h"
#include "client/announce.h"
#include "client/background.h"
#include "client/environment.h"
#include "client/ports.h"
#include "client/running.h"
#include "client/say.h"
#include "client/sessions.h"
#include "client/task.h"
#include "host/child.h"
#include "host/clock.h"
#include "host/descriptors.h"
#include "host/health_socket.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/pidfd.h"
#include "host/random.h"
#include "host/signals.h"
#include "run/stdio_pump.h"

enum {
    LEAST_UPDATE_MS = 15 * 1000 /* a line at least so often while a task is waited for */
};

struct client {
    const struct forward_settings *config;
    char *const *env;
    struct loop loop;
    struct signals signals;
    struct network network;
    struct aws_client aws;
    struct forward engine;
    struct loop_timer timer;
    struct loop_hook hook;
    struct local_forward forwards[CLIENT_FORWARDS_MAX];
    size_t forward_count;
    struct client_task task;
    uint32_t task_ticket;
    struct client_sessions sessions;
    uint32_t tickets[FORWARD_SESSIONS_MAX]; /* of START_SESSION and END_SESSION */
    uint32_t check_ticket;
    struct client_ports ports;
    struct stdio_pump stdio; /* -W */
    struct child command;
    struct rlimit descriptors; /* as we were given it */
    char reason[SSM_REASON_MAX + 1];
    char told[SAY_SIZE]; /* the latest line of progress */
    int64_t told_ms;
    struct announce announce;
    struct health_socket health;
    struct background background;
    struct loop_watch watched; /* --while */
    struct str environment;    /* the command's */
    char github_env[1024];
    int status;
};

static struct client *client; /* there is one */

static int64_t now_of(const struct client *c)
{
    return loop_now_ms(&c->loop);
}

static void wake(void)
{
    loop_hook_queue(&client->loop, &client->hook);
}

/* ---- what people and programs read --------------------------------------------------------------------- */

/* A line when it is news, or when none came for a while. */
static void say_progress(const char *text)
{
    struct client *c = client;
    if (strcmp(text, c->told) == 0 && now_of(c) - c->told_ms < LEAST_UPDATE_MS)
        return;
    utf8_copy_cut(str_from(text), c->told, sizeof c->told);
    c->told_ms = now_of(c);
    say("progress", "waiting: %s", text);
}

static void tell_ready(struct client *c)
{
    struct error err = ERROR_INIT;
    struct announce_facts facts = {.forwards = c->forwards,
                                   .count = c->forward_count,
                                   .task = c->task.found.id,
                                   .agent_version = c->sessions.agent};
    int result = 0;
    if (c->sessions.banner[0] != '\0' && c->config->stdio[0] == '\0' &&
        c->config->output == FORWARD_OUTPUT_TEXT)
        say("banner", "%s", c->sessions.banner);
    if (c->config->github_env)
        result = environment_append(c->github_env, c->environment, &err);
    if (result == 0)
        result = announce_ready(&c->announce, &facts, &err);
    if (result == 0 && c->background.fd >= 0)
        result = background_leave(&c->background, &err);
    if (result < 0)
        forward_stop(&c->engine, true, str_from(err.text), now_of(c));
}

/* ---- the command --------------------------------------------------------------------------------------- */

static void run_command(struct client *c)
{
    struct error err = ERROR_INIT;
    environment_set(c->environment);
    (void) setrlimit(RLIMIT_NOFILE, &c->descriptors); /* programs that use select need the usual limit */
    int result = child_start_dependent(&c->command, c->config->words, &err);
    descriptors_open();
    if (result == 0)
        return;
    say("error", "%s", err.text);
    forward_command_ended(
        &c->engine, result == ERROR_NOT_FOUND ? CHILD_STATUS_NOT_FOUND : CHILD_STATUS_CANNOT_RUN, now_of(c));
}

static void reap(struct client *c)
{
    pid_t pid;
    int wait_status;
    while (signals_reap(&pid, &wait_status)) {
        if (pid != c->command.pid)
            continue;
        child_ended(&c->command);
        forward_command_ended(&c->engine, child_exit_status(wait_status), now_of(c));
    }
}

static void caught(struct signals *signals, int number, pid_t sender)
{
    struct client *c = LOOP_OWNER(signals, struct client, signals);
    (void) sender;
    if (number == SIGCHLD)
        reap(c);
    else if (c->command.pid > 0 || number == SIGINT || number == SIGTERM || number == SIGHUP ||
             number == SIGQUIT)
        forward_signal(&c->engine, number, now_of(c));
    wake();
}

/* ---- facts --------------------------------------------------------------------------------------------- */

static void task_done(struct client_task *task, enum forward_result result)
{
    struct client *c = client;
    if (result == FORWARD_SOON || (result == FORWARD_NONE && c->engine.service_started) ||
        result == FORWARD_FAILED)
        say_progress(task->text);
    forward_report(&c->engine, c->task_ticket, result, str_from(task->text), now_of(c));
    wake();
}

static void session_started(struct client_sessions *set, uint32_t session, enum forward_result result,
                            const char *text)
{
    struct client *c = client;
    (void) set;
    if (result != FORWARD_DONE)
        say_progress(text);
    forward_report(&c->engine, c->tickets[session], result, str_from(text), now_of(c));
    wake();
}

static void session_opened(struct client_sessions *set, uint32_t session)
{
    struct client *c = client;
    forward_session_opened(&c->engine, session, now_of(c));
    for (uint32_t i = 0; i < client_sessions_wanted(set); i++)
        forward_need(&c->engine, i, now_of(c));
    client_ports_serve(&c->ports);
    wake();
}

/* All sessions that carry this forward: those that are over are replaced. */
static void need_sessions(struct client *c, size_t forward)
{
    uint32_t first = client_sessions_of(&c->sessions, forward);
    uint32_t count = c->sessions.mode == CLIENT_MODE_UNKNOWN ? 1 : c->config->sessions;
    for (uint32_t i = 0; i < count; i++)
        forward_need(&c->engine, first + i, now_of(c));
}

static void session_over(struct client_sessions *set, uint32_t session, bool final, const char *why)
{
    struct client *c = client;
    say("session", "session ended: %s", why);
    forward_session_over(&c->engine, session, final, str_from(why), now_of(c));
    client_ports_want(&c->ports); /* who came after its end, and before this */
    if (set->mode == CLIENT_MODE_SHARED && set->connections > 0)
        need_sessions(c, 0); /* the connections go on, over fewer sessions */
    wake();
}

static void session_ended(struct client_sessions *set, uint32_t session)
{
    struct client *c = client;
    (void) set;
    forward_report(&c->engine, c->tickets[session], FORWARD_DONE, str_from(NULL), now_of(c));
    wake();
}

static void targets_checked(struct client_sessions *set, enum forward_result result, const char *text)
{
    struct client *c = client;
    (void) set;
    if (result != FORWARD_DONE && c->config->wait_for_target_ms > 0)
        say_progress(text);
    forward_report(&c->engine, c->check_ticket, result, str_from(text), now_of(c));
    wake();
}

static void data_channel_lost(struct client_sessions *set, uint32_t session, const struct gateway_down *down)
{
    (void) set;
    (void) session;
    log_event(LOG_INFO, down->was_up ? "data channel lost, connecting anew" : "can't open the data channel",
              LOG_TEXT("why", down->why), LOG_BOOL("final", down->is_final));
}

static void connections_changed(struct client_sessions *set)
{
    (void) set;
    wake();
}

static bool connect_port(struct client_ports *ports, size_t forward, int fd)
{
    (void) ports;
    bool taken = client_sessions_connect(&client->sessions, forward, fd);
    if (taken) {
        need_sessions(client, forward);
        wake();
    }
    return taken;
}

static bool ask_target(struct client_ports *ports, struct client_socks *socks)
{
    (void) ports;
    return client_sessions_ask(&client->sessions, socks);
}

static void connection_waits(struct client_ports *ports, size_t forward)
{
    struct client *c = client;
    (void) ports;
    need_sessions(c, forward);
    wake();
}

/* ---- standard input and output (-W) -------------------------------------------------------------------- */

static void stdio_over(struct stdio_pump *pump)
{
    (void) pump;
    forward_stop(&client->engine, false, str_from(NULL), now_of(client));
    wake();
}

static void open_stdio(struct client *c)
{
    struct error err = ERROR_INIT;
    int fd;
    if (c->config->stdio[0] == '\0')
        return;
    if (stdio_pump_open(&c->stdio, &c->loop, stdio_over, &fd, &err) < 0)
        forward_stop(&c->engine, true, str_from(err.text), now_of(c));
    else
        client_ports_adopt(&c->ports, c->forward_count - 1, fd);
}

/* ---- actions ------------------------------------------------------------------------------------------- */

static void perform(struct client *c, const struct forward_action *action)
{
    switch (action->kind) {
    case FORWARD_FIND_TASK:
        c->task_ticket = action->ticket;
        client_task_find(&c->task);
        break;
    case FORWARD_START_SERVICE:
        c->task_ticket = action->ticket;
        say("start", "starting service %s", c->config->service);
        client_task_start(&c->task);
        break;
    case FORWARD_START_SESSION:
        c->tickets[action->session] = action->ticket;
        client_sessions_start(&c->sessions, action->session, c->task.target);
        break;
    case FORWARD_CHECK:
        c->check_ticket = action->ticket;
        client_sessions_check(&c->sessions);
        break;
    case FORWARD_END_SESSION:
        c->tickets[action->session] = action->ticket;
        client_sessions_end(&c->sessions, action->session);
        break;
    case FORWARD_TELL_READY:
        tell_ready(c);
        client_ports_accept(&c->ports);
        open_stdio(c);
        break;
    case FORWARD_RUN_COMMAND:
        run_command(c);
        break;
    case FORWARD_SIGNAL_COMMAND:
        child_signal(&c->command, action->number);
        break;
    case FORWARD_REFUSE_WAITING:
        if (client_ports_is_waiting(&c->ports))
            say("error", "connections are refused: %s", action->text);
        client_ports_refuse(&c->ports, action->text);
        break;
    case FORWARD_EXIT:
        c->status = action->status;
        if (action->text[0] != '\0')
            say(action->status != 0 ? "error" : "end", "%s", action->text);
        loop_stop(&c->loop);
        break;
    }
}

static void advance(struct loop_hook *hook)
{
    struct client *c = LOOP_OWNER(hook, struct client, hook);
    struct forward_action action;
    client_ports_serve(&c->ports);
    forward_connections(&c->engine, c->sessions.connections, client_ports_is_waiting(&c->ports), now_of(c));
    forward_tick(&c->engine, now_of(c));
    while (forward_next(&c->engine, &action))
        perform(c, &action);
    if (c->engine.state >= FORWARD_ENDING)
        announce_stopping(&c->announce);
    loop_timer_set(&c->loop, &c->timer, forward_deadline(&c->engine));
}

static void timer_expired(struct loop_timer *timer)
{
    (void) timer;
    wake();
}

/* ---- fumidai health ------------------------------------------------------------------------------------ */

static void write_health(struct health_socket *socket, struct writer *line)
{
    static const char *const states[] = {[FORWARD_PREPARING] = "preparing",
                                         [FORWARD_READY] = "ready",
                                         [FORWARD_ENDING] = "ending",
                                         [FORWARD_GONE] = "ending"};
    const struct client *c = LOOP_OWNER(socket, struct client, health);
    struct json_writer json = json_writer_of(line);
    json_begin_object(&json);
    json_member_bool(&json, "healthy", c->engine.state == FORWARD_READY);
    json_member_text(&json, "reason", c->engine.state == FORWARD_READY ? "" : c->engine.reason);
    json_member_text(&json, "state", states[c->engine.state]);
    json_member_i64(&json, "connections", c->sessions.connections);
    json_end_object(&json);
}

/* ---- the beginning ------------------------------------------------------------------------------------- */

static bool is_ci(const struct client *c)
{
    struct str value = env_get(c->env, "CI");
    return value.len > 0 && !str_equal_nocase(value, "false") && !str_equal_text(value, "0");
}

/* Who asks, for CloudTrail. */
static void write_reason(struct client *c)
{
    struct writer out = writer_of(c->reason, sizeof c->reason);
    char host[256] = "";
    (void) gethostname(host, sizeof host - 1);
    if (c->config->reason[0] != '\0')
        writer_text(&out, c->config->reason);
    else if (env_get(c->env, "GITHUB_REPOSITORY").len > 0)
        writer_format(&out, "fumidai forward: GitHub %.*s run %.*s by %.*s",
                      STR_ARG(env_get(c->env, "GITHUB_REPOSITORY")),
                      STR_ARG(env_get(c->env, "GITHUB_RUN_ID")), STR_ARG(env_get(c->env, "GITHUB_ACTOR")));
    else if (env_get(c->env, "CI_PROJECT_PATH").len > 0)
        writer_format(&out, "fumidai forward: GitLab %.*s job %.*s by %.*s",
                      STR_ARG(env_get(c->env, "CI_PROJECT_PATH")), STR_ARG(env_get(c->env, "CI_JOB_ID")),
                      STR_ARG(env_get(c->env, "GITLAB_USER_LOGIN")));
    else
        writer_format(&out, "fumidai forward: %.*s@%s%s%s", STR_ARG(env_get(c->env, "USER")), host,
                      c->config->word_count > 0 ? ": " : "",
                      c->config->word_count > 0 ? c->config->words[0] : "");
    writer_terminate(&out);
}

static int add_forward(struct client *c, int (*parse)(struct local_forward *, struct str, struct error *),
                       struct str text, struct error *err)
{
    if (c->forward_count == CLIENT_FORWARDS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d forwards", CLIENT_FORWARDS_MAX);
    return parse(&c->forwards[c->forward_count++], text, err);
}

static int collect_forwards(struct client *c, struct error *err)
{
    const struct forward_settings *config = c->config;
    int result = 0;
    for (size_t i = 0; i < config->ports.count && result == 0; i++)
        result = add_forward(c, local_forward_parse_port, config->ports.items[i], err);
    if (result == 0 && config->remote_port > 0) {
        char memory[DIAL_POLICY_HOST_SIZE + 32];
        struct writer text = writer_of(memory, sizeof memory);
        bool brackets = strchr(config->remote_host, ':') != NULL;
        writer_format(&text, brackets ? "%u:[%s]:%u" : "%u:%s:%u", config->local_port, config->remote_host,
                      config->remote_port);
        result = add_forward(c, local_forward_parse_port, writer_view(&text), err);
    }
    for (size_t i = 0; i < config->socks.count && result == 0; i++)
        result = add_forward(c, local_forward_parse_socks, config->socks.items[i], err);
    if (result == 0 && config->stdio[0] != '\0')
        result = add_forward(c, local_forward_parse_stdio, str_from(config->stdio), err);
    if (result == 0 && config->stdio[0] != '\0' &&
        (config->word_count > 0 || config->output != FORWARD_OUTPUT_TEXT))
        return error_set(err, ERROR_INVALID,
                         "-W has standard output: it goes with neither a command nor --output json");
    if (result == 0 && config->background && (config->stdio[0] != '\0' || config->word_count > 0))
        return error_set(err, ERROR_INVALID, "--background goes with neither a command nor -W");
    if (result == 0 && c->forward_count == 0)
        return error_set(err, ERROR_INVALID,
                         "nothing to forward: give -L PORT:HOST:PORT or -D PORT (fumidai forward --help)");
    if (result == 0 && config->service[0] == '\0' && config->family[0] == '\0' && config->id[0] == '\0')
        return error_set(err, ERROR_INVALID, "which task? Give --service, --family or --id");
    return result;
}

static struct forward_options options_of(const struct client *c)
{
    const struct forward_settings *config = c->config;
    bool has_command = config->word_count > 0;
    bool can_start = config->service[0] != '\0' && config->id[0] == '\0';
    bool start = config->start_is_given ? config->start : has_command || is_ci(c);
    return (struct forward_options){.has_command = has_command,
                                    .start = start && can_start,
                                    .check = config->check,
                                    .prepare_ms = config->start_timeout_ms,
                                    .wait_for_target_ms = config->wait_for_target_ms,
                                    .reconnect_for_ms = config->reconnect_for_ms,
                                    .drain_ms = config->drain_ms,
                                    .idle_timeout_ms = config->idle_timeout_ms,
                                    .max_time_ms = config->max_time_ms};
}

static int write_environment(struct client *c, struct error *err)
{
    static char memory[ENVIRONMENT_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    struct str file = env_get(c->env, "GITHUB_ENV");
    int result = environment_write(&out, c->forwards, c->forward_count, c->config->database, err);
    c->environment = writer_view(&out);
    if (result == 0 && c->config->github_env &&
        (file.len == 0 || !str_copy(file, c->github_env, sizeof c->github_env)))
        return error_set(err, ERROR_INVALID,
                         "--github-env: GITHUB_ENV is not set: this is not a step of a GitHub job");
    return result;
}

static void watched_process_ended(struct loop_watch *watch, uint32_t events)
{
    struct client *c = LOOP_OWNER(watch, struct client, watched);
    char text[48];
    struct writer why = writer_of(text, sizeof text);
    (void) events;
    writer_format(&why, "process %u has ended", c->config->while_pid);
    loop_watch_remove(&c->loop, watch);
    forward_stop(&c->engine, false, writer_view(&why), now_of(c));
    wake();
}

static int watch_process(struct client *c, struct error *err)
{
    if (c->config->while_pid == 0)
        return 0;
    int fd = pidfd_of((pid_t) c->config->while_pid, err);
    if (fd < 0)
        return error_prefix(err, "--while: ");
    return loop_watch_add(&c->loop, &c->watched, fd, EPOLLIN, watched_process_ended, err);
}

static int open_all(struct client *c, struct error *err)
{
    uint64_t seed;
    if (collect_forwards(c, err) < 0 || loop_open(&c->loop, err) < 0 ||
        signals_open(&c->signals, &c->loop, caught, err) < 0 ||
        client_ports_open(&c->ports, &c->loop, c->forwards, c->forward_count, err) < 0 ||
        write_environment(c, err) < 0 || announce_begin(&c->announce, err) < 0 || watch_process(c, err) < 0 ||
        network_open(&c->network, &c->loop, c->env, err) < 0)
        return err->code;
    announce_open_ports(c->forwards, c->forward_count);
    health_socket_open(&c->health, &c->loop, c->env, HEALTH_ANYWHERE, write_health);
    if (aws_client_open_chain(&c->aws, &c->network, c->env,
                              c->config->profile[0] != '\0' ? c->config->profile : NULL, err) < 0)
        return err->code;
    if (c->config->region[0] != '\0' &&
        !str_copy(str_from(c->config->region), c->aws.region, sizeof c->aws.region))
        return error_set(err, ERROR_INVALID, "the region is too long");
    if (c->aws.region[0] == '\0')
        return error_set(err, ERROR_INVALID,
                         "which region? Give --region, set AWS_REGION, or the profile's region");
    write_reason(c);
    c->sessions.config = c->config;
    c->sessions.client = &c->aws;
    c->sessions.forwards = c->forwards;
    c->sessions.forward_count = c->forward_count;
    c->sessions.reason = c->reason;
    if (client_sessions_open(&c->sessions, err) < 0)
        return err->code;
    client_task_init(&c->task, &c->aws, c->config, task_done);
    struct forward_options options = options_of(c);
    random_bytes(&seed, sizeof seed);
    forward_init(&c->engine, &options, now_of(c), seed);
    return 0;
}

static int ask_running(const struct forward_settings *config)
{
    struct error err = ERROR_INIT;
    int result = config->stop[0] != '\0' ? running_stop(config->stop, config->drain_ms, &err)
                                         : running_wait(config->wait, config->start_timeout_ms, &err);
    if (result < 0)
        say("error", "%s", err.text);
    return result < 0 ? FORWARD_EXIT_FAILED_ALONE : 0;
}

int client_run(const struct forward_settings *config, char *const *env)
{
    static struct client memory;
    struct client *c = client = &memory;
    struct error err = ERROR_INIT;
    int failed = config->word_count > 0 ? FORWARD_EXIT_FAILED : FORWARD_EXIT_FAILED_ALONE;
    say_open(config->output);
    if (config->stop[0] != '\0' || config->wait[0] != '\0')
        return ask_running(config);
    *c = (struct client){.config = config,
                         .env = env,
                         .background = BACKGROUND_INIT,
                         .watched = LOOP_WATCH_INIT,
                         .sessions = {.started = session_started,
                                      .opened = session_opened,
                                      .over = session_over,
                                      .ended = session_ended,
                                      .checked = targets_checked,
                                      .changed = connections_changed,
                                      .lost = data_channel_lost},
                         .ports = {.connect = connect_port, .ask = ask_target, .waits = connection_waits}};
    (void) getrlimit(RLIMIT_NOFILE, &c->descriptors);
    descriptors_open();
    loop_timer_init(&c->timer, timer_expired);
    loop_hook_init(&c->hook, LOOP_GATHER, advance);
    if (announce_open(&c->announce, config, env, &err) == 0 && config->background &&
        background_begin(&c->background, (int) config->ready_fd, &c->status))
        return c->status;
    if (err.code != ERROR_NONE || open_all(c, &err) < 0) {
        client_ports_close(&c->ports);
        announce_close(&c->announce);
        say("error", "%s", err.text);
        return failed;
    }
    wake();
    c->status = failed;
    if (loop_run(&c->loop, &err) < 0)
        say("error", "%s", err.text);
    announce_close(&c->announce);
    health_socket_close(&c->health);
    stdio_pump_close(&c->stdio);
    client_ports_close(&c->ports);
    client_sessions_close(&c->sessions);
    client_task_cancel(&c->task);
    aws_client_close(&c->aws);
    return c->status;
}
