#include "client/plugin.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aws/plugin_args.h"
#include "base/env.h"
#include "base/format.h"
#include "channel/control_channel.h"
#include "client/ports.h"
#include "client/terminate.h"
#include "host/clock.h"
#include "host/console.h"
#include "host/files.h"
#include "host/log.h"
#include "host/memory.h"
#include "host/signals.h"
#include "run/session.h"
#include "run/stdio_pump.h"

#define REAL_NAME "session-manager-plugin.real"
#define SHELL_TEXT                                                                                           \
    "this is fumidai, which forwards ports and opens no shells. For shells put AWS's plugin beside it "      \
    "under "                                                                                                 \
    "the name " REAL_NAME

enum { TEXT_SIZE = 1024 };

struct plugin {
    const struct plugin_settings *config;
    struct plugin_args args;
    char *const *env;
    struct loop loop;
    struct signals signals;
    struct network network;
    struct aws_client aws;
    struct pool pool;
    struct linger_set linger;
    struct session_tunnel tunnel;
    struct session session;
    struct gateway_session gateway;
    bool is_running; /* the session has not ended */
    bool timed_out;  /* it has, at the service */

    bool is_stdio; /* the connection is stdin and stdout, not a port */
    struct stdio_pump stdio;
    bool stdio_open; /* until stdout has everything */
    struct local_forward forward;
    struct client_ports ports;
    bool ports_open;
    struct loop_hook serve;
    bool accepted;
    bool answered[STREAMS_MAX]; /* by the target */

    char why[TEXT_SIZE]; /* to be said at the end; empty: nothing went wrong */
    struct client_terminate terminate;
    struct loop_timer last_bytes;
};

static struct plugin *plugin; /* there is one */

static int64_t now_of(const struct plugin *p)
{
    return loop_now_ms(&p->loop);
}

/* ---- what people and scripts read ---------------------------------------------------------------------- */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Texts come from the other end, too: what would steer a terminal is left out. */
static void say(const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    size_t len = format_into(text, sizeof text, format, args);
    va_end(args);
    for (size_t i = 0; i < len && i < sizeof text; i++)
        if (str_is_control(text[i]) && text[i] != '\n')
            text[i] = ' ';
    (void) console_write(plugin->is_stdio ? STDERR_FILENO : STDOUT_FILENO, str_from(text));
}

