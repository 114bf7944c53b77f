#include "cloud/gateway.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "lib/peer.h"

/* ---- a service: one answer for tokens, one for websockets ---------------------------------------------- */

enum { HEAD_SIZE = 8192 };

enum plan {
    PLAN_HOLD,        /* reads until the end */
    PLAN_CLOSE,       /* closes the connection as soon as it has upgraded it */
    PLAN_SAY_AND_END, /* sends "hello" and its FIN, then reads until the end */
};

static struct peer peer;
static struct {
    const char *token;   /* answer to POST; null: a token */
    const char *upgrade; /* answer to GET; null: 101 */
    enum plan plan;
    const char *key; /* id of the keys that it gives out */
    int keys;
    int tokens;
    int upgrades;
    char received[256]; /* behind the last upgrade */
    char token_request[HEAD_SIZE];
    char upgrade_request[HEAD_SIZE];
} service;

static const char a_token[] = "HTTP/1.1 201 Created\r\nContent-Length: 75\r\n\r\n"
                              "<CreateDataChannelResponse><TokenValue>tok-1</TokenValue>"
                              "                  ";

static void say(int fd, const char *text)
{
    peer_write(fd, text, strlen(text));
}

static void upgrade(int fd, const char *head)
{
    char key[WEBSOCKET_KEY_SIZE], accept[WEBSOCKET_ACCEPT_SIZE], answer[512];
    const char *at = strstr(head, "sec-websocket-key: ");
    assert_non_null(at);
    snprintf(key, sizeof key, "%s", at + strlen("sec-websocket-key: "));
    websocket_accept(key, accept);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n%s",
             accept, service.plan == PLAN_SAY_AND_END ? "hello" : "");
    say(fd, answer);
    if (service.plan == PLAN_CLOSE)
        return;
    if (service.plan == PLAN_SAY_AND_END)
        shutdown(fd, SHUT_WR);
    memset(service.received, 0, sizeof service.received);
    peer_read(fd, service.received, sizeof service.received - 1);
}

static void serve(int fd, void *context)
{
    char head[HEAD_SIZE];
    (void) context;
    if (!peer_read_head(fd, head, sizeof head))
        return;
    if (strncmp(head, "GET /keys ", 10) == 0) {
        char body[128], answer[256];
        service.keys++;
        int len = snprintf(body, sizeof body,
                           "{\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
                           "\"Expiration\":\"2999-01-01T00:00:00Z\"}",
                           service.key);
        snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len, body);
        say(fd, answer);
    } else if (strncmp(head, "POST ", 5) == 0) {
        service.tokens++;
        strcpy(service.token_request, head);
        say(fd, service.token != NULL ? service.token : a_token);
    } else {
        service.upgrades++;
        strcpy(service.upgrade_request, head);
        if (service.upgrade != NULL)
            say(fd, service.upgrade);
        else
            upgrade(fd, head);
    }
}

#define TERMINATED                                                                                           \
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 74\r\n\r\n"                                                 \
    "<BadRequest xmlns=\"\"><message>Session is already terminated</message></Bad>"
#define TERMINATED_500                                                                                       \
    "HTTP/1.1 500 X\r\nContent-Length: 66\r\n\r\n"                                                           \
    "<Unheard xmlns=\"\"><message>Session is already terminated</message>"
#define DENIED                                                                                               \
    "HTTP/1.1 403 Forbidden\r\nx-amzn-errortype: AccessDeniedException\r\nContent-Length: 0\r\n\r\n"
#define FAILING  "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
#define NO_HTTP  "what is this?\r\n\r\n"
#define EXPIRING "HTTP/1.1 403 X\r\nx-amzn-errortype: ExpiredTokenException\r\nContent-Length: 0\r\n\r\n"

/* ---- the owner ----------------------------------------------------------------------------------------- */

static struct loop loop;
static struct network network;
static struct aws_client client;
static struct gateway gateway;
static char endpoint_variable[96];
static char *env[] = {endpoint_variable, "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AK",
                      "AWS_SECRET_ACCESS_KEY=s", NULL};

static struct {
    int ups, changes, downs;
    struct gateway_down down; /* the last one */
    char why[ERROR_TEXT_SIZE];
    char first_text[512];
    bool reads;
    char received[64];
    bool closes; /* in every callback */
} owner;

static void close_if_wanted(void)
{
    if (owner.closes)
        gateway_close(&gateway);
}

