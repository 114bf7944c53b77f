/*
 * One turn of the loop around a tunnel: its budget, its order, what it says in the end.
 */
#include "run/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "lib/fresh_pool.h"
#include "lib/lane_peer.h"

enum { ONE_STEP = 16 * 1024 /* bytes: a turn may end that much beyond its budget */ };

static struct tunnel tunnel;
static struct lane lane;
static struct lane_peer peer;
static struct document document;
static int64_t now_ms, deadline_ms;

/* What endpoints do, and what was asked of them in this turn. */
static size_t read_at_once; /* bytes of a read; there is always more */
static unsigned opens, reads, writes, ends;
static size_t bytes_read, bytes_written, bytes_received, bytes_sent;
static unsigned events[32];

static void open_endpoint(void *context, uint16_t stream, const char *host, uint16_t port)
{
    (void) context;
    (void) host;
    (void) port;
    opens++;
    tunnel_notify(&tunnel, now_ms, stream, TUNNEL_ENDPOINT_OPENED, STR_LITERAL("10.0.0.1:80"));
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    (void) context;
    (void) stream;
    reads++;
    for (int i = 0; i < count && result->n < read_at_once; i++) {
        size_t n = num_min_size(vectors[i].iov_len, read_at_once - result->n);
        memset(vectors[i].iov_base, 'x', n);
        result->n += n;
    }
    result->more = true;
    bytes_read += result->n;
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    (void) context;
    (void) stream;
    writes++;
    for (int i = 0; i < count; i++)
        result->n += vectors[i].iov_len;
    bytes_written += result->n;
}

static void shut_endpoint(void *context, uint16_t stream)
{
    (void) context;
    (void) stream;
}

static void end_endpoint(void *context, uint16_t stream, const char *why)
{
    (void) context;
    (void) stream;
    assert_non_null(why);
    ends++;
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_endpoint,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = end_endpoint,
                                                      .reset = end_endpoint};

static const uint8_t *receive(void *context, unsigned index, size_t *len)
{
    (void) context;
    assert_int_equal(index, 0);
    return lane_peer_receive(&peer, len);
}

static void received(void *context, unsigned index, size_t len)
{
    (void) context;
    (void) index;
    bytes_received += len;
    lane_peer_received(&peer, len);
}

static size_t send_bytes(void *context, unsigned index, const void *data, size_t len)
{
    (void) context;
    (void) index;
    size_t n = lane_peer_send(&peer, data, len);
    bytes_sent += n;
    return n;
}

static const struct turn_lane_ops lane_ops = {.receive = receive, .received = received, .send = send_bytes};

static void event(void *context, const struct tunnel_step *step, struct tunnel_result *result)
{
    (void) context;
    (void) result;
    assert_true(step->type < sizeof events / sizeof events[0]);
    events[step->type]++;
    if (step->type == TUNNEL_STEP_LANE_OVER)
        lane_release(step->over);
}

static enum turn_result run_once(void)
{
    const struct turn turn = {
        .tunnel = &tunnel, .lanes = &lane_ops, .endpoints = &endpoint_ops, .event = event};
    opens = reads = writes = ends = 0;
    bytes_read = bytes_written = bytes_received = bytes_sent = 0;
    memset(events, 0, sizeof events);
    return turn_run(&turn, now_ms, &deadline_ms);
}

static void run(void)
{
    for (int turns = 0; run_once() == TURN_MORE; turns++)
        assert_true(turns < 1000);
}

static int setup(void **state)
{
    const struct handshake_extension ours = {.is_ours = true};
    struct lane_config config = {
        .role = LANE_AGENT,
        .document = &document,
        .extension = ours,
        .channel = {.ping_interval_ms = 54000, .user = fresh_pool(0, FRESH_POOL_BLOCKS)},
        .memory = fresh_memory(0, LANE_MEMORY_SIZE)};
    (void) state;
    now_ms = 1000;
    read_at_once = 0;
    str_copy(STR_LITERAL("{}"), document.properties, sizeof document.properties);
    str_copy(STR_LITERAL("db"), document.host, sizeof document.host);
    document.port = 80;
    tunnel_init(&tunnel,
                &(struct tunnel_config){.role = LANE_AGENT,
                                        .document = &document,
                                        .user = fresh_pool(1, FRESH_POOL_BLOCKS),
                                        .memory = fresh_memory(1, TUNNEL_MEMORY_SIZE)},
                now_ms);
    lane_init(&lane, &config, now_ms);
    lane_peer_init(&peer, &lane);
    tunnel_add_lane(&tunnel, &lane);
    lane_peer_connect(&peer, now_ms);
    run();
    lane_probed(&lane, now_ms, STR_LITERAL("hello"));
    lane_peer_respond(&peer, "1.2.804.0", &ours);
    run();
    return lane.state == LANE_OPEN ? 0 : -1;
}