static void say_end(const struct plugin *p)
{
    const char *output = lane_closed_output(&p->session.lane);
    const char *why = p->why[0] != '\0' ? p->why : output;
    if (p->is_stdio && strcmp(why, TUNNEL_TARGET_CLOSED) == 0)
        return;
    if (why[0] != '\0')
        say("\n\nSessionId: %s : %s\n\n", p->args.session.id, why);
    else if (!p->is_stdio)
        say("\n\nExiting session with sessionId: %s.\n\n", p->args.session.id);
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static void stop(struct plugin *p)
{
    loop_stop(&p->loop);
}

static void last_bytes_expired(struct loop_timer *timer)
{
    stop(LOOP_OWNER(timer, struct plugin, last_bytes));
}

/* The session is over at both ends. What it has brought is still on its way to stdout. */
static void finish(struct plugin *p)
{
    say_end(p);
    if (!p->stdio_open)
        stop(p);
    else
        loop_timer_set(&p->loop, &p->last_bytes, clock_after_ms(now_of(p), PLUGIN_LAST_BYTES_MS));
}

static void terminated(struct client_terminate *terminate)
{
    finish(LOOP_OWNER(terminate, struct plugin, terminate));
}

static void close_ports(struct plugin *p)
{
    if (p->ports_open)
        client_ports_close(&p->ports);
    p->ports_open = false;
}

static void session_over(struct session *session, struct session_tunnel *tunnel, bool is_last)
{
    struct plugin *p = plugin;
    (void) is_last;
    const struct handshake_request *request = lane_request(&session->lane);
    p->is_running = false;
    if (request->agent_version[0] != '\0' && !request->is_port)
        str_copy(STR_LITERAL(SHELL_TEXT), p->why, sizeof p->why);
    if (session->lane.failed && p->why[0] == '\0')
        str_copy(str_from(session->lane.reason), p->why, sizeof p->why);
    tcp_endpoints_close(&tunnel->endpoints, "the session ended");
    close_ports(p);
    gateway_close(&session->link);
    if (p->timed_out || lane_end_is_known(&session->lane)) {
        finish(p);
        return;
    }
    p->terminate.done = terminated;
    client_terminate_start(&p->terminate, &p->aws, p->gateway.ssm, p->args.session.id, PLUGIN_TERMINATE_MS);
}

static void end_session(struct plugin *p, bool failed, const char *why)
{
    session_end(&p->session, failed, str_from(why));
}

static void caught(struct signals *signals, int number, pid_t sender)
{
    struct plugin *p = LOOP_OWNER(signals, struct plugin, signals);
    static bool again;
    pid_t pid;
    int status;
    (void) sender;
    if (number == SIGCHLD) /* a credential_process */
        while (signals_reap(&pid, &status))
            ;
    if (number != SIGINT && number != SIGTERM && number != SIGHUP && number != SIGQUIT && number != SIGTSTP)
        return;
    if (again)
        stop(p);
    again = true;
    if (!p->is_stdio)
        say("Terminate signal received, exiting.\n");
    end_session(p, false, "the user ended the session");
}

/* ---- connections --------------------------------------------------------------------------------------- */

static void endpoints_changed(void *context)
{
    session_tunnel_wake(&((struct plugin *) context)->tunnel);
}

static void endpoint_opened(void *context, const struct tcp_endpoint *endpoint)
{
    struct plugin *p = context;
    p->answered[endpoint->stream] = false;
    if (!p->accepted && !p->is_stdio)
        say("\nConnection accepted for session [%s]\n", p->args.session.id);
    p->accepted = true;
}

static void endpoint_closed(void *context, const struct tcp_endpoint *endpoint, const char *why)
{
    struct plugin *p = context;
    const struct streams_slot *stream = tunnel_stream(&p->tunnel.tunnel, endpoint->stream);
    log_event(LOG_INFO, "connection closed", LOG_I64("forward", 0),
              LOG_I64("bytes_to_target", stream->bytes_from_endpoint),
              LOG_I64("bytes_from_target", stream->bytes_to_endpoint),
              LOG_DURATION_MS("duration", now_of(p) - endpoint->since_ms), LOG_TEXT("why", why));
    loop_hook_queue(&p->loop, &p->serve);
}

/* Connections that wait have a place now, perhaps. */
static void serve(struct loop_hook *hook)
{
    struct plugin *p = LOOP_OWNER(hook, struct plugin, serve);
    if (p->ports_open)
        client_ports_serve(&p->ports);
}

/* A client opens its endpoints itself. */
static void open_endpoint(void *context, uint16_t stream, const char *host, uint16_t port)
{
    struct plugin *p = plugin;
    (void) context;
    (void) host;
    (void) port;
    tunnel_notify(&p->tunnel.tunnel, now_of(p), stream, TUNNEL_ENDPOINT_FAILED,
                  STR_LITERAL("this end opens no connections"));
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    (void) context;
    tcp_endpoints_read(&plugin->tunnel.endpoints, stream, vectors, count, result);
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    (void) context;
    plugin->answered[stream] = true;
    tcp_endpoints_write(&plugin->tunnel.endpoints, stream, vectors, count, result);
}

static void shut_endpoint(void *context, uint16_t stream)
{
    (void) context;
    tcp_endpoints_shut(&plugin->tunnel.endpoints, stream);
}

static void close_endpoint(void *context, uint16_t stream, const char *why)
{
    (void) context;
    tcp_endpoints_end(&plugin->tunnel.endpoints, stream, why);
}

/* The first words are AWS's. Its agent gives no reason, ours does. */
static void reset_endpoint(void *context, uint16_t stream, const char *why)
{
    struct plugin *p = plugin;
    (void) context;
    if (p->answered[stream])
        say("\nConnection to destination port ended: %s\n", why);
    else
        say("\nConnection to destination port failed, %s.\n",
            lane_peer_is_ours(&p->session.lane) ? why : "check SSM Agent logs");
    tcp_endpoints_reset(&p->tunnel.endpoints, stream, why);
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_endpoint,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = close_endpoint,
                                                      .reset = reset_endpoint};

/* False: there is no place for it now. */
static bool connect(struct plugin *p, int fd)
{
    struct error err = ERROR_INIT;
    uint16_t stream = tunnel_open(&p->tunnel.tunnel, now_of(p));
    if (stream == STREAMS_NONE)
        return false;
    if (tcp_endpoints_adopt(&p->tunnel.endpoints, stream, fd, &err) < 0)
        tunnel_notify(&p->tunnel.tunnel, now_of(p), stream, TUNNEL_ENDPOINT_BROKE, str_from(err.text));
    session_tunnel_wake(&p->tunnel);
    return true;
}

static bool connect_port(struct client_ports *ports, size_t forward, int fd)
{
    (void) forward;
    return connect(LOOP_OWNER(ports, struct plugin, ports), fd);
}

static void connection_waits(struct client_ports *ports, size_t forward)
{
    (void) ports;
    (void) forward;
}

static void stdio_over(struct stdio_pump *pump)
{
    struct plugin *p = LOOP_OWNER(pump, struct plugin, stdio);
    p->stdio_open = false;
    if (p->is_running)
        end_session(p, false, "standard output was closed");
    else if (p->last_bytes.queued)
        stop(p);
}

/* ---- the session --------------------------------------------------------------------------------------- */

static int open_stdio(struct plugin *p, struct error *err)
{
    int fd;
    p->is_stdio = true; /* from here on standard output is the connection's */
    int result = stdio_pump_open(&p->stdio, &p->loop, stdio_over, &fd, err);
    if (result < 0)
        return result;
    p->stdio_open = true;
    if (!connect(p, fd)) {
        close(fd);
        return error_set(err, ERROR_SYSTEM, "the session takes no connection");
    }
    return 0;
}

static int open_port(struct plugin *p, uint16_t port, struct error *err)
{
    p->forward = (struct local_forward){.kind = LOCAL_FORWARD_PORT, .is_loopback = true, .port = port};
    p->ports.connect = connect_port;
    p->ports.waits = connection_waits;
    int result = client_ports_open(&p->ports, &p->loop, &p->forward, 1, err);
    if (result < 0)
        return result;
    p->ports_open = true;
    say("Port %u opened for sessionId %s.\nWaiting for connections...\n", p->forward.port,
        p->args.session.id);
    client_ports_accept(&p->ports);
    return 0;
}

static void session_ready(struct session *session)
{
    struct plugin *p = plugin;
    struct error err = ERROR_INIT;
    const struct handshake_request *request = lane_request(&session->lane);
    if (session->lane.banner[0] != '\0')
        say("%s\n", session->lane.banner);
    int result = request->is_local_forwarding ? open_port(p, request->local_port, &err) : open_stdio(p, &err);
    if (result == 0)
        return;
    say("Cannot perform start session: %s\n", err.text);
    end_session(p, false, err.text);
}

static void link_lost(struct session *session, const struct gateway_down *down)
{
    struct plugin *p = plugin;
    (void) session;
    p->timed_out = down->is_final && down->code == ERROR_NOT_FOUND;
    if (p->timed_out)
        str_copy(STR_LITERAL("the session has timed out"), p->why, sizeof p->why);
    log_event(down->was_up || down->is_final ? LOG_INFO : LOG_WARN,
              down->was_up ? "data channel lost, connecting anew" : "can't open the data channel",
              LOG_TEXT("why", down->why), LOG_BOOL("final", down->is_final));
}

static void tunnel_event(struct session_tunnel *tunnel, const struct tunnel_step *step,
                         struct tunnel_result *result)
{
    (void) tunnel;
    (void) result;
    if (step->type == TUNNEL_STEP_ANSWERED)
        plugin->answered[step->stream] = true;
}

static void tunnel_ended(struct session_tunnel *tunnel)
{
    session_tunnel_release(tunnel);
}

static const struct session_ops session_ops = {.endpoints = &endpoint_ops,
                                               .ready = session_ready,
                                               .lost = link_lost,
                                               .over = session_over,
                                               .event = tunnel_event,
                                               .ended = tunnel_ended};

static int open_pool(struct plugin *p, struct error *err)
{
    size_t len = (size_t) PLUGIN_POOL_BLOCKS * POOL_BLOCK_SIZE;
    void *memory = memory_map(len);
    if (memory == NULL || !pool_init(&p->pool, memory, PLUGIN_POOL_BLOCKS, SESSION_USERS))
        return error_set(err, ERROR_SYSTEM, "out of memory: no %zu KiB for messages", len / 1024);
    return 0;
}

static int open_session(struct plugin *p, struct error *err)
{
    struct tunnel_config config = {.role = LANE_CLIENT};
    struct lane_config lane = {.role = LANE_CLIENT,
                               .keep_alive_ms = p->config->keep_alive_ms,
                               .extension = {.is_ours = true},
                               .channel = {.messages_per_second = p->config->max_messages_per_second,
                                           .burst_messages = p->config->burst_messages,
                                           .ping_interval_ms = CONTROL_CHANNEL_PING_MS}};
    if (open_pool(p, err) < 0 ||
        session_tunnel_init(&p->tunnel, &session_ops, &p->network, &p->pool, &config, err) < 0)
        return err->code;
    p->tunnel.endpoints.linger = &p->linger;
    p->tunnel.endpoints.changed = endpoints_changed;
    p->tunnel.endpoints.opened = endpoint_opened;
    p->tunnel.endpoints.closed = endpoint_closed;
    p->tunnel.endpoints.context = p;
    tcp_endpoints_init(&p->tunnel.endpoints);
    if (session_init(&p->session, &p->tunnel, &lane, err) < 0)
        return err->code;
    p->is_running = true;
    int result = gateway_init_client(&p->session.link, &p->aws, &p->gateway, err);
    session_link(&p->session);
    if (result == 0)
        gateway_open(&p->session.link);
    else
        end_session(p, true, err->text);
    session_tunnel_wake(&p->tunnel);
    return 0;
}

/* ---- the beginning ------------------------------------------------------------------------------------- */

/* Keys as AWS's SDKs find them. A plugin without any goes on: its caller may have kept them to itself. */
static void open_client(struct plugin *p)
{
    char profile[256];
    struct error err = ERROR_INIT;
    bool has_profile = p->args.profile.len > 0 && str_copy(p->args.profile, profile, sizeof profile);
    p->gateway.signing = GATEWAY_SIGNED_IF_POSSIBLE;
    if (str_equal_nocase(env_get(p->env, "SSM_PLUGIN_SKIP_CLIENT_CONFIGURE"), "true"))
        p->gateway.signing = GATEWAY_UNSIGNED;
    if (aws_client_open_chain(&p->aws, &p->network, p->env, has_profile ? profile : NULL, &err) < 0) {
        log_event(LOG_WARN, "no credentials: the websocket's request is not signed", LOG_ERR(&err));
        aws_client_open(&p->aws, &p->network, p->env);
        p->gateway.signing = GATEWAY_UNSIGNED;
    }
    if (p->args.region.len > 0)
        (void) str_copy(p->args.region, p->aws.region, sizeof p->aws.region);
}

static int open_all(struct plugin *p, struct error *err)
{
    if (loop_open(&p->loop, err) < 0 || signals_open(&p->signals, &p->loop, caught, err) < 0 ||
        network_open(&p->network, &p->loop, p->env, err) < 0)
        return err->code;
    linger_open(&p->linger, &p->loop, LINGER_MAX);
    loop_timer_init(&p->last_bytes, last_bytes_expired);
    loop_hook_init(&p->serve, LOOP_GATHER, serve);
    open_client(p);
    p->gateway.started = p->args.session;
    bytes_wipe(p->args.session.token, sizeof p->args.session.token);
    p->gateway.ssm = p->args.has_endpoint ? &p->args.endpoint : NULL;
    p->gateway.reconnect_ms = p->config->reconnect_for_ms;
    /* Who has an SSM endpoint of their own is given StreamUrls of their own, too. */
    p->gateway.any_host = p->args.any_host || endpoint_is_configured(ENDPOINT_SSM, p->aws.env);
    return open_session(p, err);
}

static void close_all(struct plugin *p)
{
    close_ports(p);
    stdio_pump_close(&p->stdio);
    client_terminate_cancel(&p->terminate);
    bytes_wipe(p->gateway.started.token, sizeof p->gateway.started.token);
    linger_close(&p->linger);
}

/* ---- the plugin that it stands in for ------------------------------------------------------------------ */

static bool is_own_program(const char *path)
{
    struct stat theirs;
    struct stat ours;
    return stat(path, &theirs) != 0 || stat("/proc/self/exe", &ours) != 0 ||
           (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino);
}

static bool is_real(char path[FILES_PATH_SIZE], struct str folder)
{
    struct writer out = writer_of(path, FILES_PATH_SIZE);
    writer_format(&out, "%.*s/" REAL_NAME, STR_ARG(folder));
    if (out.failed || folder.len == 0)
        return false;
    return access(writer_terminate(&out), X_OK) == 0 && !is_own_program(path);
}

/* Beside the name it was called by, beside the program itself, or in PATH. */
static bool find_real(char path[FILES_PATH_SIZE], const char *name, char *const *env)
{
    char self[FILES_PATH_SIZE];
    struct str folder;
    struct str rest;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self);
    if (str_cut_last(str_from(name), '/', &folder, &rest) && is_real(path, folder))
        return true;
    if (len > 0 && str_cut_last((struct str){self, (size_t) len}, '/', &folder, &rest) &&
        is_real(path, folder))
        return true;
    rest = env_get(env, "PATH");
    while (rest.len > 0) {
        str_cut(rest, ':', &folder, &rest);
        if (is_real(path, folder))
            return true;
    }
    return false;
}

