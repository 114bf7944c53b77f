/*
 * How fast the data channel engine is on one core: an agent sends a stream to a client, both engines in this
 * process, the wire a buffer in memory, no pacing. The agent's share (number, hash, mask, frame; read
 * acknowledgements) and the client's (unframe, hash, order; write acknowledgements) are timed apart.
 *
 *     build/<arch>/bench/data_channel [megabytes] [portable]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include "base/sha256.h"
#include "channel/data_channel.h"

enum { POOL_BLOCKS = 16384, WIRE_SIZE = 256 * 1024, CHUNK = 16 * 1024, DATA_SIZE = 64 * 1024 };

struct end {
    struct data_channel channel;
    struct pool pool;
    struct pool_user user;
    struct websocket_decoder ear; /* the gateway's */
    uint8_t ear_buffer[WIRE_SIZE];
    double seconds;
    uint64_t bytes;
};

static struct end agent, client;
static uint8_t data[DATA_SIZE];

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void *pages(size_t size)
{
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        abort();
    return start;
}

static void set_up(struct end *e, enum data_channel_role role)
{
    struct data_channel_config config = {.role = role, .ping_interval_ms = 54000};
    config.memory = pages(DATA_CHANNEL_MEMORY_SIZE);
    pool_init(&e->pool, pages((size_t) POOL_BLOCKS * POOL_BLOCK_SIZE), POOL_BLOCKS, 1);
    pool_join(&e->pool, &e->user);
    config.user = &e->user;
    data_channel_init(&e->channel, &config, 0);
    data_channel_connect(&e->channel, 0, str_from("{}"), NULL);
    websocket_decoder_init(&e->ear, WEBSOCKET_SERVER, e->ear_buffer, sizeof e->ear_buffer);
}

/* All frames that `from` has ready, as far as the gateway's buffer holds them. Timed. */
static void write_out(struct end *from, int64_t now_ms)
{
    double start = seconds_now();
    for (size_t len, room;;) {
        const uint8_t *out = data_channel_out_buf(&from->channel, now_ms, &len);
        uint8_t *in = websocket_in_buf(&from->ear, &room);
        if (len == 0 || room < len)
            break;
        memcpy(in, out, len);
        websocket_in_ack(&from->ear, len);
        data_channel_out_ack(&from->channel, now_ms, len);
    }
    from->seconds += seconds_now() - start;
}

/* The gateway takes them apart and makes a server's frames of them. Not timed. */
static size_t relay(struct end *from, uint8_t *wire, size_t capacity)
{
    struct websocket_event event;
    size_t len = 0;
    while (capacity - len > WEBSOCKET_HEADROOM + 2048 && websocket_next(&from->ear, &event, NULL) == 0 &&
           event.type == WEBSOCKET_EVENT_MESSAGE) {
        if (!event.binary)
            continue;
        size_t header = websocket_header_size(event.len, false);
        memcpy(wire + len + header, event.data, event.len);
        len += websocket_seal(wire + len + header, event.len, WEBSOCKET_BINARY, NULL) + event.len;
    }
    return len;
}

static void read_in(struct end *to, const uint8_t *wire, size_t len, int64_t now_ms)
{
    double start = seconds_now();
    while (len > 0) {
        struct data_channel_event event;
        size_t room;
        uint8_t *in = data_channel_in_buf(&to->channel, &room);
        size_t n = len < CHUNK ? len : CHUNK;
        n = n < room ? n : room;
        memcpy(in, wire, n);
        data_channel_in_ack(&to->channel, now_ms, n);
        wire += n;
        len -= n;
        for (;;) {
            data_channel_next(&to->channel, now_ms, &event);
            if (event.type == DATA_CHANNEL_EVENT_NONE)
                break;
            to->bytes += event.len;
            data_channel_consume(&to->channel, event.len);
        }
    }
    to->seconds += seconds_now() - start;
}

static void fill(struct end *from, uint64_t *left, int64_t now_ms)
{
    double start = seconds_now();
    for (;;) {
        size_t room = data_channel_send_room(&from->channel, now_ms, PACER_BULK);
        size_t n = *left < room ? (size_t) *left : room;
        n = n < CHUNK ? n : CHUNK;
        if (n == 0)
            break;
        if (!data_channel_send(&from->channel, now_ms, PACER_BULK, data, n))
            break;
        *left -= n;
    }
    from->seconds += seconds_now() - start;
}

int main(int argc, char **argv)
{
    static uint8_t wire[WIRE_SIZE];
    uint64_t total = (argc > 1 ? strtoull(argv[1], NULL, 10) : 500) * 1000000;
    uint64_t left = total;
    const char *sha = argc > 2 ? "portable" : sha256_choose(getauxval(AT_HWCAP));
    set_up(&agent, DATA_CHANNEL_AGENT);
    set_up(&client, DATA_CHANNEL_CLIENT);
    for (int64_t now_ms = 1; client.bytes < total; now_ms++) {
        fill(&agent, &left, now_ms);
        write_out(&agent, now_ms);
        read_in(&client, wire, relay(&agent, wire, sizeof wire), now_ms);
        write_out(&client, now_ms);
        read_in(&agent, wire, relay(&client, wire, sizeof wire), now_ms);
    }
    double megabytes = (double) total / 1e6;
    printf("data channel, %.0f MB of 1,024-byte messages, sha256 %s\n", megabytes, sha);
    printf("  sending   %7.0f MB/s on one core  %6.2f CPU s/GB\n", megabytes / agent.seconds,
           agent.seconds / megabytes * 1000);
    printf("  receiving %7.0f MB/s on one core  %6.2f CPU s/GB\n", megabytes / client.seconds,
           client.seconds / megabytes * 1000);
    return 0;
}