static void read_all(void)
{
    size_t len;
    const uint8_t *data;
    while ((data = gateway_recv_buf(&gateway, &len)) != NULL) {
        strncat(owner.received, (const char *) data, len);
        gateway_recv_ack(&gateway, len);
    }
}

static void is_up(struct gateway *g, struct str first_text)
{
    owner.ups++;
    assert_true(gateway_is_up(g));
    snprintf(owner.first_text, sizeof owner.first_text, "%.*s", STR_ARG(first_text));
    if (owner.reads)
        read_all();
    close_if_wanted();
}

static void has_changed(struct gateway *g)
{
    assert_ptr_equal(g, &gateway);
    owner.changes++;
    if (owner.reads)
        read_all();
    close_if_wanted();
}

static void is_down(struct gateway *g, const struct gateway_down *down)
{
    owner.downs++;
    owner.down = *down;
    snprintf(owner.why, sizeof owner.why, "%s", down->why);
    assert_false(gateway_is_up(g));
    close_if_wanted();
}

static void open_gateway(enum gateway_kind kind)
{
    gateway_init(&gateway, &client, kind, STR_LITERAL("session-1"), STR_LITERAL("ecs:c_t_r"));
    gateway.up = is_up;
    gateway.changed = has_changed;
    gateway.down = is_down;
    loop_turn(&loop, 0, NULL);
    gateway_open(&gateway);
    gateway_open(&gateway); /* twice does no harm */
}

static int setup(void **state)
{
    (void) state;
    memset(&service, 0, sizeof service);
    memset(&owner, 0, sizeof owner);
    owner.reads = true;
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    snprintf(endpoint_variable, sizeof endpoint_variable, "AWS_ENDPOINT_URL=http://127.0.0.1:%u", peer.port);
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, env, NULL) != 0)
        return -1;
    aws_client_open(&client, &network, env);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    gateway_close(&gateway);
    gateway_close(&gateway);
    aws_client_close(&client);
    network_close(&network);
    assert_null(loop.timers);
    loop_close(&loop);
    peer_close(&peer);
    return 0;
}

static void run_until(const int *count, int least, int64_t limit_ms)
{
    int64_t until_ms = clock_monotonic_ms() + limit_ms;
    while (*count < least && clock_monotonic_ms() < until_ms)
        loop_turn(&loop, 20, NULL);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static void opens_with_a_token_and_a_signed_upgrade(void **state)
{
    (void) state;
    open_gateway(GATEWAY_DATA);
    assert_int_equal(owner.ups, 0); /* never from inside open */
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_int_equal(owner.downs, 0);
    assert_non_null(strstr(owner.first_text, "\"TokenValue\":\"tok-1\""));
    assert_non_null(strstr(owner.first_text, "\"ClientInstanceId\":\"ecs:c_t_r\""));
    assert_non_null(strstr(service.token_request, "POST /v1/data-channel/session-1 "));
    assert_non_null(
        strstr(service.upgrade_request, "GET /v1/data-channel/session-1?role=publish_subscribe "));
    assert_non_null(strstr(service.upgrade_request, "authorization: AWS4-HMAC-SHA256"));
    assert_null(gateway.token);
    assert_null(gateway.first_text);
}

static void a_control_channel_has_its_own_token_and_first_message(void **state)
{
    (void) state;
    open_gateway(GATEWAY_CONTROL);
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_non_null(strstr(owner.first_text, "\"AgentVersion\""));
    assert_non_null(strstr(service.upgrade_request, "GET /v1/control-channel/session-1?role=subscribe"));
}

/* ---- what is final, and what is tried again ------------------------------------------------------------ */

static void only_a_refusal_of_the_api_ends_a_data_channel(void **state)
{
    static const struct {
        const char *token, *upgrade;
        bool is_final;
        const char *why;
    } cases[] = {
        {TERMINATED, NULL, true, "CreateDataChannel: 400"},
        {NULL, TERMINATED, true, "OpenDataChannel: 400"},
        {TERMINATED_500, NULL, true, "CreateDataChannel: 500"},
        {NULL, TERMINATED_500, true, "OpenDataChannel: 500"},
        {DENIED, NULL, true, "CreateDataChannel: 403"},
        {NULL, DENIED, true, "OpenDataChannel: 403"},
        {FAILING, NULL, false, "CreateDataChannel: 503"},
        {NULL, FAILING, false, "OpenDataChannel: 503"},
        {NO_HTTP, NULL, false, "CreateDataChannel: "},
        {NULL, NO_HTTP, false, "OpenDataChannel: "},
        {NULL, EXPIRING, false, "OpenDataChannel: 403"},
        {"", NULL, false, "CreateDataChannel: "},
        {NULL, "", false, "OpenDataChannel: "},
    };
    (void) state;
    for (int kind = GATEWAY_CONTROL; kind <= GATEWAY_DATA; kind++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            memset(&owner, 0, sizeof owner);
            service.token = cases[i].token;
            service.upgrade = cases[i].upgrade;
            open_gateway((enum gateway_kind) kind);
            run_until(&owner.downs, 1, 5000);
            bool is_final = cases[i].is_final && kind == GATEWAY_DATA;
            if (owner.downs != 1 || owner.ups != 0 || owner.down.was_up || owner.down.is_final != is_final)
                fail_msg("case %zu: %d downs, %d ups, %s", i, owner.downs, owner.ups, owner.why);
            if (kind == GATEWAY_DATA)
                assert_memory_equal(owner.why, cases[i].why, strlen(cases[i].why));
            assert_int_equal(gateway.state, is_final ? GATEWAY_CLOSED : GATEWAY_WAITING);
            if (!is_final)
                assert_in_range(owner.down.retry_at_ms - loop_now_ms(&loop), 0, 900);
            service.token = service.upgrade = NULL;
            run_until(&owner.ups, 1, is_final ? 300 : 5000);
            assert_int_equal(owner.ups, !is_final); /* and what has passed is survived */
            gateway_close(&gateway);
        }
    }
}

