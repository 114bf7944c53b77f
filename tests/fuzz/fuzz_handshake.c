/* HandshakeResponse of a hostile client, HandshakeRequest and HandshakeComplete of a hostile agent. */
#include "tunnel/handshake.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct handshake_response response;
    struct error err = ERROR_INIT;
    struct handshake_request request;
    char message[64];
    struct str payload = {(const char *) data, size};
    handshake_read_complete(payload, message, sizeof message);
    if (handshake_read_request(payload, &request, NULL) == 0)
        handshake_agent_multiplexes(str_from(request.agent_version));
    if (handshake_read_response(payload, &response, &err) == 0) {
        handshake_client_multiplexes(str_from(response.client_version));
        return 0;
    }
    if (err.text[0] == '\0')
        abort();
    char memory[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(memory, sizeof memory);
    handshake_write_complete(&out, 1, payload);
    if (out.failed)
        abort();
    return 0;
}