/* False: this one is ours, as far as can be known before it is opened. */
static bool hand_over(const struct plugin_args *args, char **argv, char *const *env)
{
    char path[FILES_PATH_SIZE];
    enum plugin_args_type type = plugin_args_type(args);
    /* Without a document, for a task: ecsta's way to forward a port. */
    bool is_ecsta = args->document[0] == '\0' && str_starts_with(str_from(args->target), "ecs:");
    if (type == PLUGIN_ARGS_PORT || (type == PLUGIN_ARGS_UNKNOWN && is_ecsta))
        return false;
    if (find_real(path, argv[0], env)) {
        signals_restore_defaults();
        execve(path, argv, env);
        say("\nCannot perform start session: can't run %s: %s\n", path, strerror(errno));
        return true;
    }
    if (type == PLUGIN_ARGS_UNKNOWN)
        return false;
    say("\nCannot perform start session: " SHELL_TEXT ".\n");
    return true;
}

/* Where everybody on this machine could read it. */
static void wipe_token(const struct plugin_args *args, char **argv, char *const *env)
{
    struct str value = args->variable != NULL ? env_get(env, args->variable) : str_from(argv[1]);
    bytes_wipe((char *) (uintptr_t) value.ptr, value.len);
    if (args->variable != NULL)
        unsetenv(args->variable);
}

static void run_session(struct plugin *p, char **argv)
{
    struct error err = ERROR_INIT;
    wipe_token(&p->args, argv, p->env);
    say("\nStarting session with SessionId: %s\n", p->args.session.id);
    if (open_all(p, &err) < 0 || loop_run(&p->loop, &err) < 0)
        say("Cannot perform start session: %s\n", err.text);
    close_all(p);
}

int plugin_run(const struct plugin_settings *config, int argc, char **argv, char *const *env)
{
    static struct plugin memory;
    struct error err = ERROR_INIT;
    plugin = &memory;
    plugin->config = config;
    plugin->env = env;
    if (plugin_args_parse(&plugin->args, argc, argv, env, &err) < 0) {
        say("\nCannot perform start session: %s\n", err.text);
        return 0;
    }
    switch (plugin->args.kind) {
    case PLUGIN_ARGS_NONE:
        say("\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a "
            "session.\n\n");
        break;
    case PLUGIN_ARGS_VERSION:
        say("%s\n", HANDSHAKE_CLIENT_VERSION);
        break;
    case PLUGIN_ARGS_SESSION:
        if (!hand_over(&plugin->args, argv, env))
            run_session(plugin, argv);
        break;
    }
    return 0;
}
