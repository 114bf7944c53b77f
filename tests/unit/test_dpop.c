#include "net/dpop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <bearssl.h>

#include "base/sha256.h"
#include "lib/guard.h"

/* Made for this test with `openssl ecparam -genkey`. */
static const char KEY[] = "-----BEGIN EC PRIVATE KEY-----\n"
                          "MHcCAQEEIAcqrN7vhKC+r7oJfYV1xLTcM0HJplHh89K8PYP+n1E5oAoGCCqGSM49\n"
                          "AwEHoUQDQgAEFPuHb5NtJ0MVe/i1hVT6oOZpIsP0eXfx7uYLStMPZL+MuYGGemmX\n"
                          "XAVZAmkCUZ+yngsSCuuJ1oisziwdEyIJYA==\n"
                          "-----END EC PRIVATE KEY-----\n";
static const char OF_P384[] = "-----BEGIN EC PRIVATE KEY-----\n"
                              "MIGkAgEBBDBl+X+8B7jYQSZ5/gtnUrab/C799QlYj1NTYScp9j8iueWcySedVMMi\n"
                              "VpZufCIVrYqgBwYFK4EEACKhZANiAASwVVLkL4QDTll8yvc9eg6WHUio848q+bPz\n"
                              "b8YbEDNGm60lYQg4FRZJLLewT7pxNSznHsBL8xW5+x1Bv4gyMKd0DLkV8cTt79tR\n"
                              "R+UXhOPVMI37JuN/3CG8gsj/Im7M54I=\n"
                              "-----END EC PRIVATE KEY-----\n";
static const char WITHOUT_PUBLIC_HALF[] = "-----BEGIN EC PRIVATE KEY-----\n"
                                          "MDECAQEEIAcqrN7vhKC+r7oJfYV1xLTcM0HJplHh89K8PYP+n1E5oAoGCCqGSM49\n"
                                          "AwEH\n"
                                          "-----END EC PRIVATE KEY-----\n";

#define URL "https://eu-west-1.signin.aws.amazon.com/v1/token"

static char text[DPOP_PROOF_SIZE];

static int prove(const char *key, struct writer *out, struct error *err)
{
    size_t len = strlen(key);
    char *copy = guard_copy(key, len);
    int result =
        dpop_write_proof(out, (struct str){copy, len}, "POST", STR_LITERAL(URL), "j1", 1795361931, err);
    guard_free(copy, len);
    return result;
}

static int value_of(char c)
{
    static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *at = strchr(ALPHABET, c);
    assert_true(at != NULL && c != '\0');
    return (int) (at - ALPHABET);
}

static size_t decode(struct str encoded, uint8_t *out)
{
    uint32_t bits = 0;
    size_t len = 0;
    for (size_t i = 0; i < encoded.len; i++) {
        bits = bits << 6 | (uint32_t) value_of(encoded.ptr[i]);
        if (i % 4 != 0)
            out[len++] = (uint8_t) (bits >> (6 - 2 * (i % 4)));
    }
    return len;
}

static void assert_decodes(struct str encoded, const char *expected)
{
    uint8_t out[1024];
    assert_int_equal(decode(encoded, out), strlen(expected));
    assert_memory_equal(out, expected, strlen(expected));
}

static void a_proof_says_what_is_sent_and_is_signed(void **state)
{
    struct writer out = writer_of(text, sizeof text);
    struct str head, header, payload, signature;
    uint8_t digest[SHA256_SIZE], raw[128], point[65] = {4};
    br_ec_public_key key = {BR_EC_secp256r1, point, sizeof point};
    (void) state;
    assert_int_equal(prove(KEY, &out, NULL), 0);
    assert_true(str_cut_last(writer_view(&out), '.', &head, &signature));
    assert_true(str_cut(head, '.', &header, &payload));
    assert_decodes(
        header, "{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\",\"x\":\"FPuHb5NtJ0MVe_i1hV"
                "T6oOZpIsP0eXfx7uYLStMPZL8\",\"y\":\"jLmBhnppl1wFWQJpAlGfsp4LEgrridaIrM4sHRMiCWA\",\"crv\":"
                "\"P-256\"}}");
    assert_decodes(
        payload, "{\"jti\":\"j1\",\"htm\":\"POST\",\"htu\":\"https://eu-west-1.signin.aws.amazon.com/v1/toke"
                 "n\",\"iat\":1795361931}");
    assert_int_equal(decode(STR_LITERAL("FPuHb5NtJ0MVe_i1hVT6oOZpIsP0eXfx7uYLStMPZL8"), point + 1), 32);
    assert_int_equal(decode(STR_LITERAL("jLmBhnppl1wFWQJpAlGfsp4LEgrridaIrM4sHRMiCWA"), point + 33), 32);
    sha256(head.ptr, head.len, digest);
    assert_int_equal(decode(signature, raw), 64);
    assert_int_equal(br_ecdsa_i31_vrfy_raw(&br_ec_prime_i31, digest, sizeof digest, &key, raw, 64), 1);
    raw[5] ^= 1;
    assert_int_equal(br_ecdsa_i31_vrfy_raw(&br_ec_prime_i31, digest, sizeof digest, &key, raw, 64), 0);
}

static void keys_of_other_kinds(void **state)
{
    static const struct {
        const char *key;
        int result;
    } CASES[] = {
        {"", ERROR_INVALID},
        {"k", ERROR_INVALID},
        {"-----BEGIN EC PRIVATE KEY-----\n", ERROR_INVALID},
        {"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", ERROR_UNSUPPORTED},
        {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ERROR_INVALID},
        {OF_P384, ERROR_UNSUPPORTED},
        {WITHOUT_PUBLIC_HALF, ERROR_UNSUPPORTED},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct writer out = writer_of(text, sizeof text);
        assert_int_equal(prove(CASES[i].key, &out, NULL), CASES[i].result);
        assert_int_equal(out.len, 0);
    }
}

static void what_does_not_fit(void **state)
{
    static char url[4096];
    struct writer out;
    (void) state;
    for (size_t capacity = 0; capacity < 400; capacity += 20) {
        char *memory = guard_alloc(capacity);
        out = writer_of(memory, capacity);
        assert_int_equal(prove(KEY, &out, NULL), ERROR_TOO_LARGE);
        guard_free(memory, capacity);
    }
    memset(url, 'x', sizeof url);
    out = writer_of(text, sizeof text);
    assert_int_equal(
        dpop_write_proof(&out, str_from(KEY), "POST", (struct str){url, sizeof url}, "j", 1, NULL),
        ERROR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_proof_says_what_is_sent_and_is_signed),
        cmocka_unit_test(keys_of_other_kinds),
        cmocka_unit_test(what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
