#include "run/tcp_endpoints.h"

#include <stdlib.h>
#include <string.h>

#include "host/clock.h"
#include "host/loop.h"

static int64_t now_of(const struct tcp_endpoints *set)
{
    return loop_now_ms(set->network->loop);
}

const char *tcp_endpoints_address(const struct tcp *tcp, char out[TCP_ENDPOINTS_ADDRESS_SIZE])
{
    struct writer text = writer_of(out, TCP_ENDPOINTS_ADDRESS_SIZE);
    writer_ip_port(&text, tcp->peer, tcp->port);
    return writer_terminate(&text);
}

static void tell(struct tcp_endpoint *e, enum tunnel_news news, const char *text)
{
    tunnel_notify(e->set->tunnel, now_of(e->set), e->stream, news, str_from(text));
    e->set->changed(e->set->context);
}

/* The slot is free for the next stream. */
static void forget(struct tcp_endpoint *e, const char *why)
{
    e->set->closed(e->set->context, e, why);
    if (e->set->probe_waiter == e->stream)
        e->set->probe_waiter = STREAMS_NONE;
    free(e->own_host);
    e->own_host = NULL;
    e->in_use = false;
}

static void fail(struct tcp_endpoint *e)
{
    struct error err = ERROR_INIT;
    enum tunnel_news news = e->connected ? TUNNEL_ENDPOINT_BROKE : TUNNEL_ENDPOINT_FAILED;
    tcp_error(&e->tcp, &err);
    forget(e, err.text);
    tcp_close(&e->tcp);
    tell(e, news, err.text);
}

static void tell_opened(struct tcp_endpoint *e)
{
    char address[TCP_ENDPOINTS_ADDRESS_SIZE];
    e->connected = true;
    e->set->opened(e->set->context, e);
    tell(e, TUNNEL_ENDPOINT_OPENED, tcp_endpoints_address(&e->tcp, address));
}

static void changed(struct tcp *tcp)
{
    struct tcp_endpoint *e = LOOP_OWNER(tcp, struct tcp_endpoint, tcp);
    if (!e->in_use)
        return;
    if (!e->connected && tcp->state == TCP_STATE_OPEN)
        tell_opened(e);
    if (tcp->writable)
        tell(e, TUNNEL_ENDPOINT_WRITABLE, NULL);
    if (tcp->state == TCP_STATE_FAILED)
        fail(e);
    else if (tcp->readable || tcp->read_ended)
        tell(e, TUNNEL_ENDPOINT_READABLE, NULL);
}

/* ---- dialling ---- */

static int permit(void *context, const struct ip *address, uint16_t port, struct error *err)
{
    const struct tcp_endpoint *e = context;
    return e->set->permit(e->set->context, e->host, address, port, err);
}

static int dial(struct tcp_endpoint *e, struct tcp *tcp, int64_t timeout_ms, void (*done)(struct tcp *tcp),
                struct error *err)
{
    struct dial_request request = {.host = e->host,
                                   .port = e->port,
                                   .deadline_ms = clock_after_ms(now_of(e->set), timeout_ms),
                                   .permit = permit,
                                   .use = DESCRIPTORS_FOR_STREAMS,
                                   .context = e};
    return tcp_dial(tcp, e->set->network, &request, done, err);
}

/* A connection of the probe's becomes the stream's. */
static bool take_probe(struct tcp_endpoint *e)
{
    struct tcp_endpoints *set = e->set;
    loop_timer_remove(set->network->loop, &set->probe_timer);
    return tcp_move(&e->tcp, &set->probe, changed, NULL) == 0;
}

static bool is_probed(const struct tcp_endpoints *set, const struct tcp_endpoint *e)
{
    return e->host == set->probe_for.host && e->port == set->probe_for.port;
}

/* The target has ended meanwhile: an old connection is of no use to anybody. */
static bool probe_is_fresh(const struct tcp_endpoints *set)
{
    return set->probe.state == TCP_STATE_OPEN && !set->probe.hung_up;
}

void tcp_endpoints_open(void *context, uint16_t stream, const char *host, uint16_t port)
{
    struct tcp_endpoints *set = context;
    struct tcp_endpoint *e = &set->slots[stream];
    struct error err = ERROR_INIT;
    *e = (struct tcp_endpoint){
        .set = set, .host = host, .port = port, .stream = stream, .in_use = true, .since_ms = now_of(set)};
    if (host != set->probe_for.host)
        e->host = e->own_host = strdup(host);
    if (set->probing && is_probed(set, e) && set->probe_waiter == STREAMS_NONE) {
        set->probe_waiter = stream;
        return;
    }
    if (!set->probing && is_probed(set, e) && probe_is_fresh(set) && take_probe(e)) {
        tell_opened(e);
        return;
    }
    if (e->host != NULL && dial(e, &e->tcp, set->dial_timeout_ms, changed, &err) == 0)
        return;
    forget(e, err.text);
    tell(e, TUNNEL_ENDPOINT_FAILED, err.text);
}

/* ---- the probe ---- */

static void probe_expired(struct loop_timer *timer)
{
    tcp_close(&LOOP_OWNER(timer, struct tcp_endpoints, probe_timer)->probe);
}

/* The stream that came while the probe was dialling: it gets the connection, or the reason. */
static void serve_waiter(struct tcp_endpoints *set, const struct error *failure)
{
    struct tcp_endpoint *e = &set->slots[set->probe_waiter];
    set->probe_waiter = STREAMS_NONE;
    if (failure == NULL && take_probe(e)) {
        tell_opened(e);
        return;
    }
    forget(e, failure != NULL ? failure->text : "no descriptor is free");
    tell(e, TUNNEL_ENDPOINT_FAILED, failure != NULL ? failure->text : "no descriptor is free");
}

