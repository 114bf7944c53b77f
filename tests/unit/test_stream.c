#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "host/loop.h"
#include "lib/name_server.h"
#include "lib/peer.h"
#include "lib/test_certificates.h"
#include "lib/text_file.h"
#include "net/network.h"
#include "net/stream.h"

static struct loop loop;
static struct network network;

static struct name_server server; /* knows no name */
static char resolv_conf[TEXT_FILE_PATH_SIZE];
static char hosts[TEXT_FILE_PATH_SIZE];

static void serve_no_name(const struct name_server_query *query, struct dns_message *answer, void *context)
{
    (void) query;
    (void) context;
    answer->bytes[3] |= DNS_CODE_NO_NAME;
}

static void add_root(const char *pem)
{
    char path[TEXT_FILE_PATH_SIZE];
    text_file_make(path, pem);
    assert_int_equal(trust_add_file(&network.trust, path), 1);
    text_file_remove(path);
}

static int setup(void **state)
{
    (void) state;
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, NULL, NULL) != 0)
        return -1;
    name_server_open(&server, "127.0.0.1", 0, serve_no_name, NULL);
    text_file_make(resolv_conf, "nameserver 127.0.0.1\n");
    text_file_make(hosts, "127.0.0.1 localhost other.test proxy.test direct.test\n");
    resolver_use_files(&network.resolver, resolv_conf, hosts);
    network.resolver.port = server.port;
    add_root(CERTIFICATE_ROOT_EC);
    add_root(CERTIFICATE_ROOT_RSA);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    name_server_close(&server);
    text_file_remove(resolv_conf);
    text_file_remove(hosts);
    return 0;
}

/* --- an owner that sends a pattern and checks that it comes back ---------------------------------------- */

enum { UNLIMITED = 1 << 30 };

struct client {
    struct stream *stream;
    size_t to_send;
    size_t sent;
    size_t received;
    size_t bytes_a_call; /* how much it puts into, and takes out of, a buffer at once */
    int calls;
};

static uint8_t pattern(size_t position)
{
    return (uint8_t) (position * 7 + position / 251);
}

static void client_send(struct client *client)
{
    static uint8_t bytes[20000]; /* more than a record */
    size_t len, sent;
    do {
        len = client->to_send - client->sent;
        len = len < client->bytes_a_call ? len : client->bytes_a_call;
        len = len < sizeof bytes ? len : sizeof bytes;
        for (size_t i = 0; i < len; i++)
            bytes[i] = pattern(client->sent + i);
        sent = stream_send(client->stream, bytes, len);
        client->sent += sent;
    } while (sent > 0);
}

static void client_receive(struct client *client)
{
    const uint8_t *bytes;
    size_t len;
    while ((bytes = stream_recv_buf(client->stream, &len)) != NULL) {
        len = len < client->bytes_a_call ? len : client->bytes_a_call;
        for (size_t i = 0; i < len; i++)
            assert_int_equal(bytes[i], pattern(client->received + i));
        stream_recv_ack(client->stream, len);
        client->received += len;
    }
}

static void client_changed(struct stream *stream, void *owner)
{
    struct client *client = owner;
    assert_ptr_equal(stream, client->stream);
    client->calls++;
    client_receive(client);
    client_send(client);
}

#define NEW_CLIENT                                                                                           \
    {                                                                                                        \
        .bytes_a_call = UNLIMITED                                                                            \
    }

static void start(struct client *client, const char *host, uint16_t port, bool tls)
{
    struct stream_options options = {
        .host = host, .port = port, .tls = tls, .open_deadline_ms = clock_monotonic_ms() + 5000};
    struct error err = ERROR_INIT;
    int result = stream_open(&client->stream, &network, &options, client_changed, client, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(result, 0);
    assert_int_equal(stream_state(client->stream), STREAM_OPENING);
    assert_int_equal(client->calls, 0);
}

static void run_while(const struct client *client, enum stream_state state)
{
    int64_t give_up_ms = clock_monotonic_ms() + 10000;
    while (stream_state(client->stream) == state && clock_monotonic_ms() < give_up_ms)
        loop_turn(&loop, 50, NULL);
}

static void run_until_received(const struct client *client, size_t count)
{
    int64_t give_up_ms = clock_monotonic_ms() + 20000;
    while (client->received < count && stream_state(client->stream) <= STREAM_OPEN &&
           clock_monotonic_ms() < give_up_ms)
        loop_turn(&loop, 50, NULL);
    assert_string_equal(stream_error(client->stream)->text, "");
    assert_int_equal(client->received, count);
}

/* --- peers ---------------------------------------------------------------------------------------------- */

static void echo_plain(int fd, void *context)
{
    static uint8_t bytes[100000];
    (void) context;
    ssize_t got;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0 && peer_write(fd, bytes, (size_t) got)) {
    }
}