static void open_streams(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_true(lane_peer_smux(&peer, SMUX_SYN, 3 + 2 * i, NULL, 0));
}

static void nothing_to_do_is_said_with_the_next_deadline(void **state)
{
    (void) state;
    run();
    assert_int_equal(run_once(), TURN_IDLE);
    assert_int_equal(bytes_received + bytes_sent + reads + writes, 0);
    assert_in_range(deadline_ms, now_ms + 1, now_ms + 54000);
}

static void what_comes_in_goes_out_in_one_turn(void **state)
{
    (void) state;
    open_streams(1);
    lane_peer_smux(&peer, SMUX_PSH, 3, "question", 8);
    assert_int_equal(run_once(), TURN_IDLE);
    assert_int_equal(opens, 1);
    assert_int_equal(bytes_written, 8);
    assert_int_not_equal(bytes_sent, 0); /* OPENED, and acknowledgements */
}

static void opening_sockets_costs_more_than_reading_them(void **state)
{
    unsigned total = 0;
    (void) state;
    open_streams(100);
    for (int turns = 0; turns < 1000; turns++) {
        enum turn_result result = run_once();
        assert_in_range(opens, 0, TURN_CALLS / TURN_OPEN_CALLS);
        total += opens;
        if (result == TURN_IDLE)
            break;
    }
    assert_int_equal(total, 100);
    for (uint32_t i = 0; i < 100; i++)
        lane_peer_smux(&peer, SMUX_REFUSED, 3 + 2 * i, NULL, 0);
    total = 0;
    for (int turns = 0; turns < 1000; turns++) {
        enum turn_result result = run_once();
        assert_in_range(ends, 0, TURN_CALLS / TURN_OPEN_CALLS);
        total += ends;
        if (result == TURN_IDLE)
            break;
    }
    assert_int_equal(total, 100);
}

/* An endpoint that says a byte at a time, for ever. */
static void a_turn_makes_so_many_calls_and_no_more(void **state)
{
    (void) state;
    open_streams(1);
    run();
    read_at_once = 1;
    tunnel_notify(&tunnel, now_ms, 0, TUNNEL_ENDPOINT_READABLE, (struct str){NULL, 0});
    for (int turns = 0; turns < 20; turns++) {
        assert_int_equal(run_once(), TURN_MORE);
        assert_in_range(reads, 1, TURN_CALLS);
    }
}

/* One that says as much as is taken, to a peer that takes and acknowledges it at once. */
static void a_turn_moves_so_many_bytes_and_no_more(void **state)
{
    (void) state;
    open_streams(1);
    run();
    read_at_once = SIZE_MAX;
    tunnel_notify(&tunnel, now_ms, 0, TUNNEL_ENDPOINT_READABLE, (struct str){NULL, 0});
    for (int turns = 0; turns < 20; turns++) {
        assert_int_equal(run_once(), TURN_MORE);
        assert_in_range(bytes_read + bytes_written + bytes_received + bytes_sent, TURN_BYTES / 4,
                        TURN_BYTES + 4 * ONE_STEP);
    }
}

static void a_connection_that_takes_nothing_is_left_alone(void **state)
{
    (void) state;
    open_streams(1);
    run();
    peer.takes = 0;
    read_at_once = SIZE_MAX;
    tunnel_notify(&tunnel, now_ms, 0, TUNNEL_ENDPOINT_READABLE, (struct str){NULL, 0});
    run();
    run(); /* one message more: another is on its way */
    assert_int_equal(run_once(), TURN_IDLE);
    assert_int_equal(reads + bytes_sent, 0);
    assert_true(deadline_ms > now_ms);
}

static void the_end_is_said_once_the_last_lane_is_over(void **state)
{
    (void) state;
    open_streams(1);
    run();
    tunnel_end(&tunnel, now_ms, false, STR_LITERAL("enough"));
    run();
    assert_int_equal(run_once(), TURN_IDLE);
    lane_peer_cut(&peer, now_ms);
    assert_int_equal(run_once(), TURN_OVER);
    assert_int_equal(events[TUNNEL_STEP_LANE_LOST], 1);
    assert_int_equal(events[TUNNEL_STEP_LANE_OVER], 1);
    assert_int_equal(ends, 0); /* its endpoints are the caller's to close */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_to_do_is_said_with_the_next_deadline, setup),
        cmocka_unit_test_setup(what_comes_in_goes_out_in_one_turn, setup),
        cmocka_unit_test_setup(opening_sockets_costs_more_than_reading_them, setup),
        cmocka_unit_test_setup(a_turn_makes_so_many_calls_and_no_more, setup),
        cmocka_unit_test_setup(a_turn_moves_so_many_bytes_and_no_more, setup),
        cmocka_unit_test_setup(a_connection_that_takes_nothing_is_left_alone, setup),
        cmocka_unit_test_setup(the_end_is_said_once_the_last_lane_is_over, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
