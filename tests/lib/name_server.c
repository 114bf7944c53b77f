#include "lib/name_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/peer.h"

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* False for what is not a question. */
static bool read_query(struct name_server_query *query, const uint8_t *bytes, size_t len)
{
    size_t at = DNS_MESSAGE_QUESTION;
    size_t name_len = 0;
    if (len < at + 5 || len > 512)
        return false;
    while (at < len && bytes[at] != 0) {
        memcpy(query->name + name_len, bytes + at + 1, bytes[at]);
        name_len += bytes[at];
        query->name[name_len++] = '.';
        at += 1U + bytes[at];
    }
    query->name[name_len > 0 ? name_len - 1 : 0] = '\0';
    query->id = (unsigned) (bytes[0] << 8 | bytes[1]);
    query->type = (unsigned) (bytes[at + 1] << 8 | bytes[at + 2]);
    return true;
}

static bool answer(struct name_server *server, struct name_server_query *query, const uint8_t *bytes,
                   size_t len, struct dns_message *m)
{
    if (!read_query(query, bytes, len))
        return false;
    atomic_fetch_add(query->over_tcp ? &server->tcp_count : &server->udp_count, 1);
    dns_message_begin(m, query->id, DNS_MESSAGE_ANSWER, query->name, query->type);
    server->serve(query, m, server->context);
    return m->len > 0;
}

static void serve_udp(struct name_server *server, struct dns_message *m)
{
    uint8_t bytes[600];
    struct sockaddr_in from = {0};
    socklen_t from_len = sizeof from;
    ssize_t got =
        recvfrom(server->udp_fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *) &from, &from_len);
    struct name_server_query query = {.source_port = ntohs(from.sin_port)};
    if (got > 0 && answer(server, &query, bytes, (size_t) got, m))
        sendto(server->udp_fd, m->bytes, m->len, 0, (struct sockaddr *) &from, from_len);
}

/* One question a connection. */
static void serve_tcp(struct name_server *server, struct dns_message *m)
{
    uint8_t bytes[600];
    struct sockaddr_in from = {0};
    socklen_t from_len = sizeof from;
    int fd = accept4(server->listen_fd, (struct sockaddr *) &from, &from_len, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct name_server_query query = {.over_tcp = true, .source_port = ntohs(from.sin_port)};
    size_t len = peer_read(fd, bytes, 2) == 2 ? (size_t) (bytes[0] << 8 | bytes[1]) : 0;
    if (len > 0 && len <= sizeof bytes && peer_read(fd, bytes, len) == len &&
        answer(server, &query, bytes, len, m)) {
        peer_write(fd, (const uint8_t[]){(uint8_t) (m->len >> 8), (uint8_t) m->len}, 2);
        for (size_t at = 0; at < m->len; at += 1000) /* in pieces, as over a long way */
            peer_write(fd, m->bytes + at, m->len - at < 1000 ? m->len - at : 1000);
    }
    close(fd);
}

static void *run(void *argument)
{
    struct name_server *server = argument;
    static _Thread_local struct dns_message m;
    struct pollfd fds[] = {{.fd = server->udp_fd, .events = POLLIN},
                           {.fd = server->listen_fd, .events = POLLIN},
                           {.fd = server->stop_fds[0], .events = POLLIN}};
    while (poll(fds, 3, -1) > 0 && fds[2].revents == 0) {
        if (fds[0].revents != 0)
            serve_udp(server, &m);
        if (fds[1].revents != 0)
            serve_tcp(server, &m);
    }
    return NULL;
}

static int bind_to(int type, const char *address, uint16_t *port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t len = sizeof name;
    inet_pton(AF_INET, address, &name.sin_addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *) &name, len) != 0 ||
        getsockname(fd, (struct sockaddr *) &name, &len) != 0)
        die(address);
    *port = ntohs(name.sin_port);
    return fd;
}

void name_server_open(struct name_server *server, const char *address, uint16_t port,
                      void (*serve)(const struct name_server_query *query, struct dns_message *answer,
                                    void *context),
                      void *context)
{
    *server = (struct name_server){.port = port, .serve = serve, .context = context};
    server->listen_fd = bind_to(SOCK_STREAM, address, &server->port);
    server->udp_fd = bind_to(SOCK_DGRAM, address, &server->port);
    if (listen(server->listen_fd, 16) != 0 || pipe(server->stop_fds) != 0 ||
        pthread_create(&server->thread, NULL, run, server) != 0)
        die("name server");
}

void name_server_close(struct name_server *server)
{
    close(server->stop_fds[1]);
    pthread_join(server->thread, NULL);
    close(server->stop_fds[0]);
    close(server->udp_fd);
    close(server->listen_fd);
}