static void probe_changed(struct tcp *tcp)
{
    struct tcp_endpoints *set = LOOP_OWNER(tcp, struct tcp_endpoints, probe);
    struct error err = ERROR_INIT;
    if (!set->probing || tcp->state == TCP_STATE_DIALLING)
        return;
    set->probing = false;
    if (tcp->state == TCP_STATE_OPEN) {
        loop_timer_set(set->network->loop, &set->probe_timer,
                       clock_after_ms(now_of(set), TCP_ENDPOINTS_PROBE_KEPT_MS));
        set->probed(set->context, NULL);
    } else {
        tcp_error(tcp, &err);
        tcp_close(tcp);
        set->probed(set->context, &err);
    }
    if (set->probe_waiter != STREAMS_NONE)
        serve_waiter(set, err.code != ERROR_NONE ? &err : NULL);
}

int tcp_endpoints_probe(struct tcp_endpoints *set, const char *host, uint16_t port, int64_t timeout_ms,
                        struct error *err)
{
    set->probe_for = (struct tcp_endpoint){.set = set, .host = host, .port = port};
    set->probing = true;
    int result = dial(&set->probe_for, &set->probe, timeout_ms, probe_changed, err);
    if (result < 0)
        set->probing = false;
    return result;
}

/* ---- the tunnel's steps ---- */

static struct tcp_endpoint *begin_adopted(struct tcp_endpoints *set, uint16_t stream)
{
    struct tcp_endpoint *e = &set->slots[stream];
    *e = (struct tcp_endpoint){
        .set = set, .host = "", .stream = stream, .in_use = true, .connected = true, .since_ms = now_of(set)};
    return e;
}

static int end_adopted(struct tcp_endpoint *e, int result)
{
    if (result < 0)
        e->in_use = false;
    else
        e->set->opened(e->set->context, e);
    return result;
}

int tcp_endpoints_adopt(struct tcp_endpoints *set, uint16_t stream, int fd, struct error *err)
{
    struct tcp_endpoint *e = begin_adopted(set, stream);
    return end_adopted(e, tcp_adopt(&e->tcp, set->network->loop, fd, changed, err));
}

int tcp_endpoints_take(struct tcp_endpoints *set, uint16_t stream, struct tcp *from, struct error *err)
{
    struct tcp_endpoint *e = begin_adopted(set, stream);
    return end_adopted(e, tcp_move(&e->tcp, from, changed, err));
}

/* Its connection broke: the caller learns it by the step's result. */
static void fail_step(struct tcp_endpoint *e, struct tunnel_result *result)
{
    struct error err = ERROR_INIT;
    tcp_error(&e->tcp, &err);
    forget(e, err.text);
    tcp_close(&e->tcp);
    result->failed = true;
}

void tcp_endpoints_read(void *context, uint16_t stream, const struct iovec *vectors, int count,
                        struct tunnel_result *result)
{
    struct tcp_endpoint *e = &((struct tcp_endpoints *) context)->slots[stream];
    result->n = tcp_read_vector(&e->tcp, vectors, (size_t) count);
    if (result->n == 0 && e->tcp.state == TCP_STATE_FAILED) {
        fail_step(e, result);
        return;
    }
    result->ended = result->n == 0 && e->tcp.read_ended;
    result->more = e->tcp.readable || e->tcp.read_ended;
}

void tcp_endpoints_write(void *context, uint16_t stream, const struct iovec *vectors, int count,
                         struct tunnel_result *result)
{
    struct tcp_endpoint *e = &((struct tcp_endpoints *) context)->slots[stream];
    result->n = tcp_write_vector(&e->tcp, vectors, (size_t) count);
    if (e->tcp.state == TCP_STATE_FAILED)
        fail_step(e, result);
    else if (e->tcp.write_ended) /* it broke just now; what the target said before may still be read */
        tell(e, TUNNEL_ENDPOINT_READABLE, NULL);
}

void tcp_endpoints_shut(void *context, uint16_t stream)
{
    tcp_end_write(&((struct tcp_endpoints *) context)->slots[stream].tcp);
}

void tcp_endpoints_end(void *context, uint16_t stream, const char *why)
{
    struct tcp_endpoints *set = context;
    forget(&set->slots[stream], why);
    linger_take(set->linger, &set->slots[stream].tcp, set->number);
}

void tcp_endpoints_reset(void *context, uint16_t stream, const char *why)
{
    struct tcp_endpoint *e = &((struct tcp_endpoints *) context)->slots[stream];
    forget(e, why);
    tcp_reset(&e->tcp);
}

/* ---- the whole ---- */

void tcp_endpoints_init(struct tcp_endpoints *set)
{
    set->probe_waiter = STREAMS_NONE;
    loop_timer_init(&set->probe_timer, probe_expired);
}

void tcp_endpoints_close(struct tcp_endpoints *set, const char *why)
{
    /* Slots are taken from the lowest on: those beyond the number of streams were never touched. */
    for (uint16_t i = 0; i < set->tunnel->streams.untouched; i++)
        if (set->slots[i].in_use)
            tcp_endpoints_end(set, i, why);
    set->probing = false;
    loop_timer_remove(set->network->loop, &set->probe_timer);
    tcp_close(&set->probe);
}
