/*
 * sandbox: what a process gives up before it reads its first byte from outside. The relay and the AWS worker
 * enter it.
 *
 *   - root: group and user become SANDBOX_UID when the process was started as root;
 *   - privileges for ever: no_new_privs, all capabilities dropped, not dumpable (no ptrace, no core);
 *   - system calls: a seccomp filter that lets through what an event loop of sockets needs. Everything else
 *     is refused with EPERM, among it: starting programs and threads, tracing, mounting, loading code,
 *     changing identity, opening files for writing, opening ports, signals to other processes (also by fcntl
 *     F_SETOWN), and every socket but TCP and UDP over IP. Reading files stays possible: the resolver reads
 *     /etc/hosts and /etc/resolv.conf again when they may have changed.
 *
 * It also raises the limit of open descriptors to the hard limit, which could not be done later.
 */
#ifndef FUMIDAI_HOST_SANDBOX_H
#define FUMIDAI_HOST_SANDBOX_H

#include "base/error.h"

enum { SANDBOX_UID = 65532 /* "nonroot" of distroless images, and the image's own USER */ };

/* The process has one thread: what is given up here is given up by the thread that calls. ERROR_SYSTEM names
 * the step that failed. */
int sandbox_enter(struct error *err);

#endif