static void an_unknown_name_is_tried_again(void **state)
{
    (void) state;
    snprintf(endpoint_variable, sizeof endpoint_variable, "AWS_ENDPOINT_URL=http://no-such-host.invalid:%u",
             peer.port);
    open_gateway(GATEWAY_DATA);
    run_until(&owner.downs, 1, 20000);
    assert_int_equal(owner.downs, 1);
    assert_false(owner.down.is_final);
    snprintf(endpoint_variable, sizeof endpoint_variable, "AWS_ENDPOINT_URL=http://127.0.0.1:%u", peer.port);
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
}

/* After ten refusals it waits for five minutes, unless the credentials change. */
static void a_denied_control_channel_tries_at_once_with_other_keys(void **state)
{
    char uri[96];
    char *with_endpoint[] = {endpoint_variable, "AWS_REGION=eu-west-1", uri, NULL};
    int none = 0;
    (void) state;
    snprintf(uri, sizeof uri, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%u/keys", peer.port);
    aws_client_close(&client);
    aws_client_open(&client, &network, with_endpoint);
    service.key = "FIRST";
    service.token = DENIED;
    open_gateway(GATEWAY_CONTROL);
    gateway.reconnect.refusals = RECONNECT_REFUSALS;
    run_until(&owner.downs, 1, 5000);
    assert_in_range(owner.down.retry_at_ms - loop_now_ms(&loop), RECONNECT_REFUSED_MS - 1000,
                    RECONNECT_REFUSED_MS);
    assert_int_equal(service.keys, 1);
    for (int i = 2; i < 5; i++) {
        service.token = NULL;
        service.key = i < 4 ? "FIRST" : "SECOND";
        assert_in_range(gateway.timer.due_ms - loop_now_ms(&loop), GATEWAY_KEYS_MS - 1000, GATEWAY_KEYS_MS);
        loop_timer_set(&loop, &gateway.timer, loop_now_ms(&loop)); /* half a minute has passed */
        run_until(&service.keys, i, 5000);
        if (i < 4)
            run_until(&none, 1, 200);
        assert_int_equal(service.tokens, 1); /* it bothers the endpoint alone */
    }
    run_until(&owner.ups, 1, GATEWAY_NEW_KEYS_MS + 2000);
    assert_int_equal(owner.ups, 1);
    assert_non_null(strstr(service.token_request, "Credential=SECOND/"));
}

/* The fault: 50 times a second, half a core. */
static void a_connection_that_is_closed_as_it_opens_is_not_reopened_at_once(void **state)
{
    int never = 0;
    (void) state;
    service.plan = PLAN_CLOSE;
    open_gateway(GATEWAY_DATA);
    run_until(&never, 1, 3000);
    assert_in_range(owner.ups, 2, 16); /* windows of 100, 200, 400, 800, 1600 ms: eight on the average */
    assert_true(owner.down.was_up);
    assert_string_equal(owner.why, "the service closed the connection");
}

static void a_useful_connection_is_reopened_at_once(void **state)
{
    (void) state;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.ups, 1, 5000);
    gateway_acknowledged(&gateway, RECONNECT_GOOD_MESSAGES);
    gateway_lose(&gateway, "the service closed the websocket: 1000 Bye");
    gateway_lose(&gateway, "something else");
    assert_int_equal(owner.downs, 0); /* never from inside */
    run_until(&owner.downs, 1, 1000);
    assert_true(owner.down.was_up);
    assert_false(owner.down.is_final);
    assert_string_equal(owner.why, "the service closed the websocket: 1000 Bye");
    assert_in_range(owner.down.retry_at_ms, 0, loop_now_ms(&loop));
    run_until(&owner.ups, 2, 5000);
    assert_int_equal(owner.ups, 2);
    assert_int_equal(service.tokens, 2); /* each connection has its own */
}

