#include "net/tls.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/ip.h"
#include "base/time.h"
#include "host/clock.h"
#include "host/random.h"
#include "wire/certificate.h"

enum {
    SEED_BYTES = 32,
    RSA_BYTES_MIN = 256,               /* 2,048 bits */
    DAYS_FROM_YEAR_0_TO_1970 = 719528, /* BearSSL counts days from January 1st of year 0 */
    MS_PER_DAY = 24 * 60 * 60 * 1000
};

/* BearSSL's validation, and a look at what it does not check. */
struct chain {
    const br_x509_class *vtable;
    br_x509_minimal_context x509;
    const char *host;
    struct ip address; /* that `host` is; else all zeroes */
    bool names_address;
    unsigned failure; /* 0, or a BR_ERR_X509_... */
    char extension[64];
    bool is_leaf;
    bool is_needed; /* the current certificate: no CA known was reached before it */
    size_t len;
    unsigned char der[TRUST_CERTIFICATE_MAX]; /* one certificate after the other */
};

struct tls {
    br_ssl_client_context client;
    struct chain chain;
    unsigned char in[BR_SSL_BUFSIZE_INPUT];
    unsigned char out[BR_SSL_BUFSIZE_OUTPUT];
};

/* --- the certificate chain ------------------------------------------------------------------------------ */

static void start_chain(const br_x509_class **of, const char *name)
{
    struct chain *chain = (struct chain *) (void *) of;
    chain->names_address = false;
    chain->failure = 0;
    chain->is_leaf = true;
    chain->x509.vtable->start_chain(&chain->x509.vtable, chain->address.version != 0 ? NULL : name);
}

static void start_certificate(const br_x509_class **of, uint32_t len)
{
    struct chain *chain = (struct chain *) (void *) of;
    chain->len = 0;
    chain->is_needed = chain->x509.err == 0;
    chain->x509.vtable->start_cert(&chain->x509.vtable, len);
}

static void append(const br_x509_class **of, const unsigned char *bytes, size_t len)
{
    struct chain *chain = (struct chain *) (void *) of;
    if (len > sizeof chain->der - chain->len)
        chain->failure = BR_ERR_X509_LIMIT_EXCEEDED;
    else
        memcpy(chain->der + chain->len, bytes, len);
    chain->len += chain->failure == 0 ? len : 0;
    chain->x509.vtable->append(&chain->x509.vtable, bytes, len);
}

static void end_certificate(const br_x509_class **of)
{
    struct chain *chain = (struct chain *) (void *) of;
    bool counts = chain->is_needed && chain->failure == 0;
    struct certificate_facts facts;
    certificate_read(&facts, (struct str){(const char *) chain->der, chain->len}, chain->address);
    if (chain->is_leaf)
        chain->names_address = facts.names_address;
    chain->is_leaf = false;
    if (counts && facts.is_for_others)
        chain->failure = BR_ERR_X509_FORBIDDEN_KEY_USAGE;
    if (counts && facts.unchecked.len > 0) {
        struct writer w = writer_of(chain->extension, sizeof chain->extension);
        chain->failure = BR_ERR_X509_CRITICAL_EXTENSION;
        certificate_write_extension(&w, facts.unchecked);
        writer_terminate(&w);
    }
    chain->x509.vtable->end_cert(&chain->x509.vtable);
}

static unsigned end_chain(const br_x509_class **of)
{
    struct chain *chain = (struct chain *) (void *) of;
    unsigned failure = chain->x509.vtable->end_chain(&chain->x509.vtable);
    if (failure != 0)
        return failure;
    if (chain->address.version != 0 && !chain->names_address)
        return BR_ERR_X509_BAD_SERVER_NAME;
    return chain->failure;
}

static const br_x509_pkey *get_key(const br_x509_class *const *of, unsigned *usages)
{
    const struct chain *chain = (const struct chain *) (const void *) of;
    return chain->x509.vtable->get_pkey(&chain->x509.vtable, usages);
}

static const br_x509_class chain_class = {.context_size = sizeof(struct chain),
                                          .start_chain = start_chain,
                                          .start_cert = start_certificate,
                                          .append = append,
                                          .end_cert = end_certificate,
                                          .end_chain = end_chain,
                                          .get_pkey = get_key};

