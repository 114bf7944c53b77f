/*
 * forward_spec: FUMIDAI_LISTEN, fixed relays: "5439=warehouse.internal:5439, 0.0.0.0:6000=[fd12::5]:6000".
 *
 *     [ADDRESS:]PORT=HOST:PORT     ADDRESS to listen on, loopback (127.0.0.1) unless given; IPv6 in brackets
 *
 * separated by commas or blanks.
 */
#ifndef FUMIDAI_TUNNEL_FORWARD_SPEC_H
#define FUMIDAI_TUNNEL_FORWARD_SPEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "base/str.h"
#include "tunnel/dial_policy.h"

enum { FORWARD_SPECS_MAX = 16 /* as many targets as one bastion plausibly serves */ };

struct forward_spec {
    struct ip address;
    uint16_t port;
    char host[DIAL_POLICY_HOST_SIZE];
    uint16_t host_port;
};

struct forward_specs {
    struct forward_spec entries[FORWARD_SPECS_MAX];
    size_t count;
};

/* ERROR_INVALID names the entry and what is wrong with it; ERROR_TOO_LARGE beyond FORWARD_SPECS_MAX. */
int forward_spec_parse(struct forward_specs *list, struct str text, struct error *err);

#endif
