/* SHA-256 by the processor and in portable code: FIPS 180-4's examples, and each other,
 * at every length near a block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/prng.h"
#include "base/sha256.h"
#include "lib/guard.h"

enum { HEX_SIZE = 2 * SHA256_SIZE };

static void assert_digest(const char *hex, const uint8_t digest[SHA256_SIZE])
{
    char text[HEX_SIZE + 1];
    struct writer w = writer_of(text, sizeof text);
    writer_hex(&w, digest, SHA256_SIZE);
    assert_string_equal(writer_terminate(&w), hex);
}

static const struct {
    const char *text;
    unsigned times;
    const char *digest;
} vectors[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrs"
     "tnopqrstu",
     1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {"aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

static uint8_t million[1000000];

static void gives_the_published_digests(void **state)
{
    (void) state;
    for (int choice = 0; choice < 2; choice++) {
        if (choice == 1)
            sha256_choose(getauxval(AT_HWCAP));
        for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
            size_t len = strlen(vectors[i].text);
            uint8_t digest[SHA256_SIZE];
            for (unsigned n = 0; n < vectors[i].times; n++)
                memcpy(million + n * len, vectors[i].text, len);
            sha256(million, len * vectors[i].times, digest);
            assert_digest(vectors[i].digest, digest);
            sha256_portable(million, len * vectors[i].times, digest);
            assert_digest(vectors[i].digest, digest);
        }
    }
}

static void hardware_and_portable_agree_at_every_length(void **state)
{
    uint8_t seed[PRNG_SEED_SIZE] = {1};
    struct prng g;
    (void) state;
    sha256_choose(getauxval(AT_HWCAP));
    prng_init(&g, seed);
    for (size_t len = 0; len <= 1200; len++) {
        uint8_t *data = guard_alloc(len);
        uint8_t expected[SHA256_SIZE], digest[SHA256_SIZE];
        prng_fill(&g, data, len);
        sha256_portable(data, len, expected);
        sha256(data, len, digest);
        assert_memory_equal(digest, expected, sizeof digest);
        guard_free(data, len);
    }
}

static void names_what_it_chose(void **state)
{
    const char *name = sha256_choose(getauxval(AT_HWCAP));
    (void) state;
    assert_true(strcmp(name, "sha-ni") == 0 || strcmp(name, "armv8") == 0 || strcmp(name, "portable") == 0);
#if defined(__aarch64__)
    assert_string_equal(sha256_choose(0), "portable");
#endif
}

static void generator_is_the_same_in_any_pieces(void **state)
{
    uint8_t seed[PRNG_SEED_SIZE] = "thirty-two bytes of seed, or so.";
    uint8_t whole[300], pieces[300];
    struct prng g;
    (void) state;
    prng_init(&g, seed);
    prng_fill(&g, whole, sizeof whole);
    for (size_t piece = 1; piece < 70; piece++) {
        prng_init(&g, seed);
        for (size_t at = 0; at < sizeof pieces; at += piece)
            prng_fill(&g, pieces + at, at + piece <= sizeof pieces ? piece : sizeof pieces - at);
        assert_memory_equal(pieces, whole, sizeof whole);
    }
}

static void generator_differs_by_seed_and_does_not_repeat(void **state)
{
    uint8_t seed[PRNG_SEED_SIZE] = {0};
    uint8_t one[64], other[64];
    struct prng g;
    (void) state;
    prng_init(&g, seed);
    prng_fill(&g, one, sizeof one);
    assert_memory_not_equal(one, one + 32, 32);
    seed[31] = 1;
    prng_init(&g, seed);
    prng_fill(&g, other, sizeof other);
    assert_memory_not_equal(one, other, sizeof one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_digests),
        cmocka_unit_test(hardware_and_portable_agree_at_every_length),
        cmocka_unit_test(names_what_it_chose),
        cmocka_unit_test(generator_is_the_same_in_any_pieces),
        cmocka_unit_test(generator_differs_by_seed_and_does_not_repeat),
    };
    return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
