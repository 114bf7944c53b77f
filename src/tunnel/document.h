/*
 * document: what an `interactive_shell` message asks for, reduced to what a port session needs.
 *
 * The message's payload is {"Content": "<a JSON document as a string>", ...}; that document names the
 * session, its owner and the SSM document, whose `properties` hold `{{ name }}` references to `Parameters` (a
 * string or an array of one) or, where the caller gave none, to `parameters.<name>.default` (protocol of
 * Session Manager documents, schema 1.0). Keys are matched without regard to case, as AWS's Go programs do;
 * identifiers are opaque.
 *
 * The result holds copies: nothing points into the message.
 */
#ifndef FUMIDAI_TUNNEL_DOCUMENT_H
#define FUMIDAI_TUNNEL_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "tunnel/dial_policy.h"

enum {
    /* SSM documents are at most 64 KB; escaped into a string they grow, but a Port document is a few hundred
       bytes. */
    DOCUMENT_CONTENT_MAX = 64 * 1024,
    DOCUMENT_TOKENS_MAX = 2048, /* a Port document has some fifty */
    DOCUMENT_ID_SIZE = 160,     /* ids are at most 96 characters (API reference of SSM: SessionId) */
    DOCUMENT_OWNER_SIZE = 300,  /* an assumed-role ARN with the longest role and session names */
    DOCUMENT_NAME_SIZE = 160, /* document names are at most 128 characters, ARNs of shared ones are longer */
    DOCUMENT_TYPE_SIZE = 64,  /* the longest known sessionType has 22 characters */
    /* The handshake request must fit one stream message of 1,024 bytes with some 200 of its own around this.
     */
    DOCUMENT_PROPERTIES_SIZE = 800
};

/* The host of a session that has no target of its own: each stream names one (SOCKS). The name can't exist
 * (RFC 2606, 2), and nobody looks it up. The port goes with it because portNumber is required. */
#define DOCUMENT_ANY_HOST "any.fumidai.invalid"
#define DOCUMENT_ANY_PORT 1

/* An owner or a document's name that the message lacks, or that is too long. */
#define DOCUMENT_UNKNOWN "unknown"

/* How the target's bytes travel. */
enum document_kind {
    DOCUMENT_LOCAL_FORWARDING, /* properties.type is LocalPortForwarding: multiplexed with a client that
                                      can */
    DOCUMENT_STREAM            /* any other type (ssh through a proxy command): one connection, basic */
};

struct document {
    char session_id[DOCUMENT_ID_SIZE];
    char owner[DOCUMENT_OWNER_SIZE];
    char document_name[DOCUMENT_NAME_SIZE];
    char session_type[DOCUMENT_TYPE_SIZE];
    enum document_kind kind;
    char host[DIAL_POLICY_HOST_SIZE]; /* "localhost" when the document names none */
    uint16_t port;
    /* A stream between two fumidai ends may name a target of its own. Only where the document leaves the host
     * to its user: AWS-StartPortForwardingSessionToRemoteHost, and a document of the account's whose
     * properties say "fumidaiDestinations": "any". A document that fixes the host is what an IAM policy
     * allows. */
    bool any_destination;
    char properties[DOCUMENT_PROPERTIES_SIZE]; /* JSON object for the handshake, references replaced */
};

/* Work space of one parse; too large for a stack, may be shared by all sessions of a process. */
struct document_scratch {
    struct json_token outer_tokens[64];
    struct json_token tokens[DOCUMENT_TOKENS_MAX];
    char content[DOCUMENT_CONTENT_MAX];
};

/*
 * 0 on success. Otherwise `document` holds as much as could be read: session_id is filled whenever the
 * message holds one, so that the refusal can be reported for that session. ERROR_INVALID (the message or
 * document is malformed, the words say where), ERROR_TOO_LARGE, ERROR_UNSUPPORTED (a session type that needs
 * a shell, a schema other than 1.0).
 */
int document_parse(struct document *document, struct str payload, struct document_scratch *scratch,
                   struct error *err);

/* Whether the session has a target of its own. Only one whose streams may name theirs can have none. */
bool document_has_target(const struct document *document);

#endif
