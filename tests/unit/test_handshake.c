#include "tunnel/handshake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *a;
    const char *b;
    int order;
} versions[] = {
    {"1.1.70", "1.1.70", 0},
    {"1.1.70.0", "1.1.70", 0},
    {"1.1.9", "1.1.70", -1},
    {"1.2.0.0", "1.1.70", 1},
    {"1.2.331.0", "1.2.331", 0},
    {"10.0", "9.9.9.9", 1},
    {"", "0.0", 0},
    {"", "1", -1},
    {"1.2.3-beta", "1.2.3", 1}, /* not numbers: as text */
    {"4294967296.0", "1.0.0", 1},
    {"x.y", "0.0", 1},
    {"NAME/0.1.0", "1.1.70", 1}, /* a third party's client: multiplexed, as by AWS's agent */
};

static void compares_versions_field_by_field(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        if (handshake_version_compare(str_from(versions[i].a), str_from(versions[i].b)) !=
                versions[i].order ||
            handshake_version_compare(str_from(versions[i].b), str_from(versions[i].a)) != -versions[i].order)
            fail_msg("%s against %s", versions[i].a, versions[i].b);
    assert_false(handshake_client_multiplexes(STR_LITERAL("1.1.69.9")));
    assert_true(handshake_client_multiplexes(STR_LITERAL("1.1.70.0")));
    assert_true(handshake_client_multiplexes(STR_LITERAL("1.2.0.0")));
    assert_true(handshake_client_multiplexes(STR_LITERAL("NAME/0.1.0")));
    assert_false(handshake_agent_multiplexes(STR_LITERAL("3.0.196.0")));
    assert_true(handshake_agent_multiplexes(STR_LITERAL("3.0.197.0")));
    assert_false(handshake_agent_takes_terminate_flag(STR_LITERAL("2.3.722.0")));
    assert_true(handshake_agent_takes_terminate_flag(STR_LITERAL("3.3.4624.0")));
}

/* Below, AWS's client would send keep-alives that count as activity; with any other count than four fields it
 * switches everything off. */
static void versions_that_clients_would_treat_differently_are_refused(void **state)
{
    static const char *const refused[] = {
        "",  "3.1.1511.0", "3.1.99.0",    "2.9.9999.0", "3.3.4624", "3.3.4624.0.1",
        "4", "3.3..0",     "3.3.4624.0.", ".3.3.4624",  "3.3.x.0",  "3.3.4624.00000000000000000000000"};
    (void) state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (handshake_agent_is_served(str_from(refused[i])))
            fail_msg("%s", refused[i]);
    assert_true(handshake_agent_is_served(STR_LITERAL("3.1.1512.0")));
    assert_true(handshake_agent_is_served(STR_LITERAL("4.0.0.0")));
}