static void nothing_works_after_its_time(void **state)
{
    (void) state;
    service.token = FAILING;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.downs, 1, 5000);
    gateway.reconnect.backoff.deadline_ms = loop_now_ms(&loop) + 50; /* as if two minutes had passed */
    while (!owner.down.is_final) {
        int before = owner.downs;
        run_until(&owner.downs, before + 1, 5000);
        assert_int_equal(owner.downs, before + 1);
    }
    assert_memory_equal(owner.why, "no working connection to Session Manager for 120 s: CreateData", 60);
    assert_int_equal(gateway.state, GATEWAY_CLOSED);
}

/* ---- a client's ---------------------------------------------------------------------------------------- */

/* {"SessionId":"me-0a","TokenValue":TOKEN}, TOKEN being eight characters */
#define RESUMED(token)                                                                                       \
    "HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\n{\"SessionId\":\"me-0a\",\"TokenValue\":" token "}"
#define FORBIDDEN "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

static struct gateway_session session;

static int init_client(const char *query, struct error *err)
{
    memset(&session, 0, sizeof session);
    snprintf(session.started.stream_url, sizeof session.started.stream_url,
             "ws://127.0.0.1:%u/v1/data-channel/me-0a%s", peer.port, query);
    strcpy(session.started.id, "me-0a");
    strcpy(session.started.token, "first+/=");
    session.reconnect_ms = 600 * 1000;
    session.any_host = true;
    if (service.token == NULL)
        service.token = RESUMED("\"second\"");
    return gateway_init_client(&gateway, &client, &session, err);
}

static void open_client(void)
{
    gateway.up = is_up;
    gateway.changed = has_changed;
    gateway.down = is_down;
    loop_turn(&loop, 0, NULL);
    gateway_open(&gateway);
    assert_int_equal(owner.ups + owner.downs, 0); /* never from inside open */
}

static void start_client(const char *query)
{
    assert_int_equal(init_client(query, NULL), 0);
    open_client();
}

static void a_client_opens_with_what_it_was_given(void **state)
{
    (void) state;
    start_client("?role=publish_subscribe&cell-number=AA+/==");
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_int_equal(service.tokens, 0);
    assert_non_null(
        strstr(service.upgrade_request,
               "GET /v1/data-channel/me-0a?role=publish_subscribe&cell-number=AA+/== HTTP/1.1\r\n"));
    assert_non_null(strstr(service.upgrade_request, "SignedHeaders=host;x-amz-date, "));
    assert_non_null(strstr(owner.first_text, "\"TokenValue\":\"first+/=\",\"ClientId\":\""));
    assert_non_null(strstr(owner.first_text, "\"ClientVersion\":\"1.2."));
    assert_null(strstr(owner.first_text, "ClientInstanceId"));
    assert_string_equal(session.started.token, "");
    assert_null(gateway.token);
}

static void a_client_resumes_with_a_new_token(void **state)
{
    (void) state;
    start_client("?role=publish_subscribe&cell-number=AA+/==");
    for (int i = 1; i <= 3; i++) {
        run_until(&owner.ups, i, 5000);
        assert_int_equal(owner.ups, i);
        assert_int_equal(service.tokens, i - 1);
        gateway_acknowledged(&gateway, RECONNECT_GOOD_MESSAGES);
        gateway_lose(&gateway, "1000 Bye");
    }
    assert_non_null(strstr(owner.first_text, "\"TokenValue\":\"second\""));
    assert_non_null(strstr(service.token_request, "x-amz-target: AmazonSSM.ResumeSession"));
    assert_non_null(strstr(service.token_request, "/ssm/aws4_request"));
    assert_non_null(strstr(service.upgrade_request, "GET /v1/data-channel/me-0a?role=publish_subscribe&cell-"
                                                    "number=AA+/== "));
    assert_non_null(strstr(service.upgrade_request, "/ssmmessages/aws4_request"));
}

