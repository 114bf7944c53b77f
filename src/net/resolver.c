#include "net/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* musl's getaddrinfo has its answers (10 kB) and file buffers on the stack; glibc's loads modules and asks
 * for far more. Only pages that are touched count. */
#ifdef __GLIBC__
enum { THREAD_STACK_BYTES = 1024 * 1024 };
#else
enum { THREAD_STACK_BYTES = 96 * 1024 };
#endif

/* What a thread works on; nothing of the caller's. */
struct resolver_job {
    struct resolver *resolver; /* the thread touches only the lock, `finished` and the event descriptor */
    struct list asking;        /* the loop's side only, as is `next_running` */
    struct resolver_job *next_running;
    struct resolver_job *next; /* in `finished` */
    void (*look_up)(const char *name, struct resolver_answer *answer);
    struct resolver_answer answer;
    char name[RESOLVER_NAME_SIZE];
};

/* --- the threads' side ---------------------------------------------------------------------------------- */

static void add_address(struct resolver_answer *answer, const struct sockaddr *address)
{
    struct ip ip;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *) address;
        ip = ip_v4((const uint8_t *) &v4->sin_addr);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *) address;
        ip = ip_v6(v6->sin6_addr.s6_addr);
    } else {
        return;
    }
    for (size_t i = 0; i < answer->count; i++)
        if (ip_equal(answer->addresses[i], ip))
            return;
    if (answer->count < RESOLVER_ADDRESSES_MAX)
        answer->addresses[answer->count++] = ip;
}

static void ask_c_library(const char *name, struct resolver_answer *answer)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    answer->failure = getaddrinfo(name, NULL, &hints, &list);
    if (answer->failure != 0) {
        /* Some name servers fail for IPv6 addresses only, with any status; musl's then fails as a whole. */
        hints.ai_family = AF_INET;
        answer->failure = getaddrinfo(name, NULL, &hints, &list);
    }
    answer->system_error = answer->failure == EAI_SYSTEM ? errno : 0;
    if (answer->failure != 0)
        return;
    for (const struct addrinfo *entry = list; entry != NULL; entry = entry->ai_next)
        add_address(answer, entry->ai_addr);
    freeaddrinfo(list);
}

static void *run_job(void *argument)
{
    struct resolver_job *job = argument;
    struct resolver *resolver = job->resolver;
    job->look_up(job->name, &job->answer);
    pthread_mutex_lock(&resolver->lock);
    job->next = resolver->finished;
    resolver->finished = job;
    uint64_t one = 1;
    /* Inside the lock: once it is released the resolver may be closed. Can't fail:
     * nobody lets the counter grow. */
    ssize_t written = write(resolver->event_fd, &one, sizeof one);
    (void) written;
    pthread_mutex_unlock(&resolver->lock);
    return NULL;
}

/* 0 or an errno. */
static int start_thread(struct resolver_job *job)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the new thread inherits it */
    int result = pthread_create(&thread, &attributes, run_job, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return result;
}

/* --- the loop's side ------------------------------------------------------------------------------------ */

static void deliver_later(struct resolver *resolver, struct resolver_request *request)
{
    list_append(&resolver->answered, &request->node);
    loop_hook_queue(resolver->loop, &resolver->hook);
}

static void start_job(struct resolver *resolver, struct resolver_request *request)
{
    struct resolver_job *job = calloc(1, sizeof *job);
    int reason = ENOMEM;
    if (job != NULL) {
        job->resolver = resolver;
        job->look_up = resolver->look_up;
        memcpy(job->name, request->name, sizeof job->name);
        reason = start_thread(job);
    }
    if (reason == 0) {
        resolver->running++;
        job->next_running = resolver->jobs;
        resolver->jobs = job;
        list_init(&job->asking);
        list_append(&job->asking, &request->node);
        return;
    }
    free(job);
    request->answer.failure = EAI_SYSTEM;
    request->answer.system_error = reason;
    deliver_later(resolver, request);
}

static struct resolver_job *job_of(const struct resolver *resolver, const char *name)
{
    struct resolver_job *job = resolver->jobs;
    while (job != NULL && strcmp(job->name, name) != 0)
        job = job->next_running;
    return job;
}

static struct resolver_request *first_of(const struct list *requests)
{
    return list_is_empty(requests) ? NULL : LIST_OWNER(requests->next, struct resolver_request, node);
}

static void start_waiting_jobs(struct resolver *resolver)
{
    struct resolver_request *request;
    while ((request = first_of(&resolver->waiting)) != NULL) {
        struct resolver_job *job = job_of(resolver, request->name);
        if (job == NULL && resolver->running == RESOLVER_THREADS_MAX)
            return;
        list_remove(&request->node);
        if (job != NULL)
            list_append(&job->asking, &request->node);
        else
            start_job(resolver, request);
    }
}