static void writes_the_request(void **state)
{
    char memory[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(memory, sizeof memory);
    (void) state;
    handshake_write_request(&out, "3.9.1.0", STR_LITERAL("{}"), NULL);
    assert_memory_equal(writer_terminate(&out), "{\"AgentVersion\":\"3.9.1.0\",", 26);
    out = writer_of(memory, sizeof memory);
    handshake_write_request(&out, NULL, STR_LITERAL("{\"portNumber\":\"22\"}"), NULL);
    assert_string_equal(
        writer_terminate(&out),
        "{\"AgentVersion\":\"3.3.4624.0\",\"RequestedClientActions\":[{\"ActionType\":\"SessionType\","
        "\"ActionParameters\":{\"SessionType\":\"Port\",\"Properties\":{\"portNumber\":\"22\"}}}]}");
}

static void offers_and_reads_the_extension(void **state)
{
    struct handshake_extension offer = {.lanes = true, .secret = "00112233445566778899aabbccddeeff"};
    char memory[HANDSHAKE_PAYLOAD_MAX];
    char properties[HANDSHAKE_PAYLOAD_MAX - 150];
    struct writer out = writer_of(memory, sizeof memory);
    struct handshake_request request;
    (void) state;
    handshake_write_request(&out, NULL, STR_LITERAL("{}"), &offer);
    assert_int_equal(handshake_read_request(writer_view(&out), &request, NULL), 0);
    assert_string_equal(request.agent_version, "3.3.4624.0");
    assert_true(request.is_port && request.extension.is_ours && request.extension.lanes);
    assert_false(request.extension.destinations);
    assert_string_equal(request.extension.secret, offer.secret);
    /* With properties that leave no room for it, the offer is left out. */
    memset(properties, ' ', sizeof properties);
    properties[0] = '{';
    properties[sizeof properties - 1] = '}';
    out = writer_of(memory, sizeof memory);
    handshake_write_request(&out, NULL, (struct str){properties, sizeof properties}, &offer);
    assert_false(out.failed);
    assert_int_equal(handshake_read_request(writer_view(&out), &request, NULL), 0);
    assert_true(request.is_port);
    assert_false(request.extension.is_ours);
}

static void reads_requests_of_any_agent(void **state)
{
    struct handshake_request request;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(
        handshake_read_request(STR_LITERAL("{\"AgentVersion\":\"3.3.0.0\",\"RequestedClientActions\":[{"
                                           "\"ActionType\":\"SessionType\",\"ActionParameters\":{"
                                           "\"SessionType\":\"Standard_Stream\"}}],\"Fumidai\":1}"),
                               &request, &err),
        0);
    assert_false(request.is_port || request.extension.is_ours);
    assert_int_equal(handshake_read_request(STR_LITERAL("{}"), &request, &err), ERROR_INVALID);
    assert_non_null(strstr(err.text, "no AgentVersion"));
    assert_int_equal(handshake_read_request(STR_LITERAL("{"), &request, &err), ERROR_INVALID);
}

/* What a client learns of the document: where its end of the connection is to be. */
static void reads_the_properties_of_a_port_session(void **state)
{
    static const struct {
        const char *properties;
        bool is_local_forwarding;
        uint16_t local_port;
    } rows[] = {
        {"{\"portNumber\":\"80\",\"type\":\"LocalPortForwarding\",\"localPortNumber\":\"5432\"}", true, 5432},
        {"{\"type\":\"LocalPortForwarding\",\"localPortNumber\":\"0\"}", true, 0},
        {"{\"type\":\"LocalPortForwarding\",\"localPortNumber\":\"\"}", true, 0},
        {"{\"type\":\"LocalPortForwarding\",\"localPortNumber\":\"123456\"}", true, 0},
        {"{\"type\":\"LocalPortForwarding\",\"localPortNumber\":5432}", true, 0},
        {"{\"type\":\"LocalPortForwarding\"}", true, 0},
        {"{\"portNumber\":\"22\"}", false, 0},
        {"{\"type\":\"localportforwarding\"}", false, 0},
        {"[]", false, 0},
    };
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char memory[HANDSHAKE_PAYLOAD_MAX];
        struct writer out = writer_of(memory, sizeof memory);
        struct handshake_request request;
        handshake_write_request(&out, NULL, str_from(rows[i].properties), NULL);
        assert_int_equal(handshake_read_request(writer_view(&out), &request, NULL), 0);
        assert_true(request.is_port);
        if (request.is_local_forwarding != rows[i].is_local_forwarding ||
            request.local_port != rows[i].local_port)
            fail_msg("%s", rows[i].properties);
    }
}

