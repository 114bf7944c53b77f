#include "net/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/random.h"
#include "net/socket.h"

enum {
    PORT = 53,
    LENGTH_BYTES = 2, /* in front of each message over TCP (RFC 1035, 4.2.2) */
    /* So much of an answer over TCP is looked at: 8 addresses behind 8 aliases of any length fit. */
    TCP_ANSWER_MAX = 4096
};

/* --- files -------------------------------------------------------------------------------------------- */

/* A file that can't be read stays as it was. */
static void read_file(struct resolver_text *file)
{
    struct stat status;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    bool is_known = fstat(fd, &status) == 0;
    bool is_cut = is_known && status.st_size > RESOLVER_FILE_MAX;
    size_t size = is_cut ? RESOLVER_FILE_MAX : is_known ? (size_t) status.st_size : 0;
    char *text = malloc(size + 1);
    ssize_t got = text != NULL ? read(fd, text, size) : -1;
    close(fd);
    if (got < 0) {
        free(text);
        return;
    }
    while (is_cut && got > 0 && text[got - 1] != '\n') /* half a line may have half a name */
        got--;
    free(file->text);
    file->text = text;
    file->len = (size_t) got;
}

static void read_files(struct resolver *resolver)
{
    resolver->read_ms = loop_now_ms(resolver->loop);
    read_file(&resolver->hosts);
    read_file(&resolver->resolv_conf);
}

static void read_files_if_old(struct resolver *resolver)
{
    if (loop_now_ms(resolver->loop) - resolver->read_ms >= RESOLVER_FILE_AGE_MS)
        read_files(resolver);
}

/* --- the order of addresses ----------------------------------------------------------------------------- */

/* RFC 6724, section 2.1: the precedence of a kind of addresses, which is also its label here. */
static int precedence_of(struct ip address)
{
    static const uint8_t loopback[16] = {[15] = 1};
    const uint8_t *bytes = address.bytes;
    if (address.version == IP_V4)
        return 35;
    if (memcmp(bytes, loopback, sizeof loopback) == 0)
        return 50;
    if (bytes[0] == 0x20 && bytes[1] == 0x02) /* 2002::/16, 6to4 */
        return 30;
    if ((bytes[0] & 0xfe) == 0xfc) /* fc00::/7, unique local */
        return 3;
    return 40;
}

/* Whether there is a route to it, and which of our addresses we would be. */
static bool source_for(struct ip address, struct ip *source)
{
    struct socket_name name = {.len = sizeof name.v6};
    int fd = socket_connect(SOCK_DGRAM, address, PORT, DESCRIPTORS_FOR_CHANNELS); /* sends nothing */
    bool is_known = fd >= 0 && getsockname(fd, &name.any, &name.len) == 0;
    if (fd >= 0)
        close(fd);
    *source = name.any.sa_family == AF_INET ? ip_v4((const uint8_t *) &name.v4.sin_addr)
                                            : ip_v6(name.v6.sin6_addr.s6_addr);
    return is_known;
}

/* Larger is better: a route, then a source of the same kind, then the kind. */
static int preference_for(struct ip address)
{
    struct ip source;
    if (!source_for(address, &source))
        return 0;
    int precedence = precedence_of(address);
    return precedence + (precedence_of(source) == precedence ? 100 : 0);
}

/* Lets the families take turns (RFC 8305, section 4). The one goes first whose first address is likelier to
 * lead somewhere, IPv6 when they are alike. */
static void order_addresses(struct dns_result *result)
{
    struct ip family[2][DNS_RESULT_ADDRESSES_MAX]; /* IPv6, IPv4 */
    size_t count[2] = {0, 0};
    for (size_t i = 0; i < result->count; i++) {
        int is_v4 = result->addresses[i].version == IP_V4;
        family[is_v4][count[is_v4]++] = result->addresses[i];
    }
    if (count[0] == 0 || count[1] == 0)
        return;
    size_t taken[2] = {0, 0};
    int turn = preference_for(family[1][0]) > preference_for(family[0][0]);
    for (size_t i = 0; i < result->count; i++, turn = !turn) {
        if (taken[turn] == count[turn])
            turn = !turn;
        result->addresses[i] = family[turn][taken[turn]++];
    }
}

/* --- requests ----------------------------------------------------------------------------------------- */

static void tell_later(struct resolver *resolver, struct resolver_request *request)
{
    list_append(&resolver->answered, &request->node);
    loop_hook_queue(resolver->loop, &resolver->hook);
}

static void close_socket(struct loop *loop, struct resolver_socket *s)
{
    int fd = s->watch.fd;
    if (fd >= 0) {
        loop_watch_remove(loop, &s->watch);
        close(fd);
    }
}

