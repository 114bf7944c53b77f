#include "cloud/task_identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/clock.h"
#include "lib/peer.h"

/* ---- a metadata endpoint ------------------------------------------------------------------------------- */

#define CONTAINER "{\"DockerId\":\"runtime\",\"Networks\":[{\"IPv4SubnetCIDRBlock\":\"10.0.0.0/24\"}]}"
#define TASK      "{\"Cluster\":\"c\",\"TaskARN\":\"arn:aws:ecs:eu-west-1:1:task/c/0a1b\"}"

enum { REQUESTS_MAX = 16 };

static struct peer peer;
static struct {
    int failures;         /* so many requests get no good answer first */
    int without_networks; /* so many answers about the container do not describe its network ... */
    const char *instead;  /* ... but say this */
    char paths[REQUESTS_MAX][64];
} server;

static void serve(int fd, void *context)
{
    char head[1024], text[512];
    int n = atomic_load(&peer.accepted) - 1;
    (void) context;
    if (n >= REQUESTS_MAX || !peer_read_head(fd, head, sizeof head))
        return;
    sscanf(head, "GET %63s", server.paths[n]);
    const char *body = strcmp(server.paths[n], "/v4/id") == 0 ? CONTAINER : TASK;
    if (body[2] == 'D' && server.without_networks-- > 0)
        body = server.instead;
    const char *status = n >= server.failures ? "200 OK" : n % 2 == 0 ? "503 X" : "200 OK";
    if (n < server.failures)
        body = "{";
    int size = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", status,
                        strlen(body), body);
    peer_write(fd, text, (size_t) size);
}

/* ---- the loop around it -------------------------------------------------------------------------------- */

static struct loop loop;
static struct network network;
static struct aws_client client;
static struct task_identity identity;
static int learned_count;
static char uri[96];
static char *env[] = {uri, NULL};

static void learned(struct task_identity *learning)
{
    assert_ptr_equal(learning, &identity);
    assert_ptr_equal(learning->owner, &loop);
    learned_count++;
}

static int setup(void **state)
{
    (void) state;
    memset(&server, 0, sizeof server);
    learned_count = 0;
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    snprintf(uri, sizeof uri, "ECS_CONTAINER_METADATA_URI_V4=http://127.0.0.1:%u/v4/id", peer.port);
    if (loop_open(&loop, NULL) < 0 || network_open(&network, &loop, NULL, NULL) < 0)
        return -1;
    aws_client_open(&client, &network, env);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    task_identity_close(&identity);
    aws_client_close(&client);
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    peer_close(&peer);
    return 0;
}

static void turn_until_learned(void)
{
    int64_t until_ms = clock_monotonic_ms() + 10000;
    while (learned_count == 0 && clock_monotonic_ms() < until_ms)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(learned_count, 1);
    assert_string_equal(identity.metadata.runtime_id, "runtime");
    assert_string_equal(identity.metadata.ipv4_subnet, "10.0.0.0/24");
    assert_string_equal(identity.metadata.cluster, "c");
    assert_string_equal(client.region, "eu-west-1"); /* of the task's ARN */
}

static void reads_both_documents_once(void **state)
{
    (void) state;
    task_identity_open(&identity, &client, learned, &loop);
    turn_until_learned();
    assert_int_equal(peer.accepted, 2);
    assert_string_equal(server.paths[0], "/v4/id");
    assert_string_equal(server.paths[1], "/v4/id/task");
}

static void asks_until_it_is_answered(void **state)
{
    (void) state;
    server.failures = 3;
    task_identity_open(&identity, &client, learned, &loop);
    turn_until_learned();
    assert_int_equal(peer.accepted, 5);
}

static void asks_again_until_the_subnet_is_known(void **state)
{
    (void) state;
    server.without_networks = 2;
    server.instead = "{\"DockerId\":\"runtime\"}";
    task_identity_open(&identity, &client, learned, &loop);
    for (int i = 0; i < 1000 && learned_count < 3; i++) {
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        if (learned_count == 1)
            assert_true(identity.metadata.ipv4_unknown); /* told at once all the same */
    }
    assert_int_equal(learned_count, 3);
    assert_string_equal(identity.metadata.ipv4_subnet, "10.0.0.0/24");
    assert_string_equal(identity.metadata.cluster, "c");
    assert_int_equal(peer.accepted, 4);
    assert_string_equal(server.paths[3], "/v4/id");
    assert_false(identity.again.queued);
}

/* A subnet with IPv6 only is believed after some time. */
static void takes_a_family_for_the_only_one(void **state)
{
    (void) state;
    server.without_networks = REQUESTS_MAX;
    server.instead = "{\"DockerId\":\"runtime\",\"Networks\":[{\"IPv6SubnetCIDRBlock\":\"fd00::/64\"}]}";
    task_identity_open(&identity, &client, learned, &loop);
    for (int i = 0; i < 3000 && learned_count < TASK_IDENTITY_IPV4_TRIES + 1; i++)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(learned_count, TASK_IDENTITY_IPV4_TRIES + 1);
    assert_false(identity.metadata.ipv4_unknown);
    assert_string_equal(identity.metadata.ipv6_subnet, "fd00::/64");
}

static void outside_ecs_there_is_nothing_to_ask(void **state)
{
    static const char *const values[] = {"", "gopher://x/"};
    (void) state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        snprintf(uri, sizeof uri, "ECS_CONTAINER_METADATA_URI_V4=%s", values[i]);
        task_identity_open(&identity, &client, learned, &loop);
        for (int k = 0; k < 5; k++)
            assert_int_equal(loop_turn(&loop, 5, NULL), 0);
    }
    assert_int_equal(peer.accepted, 0);
    assert_int_equal(learned_count, 0);
}

static void can_be_closed_during_a_call(void **state)
{
    (void) state;
    task_identity_open(&identity, &client, learned, &loop);
    assert_int_equal(loop_turn(&loop, 5, NULL), 0);
    assert_true(identity.call.active);
} /* teardown closes, and checks that no timer is left */

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_both_documents_once),
        TEST(asks_until_it_is_answered),
        TEST(asks_again_until_the_subnet_is_known),
        TEST(takes_a_family_for_the_only_one),
        TEST(outside_ecs_there_is_nothing_to_ask),
        TEST(can_be_closed_during_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