static void what_the_client_answers_is_what_the_agent_reads(void **state)
{
    struct handshake_response answer = {.client_version = HANDSHAKE_CLIENT_VERSION,
                                        .half_close = true,
                                        .extension = {.is_ours = true,
                                                      .lanes = true,
                                                      .destinations = true,
                                                      .secret = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}};
    struct handshake_response response;
    char memory[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(memory, sizeof memory);
    struct error err = ERROR_INIT;
    (void) state;
    handshake_write_response(&out, &answer, true);
    assert_int_equal(handshake_read_response(writer_view(&out), &response, &err), 0);
    assert_string_equal(response.client_version, HANDSHAKE_CLIENT_VERSION);
    assert_true(response.half_close && response.extension.is_ours && response.extension.lanes &&
                response.extension.destinations);
    assert_string_equal(response.extension.secret, answer.extension.secret);
    /* A secret that is not one does not join anything. */
    str_copy(STR_LITERAL("../../etc/passwd"), answer.extension.secret, sizeof answer.extension.secret);
    out = writer_of(memory, sizeof memory);
    handshake_write_response(&out, &answer, true);
    assert_int_equal(handshake_read_response(writer_view(&out), &response, &err), 0);
    assert_string_equal(response.extension.secret, "");
    out = writer_of(memory, sizeof memory);
    handshake_write_response(&out, &answer, false);
    assert_int_equal(handshake_read_response(writer_view(&out), &response, &err), ERROR_UNSUPPORTED);
}

static void the_message_of_complete_is_cut_to_fit(void **state)
{
    char message[8];
    (void) state;
    assert_true(handshake_read_complete(STR_LITERAL("{\"CustomerMessage\":\"reached db\"}"), message,
                                        sizeof message));
    assert_string_equal(message, "reached");
    assert_true(handshake_read_complete(STR_LITERAL("{}"), message, sizeof message));
    assert_string_equal(message, "");
    assert_false(handshake_read_complete(STR_LITERAL("{"), message, sizeof message));
}

#define ACTION(status, rest)                                                                                 \
    "{\"ClientVersion\":\"1.2.0.0\",\"ProcessedClientActions\":[{\"ActionType\":\"SessionType\","            \
    "\"ActionStatus\":" status ",\"ActionResult\":null,\"Error\":\"no such type\"}],\"Errors\":null" rest    \
    "}"

static const struct {
    const char *payload;
    int code;
    const char *words;
    bool half_close;
} responses[] = {
    {ACTION("1", ""), 0, "", false},
    {ACTION("1", ",\"HalfClose\":true"), 0, "", true},
    {ACTION("2", ""), ERROR_UNSUPPORTED, "failed to start session type Port: no such type", false},
    {ACTION("3", ""), ERROR_UNSUPPORTED, "does not support session type Port: no such type", false},
    {ACTION("\"x\"", ""), ERROR_INVALID, "no ActionStatus", false},
    {"{\"ClientVersion\":\"1.2.0.0\"}", ERROR_INVALID, "does not answer", false},
    {"{\"ProcessedClientActions\":[]}", ERROR_INVALID, "no ClientVersion", false},
    {"{", ERROR_INVALID, "HandshakeResponse", false},
    {"", ERROR_INVALID, "HandshakeResponse", false},
};

static void reads_every_kind_of_response(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        struct handshake_response response;
        struct error err = ERROR_INIT;
        int result = handshake_read_response(str_from(responses[i].payload), &response, &err);
        if (result != responses[i].code || strstr(err.text, responses[i].words) == NULL)
            fail_msg("case %zu: %d \"%s\"", i, result, err.text);
        if (result == 0) {
            assert_string_equal(response.client_version, "1.2.0.0");
            assert_int_equal(response.half_close, responses[i].half_close);
        }
    }
}

static void completes_with_a_message_that_always_fits(void **state)
{
    char memory[HANDSHAKE_PAYLOAD_MAX + 1];
    char message[4 * HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(memory, sizeof memory);
    (void) state;
    handshake_write_complete(&out, 12, STR_LITERAL("reached \"db\""));
    assert_string_equal(writer_terminate(&out),
                        "{\"HandshakeTimeToComplete\":12000000,\"CustomerMessage\":\"reached \\\"db\\\"\"}");
    /* the two worst: all escapes, and a two-byte character that a cut could tear */
    memset(message, '\n', sizeof message);
    out = writer_of(memory, sizeof memory);
    handshake_write_complete(&out, 12, (struct str){message, sizeof message});
    assert_false(out.failed);
    assert_true(out.len > 100 && out.len <= HANDSHAKE_PAYLOAD_MAX);
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = i % 2 == 0 ? '\xc3' : '\xa9';
    out = writer_of(memory, sizeof memory);
    handshake_write_complete(&out, 12, (struct str){message + 1, sizeof message - 1});
    assert_false(out.failed);
    assert_true(out.len > 100 && out.len <= HANDSHAKE_PAYLOAD_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_versions_field_by_field),
        cmocka_unit_test(versions_that_clients_would_treat_differently_are_refused),
        cmocka_unit_test(writes_the_request),
        cmocka_unit_test(offers_and_reads_the_extension),
        cmocka_unit_test(reads_requests_of_any_agent),
        cmocka_unit_test(reads_the_properties_of_a_port_session),
        cmocka_unit_test(what_the_client_answers_is_what_the_agent_reads),
        cmocka_unit_test(the_message_of_complete_is_cut_to_fit),
        cmocka_unit_test(reads_every_kind_of_response),
        cmocka_unit_test(completes_with_a_message_that_always_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