static void echo_tls(br_sslio_context *io, void *context)
{
    static uint8_t bytes[100000];
    (void) context;
    int got;
    while ((got = br_sslio_read(io, bytes, sizeof bytes)) > 0)
        if (br_sslio_write_all(io, bytes, (size_t) got) != 0 || br_sslio_flush(io) != 0)
            return;
}

static void say_nothing_tls(br_sslio_context *io, void *context)
{
    uint8_t byte;
    (void) context;
    br_sslio_read(io, &byte, 1);
}

static void say_hello_tls(br_sslio_context *io, void *context)
{
    size_t count = *(const size_t *) context;
    br_sslio_flush(io);
    for (size_t i = 0; i < count; i++) {
        uint8_t byte = pattern(i);
        br_sslio_write_all(io, &byte, 1);
        br_sslio_flush(io);
    }
}

static struct tls_peer echo_ec = {CERTIFICATE_LEAF_EC, KEY_LEAF_EC, false, false, echo_tls, NULL};
static struct tls_peer echo_rsa = {CERTIFICATE_LEAF_RSA, KEY_LEAF_RSA, false, false, echo_tls, NULL};

static void echo_through(void (*serve)(int fd, void *context), void *context, bool tls, size_t count,
                         size_t bytes_a_call)
{
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, serve, context);
    struct client client = NEW_CLIENT;
    client.to_send = count;
    client.bytes_a_call = bytes_a_call;
    start(&client, "localhost", peer.port, tls);
    run_until_received(&client, count);
    assert_int_equal(stream_state(client.stream), STREAM_OPEN);
    stream_close(client.stream);
    peer_close(&peer);
}

static const size_t sizes[] = {1, 1023, 4096, 4097, 16383, 16384, 16385, 100000, 3000000};

static void bytes_come_back_unchanged_plain(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        echo_through(echo_plain, NULL, false, sizes[i], UNLIMITED);
    echo_through(echo_plain, NULL, false, 5000, 1);
}

static void bytes_come_back_unchanged_tls(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        echo_through(tls_peer_serve, &echo_ec, true, sizes[i], UNLIMITED);
    echo_through(tls_peer_serve, &echo_ec, true, 5000, 1);
    echo_through(tls_peer_serve, &echo_ec, true, 300000, 777);
    echo_through(tls_peer_serve, &echo_rsa, true, 100000, UNLIMITED);
}

static void many_small_records_arrive(void **state)
{
    (void) state;
    size_t count = 3000;
    struct tls_peer hello = {CERTIFICATE_LEAF_EC, KEY_LEAF_EC, false, false, say_hello_tls, &count};
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &hello);
    struct client client = NEW_CLIENT;
    start(&client, "localhost", peer.port, true);
    run_while(&client, STREAM_OPENING);
    run_while(&client, STREAM_OPEN);
    assert_int_equal(client.received, count);
    assert_int_equal(stream_state(client.stream), STREAM_ENDED);
    assert_true(stream_ended_cleanly(client.stream));
    stream_close(client.stream);
    peer_close(&peer);
}

/* What leaves in one turn leaves as one record: the peer counts them. */
static atomic_int records_seen;

static void count_records(int fd, void *context)
{
    (void) context;
    uint8_t bytes[4];
    /* Plain TCP shows the same: one write of 3 bytes arrives at once, three writes might not. */
    atomic_store(&records_seen, (int) recv(fd, bytes, sizeof bytes, 0));
}