static void end_job(struct resolver *resolver, struct resolver_job *job)
{
    struct resolver_job **link = &resolver->jobs;
    while (*link != job)
        link = &(*link)->next_running;
    *link = job->next_running;
    resolver->running--;
    struct resolver_request *request;
    while ((request = first_of(&job->asking)) != NULL) {
        list_remove(&request->node);
        request->answer = job->answer;
        deliver_later(resolver, request);
    }
    free(job);
}

static void collect_finished_jobs(struct loop_watch *watch, uint32_t events)
{
    (void) events;
    struct resolver *resolver = LOOP_OWNER(watch, struct resolver, watch);
    uint64_t count;
    ssize_t got = read(resolver->event_fd, &count, sizeof count);
    (void) got; /* it only says "look" */
    pthread_mutex_lock(&resolver->lock);
    struct resolver_job *job = resolver->finished;
    resolver->finished = NULL;
    pthread_mutex_unlock(&resolver->lock);
    while (job != NULL) {
        struct resolver_job *next = job->next;
        end_job(resolver, job);
        job = next;
    }
    start_waiting_jobs(resolver);
}

/* Tells those that were answered when it began; `done` may start and cancel others. */
static void tell_answers(struct loop_hook *hook)
{
    struct resolver *resolver = LOOP_OWNER(hook, struct resolver, hook);
    struct list told;
    struct resolver_request *request;
    list_init(&told);
    list_move(&told, &resolver->answered);
    while ((request = first_of(&told)) != NULL) {
        list_remove(&request->node);
        request->done(request);
    }
}

int resolver_open(struct resolver *resolver, struct loop *loop, struct error *err)
{
    memset(resolver, 0, sizeof *resolver);
    resolver->loop = loop;
    resolver->watch = LOOP_WATCH_INIT;
    resolver->look_up = ask_c_library;
    list_init(&resolver->waiting);
    list_init(&resolver->answered);
    pthread_mutex_init(&resolver->lock, NULL);
    loop_hook_init(&resolver->hook, LOOP_GATHER, tell_answers);
    resolver->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (resolver->event_fd < 0)
        return error_set(err, ERROR_SYSTEM, "eventfd: %s", strerror(errno));
    int result =
        loop_watch_add(loop, &resolver->watch, resolver->event_fd, EPOLLIN, collect_finished_jobs, err);
    if (result != 0)
        close(resolver->event_fd);
    return result;
}

void resolver_close(struct resolver *resolver)
{
    loop_watch_remove(resolver->loop, &resolver->watch);
    loop_hook_remove(resolver->loop, &resolver->hook);
    pthread_mutex_lock(&resolver->lock);
    while (resolver->finished != NULL) {
        struct resolver_job *job = resolver->finished;
        resolver->finished = job->next;
        free(job);
        resolver->running--;
    }
    pthread_mutex_unlock(&resolver->lock);
    /* Otherwise a thread will still write to it, and the number must not be reused. */
    if (resolver->running == 0) {
        close(resolver->event_fd);
        pthread_mutex_destroy(&resolver->lock);
    }
}

unsigned resolver_busy(const struct resolver *resolver)
{
    return resolver->running;
}

int resolver_start(struct resolver *resolver, struct resolver_request *request, const char *name,
                   void (*done)(struct resolver_request *request), struct error *err)
{
    memset(request, 0, sizeof *request);
    request->done = done;
    if (name[0] == '\0' || !str_copy(str_from(name), request->name, sizeof request->name))
        return error_set(err, ERROR_INVALID, "a host name has 1 to %d characters", RESOLVER_NAME_SIZE - 1);
    if (ip_parse(str_from(name), &request->answer.addresses[0])) {
        request->answer.count = 1;
        deliver_later(resolver, request);
        return 0;
    }
    struct resolver_job *job = job_of(resolver, name);
    if (job == NULL && list_count(&resolver->waiting) >= RESOLVER_WAITING_MAX) {
        return error_set(err, ERROR_TOO_LARGE, "%d names are waiting for a name server already",
                         RESOLVER_WAITING_MAX);
    }
    list_append(job != NULL ? &job->asking : &resolver->waiting, &request->node);
    start_waiting_jobs(resolver);
    return 0;
}

void resolver_cancel(struct resolver *resolver, struct resolver_request *request)
{
    (void) resolver;
    list_remove(&request->node);
}

int resolver_explain(const struct resolver_answer *answer, struct error *err)
{
    switch (answer->failure) {
    case 0:
        return error_set(err, ERROR_NOT_FOUND, "the name has no addresses");
    case EAI_NONAME:
#ifdef EAI_NODATA
#if EAI_NODATA != EAI_NONAME
    case EAI_NODATA:
#endif
#endif
        return error_set(err, ERROR_NOT_FOUND, "no such name");
    case EAI_AGAIN:
        return error_set(err, ERROR_UNAVAILABLE, "no name server gave an answer");
    case EAI_SYSTEM:
        return error_set(err, ERROR_SYSTEM, "resolving the name: %s", strerror(answer->system_error));
    default:
        return error_set(err, ERROR_UNAVAILABLE, "resolving the name: %s", gai_strerror(answer->failure));
    }
}