/* --- the client ----------------------------------------------------------------------------------------- */

/* AES-GCM, which every endpoint of AWS speaks. Where AES is always done in software, ChaCha20 comes first,
 * three times as fast; on amd64 it would be dead weight, since no CPU that ECS or CI runs on lacks the
 * instructions. */
static void set_suites(br_ssl_engine_context *engine)
{
    static const uint16_t suites[] = {
#if !defined(__x86_64__)
        BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
#endif
        BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    };
    br_ssl_engine_set_suites(engine, suites, sizeof suites / sizeof suites[0]);
    br_ssl_engine_set_default_aes_gcm(engine);
#if !defined(__x86_64__)
    br_ssl_engine_set_default_chapol(engine);
#endif
}

static void set_hashes(struct tls *tls)
{
    static const struct {
        int id;
        const br_hash_class *hash;
    } hashes[] = {{br_sha256_ID, &br_sha256_vtable},
                  {br_sha384_ID, &br_sha384_vtable},
                  {br_sha512_ID, &br_sha512_vtable}};
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        br_ssl_engine_set_hash(&tls->client.eng, hashes[i].id, hashes[i].hash);
        br_x509_minimal_set_hash(&tls->chain.x509, hashes[i].id, hashes[i].hash);
    }
    br_ssl_engine_set_prf_sha256(&tls->client.eng, &br_tls12_sha256_prf);
    br_ssl_engine_set_prf_sha384(&tls->client.eng, &br_tls12_sha384_prf);
}

static void set_certificates(struct tls *tls, const struct trust *trust)
{
    br_ssl_engine_context *engine = &tls->client.eng;
    br_x509_minimal_context *x509 = &tls->chain.x509;
    br_x509_minimal_init(x509, &br_sha256_vtable, trust->anchors, trust->count);
    /* The general arithmetic, for all curves (P-256, P-384, P-521) and keys alike. BearSSL's special code for
     * P-256 and RSA makes a handshake 3 ms faster and the program 15 KB larger. */
    br_ssl_engine_set_rsavrfy(engine, &br_rsa_i31_pkcs1_vrfy);
    br_ssl_engine_set_ec(engine, &br_ec_prime_i31);
    br_ssl_engine_set_ecdsa(engine, &br_ecdsa_i31_vrfy_asn1);
    br_x509_minimal_set_rsa(x509, br_ssl_engine_get_rsavrfy(engine));
    br_x509_minimal_set_ecdsa(x509, br_ssl_engine_get_ec(engine), br_ssl_engine_get_ecdsa(engine));
    br_x509_minimal_set_minrsa(x509, RSA_BYTES_MIN);
    int64_t now_ms = clock_unix_ms();
    br_x509_minimal_set_time(x509, (uint32_t) (now_ms / MS_PER_DAY) + DAYS_FROM_YEAR_0_TO_1970,
                             (uint32_t) (now_ms % MS_PER_DAY / 1000));
    br_ssl_engine_set_x509(engine, &tls->chain.vtable);
}