static void one_turn_is_one_write(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, count_records, NULL);
    struct client client = NEW_CLIENT;
    client.to_send = 3;
    client.bytes_a_call = 1;
    start(&client, "localhost", peer.port, false);
    run_while(&client, STREAM_OPENING);
    run_while(&client, STREAM_OPEN);
    assert_int_equal(atomic_load(&records_seen), 3);
    stream_close(client.stream);
    peer_close(&peer);
}

static void a_stalled_reader_does_not_lose_or_grow(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &echo_ec);
    struct client client = NEW_CLIENT;
    struct stream *stream;
    client.to_send = 0;
    start(&client, "localhost", peer.port, true);
    run_while(&client, STREAM_OPENING);
    stream = client.stream;
    /* Sends without reading until everything is full: both directions block. */
    static uint8_t bytes[10000];
    size_t sent = 0;
    for (int idle = 0; idle < 5;) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = pattern(sent + i);
        size_t now = stream_send(stream, bytes, sizeof bytes);
        sent += now;
        idle = now == 0 ? idle + 1 : 0;
        if (now == 0)
            usleep(20000);
    }
    assert_true(sent > 100000);
    client.sent = sent;
    client.to_send = sent + 50000;
    run_until_received(&client, sent + 50000);
    stream_close(stream);
    peer_close(&peer);
}

/* --- ends ----------------------------------------------------------------------------------------------- */

static void say_hello_plain(int fd, void *context)
{
    const size_t *count = context;
    for (size_t i = 0; i < *count; i++) {
        uint8_t byte = pattern(i);
        peer_write(fd, &byte, 1);
    }
}

static void an_orderly_end_is_clean(void **state)
{
    (void) state;
    size_t count = 1000;
    struct tls_peer polite = {CERTIFICATE_LEAF_EC, KEY_LEAF_EC, false, false, say_hello_tls, &count};
    for (int tls = 0; tls < 2; tls++) {
        struct peer peer;
        if (tls)
            peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &polite);
        else
            peer_open(&peer, "127.0.0.1", 0, say_hello_plain, &count);
        struct client client = NEW_CLIENT;
        start(&client, "localhost", peer.port, tls);
        run_while(&client, STREAM_OPENING);
        run_while(&client, STREAM_OPEN);
        assert_int_equal(stream_state(client.stream), STREAM_ENDED);
        assert_true(stream_ended_cleanly(client.stream));
        assert_int_equal(client.received, count);
        assert_int_equal(stream_send(client.stream, "x", 1), 0);
        stream_close(client.stream);
        peer_close(&peer);
    }
}

static void a_tls_end_without_goodbye_is_not_clean(void **state)
{
    (void) state;
    size_t count = 100;
    struct tls_peer rude = {CERTIFICATE_LEAF_EC, KEY_LEAF_EC, false, true, say_hello_tls, &count};
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &rude);
    struct client client = NEW_CLIENT;
    start(&client, "localhost", peer.port, true);
    run_while(&client, STREAM_OPENING);
    run_while(&client, STREAM_OPEN);
    assert_int_equal(stream_state(client.stream), STREAM_ENDED);
    assert_false(stream_ended_cleanly(client.stream));
    assert_int_equal(client.received, count);
    stream_close(client.stream);
    peer_close(&peer);
}

static void reset_it(int fd, void *context)
{
    (void) context;
    char byte;
    peer_read(fd, &byte, 1);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void a_reset_is_a_failure_in_words(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, reset_it, NULL);
    struct client client = NEW_CLIENT;
    client.to_send = 1;
    start(&client, "localhost", peer.port, false);
    run_while(&client, STREAM_OPENING);
    run_while(&client, STREAM_OPEN);
    assert_int_equal(stream_state(client.stream), STREAM_FAILED);
    char expected[128];
    snprintf(expected, sizeof expected, "connection with localhost:%u: Connection reset by peer", peer.port);
    assert_string_equal(stream_error(client.stream)->text, expected);
    stream_close(client.stream);
    peer_close(&peer);
}

/* --- failures to open ----------------------------------------------------------------------------------- */

/* Puts the port's digits where `text` says PORT. */
static const char *with_port(const char *text, uint16_t port)
{
    static char out[ERROR_TEXT_SIZE];
    struct writer w = writer_of(out, sizeof out);
    struct str rest = str_from(text);
    size_t at;
    while (str_find(rest, "PORT", &at)) {
        writer_str(&w, str_slice(rest, 0, at));
        writer_u64_decimal(&w, port);
        rest = str_slice(rest, at + strlen("PORT"), rest.len);
    }
    writer_str(&w, rest);
    return writer_terminate(&w);
}