/* The end of the turn gives it to a name that waits. */
static void release_lookup(struct resolver_lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    loop_timer_remove(resolver->loop, &lookup->timer);
    for (size_t i = 0; i < DNS_EXCHANGES; i++)
        close_socket(resolver->loop, &lookup->sockets[i]);
    resolver->busy &= ~(1U << (lookup - resolver->lookups));
    loop_hook_queue(resolver->loop, &resolver->hook);
}

static void finish_lookup(struct resolver_lookup *lookup)
{
    struct list *node;
    order_addresses(&lookup->engine.result);
    while ((node = list_take(&lookup->requests)) != NULL) {
        struct resolver_request *request = LIST_OWNER(node, struct resolver_request, node);
        request->lookup = NULL;
        request->result = lookup->engine.result;
        tell_later(lookup->resolver, request);
    }
    release_lookup(lookup);
}

/* --- sockets ------------------------------------------------------------------------------------------ */

/* False when the socket has failed. */
static bool send_query(struct resolver_lookup *lookup, unsigned exchange)
{
    struct resolver_socket *s = &lookup->sockets[exchange];
    uint8_t bytes[LENGTH_BYTES + DNS_QUERY_MAX];
    uint16_t random;
    random_bytes(&random, sizeof random);
    struct writer query = writer_of(bytes + LENGTH_BYTES, DNS_QUERY_MAX);
    dns_lookup_query(&lookup->engine, exchange, random, &query);
    struct writer length = writer_of(bytes, LENGTH_BYTES);
    writer_u16be(&length, (uint16_t) query.len);
    size_t skipped = s->over_tcp ? 0 : LENGTH_BYTES;
    s->is_sent = true;
    return send(s->watch.fd, bytes + skipped, LENGTH_BYTES + query.len - skipped, MSG_NOSIGNAL) >= 0 ||
           errno == EAGAIN || errno == ENOBUFS; /* as good as lost on the way */
}

static void udp_ready(struct resolver_lookup *lookup, unsigned exchange)
{
    uint8_t bytes[DNS_UDP_ANSWER_MAX];
    ssize_t got = recv(lookup->sockets[exchange].watch.fd, bytes, sizeof bytes, 0);
    int64_t now_ms = loop_now_ms(lookup->resolver->loop);
    if (got >= 0)
        dns_lookup_received(&lookup->engine, exchange, bytes, (size_t) got, now_ms);
    else if (errno != EAGAIN && errno != EINTR)
        dns_lookup_broke(&lookup->engine, exchange, errno, now_ms);
}

/* The answer is looked at in the kernel's buffer until it is complete, or long enough: none is needed
 * here. */
static void tcp_ready(struct resolver_lookup *lookup, unsigned exchange, uint32_t events)
{
    struct resolver_socket *s = &lookup->sockets[exchange];
    uint8_t bytes[LENGTH_BYTES + TCP_ANSWER_MAX];
    int64_t now_ms = loop_now_ms(lookup->resolver->loop);
    if ((events & EPOLLOUT) != 0 && !s->is_sent && !send_query(lookup, exchange)) {
        dns_lookup_broke(&lookup->engine, exchange, errno, now_ms);
        return;
    }
    ssize_t got = recv(s->watch.fd, bytes, sizeof bytes, MSG_PEEK);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int reason = got < 0 ? errno : ECONNRESET;
    struct reader r = reader_of(bytes, got > 0 ? (size_t) got : 0);
    size_t len = reader_u16be(&r);
    if (!r.failed && (r.left >= len || (size_t) got == sizeof bytes))
        dns_lookup_received(&lookup->engine, exchange, r.at, len < r.left ? len : r.left, now_ms);
    else if (got <= 0 || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) /* it ended before */
        dns_lookup_broke(&lookup->engine, exchange, reason, now_ms);
}

static void run_lookup(struct resolver_lookup *lookup);

static void socket_ready(struct loop_watch *watch, uint32_t events)
{
    struct resolver_socket *s = LOOP_OWNER(watch, struct resolver_socket, watch);
    unsigned exchange = (unsigned) (s - s->lookup->sockets);
    if (s->over_tcp)
        tcp_ready(s->lookup, exchange, events);
    else
        udp_ready(s->lookup, exchange);
    run_lookup(s->lookup);
}