static void the_first_token_serves_until_it_was_used(void **state)
{
    (void) state;
    service.upgrade = FAILING;
    start_client("?role=x");
    run_until(&owner.downs, 2, 5000);
    assert_false(owner.down.is_final);
    service.upgrade = NULL;
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_int_equal(service.tokens, 0);
    assert_non_null(strstr(owner.first_text, "first+/="));
}

static void what_ends_a_client(void **state)
{
    static const struct {
        const char *token, *upgrade; /* of the second connection */
        int tokens, upgrades;
        enum error_code code;
        const char *why;
    } cases[] = {
        {RESUMED("    null"), NULL, 1, 1, ERROR_NOT_FOUND,
         "ResumeSession: the session has timed out or was ended"},
        {RESUMED("      \"\""), NULL, 1, 1, ERROR_NOT_FOUND,
         "ResumeSession: the session has timed out or was ended"},
        {FORBIDDEN, NULL, 2, 1, ERROR_DENIED, "ResumeSession: 403: your credentials lack ssm:ResumeSession"},
        {NULL, FORBIDDEN, 2, 3, ERROR_DENIED, "OpenDataChannel: 403: your credentials lack ssmmessages:Open"},
        {NULL, TERMINATED, 1, 2, ERROR_NOT_FOUND, "OpenDataChannel: 400"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&owner, 0, sizeof owner);
        memset(&service, 0, sizeof service);
        start_client("?role=x");
        run_until(&owner.ups, 1, 5000);
        if (cases[i].token != NULL)
            service.token = cases[i].token;
        service.upgrade = cases[i].upgrade;
        gateway_acknowledged(&gateway, RECONNECT_GOOD_MESSAGES);
        gateway_lose(&gateway, "1000 Bye");
        for (int n = 1; n < 10 && !owner.down.is_final; n++)
            run_until(&owner.downs, n, 5000);
        if (!owner.down.is_final || owner.down.code != cases[i].code ||
            strncmp(owner.why, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("case %zu: code %d: %s", i, owner.down.code, owner.why);
        assert_int_equal(service.tokens, cases[i].tokens);
        assert_int_equal(service.upgrades, cases[i].upgrades);
        assert_int_equal(gateway.state, GATEWAY_CLOSED);
    }
}

static void a_presigned_url_is_neither_signed_nor_resumed(void **state)
{
    (void) state;
    start_client("?role=x&X-Amz-Signature=0a1b");
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_null(strstr(service.upgrade_request, "authorization:"));
    gateway_acknowledged(&gateway, RECONNECT_GOOD_MESSAGES);
    gateway_lose(&gateway, "1000 Bye");
    run_until(&owner.downs, 2, 5000);
    assert_true(owner.down.is_final);
    assert_string_equal(owner.why, "the session began with a presigned URL, so it can't be resumed");
    assert_int_equal(service.tokens, 0);
}

/* Under the AWS CLI, whose credentials may be its own. */
static void without_credentials_a_client_may_connect_unsigned(void **state)
{
    char *keys[] = {env[2], env[3]};
    (void) state;
    env[2] = env[3] = "X=y";
    aws_client_close(&client);
    aws_client_open(&client, &network, env);
    assert_int_equal(init_client("", NULL), 0);
    open_client();
    run_until(&owner.downs, 1, 5000);
    assert_int_equal(owner.downs, 1);
    assert_int_equal(service.upgrades, 0);
    gateway_close(&gateway);
    memset(&owner, 0, sizeof owner);
    for (int signing = GATEWAY_SIGNED_IF_POSSIBLE; signing <= GATEWAY_UNSIGNED; signing++) {
        memset(&owner, 0, sizeof owner);
        assert_int_equal(init_client("", NULL), 0);
        session.signing = (enum gateway_signing) signing;
        open_client();
        run_until(&owner.ups, 1, 5000);
        assert_int_equal(owner.ups, 1);
        assert_null(strstr(service.upgrade_request, "authorization:"));
        assert_non_null(strstr(service.upgrade_request, "GET /v1/data-channel/me-0a HTTP/1.1\r\n"));
        gateway_close(&gateway);
    }
    env[2] = keys[0];
    env[3] = keys[1];
}

static void a_clients_budget_is_time(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    service.upgrade = FAILING;
    assert_int_equal(init_client("?role=x", &err), 0);
    session.policy.give_up_ms = 400;
    open_client();
    while (!owner.down.is_final) {
        int before = owner.downs;
        run_until(&owner.downs, before + 1, 5000);
        assert_int_equal(owner.downs, before + 1);
    }
    assert_memory_equal(owner.why, "no working connection to Session Manager for 0 s: OpenData", 55);
}

static void a_client_goes_to_aws_or_where_it_was_told(void **state)
{
    struct error err = ERROR_INIT;
    char saved[sizeof endpoint_variable];
    (void) state;
    assert_int_equal(init_client("?role=x", &err), 0);
    session.any_host = false;
    assert_int_equal(gateway_init_client(&gateway, &client, &session, &err), ERROR_DENIED);
    strcpy(session.started.stream_url, "what");
    assert_int_equal(gateway_init_client(&gateway, &client, &session, &err), ERROR_INVALID);
    strcpy(saved, endpoint_variable);
    snprintf(endpoint_variable, sizeof endpoint_variable,
             "AWS_ENDPOINT_URL_SSMMESSAGES=http://127.0.0.1:%u/prefix", peer.port);
    strcpy(session.started.stream_url, "wss://no-such-host.invalid/v1/data-channel/me-0a?role=x");
    assert_int_equal(gateway_init_client(&gateway, &client, &session, &err), 0);
    open_client();
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_non_null(strstr(service.upgrade_request, "GET /prefix/v1/data-channel/me-0a?role=x "));
    strcpy(endpoint_variable, saved);
}

/* ---- while it is up ------------------------------------------------------------------------------------ */

static void bytes_before_the_end_are_delivered(void **state)
{
    (void) state;
    service.plan = PLAN_SAY_AND_END;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.downs, 1, 5000);
    assert_int_equal(owner.ups, 1);
    assert_string_equal(owner.received, "hello");
    assert_true(owner.down.was_up);
}

static void the_end_waits_for_an_owner_that_does_not_read(void **state)
{
    (void) state;
    owner.reads = false;
    service.plan = PLAN_SAY_AND_END;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.downs, 1, 300);
    assert_int_equal(owner.downs, 0);
    read_all();
    assert_string_equal(owner.received, "hello");
    run_until(&owner.downs, 1, 5000);
    assert_int_equal(owner.downs, 1);
}

