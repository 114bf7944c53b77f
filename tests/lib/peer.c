#include "lib/peer.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void *accept_connections(void *argument)
{
    struct peer *peer = argument;
    for (;;) {
        int fd = accept4(peer->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(&peer->accepted, 1);
        peer->serve(fd, peer->context);
        close(fd);
    }
}

static int listen_on(const char *address, uint16_t *port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {0};
    socklen_t len = sizeof name;
    if (inet_pton(AF_INET, address, &name.v4.sin_addr) == 1) {
        name.v4.sin_family = AF_INET;
        name.v4.sin_port = htons(*port);
        len = sizeof name.v4;
    } else if (inet_pton(AF_INET6, address, &name.v6.sin6_addr) == 1) {
        name.v6.sin6_family = AF_INET6;
        name.v6.sin6_port = htons(*port);
    }
    int fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, &name.any, len) != 0 || listen(fd, 16) != 0 || getsockname(fd, &name.any, &len) != 0)
        die(address);
    *port = ntohs(name.any.sa_family == AF_INET ? name.v4.sin_port : name.v6.sin6_port);
    return fd;
}

void peer_open(struct peer *peer, const char *address, uint16_t port, void (*serve)(int fd, void *context),
               void *context)
{
    *peer = (struct peer){.port = port, .serve = serve, .context = context};
    peer->listen_fd = listen_on(address, &peer->port);
    if (pthread_create(&peer->thread, NULL, accept_connections, peer) != 0)
        die("pthread_create");
}

void peer_close(struct peer *peer)
{
    shutdown(peer->listen_fd, SHUT_RDWR); /* ends accept() */
    pthread_join(peer->thread, NULL);
    close(peer->listen_fd);
}

int peer_wait_accepted(struct peer *peer, int count)
{
    for (int tries = 0; tries < 5000 && atomic_load(&peer->accepted) < count; tries++)
        usleep(1000);
    return atomic_load(&peer->accepted);
}

uint16_t peer_unused_port(void)
{
    uint16_t port = 0;
    close(listen_on("127.0.0.1", &port));
    return port;
}

bool peer_write(int fd, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t written = send(fd, at, len, MSG_NOSIGNAL);
        if (written <= 0)
            return false;
        at += written;
        len -= (size_t) written;
    }
    return true;
}

size_t peer_read(int fd, void *data, size_t len)
{
    uint8_t *at = data;
    size_t total = 0;
    while (total < len) {
        ssize_t got = recv(fd, at + total, len - total, 0);
        if (got <= 0)
            break;
        total += (size_t) got;
    }
    return total;
}

bool peer_read_head(int fd, char *out, size_t capacity)
{
    for (size_t len = 0; len + 1 < capacity; len++) {
        if (peer_read(fd, out + len, 1) != 1)
            return false;
        out[len + 1] = '\0';
        if (len >= 3 && memcmp(out + len - 3, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

/* --- TLS ------------------------------------------------------------------------------------------------ */

struct der {
    unsigned char bytes[4096];
    size_t len;
};

static void append_der(void *context, const void *data, size_t len)
{
    struct der *der = context;
    if (len > sizeof der->bytes - der->len)
        die("certificate too long");
    memcpy(der->bytes + der->len, data, len);
    der->len += len;
}

/* The first object of the text. */
static void decode_pem(const char *text, struct der *der)
{
    br_pem_decoder_context pem;
    br_pem_decoder_init(&pem);
    der->len = 0;
    for (size_t len = strlen(text); len > 0;) {
        size_t used = br_pem_decoder_push(&pem, text, len);
        text += used;
        len -= used;
        int event = br_pem_decoder_event(&pem);
        if (event == BR_PEM_BEGIN_OBJ)
            br_pem_decoder_setdest(&pem, append_der, der);
        else if (event == BR_PEM_END_OBJ)
            return;
    }
    die("no PEM object");
}

static int read_socket(void *context, unsigned char *data, size_t len)
{
    ssize_t got = recv(*(int *) context, data, len, 0);
    return got > 0 ? (int) got : -1;
}

static int write_socket(void *context, const unsigned char *data, size_t len)
{
    ssize_t written = send(*(int *) context, data, len, MSG_NOSIGNAL);
    return written > 0 ? (int) written : -1;
}

static void run_server(br_ssl_server_context *server, int fd, const struct tls_peer *peer)
{
    static const size_t buffer_size = BR_SSL_BUFSIZE_BIDI;
    unsigned char *buffer = malloc(buffer_size);
    unsigned char seed[32];
    if (buffer == NULL || getrandom(seed, sizeof seed, 0) != (ssize_t) sizeof seed)
        die("TLS server");
    br_ssl_engine_set_buffer(&server->eng, buffer, buffer_size, 1);
    br_ssl_engine_inject_entropy(&server->eng, seed, sizeof seed);
    if (peer->old_versions_only)
        br_ssl_engine_set_versions(&server->eng, BR_TLS10, BR_TLS11);
    br_ssl_server_reset(server);
    br_sslio_context io;
    br_sslio_init(&io, &server->eng, read_socket, &fd, write_socket, &fd);
    peer->serve(&io, peer->context);
    br_sslio_flush(&io);
    if (!peer->cut_off)
        br_sslio_close(&io);
    free(buffer);
}

void tls_peer_serve(int fd, void *tls_peer)
{
    const struct tls_peer *peer = tls_peer;
    struct der certificate;
    struct der key_der;
    decode_pem(peer->certificate, &certificate);
    decode_pem(peer->key, &key_der);
    br_x509_certificate chain = {certificate.bytes, certificate.len};
    br_skey_decoder_context key;
    br_skey_decoder_init(&key);
    br_skey_decoder_push(&key, key_der.bytes, key_der.len);
    br_ssl_server_context server;
    if (br_skey_decoder_key_type(&key) == BR_KEYTYPE_EC)
        br_ssl_server_init_full_ec(&server, &chain, 1, BR_KEYTYPE_EC, br_skey_decoder_get_ec(&key));
    else if (br_skey_decoder_key_type(&key) == BR_KEYTYPE_RSA)
        br_ssl_server_init_full_rsa(&server, &chain, 1, br_skey_decoder_get_rsa(&key));
    else
        die("no key");
    run_server(&server, fd, peer);
}