/* 0 or an errno. */
static int open_socket(struct resolver_lookup *lookup, const struct dns_step *step)
{
    struct resolver *resolver = lookup->resolver;
    struct resolver_socket *s = &lookup->sockets[step->exchange];
    close_socket(resolver->loop, s);
    int fd =
        socket_connect(step->over_tcp ? SOCK_STREAM : SOCK_DGRAM, step->server, resolver->port, lookup->use);
    if (fd < 0)
        return -fd;
    *s = (struct resolver_socket){.lookup = lookup, .over_tcp = step->over_tcp};
    /* Edges over TCP: a part of an answer would wake the loop until the rest has come. */
    uint32_t events = step->over_tcp ? EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET : EPOLLIN;
    if (loop_watch_add(resolver->loop, &s->watch, fd, events, socket_ready, NULL) != 0) {
        close(fd);
        return ENOMEM;
    }
    return step->over_tcp || send_query(lookup, step->exchange) ? 0 : errno;
}

/* --- lookups ------------------------------------------------------------------------------------------ */

static void run_lookup(struct resolver_lookup *lookup)
{
    struct loop *loop = lookup->resolver->loop;
    struct dns_step step;
    int reason = 0;
    for (dns_lookup_next(&lookup->engine, &step); step.type != DNS_STEP_NONE;
         dns_lookup_next(&lookup->engine, &step)) {
        switch (step.type) {
        case DNS_STEP_OPEN:
            reason = open_socket(lookup, &step);
            break;
        case DNS_STEP_SEND:
            reason = send_query(lookup, step.exchange) ? 0 : errno;
            break;
        case DNS_STEP_CLOSE:
            close_socket(loop, &lookup->sockets[step.exchange]);
            break;
        case DNS_STEP_DONE:
            finish_lookup(lookup);
            return;
        case DNS_STEP_NONE:
            break;
        }
        if (reason != 0)
            dns_lookup_broke(&lookup->engine, step.exchange, reason, loop_now_ms(loop));
        reason = 0;
    }
    loop_timer_set(loop, &lookup->timer, dns_lookup_deadline(&lookup->engine));
}

static void timer_expired(struct loop_timer *timer)
{
    struct resolver_lookup *lookup = LOOP_OWNER(timer, struct resolver_lookup, timer);
    dns_lookup_tick(&lookup->engine, loop_now_ms(lookup->resolver->loop));
    run_lookup(lookup);
}

static bool is_busy(const struct resolver *resolver, unsigned index)
{
    return (resolver->busy >> index & 1) != 0;
}

static struct resolver_lookup *lookup_of(struct resolver *resolver, const char *name)
{
    for (unsigned i = 0; i < RESOLVER_LOOKUPS_MAX; i++)
        if (is_busy(resolver, i) && strcmp(resolver->lookups[i].engine.name, name) == 0)
            return &resolver->lookups[i];
    return NULL;
}

/* Null when none is free. */
static struct resolver_lookup *start_lookup(struct resolver *resolver, const char *name,
                                            enum descriptors_use use)
{
    struct dns_config config;
    unsigned index = use == DESCRIPTORS_FOR_STREAMS ? RESOLVER_LOOKUPS_RESERVE : 0;
    while (index < RESOLVER_LOOKUPS_MAX && is_busy(resolver, index))
        index++;
    if (index == RESOLVER_LOOKUPS_MAX)
        return NULL;
    struct resolver_lookup *lookup = &resolver->lookups[index];
    resolver->busy |= 1U << index;
    lookup->resolver = resolver;
    lookup->use = use;
    list_init(&lookup->requests);
    loop_timer_init(&lookup->timer, timer_expired);
    for (size_t i = 0; i < DNS_EXCHANGES; i++)
        lookup->sockets[i].watch = LOOP_WATCH_INIT;
    dns_config_parse(&config, (struct str){resolver->resolv_conf.text, resolver->resolv_conf.len});
    dns_lookup_start(&lookup->engine, &config, str_from(name), loop_now_ms(resolver->loop));
    return lookup;
}

/* The request joins the lookup of its name, or begins one; or waits. */
static void look_up(struct resolver *resolver, struct resolver_request *request)
{
    bool is_new = false;
    request->lookup = lookup_of(resolver, request->name);
    if (request->lookup == NULL) {
        request->lookup = start_lookup(resolver, request->name, request->use);
        is_new = true;
    }
    request->is_waiting = request->lookup == NULL;
    resolver->waiting_count += request->is_waiting;
    list_append(request->is_waiting ? &resolver->waiting : &request->lookup->requests, &request->node);
    if (is_new && !request->is_waiting)
        run_lookup(request->lookup);
}

static struct resolver_request *request_of(struct list *node)
{
    return LIST_OWNER(node, struct resolver_request, node);
}

/* Tells some of the answers that were there when it began (`done` may add others), then starts lookups for
 * the names that wait. */
