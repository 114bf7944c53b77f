/*
 * announce: how people and programs learn that the forwards are ready, and that they end.
 *
 *     people                    a line for each forward on standard error
 *     --output json             the ready event, one line of JSON on standard output
 *     --ready-file FILE         the same line in a file that is there while the forwards are ready
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

#include "base/error.h"
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
    bool has_ready_file;
};

void announce_open(struct announce *a, const struct forward_settings *config);
/* A warning when a port is open to other machines; once, however many are. */
void announce_open_ports(const struct local_forward *forwards, size_t count);
/* An error when whoever waits for it could not be told. */
int announce_ready(struct announce *a, const struct announce_facts *facts, struct error *err);
void announce_close(struct announce *a);

#endif