static void fails(const char *host, uint16_t port, bool tls, int code, const char *text)
{
    struct client client = NEW_CLIENT;
    start(&client, host, port, tls);
    run_while(&client, STREAM_OPENING);
    assert_int_equal(stream_state(client.stream), STREAM_FAILED);
    if (client.calls == 0)
        loop_turn(&loop, 0, NULL); /* the handshake's arithmetic took all of its turn's time */
    assert_string_equal(stream_error(client.stream)->text, with_port(text, port));
    assert_int_equal(stream_error(client.stream)->code, code);
    size_t len;
    assert_int_equal(stream_send(client.stream, "x", 1), 0);
    assert_null(stream_recv_buf(client.stream, &len));
    loop_turn(&loop, 0, NULL); /* the step that failed may have used up its turn */
    assert_true(client.calls >= 1);
    stream_close(client.stream);
}

static void fails_with_peer(struct tls_peer *tls_peer, const char *host, int code, const char *text)
{
    struct peer peer;
    tls_peer->serve = say_nothing_tls;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, tls_peer);
    fails(host, peer.port, true, code, text);
    peer_close(&peer);
}

static void a_certificate_must_be_right(void **state)
{
    (void) state;
    struct tls_peer good = {.certificate = CERTIFICATE_LEAF_EC, .key = KEY_LEAF_EC};
    struct tls_peer weak = {.certificate = CERTIFICATE_LEAF_WEAK, .key = KEY_LEAF_WEAK};
    struct tls_peer expired = {.certificate = CERTIFICATE_LEAF_EXPIRED, .key = KEY_LEAF_EXPIRED};
    fails_with_peer(&good, "other.test", ERROR_DENIED,
                    "TLS with other.test:PORT: the certificate is not for other.test");
    fails_with_peer(&weak, "localhost", ERROR_DENIED,
                    "TLS with localhost:PORT: a certificate's RSA key has less than 2048 bits");
    trust_close(&network.trust);
    assert_int_equal(trust_open(&network.trust, NULL), 0);
    fails_with_peer(&good, "localhost", ERROR_DENIED,
                    "TLS with localhost:PORT: the certificate is not trusted: none of the known CA "
                    "certificates signed it; "
                    "set SSL_CERT_FILE to a PEM file with the right one");
    add_root(CERTIFICATE_ROOT_EC);

    struct peer peer;
    expired.serve = say_nothing_tls;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &expired);
    struct client client = NEW_CLIENT;
    start(&client, "localhost", peer.port, true);
    run_while(&client, STREAM_OPENING);
    assert_non_null(strstr(stream_error(client.stream)->text, "has expired or is not valid yet; it is 2"));
    assert_non_null(strstr(stream_error(client.stream)->text, ": is the clock right?"));
    stream_close(client.stream);
    peer_close(&peer);
}

/* What can't be checked is refused with its name, and nothing is taken without a look. */
static void what_a_certificate_demands_is_not_overlooked(void **state)
{
    static const struct {
        const char *certificate, *text;
    } rows[] = {
        {CERTIFICATE_LEAF_CRITICAL_PURPOSE, "checked here: extended key usage (2.5.29.37); have it issued"},
        {CERTIFICATE_LEAF_CONSTRAINED, "checked here: name constraints (2.5.29.30); have it issued"},
        {CERTIFICATE_LEAF_UNKNOWN_EXTENSION, "checked here: unknown (2.999.99999.7); have it issued"},
        {CERTIFICATE_LEAF_OTHER_PURPOSE, "uses a key for a purpose it does not allow"},
    };
    (void) state;
    add_root(CERTIFICATE_ROOT_ODD);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tls_peer tls_peer = {
            .certificate = rows[i].certificate, .key = KEY_LEAF_ODD, .serve = say_nothing_tls};
        struct peer peer;
        peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &tls_peer);
        struct client client = NEW_CLIENT;
        start(&client, "localhost", peer.port, true);
        run_while(&client, STREAM_OPENING);
        if (strstr(stream_error(client.stream)->text, rows[i].text) == NULL)
            fail_msg("%s", stream_error(client.stream)->text);
        stream_close(client.stream);
        peer_close(&peer);
    }
}