static void turn_ends(struct loop_hook *hook)
{
    struct resolver *resolver = LOOP_OWNER(hook, struct resolver, hook);
    struct list now;
    struct list *node;
    list_init(&now);
    list_move(&now, &resolver->answered);
    for (int told = 0; told < RESOLVER_TOLD_A_TURN && (node = list_take(&now)) != NULL; told++)
        request_of(node)->done(request_of(node));
    list_move(&now, &resolver->answered); /* those left go first */
    list_move(&resolver->answered, &now);
    list_move(&now, &resolver->waiting);
    resolver->waiting_count = 0;
    while ((node = list_take(&now)) != NULL)
        look_up(resolver, request_of(node));
    if (!list_is_empty(&resolver->answered))
        loop_hook_defer(resolver->loop, &resolver->hook);
}

/* --- the callers' side -------------------------------------------------------------------------------- */

void resolver_open(struct resolver *resolver, struct loop *loop)
{
    memset(resolver, 0, offsetof(struct resolver, lookups)); /* their pages count once they are used */
    resolver->loop = loop;
    resolver->port = PORT;
    list_init(&resolver->waiting);
    list_init(&resolver->answered);
    loop_hook_init(&resolver->hook, LOOP_GATHER, turn_ends);
    resolver_use_files(resolver, "/etc/resolv.conf", "/etc/hosts");
}

void resolver_use_files(struct resolver *resolver, const char *resolv_conf, const char *hosts)
{
    free(resolver->resolv_conf.text);
    free(resolver->hosts.text);
    resolver->resolv_conf = (struct resolver_text){.path = resolv_conf};
    resolver->hosts = (struct resolver_text){.path = hosts};
    read_files(resolver);
}

void resolver_close(struct resolver *resolver)
{
    for (unsigned i = 0; i < RESOLVER_LOOKUPS_MAX; i++)
        if (is_busy(resolver, i))
            release_lookup(&resolver->lookups[i]);
    loop_hook_remove(resolver->loop, &resolver->hook);
    free(resolver->resolv_conf.text);
    free(resolver->hosts.text);
}

static void find_localhost(struct str name, struct dns_result *result)
{
    name = dns_without_last_dot(name);
    struct str last = name;
    struct str before;
    str_cut_last(name, '.', &before, &last);
    if (!dns_same_text(last.len > 0 ? last : name, STR_LITERAL("localhost")))
        return;
    result->addresses[0] = (struct ip){.version = IP_V6, .bytes = {[15] = 1}};
    result->addresses[1] = (struct ip){.version = IP_V4, .bytes = {127, 0, 0, 1}};
    result->count = 2;
}

/* What needs no name server. */
static bool answer_at_once(struct resolver *resolver, struct str name, struct dns_result *result)
{
    struct str hosts = {resolver->hosts.text, resolver->hosts.len};
    if (ip_parse(name, &result->addresses[0]))
        result->count = 1;
    else
        result->count = dns_hosts_find(hosts, name, result->addresses, DNS_RESULT_ADDRESSES_MAX);
    if (result->count == 0)
        find_localhost(name, result);
    result->outcome = DNS_FOUND;
    order_addresses(result);
    return result->count > 0;
}

int resolver_start(struct resolver *resolver, struct resolver_request *request, const char *name,
                   enum descriptors_use use, void (*done)(struct resolver_request *request),
                   struct error *err)
{
    memset(request, 0, sizeof *request);
    request->done = done;
    request->use = use;
    struct ip literal;
    int result = ip_parse(str_from(name), &literal) ? 0 : dns_check_name(str_from(name), err);
    if (result == 0 && !str_copy(str_from(name), request->name, sizeof request->name))
        result = error_set(err, ERROR_INVALID, "a host name has 1 to %d characters", DNS_NAME_SIZE - 1);
    if (result != 0)
        return result;
    read_files_if_old(resolver);
    if (answer_at_once(resolver, str_from(name), &request->result)) {
        tell_later(resolver, request);
        return 0;
    }
    look_up(resolver, request);
    if (resolver->waiting_count <= RESOLVER_WAITING_MAX)
        return 0;
    resolver_cancel(resolver, request);
    return error_set(err, ERROR_TOO_LARGE, "%d names are waiting for a name server already",
                     RESOLVER_WAITING_MAX);
}

void resolver_cancel(struct resolver *resolver, struct resolver_request *request)
{
    struct resolver_lookup *lookup = request->lookup;
    if (!list_is_linked(&request->node))
        return;
    list_remove(&request->node);
    resolver->waiting_count -= request->is_waiting;
    request->is_waiting = false;
    request->lookup = NULL;
    if (lookup != NULL && list_is_empty(&lookup->requests))
        release_lookup(lookup);
}
