/*
 * announce: how people and programs learn that the forwards are ready, and that they end.
 *
 *     people                    a line for each forward on standard error
 *     --output json             the ready event, one line of JSON on standard output
 *     --ready-file FILE         the same line in a file that is there while the forwards are ready
 *     --ready-fd N              the same line into a descriptor of the caller's, which is closed then
 *     NOTIFY_SOCKET             READY=1 and STOPPING=1, as systemd's sd_notify(3) has it; a path, or '@' and
 *                               an abstract name
 *     --pid-file FILE           the pid, from before the first call to AWS until the end
 *
 * The files belong to this process while it lives (host/claim.h); what another has left behind is replaced.
 *
 * The ready event:
 *     {"event":"ready","pid":4711,"task":"<id>","agent_version":"3.3.4624.0","forwards":[
 *         {"port":40123,"host":"warehouse.internal","host_port":5439},      -L
 *         {"path":"/run/x/.s.PGSQL.5432","host":"db","host_port":5432},     -L with a Unix socket
 *         {"port":1080,"socks":true}]}                                      -D
 */
#ifndef FUMIDAI_CLIENT_ANNOUNCE_H
#define FUMIDAI_CLIENT_ANNOUNCE_H

#include <stdbool.h>
#include <stddef.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"
#include "host/claim.h"
#include "settings/forward_settings.h"
#include "tunnel/local_forward.h"

enum { ANNOUNCE_EVENT_SIZE = 32 * 1024 /* a ready event with CLIENT_FORWARDS_MAX forwards */ };

/* What there is to be told. */
struct announce_facts {
    const struct local_forward *forwards;
    size_t count;
    const char *task;
    const char *agent_version;
};

struct announce {
    const struct forward_settings *config;

    /* private */
    struct claim ready_file;
    struct claim pid_file;
    int ready_fd;
    struct sockaddr_un notify;
    socklen_t notify_len; /* 0: nobody */
    bool is_ready;
};

/* First of all, before any descriptor is opened. Takes NOTIFY_SOCKET out of the environment: it is not for
 * children. ERROR_INVALID when the descriptor of --ready-fd is not open. */
int announce_open(struct announce *a, const struct forward_settings *config, char *const *env,
                  struct error *err);
/* The pid file. Fails when another process that runs has it, or the ready file. */
int announce_begin(struct announce *a, struct error *err);
/* A warning when a port is open to other machines; once, however many are. */
void announce_open_ports(const struct local_forward *forwards, size_t count);
/* An error when whoever waits for it could not be told. */
int announce_ready(struct announce *a, const struct announce_facts *facts, struct error *err);
void announce_stopping(struct announce *a); /* twice does no harm */
void announce_close(struct announce *a);

#endif