static void an_address_is_looked_for_among_addresses(void **state)
{
    struct tls_peer named = {.certificate = CERTIFICATE_LEAF_EC, .key = KEY_LEAF_EC};
    struct tls_peer tls_peer = {.certificate = CERTIFICATE_LEAF_ADDRESS, .key = KEY_LEAF_ODD};
    struct peer peer;
    (void) state;
    add_root(CERTIFICATE_ROOT_ODD);
    fails_with_peer(&named, "127.0.0.1", ERROR_DENIED,
                    "TLS with 127.0.0.1:PORT: the certificate is not for 127.0.0.1");
    fails_with_peer(&tls_peer, "localhost", ERROR_DENIED,
                    "TLS with localhost:PORT: the certificate is not for localhost");
    tls_peer.serve = say_nothing_tls;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &tls_peer);
    struct client client = NEW_CLIENT;
    start(&client, "127.0.0.1", peer.port, true);
    run_while(&client, STREAM_OPENING);
    assert_int_equal(stream_state(client.stream), STREAM_OPEN);
    stream_close(client.stream);
    peer_close(&peer);
}

static void an_old_peer_has_nothing_in_common(void **state)
{
    (void) state;
    struct tls_peer old = {.certificate = CERTIFICATE_LEAF_EC, .key = KEY_LEAF_EC, .old_versions_only = true};
    fails_with_peer(
        &old, "localhost", ERROR_UNAVAILABLE,
        "TLS with localhost:PORT: the peer refused: alert 40, handshake_failure, probably no cipher suite "
        "in common");
}

static void talk_nonsense(int fd, void *context)
{
    const char *nonsense = context;
    peer_write(fd, nonsense, strlen(nonsense));
    char byte;
    if (nonsense[0] != '\0')
        peer_read(fd, &byte, 1);
}

static void nonsense_and_silence_are_told_apart(void **state)
{
    (void) state;
    struct peer peer;
    char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    peer_open(&peer, "127.0.0.1", 0, talk_nonsense, http);
    fails("localhost", peer.port, true, ERROR_UNSUPPORTED,
          "TLS with localhost:PORT: the peer does not speak TLS 1.2");
    peer_close(&peer);
    char nothing[] = "";
    peer_open(&peer, "127.0.0.1", 0, talk_nonsense, nothing);
    struct client client = NEW_CLIENT;
    start(&client, "localhost", peer.port, true);
    run_while(&client, STREAM_OPENING);
    const char *text = stream_error(client.stream)->text;
    assert_true(strstr(text, "the peer closed the connection") != NULL ||
                strstr(text, "reset by peer") != NULL);
    stream_close(client.stream);
    peer_close(&peer);
}

static void never_answer(int fd, void *context)
{
    (void) context;
    char bytes[1024];
    while (peer_read(fd, bytes, 1) == 1) {
    }
}

static void each_step_has_an_end(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, never_answer, NULL);
    struct client client = NEW_CLIENT;
    loop_turn(&loop, 0, NULL);
    struct stream_options options = {
        .host = "localhost", .port = peer.port, .tls = true, .open_deadline_ms = loop_now_ms(&loop) + 100};
    assert_int_equal(stream_open(&client.stream, &network, &options, client_changed, &client, NULL), 0);
    run_while(&client, STREAM_OPENING);
    assert_int_equal(stream_error(client.stream)->code, ERROR_TIMEOUT);
    char expected[64];
    snprintf(expected, sizeof expected, "TLS with localhost:%u: no answer within ", peer.port);
    assert_int_equal(strncmp(stream_error(client.stream)->text, expected, strlen(expected)), 0);
    stream_close(client.stream);
    peer_close(&peer);
}

static void nobody_there_and_no_such_name(void **state)
{
    (void) state;
    uint16_t port = peer_unused_port();
    fails("localhost", port, false, ERROR_UNAVAILABLE,
          "dial localhost:PORT: 127.0.0.1:PORT: Connection refused");
    fails("nowhere.test", 443, true, ERROR_NOT_FOUND, "dial nowhere.test:443: no such name");
}

