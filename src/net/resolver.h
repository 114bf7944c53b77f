/*
 * resolver: names to addresses without stopping the loop.
 *
 * The C library's getaddrinfo blocks for as long as name servers are silent, so it runs in detached threads
 * with small stacks and all signals blocked, at most RESOLVER_THREADS_MAX at once; further requests wait in
 * the order they came. A name that is being looked up is not looked up once more: one whose name server is
 * silent takes one thread, however many ask for it, and leaves the others to other names. A thread gets its
 * own copy of the name and keeps nothing of the caller's: a cancelled request is forgotten at once, its
 * thread ends whenever getaddrinfo does. Time limits are the caller's: cancel. Literal addresses are answered
 * without a thread, still from the loop, never from inside resolver_start.
 *
 * In a FROM scratch image there are /etc/resolv.conf and /etc/hosts and nothing else; musl needs nothing
 * else. A seccomp filter has to let threads (clone, mmap, munmap, mprotect, futex) and UDP/TCP sockets
 * through.
 */
#ifndef FUMIDAI_NET_RESOLVER_H
#define FUMIDAI_NET_RESOLVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/ip.h"
#include "base/list.h"
#include "host/loop.h"

enum {
    RESOLVER_NAME_SIZE =
        254, /* the DNS's longest name (RFC 1035: 253 characters as text) and the terminator */
    RESOLVER_ADDRESSES_MAX =
        8, /* of one name, both families; more would not be dialled within any time limit */
    RESOLVER_THREADS_MAX = 8,   /* a dead name server costs at most so many stacks */
    RESOLVER_WAITING_MAX = 1024 /* more than all streams of a full session redialling at once */
};

struct resolver_answer {
    size_t count;
    struct ip addresses[RESOLVER_ADDRESSES_MAX]; /* in the order the C library prefers (RFC 6724) */
    int failure;                                 /* EAI_…, 0 when there are addresses */
    int system_error;                            /* errno with EAI_SYSTEM */
};

struct resolver_job;

struct resolver_request {
    char name[RESOLVER_NAME_SIZE];
    void (*done)(struct resolver_request *request); /* may start, cancel and release anything */
    struct resolver_answer answer;                  /* valid in done */
    struct list node; /* waiting for a thread, being looked up, or answered and not yet told */
};

struct resolver {
    struct loop *loop;
    struct loop_watch watch;
    struct loop_hook hook;
    int event_fd;
    unsigned running;          /* threads */
    struct resolver_job *jobs; /* theirs */
    struct list waiting;       /* requests for which there is no thread yet */
    struct list answered;
    /* What a thread runs; tests put their own in place of getaddrinfo (a name whose answer changes, one that
     * never comes). It may block, and must touch nothing but its arguments. */
    void (*look_up)(const char *name, struct resolver_answer *answer);
    pthread_mutex_t lock; /* guards `finished` */
    struct resolver_job *finished;
};

int resolver_open(struct resolver *resolver, struct loop *loop, struct error *err);
/* Requests are forgotten. Threads that still wait for a name server keep their own job and a reference to the
 * resolver's memory: close only at the end of the process, or when resolver_busy() says 0. */
void resolver_close(struct resolver *resolver);
unsigned resolver_busy(const struct resolver *resolver);

/* ERROR_INVALID (no name, too long), ERROR_TOO_LARGE (the queue is full). */
int resolver_start(struct resolver *resolver, struct resolver_request *request, const char *name,
                   void (*done)(struct resolver_request *request), struct error *err);
void resolver_cancel(struct resolver *resolver, struct resolver_request *request); /* twice does no harm */

/* The reason an answer holds no addresses: ERROR_NOT_FOUND for a name that does not exist, ERROR_UNAVAILABLE
 * when no name server answered. */
int resolver_explain(const struct resolver_answer *answer, struct error *err);

#endif