static void what_was_queued_before_the_loss_goes_out(void **state)
{
    (void) state;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(gateway_send(&gateway, "close frame", 11), 11);
    gateway_lose(&gateway, "closed");
    assert_int_equal(gateway_send(&gateway, "more", 4), 0);
    run_until(&owner.downs, 1, 5000);
    gateway_close(&gateway);
    for (int i = 0; i < 500 && service.received[0] == '\0'; i++)
        usleep(10000);
    assert_string_equal(service.received, "close frame");
}

static void the_owner_may_close_in_any_callback(void **state)
{
    (void) state;
    owner.closes = true;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.ups, 1, 5000);
    assert_int_equal(gateway.state, GATEWAY_CLOSED);
    service.token = FAILING;
    open_gateway(GATEWAY_DATA);
    run_until(&owner.downs, 1, 5000);
    assert_int_equal(gateway.state, GATEWAY_CLOSED);
    int never = 0;
    run_until(&never, 1, 300);
    assert_int_equal(owner.downs, 1);
    assert_int_equal(owner.ups, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_with_a_token_and_a_signed_upgrade, setup, teardown),
        cmocka_unit_test_setup_teardown(a_control_channel_has_its_own_token_and_first_message, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(only_a_refusal_of_the_api_ends_a_data_channel, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_name_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_denied_control_channel_tries_at_once_with_other_keys, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_connection_that_is_closed_as_it_opens_is_not_reopened_at_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_useful_connection_is_reopened_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_works_after_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_opens_with_what_it_was_given, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_resumes_with_a_new_token, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_token_serves_until_it_was_used, setup, teardown),
        cmocka_unit_test_setup_teardown(what_ends_a_client, setup, teardown),
        cmocka_unit_test_setup_teardown(a_presigned_url_is_neither_signed_nor_resumed, setup, teardown),
        cmocka_unit_test_setup_teardown(without_credentials_a_client_may_connect_unsigned, setup, teardown),
        cmocka_unit_test_setup_teardown(a_clients_budget_is_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_goes_to_aws_or_where_it_was_told, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_before_the_end_are_delivered, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_waits_for_an_owner_that_does_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_queued_before_the_loss_goes_out, setup, teardown),
        cmocka_unit_test_setup_teardown(the_owner_may_close_in_any_callback, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