static void tls_without_ca_certificates_is_refused_at_once(void **state)
{
    (void) state;
    struct network bare = {.loop = &loop};
    struct stream_options options = {.host = "localhost", .port = 1, .tls = true};
    struct stream *stream;
    struct error err = ERROR_INIT;
    assert_int_equal(stream_open(&stream, &bare, &options, client_changed, NULL, &err), ERROR_UNSUPPORTED);
    assert_string_equal(err.text, "TLS with localhost: there are no CA certificates");
    assert_null(stream);
}

static size_t waiting_handshakes(void)
{
    size_t count = 0;
    for (const struct list *node = network.handshakes.next; node != &network.handshakes; node = node->next)
        count++;
    return count;
}

/* A step is a signature or two, milliseconds on a share of a core: streams that open at once take turns. */
static void handshakes_take_one_step_a_turn(void **state)
{
    enum { COUNT = 6, CLOSED = COUNT - 1 };
    struct client clients[COUNT];
    struct peer peers[COUNT];
    size_t most_waiting = 0;
    int opened = 0;
    (void) state;
    for (int i = 0; i < COUNT; i++) {
        peer_open(&peers[i], "127.0.0.1", 0, tls_peer_serve, &echo_ec);
        clients[i] = (struct client) NEW_CLIENT;
        start(&clients[i], "localhost", peers[i].port, true);
    }
    for (int turn = 0; turn < 200 && opened < COUNT - 1; turn++) {
        usleep(5000); /* all peers have answered what they were asked */
        loop_turn(&loop, 0, NULL);
        size_t waiting = waiting_handshakes();
        most_waiting = waiting > most_waiting ? waiting : most_waiting;
        if (waiting > 2 && clients[CLOSED].stream != NULL) {
            stream_close(clients[CLOSED].stream); /* while it waits */
            clients[CLOSED].stream = NULL;
        }
        int open_now = 0;
        for (int i = 0; i < COUNT; i++)
            open_now += clients[i].stream != NULL && stream_state(clients[i].stream) == STREAM_OPEN;
        assert_in_range(open_now, opened, opened + 1);
        opened = open_now;
    }
    assert_int_equal(opened, COUNT - 1);
    assert_in_range(most_waiting, 3, COUNT - 1); /* all but the first, unless the peers are slow */
    for (int i = 0; i < COUNT; i++) {
        stream_close(clients[i].stream);
        peer_close(&peers[i]);
    }
}

static void closing_at_any_time_leaves_nothing_behind(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &echo_ec);
    for (int turns = 0; turns < 12; turns++) {
        struct client client = NEW_CLIENT;
        client.to_send = 100;
        start(&client, "localhost", peer.port, true);
        for (int i = 0; i < turns; i++)
            loop_turn(&loop, 5, NULL);
        stream_close(client.stream);
        assert_null(loop.timers);
        client.stream = NULL; /* client_changed would not get past this */
        loop_turn(&loop, 0, NULL);
    }
    stream_close(NULL);
    peer_close(&peer);
}

/* --- proxies -------------------------------------------------------------------------------------------- */

struct test_proxy {
    const char *answer; /* null: connects to the host */
    uint16_t target_port;
    char request[1024];
};

static int connect_to(uint16_t port)
{
    struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return connect(fd, (struct sockaddr *) &name, sizeof name) == 0 ? fd : -1;
}

struct one_way {
    int from;
    int to;
};

static void *copy_one_way(void *argument)
{
    const struct one_way *way = argument;
    uint8_t bytes[4096];
    ssize_t got;
    while ((got = recv(way->from, bytes, sizeof bytes, 0)) > 0 && peer_write(way->to, bytes, (size_t) got)) {
    }
    shutdown(way->to, SHUT_WR);
    return NULL;
}

static void serve_as_proxy(int fd, void *context)
{
    struct test_proxy *proxy = context;
    if (!peer_read_head(fd, proxy->request, sizeof proxy->request))
        return;
    if (proxy->answer != NULL) {
        peer_write(fd, proxy->answer, strlen(proxy->answer));
        char byte;
        peer_read(fd, &byte, 1);
        return;
    }
    int target = connect_to(proxy->target_port);
    const char *answer = "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n";
    peer_write(fd, answer, strlen(answer));
    struct one_way there = {fd, target};
    struct one_way back = {target, fd};
    pthread_t thread;
    pthread_create(&thread, NULL, copy_one_way, &there);
    copy_one_way(&back);
    pthread_join(thread, NULL);
    close(target);
}

