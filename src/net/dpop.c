#include "net/dpop.h"

#include <bearssl.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"

enum { COORDINATE_SIZE = 32, PAYLOAD_SIZE = 1280 };

struct key {
    uint8_t secret[COORDINATE_SIZE];
    uint8_t x[COORDINATE_SIZE], y[COORDINATE_SIZE];
};

/* --- the key --- */

struct der {
    uint8_t bytes[DPOP_DER_MAX];
    size_t len;
    bool overflowed;
};

static void append_der(void *context, const void *bytes, size_t len)
{
    struct der *der = context;
    der->overflowed = der->overflowed || len > sizeof der->bytes - der->len;
    if (der->overflowed)
        return;
    memcpy(der->bytes + der->len, bytes, len);
    der->len += len;
}

/* The DER of the first key in the text; false when there is none. */
static bool decode_pem(struct str text, struct der *der)
{
    br_pem_decoder_context pem;
    bool is_key = false;
    br_pem_decoder_init(&pem);
    while (text.len > 0) {
        size_t used = br_pem_decoder_push(&pem, text.ptr, text.len);
        text = str_slice(text, used, text.len);
        int event = br_pem_decoder_event(&pem);
        if (event == BR_PEM_BEGIN_OBJ) {
            is_key = strcmp(br_pem_decoder_name(&pem), "EC PRIVATE KEY") == 0;
            br_pem_decoder_setdest(&pem, is_key ? append_der : NULL, der);
        } else if (event == BR_PEM_END_OBJ && is_key) {
            return !der->overflowed;
        } else if (event == BR_PEM_ERROR) {
            return false;
        }
    }
    return false;
}

/* Takes an element of DER off the text: its tag, a length of one byte (the whole key has less than 128). */
static bool take_element(struct reader *r, uint8_t tag, struct reader *content)
{
    uint8_t found = reader_u8(r), len = reader_u8(r);
    const uint8_t *bytes = len < 128 ? reader_bytes(r, len) : NULL;
    if (bytes == NULL || found != tag)
        return false;
    *content = reader_of(bytes, len);
    return true;
}

/* RFC 5915: SEQUENCE { INTEGER 1, OCTET STRING secret, [0] { OID } OPTIONAL, [1] { BIT STRING point } }. */
static bool read_key(const struct der *der, struct key *key)
{
    static const uint8_t P256[] = {0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07};
    struct reader all = reader_of(der->bytes, der->len), sequence, version, secret, curve, wrapped, point;
    if (!take_element(&all, 0x30, &sequence) || !take_element(&sequence, 0x02, &version) ||
        !take_element(&sequence, 0x04, &secret) || !take_element(&sequence, 0xA0, &curve) ||
        !take_element(&sequence, 0xA1, &wrapped) || !take_element(&wrapped, 0x03, &point))
        return false;
    if (reader_u8(&version) != 1 || curve.left != sizeof P256 || memcmp(curve.at, P256, sizeof P256) != 0 ||
        secret.left != sizeof key->secret)
        return false;
    reader_copy(&secret, key->secret, sizeof key->secret);
    uint16_t form = reader_u16be(&point); /* no unused bits; not compressed */
    reader_copy(&point, key->x, sizeof key->x);
    reader_copy(&point, key->y, sizeof key->y);
    return form == 0x0004 && !point.failed && point.left == 0;
}

/* --- the proof --- */

/* RFC 7515: base64 with '-' and '_', without padding. */
static void put_base64url(struct writer *out, const void *data, size_t len)
{
    size_t start = out->len;
    writer_base64(out, data, len);
    for (size_t i = start; i < out->len; i++) {
        uint8_t c = out->start[i];
        out->start[i] = c == '+' ? '-' : c == '/' ? '_' : c;
    }
    while (out->len > start && out->start[out->len - 1] == '=')
        out->len--;
}

static void put_coordinate(struct json_writer *j, const char *name, const uint8_t coordinate[COORDINATE_SIZE])
{
    char text[COORDINATE_SIZE * 2];
    struct writer w = writer_of(text, sizeof text);
    put_base64url(&w, coordinate, COORDINATE_SIZE);
    json_member_string(j, name, writer_view(&w));
}

static void put_header(struct writer *out, const struct key *key)
{
    char text[512];
    struct writer w = writer_of(text, sizeof text);
    struct json_writer j = json_writer_of(&w);
    json_begin_object(&j);
    json_member_text(&j, "typ", "dpop+jwt");
    json_member_text(&j, "alg", "ES256");
    json_key(&j, "jwk");
    json_begin_object(&j);
    json_member_text(&j, "kty", "EC");
    put_coordinate(&j, "x", key->x);
    put_coordinate(&j, "y", key->y);
    json_member_text(&j, "crv", "P-256");
    json_end_object(&j);
    json_end_object(&j);
    put_base64url(out, text, w.len);
}

static void put_payload(struct writer *out, const char *method, struct str url, const char *jti,
                        int64_t unix_s)
{
    char text[PAYLOAD_SIZE];
    struct writer w = writer_of(text, sizeof text);
    struct json_writer j = json_writer_of(&w);
    json_begin_object(&j);
    json_member_text(&j, "jti", jti);
    json_member_text(&j, "htm", method);
    json_member_string(&j, "htu", url);
    json_member_i64(&j, "iat", unix_s);
    json_end_object(&j);
    put_base64url(out, text, w.len);
    out->failed = out->failed || w.failed;
}

/* Over what stands in `out` from `start` on. */
static bool put_signature(struct writer *out, size_t start, struct key *key)
{
    uint8_t digest[SHA256_SIZE], signature[2 * COORDINATE_SIZE];
    br_ec_private_key secret = {BR_EC_secp256r1, key->secret, sizeof key->secret};
    sha256(out->start + start, out->len - start, digest);
    size_t len = br_ecdsa_i31_sign_raw(&br_ec_prime_i31, &br_sha256_vtable, digest, &secret, signature);
    writer_char(out, '.');
    put_base64url(out, signature, len);
    return len == sizeof signature;
}

int dpop_write_proof(struct writer *out, struct str key, const char *method, struct str url, const char *jti,
                     int64_t unix_s, struct error *err)
{
    struct der der = {.len = 0};
    struct key parts;
    size_t start = out->len;
    int result = 0;
    if (!decode_pem(key, &der))
        result = error_set(err, ERROR_INVALID, "the key is not an \"EC PRIVATE KEY\" in PEM");
    else if (!read_key(&der, &parts))
        result = error_set(err, ERROR_UNSUPPORTED, "the key is not of curve P-256, with its public half");
    if (result == 0) {
        put_header(out, &parts);
        writer_char(out, '.');
        put_payload(out, method, url, jti, unix_s);
        if (!out->failed && !put_signature(out, start, &parts))
            result = error_set(err, ERROR_INVALID, "the key can't sign");
    }
    if (result == 0 && out->failed)
        result = error_set(err, ERROR_TOO_LARGE, "a proof of more than %zu bytes", out->capacity);
    bytes_wipe(&der, sizeof der);
    bytes_wipe(&parts, sizeof parts);
    return result;
}