int tls_open(struct tls **tls, const struct trust *trust, const char *host, struct error *err)
{
    struct tls *made =
        malloc(sizeof *made); /* not calloc: the record buffers' pages come when they are needed */
    *tls = made;
    if (made == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    br_ssl_engine_context *engine = &made->client.eng;
    made->chain.vtable = &chain_class;
    made->chain.host = host;
    bool is_address = ip_parse(str_from(host), &made->chain.address);
    if (!is_address)
        made->chain.address = (struct ip){.version = 0};
    br_ssl_client_zero(&made->client);
    br_ssl_engine_set_versions(engine, BR_TLS12, BR_TLS12);
    br_ssl_engine_add_flags(engine, BR_OPT_NO_RENEGOTIATION);
    set_suites(engine);
    set_certificates(made, trust);
    set_hashes(made);
    br_ssl_engine_set_buffers_bidi(engine, made->in, sizeof made->in, made->out, sizeof made->out);
    uint8_t seed[SEED_BYTES];
    random_bytes(seed, sizeof seed);
    br_ssl_engine_inject_entropy(engine, seed, sizeof seed);
    bytes_wipe(seed, sizeof seed);
    if (!br_ssl_client_reset(&made->client, is_address ? "" : host, 0)) {
        int number = br_ssl_engine_last_error(engine);
        tls_close(made);
        *tls = NULL;
        return error_set(err, ERROR_INVALID, "can't start (BearSSL error %d)", number);
    }
    return 0;
}

br_ssl_engine_context *tls_engine(struct tls *tls)
{
    return &tls->client.eng;
}

void tls_close(struct tls *tls)
{
    if (tls != NULL) {
        bytes_wipe(tls, sizeof *tls);
        free(tls);
    }
}

/* --- errors in words ------------------------------------------------------------------------------------ */

static int explain_validity(struct error *err)
{
    char now[32];
    struct writer w = writer_of(now, sizeof now);
    writer_rfc3339_ms(&w, clock_unix_ms());
    return error_set(err, ERROR_DENIED,
                     "the certificate has expired or is not valid yet; it is %s here: is the clock right?",
                     writer_terminate(&w));
}

static int explain_certificate(int number, const struct chain *chain, struct error *err)
{
    switch (number) {
    case BR_ERR_X509_NOT_TRUSTED:
        return error_set(err, ERROR_DENIED,
                         "the certificate is not trusted: none of the known CA certificates signed it; set "
                         "SSL_CERT_FILE to "
                         "a PEM file with the right one");
    case BR_ERR_X509_EXPIRED:
        return explain_validity(err);
    case BR_ERR_X509_BAD_SERVER_NAME:
        return error_set(err, ERROR_DENIED, "the certificate is not for %s", chain->host);
    case BR_ERR_X509_BAD_SIGNATURE:
        return error_set(err, ERROR_DENIED,
                         "the certificate chain is forged or damaged: a signature is wrong");
    case BR_ERR_X509_NOT_CA:
    case BR_ERR_X509_FORBIDDEN_KEY_USAGE:
        return error_set(err, ERROR_DENIED,
                         "the certificate chain uses a key for a purpose it does not allow");
    case BR_ERR_X509_CRITICAL_EXTENSION:
        return error_set(err, ERROR_DENIED,
                         "a certificate has an extension that can't be checked here: %s; have it issued "
                         "without, or exempt the host from TLS inspection",
                         chain->extension);
    case BR_ERR_X509_WEAK_PUBLIC_KEY:
        return error_set(err, ERROR_DENIED, "a certificate's RSA key has less than %d bits",
                         8 * RSA_BYTES_MIN);
    default:
        return error_set(
            err, ERROR_DENIED,
            "the certificate chain is malformed, or holds what is not supported here (BearSSL error %d)",
            number);
    }
}

static const char *alert_name(int alert)
{
    switch (alert) {
    case 40:
        return "handshake_failure, probably no cipher suite in common";
    case 42:
        return "bad_certificate";
    case 48:
        return "unknown_ca";
    case 70:
        return "protocol_version";
    case 80:
        return "internal_error";
    case 112:
        return "unrecognized_name";
    default:
        return "see RFC 5246, 7.2";
    }
}

int tls_explain(const struct tls *tls, struct error *err)
{
    int number = br_ssl_engine_last_error(&tls->client.eng);
    if (number == BR_ERR_OK)
        return 0;
    if (number >= BR_ERR_SEND_FATAL_ALERT) {
        return error_set(err, ERROR_INVALID, "the peer violated the protocol (alert %d sent)",
                         number - BR_ERR_SEND_FATAL_ALERT);
    }
    if (number >= BR_ERR_RECV_FATAL_ALERT) {
        int alert = number - BR_ERR_RECV_FATAL_ALERT;
        return error_set(err, ERROR_UNAVAILABLE, "the peer refused: alert %d, %s", alert, alert_name(alert));
    }
    if (number > BR_ERR_X509_OK)
        return explain_certificate(number, &tls->chain, err);
    if (number == BR_ERR_UNSUPPORTED_VERSION || number == BR_ERR_BAD_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "the peer does not speak TLS 1.2");
    return error_set(err, ERROR_INVALID, "the peer violated the protocol (BearSSL error %d)", number);
}