static void use_proxy(uint16_t port, const char *userinfo, const char *exceptions)
{
    char url[128];
    snprintf(url, sizeof url, "http://%sproxy.test:%u", userinfo, port);
    assert_int_equal(proxy_parse(&network.proxy, str_from(url), str_from(exceptions), NULL), 0);
}

static void tls_goes_through_the_proxy_end_to_end(void **state)
{
    (void) state;
    struct peer target;
    struct peer proxy_peer;
    static const char *const names[] = {"localhost", "other.test"};
    for (int i = 0; i < 2; i++) {
        peer_open(&target, "127.0.0.1", 0, tls_peer_serve, &echo_ec);
        struct test_proxy test_proxy = {.target_port = target.port};
        peer_open(&proxy_peer, "127.0.0.1", 0, serve_as_proxy, &test_proxy);
        use_proxy(proxy_peer.port, "user:pass@", "direct.test");
        if (i == 0) {
            /* "localhost" never goes through a proxy; so this one is direct. */
            echo_through(tls_peer_serve, &echo_ec, true, 1000, UNLIMITED);
            assert_string_equal(test_proxy.request, "");
        } else {
            /* Ends in the certificate, which is for localhost: seen through the tunnel, so TLS is end to
             * end. */
            struct client client = NEW_CLIENT;
            start(&client, names[i], 443, true);
            run_while(&client, STREAM_OPENING);
            assert_string_equal(stream_error(client.stream)->text,
                                "TLS with other.test:443: the certificate is not for other.test");
            stream_close(client.stream);
            assert_string_equal(test_proxy.request,
                                "CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n"
                                "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n");
        }
        peer_close(&proxy_peer);
        peer_close(&target);
    }
}

static void a_proxy_may_refuse(void **state)
{
    (void) state;
    static const struct {
        const char *answer;
        int code;
        const char *text;
    } cases[] = {
        {"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno\n", ERROR_DENIED,
         "the proxy answered 407: HTTPS_PROXY needs a valid user and password"},
        {"HTTP/1.1 503 No\r\n\r\n", ERROR_UNAVAILABLE, "the proxy answered 503"},
        {"HTTP/1.1 200 Yes\r\n\r\nx", ERROR_INVALID, "the proxy sent bytes before the host could"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test_proxy test_proxy = {.answer = cases[i].answer};
        struct peer peer;
        peer_open(&peer, "127.0.0.1", 0, serve_as_proxy, &test_proxy);
        use_proxy(peer.port, "", "");
        char text[256];
        snprintf(text, sizeof text, "CONNECT through the proxy to other.test:443: %s", cases[i].text);
        fails("other.test", 443, true, cases[i].code, text);
        peer_close(&peer);
    }
}

static void a_proxy_that_is_not_there_is_named(void **state)
{
    (void) state;
    uint16_t port = peer_unused_port();
    use_proxy(port, "", "");
    char text[256];
    snprintf(text, sizeof text,
             "proxy for other.test:443: dial proxy.test:%u: 127.0.0.1:%u: Connection refused", port, port);
    fails("other.test", 443, true, ERROR_UNAVAILABLE, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_come_back_unchanged_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_come_back_unchanged_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(many_small_records_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(one_turn_is_one_write, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stalled_reader_does_not_lose_or_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(an_orderly_end_is_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tls_end_without_goodbye_is_not_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_is_a_failure_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(a_certificate_must_be_right, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_certificate_demands_is_not_overlooked, setup, teardown),
        cmocka_unit_test_setup_teardown(an_address_is_looked_for_among_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(an_old_peer_has_nothing_in_common, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_and_silence_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(each_step_has_an_end, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_there_and_no_such_name, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_without_ca_certificates_is_refused_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(handshakes_take_one_step_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_at_any_time_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_goes_through_the_proxy_end_to_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_proxy_may_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(a_proxy_that_is_not_there_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
