/*
 * sandbox: what the relay gives up before it reads its first byte from outside.
 *
 *   - root: group and user become SANDBOX_UID when the process was started as root;
 *   - privileges for ever: no_new_privs, all capabilities dropped, not dumpable (no ptrace, no core);
 *   - system calls: a seccomp filter that knows what an event loop of sockets needs. Starting programs,
 *     tracing, mounting, loading code, changing identity, and opening files for writing are refused with
 *     EPERM; so is everything that is not on the list. Reading files stays possible: the resolver reads
 *     /etc/hosts and /etc/resolv.conf anew for each name.
 *
 * And what it could not have later: as many descriptors as its hard limit allows.
 */
#ifndef FUMIDAI_HOST_SANDBOX_H
#define FUMIDAI_HOST_SANDBOX_H

#include "base/error.h"

enum { SANDBOX_UID = 65532 /* "nonroot" of distroless images, and the image's own USER */ };

/* All threads that will ever be started inherit it. ERROR_SYSTEM naming the step that failed. */
int sandbox_enter(struct error *err);

#endif
