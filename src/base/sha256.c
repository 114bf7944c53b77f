#include "base/sha256.h"

#include <stdbool.h>
#include <string.h>

#include <bearssl_hash.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { BLOCK_SIZE = 64, ROUNDS = 64 };

void sha256_portable(const void *data, size_t len, uint8_t digest[SHA256_SIZE])
{
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, data, len);
    br_sha256_out(&context, digest);
}

#if defined(__x86_64__) || defined(__aarch64__)

/* FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constants[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint32_t initial_state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static bool hardware; /* set once by sha256_choose */

#if defined(__x86_64__)

/* The instructions want the eight words as ABEF and CDGH, highest first. */
__attribute__((target("sha,sse4.1"))) static void compress(uint32_t state[8], const uint8_t *block,
                                                           size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *) state), 0xb1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *) (state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    for (; blocks > 0; blocks--, block += BLOCK_SIZE) {
        __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i words[4]; /* the last sixteen words of the message schedule */
#pragma GCC unroll 16
        for (int i = 0; i < ROUNDS / 4; i++) {
            __m128i w;
            if (i < 4) {
                w = _mm_loadu_si128((const __m128i *) (block + 16 * i));
                w = _mm_shuffle_epi8(w, swap);
            } else {
                w = _mm_sha256msg1_epu32(words[i & 3], words[(i + 1) & 3]);
                w = _mm_add_epi32(w, _mm_alignr_epi8(words[(i + 3) & 3], words[(i + 2) & 3], 4));
                w = _mm_sha256msg2_epu32(w, words[(i + 3) & 3]);
            }
            words[i & 3] = w;
            w = _mm_add_epi32(w, _mm_loadu_si128((const __m128i *) (round_constants + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *) state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *) (state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static bool processor_can(unsigned long arm64_hwcap)
{
    unsigned eax, ebx, ecx, edx;
    (void) arm64_hwcap;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & bit_SSE4_1) == 0 || (ecx & bit_SSSE3) == 0)
        return false;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_SHA) != 0;
}

#define HARDWARE_NAME "sha-ni"

#else

__attribute__((target("+crypto"))) static void compress(uint32_t state[8], const uint8_t *block,
                                                        size_t blocks)
{
    uint32x4_t abcd = vld1q_u32(state);
    uint32x4_t efgh = vld1q_u32(state + 4);
    for (; blocks > 0; blocks--, block += BLOCK_SIZE) {
        uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t words[4]; /* the last sixteen words of the message schedule */
#pragma GCC unroll 16
        for (int i = 0; i < ROUNDS / 4; i++) {
            uint32x4_t w;
            if (i < 4) {
                w = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(block + 16 * i)));
            } else {
                w = vsha256su0q_u32(words[i & 3], words[(i + 1) & 3]);
                w = vsha256su1q_u32(w, words[(i + 2) & 3], words[(i + 3) & 3]);
            }
            words[i & 3] = w;
            w = vaddq_u32(w, vld1q_u32(round_constants + 4 * i));
            uint32x4_t abcd_old = abcd;
            abcd = vsha256hq_u32(abcd, efgh, w);
            efgh = vsha256h2q_u32(efgh, abcd_old, w);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

static bool processor_can(unsigned long arm64_hwcap)
{
    const unsigned long hwcap_sha2 = 1UL << 6; /* Linux, asm/hwcap.h */
    return (arm64_hwcap & hwcap_sha2) != 0;
}

#define HARDWARE_NAME "armv8"

#endif

static void put_u32be(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t) (value >> (24 - 8 * i));
}

static void sha256_hardware(const void *data, size_t len, uint8_t digest[SHA256_SIZE])
{
    uint32_t state[8];
    uint8_t tail[2 * BLOCK_SIZE];
    size_t whole = len / BLOCK_SIZE * BLOCK_SIZE;
    size_t rest = len - whole;
    size_t tail_len = rest + 9 <= BLOCK_SIZE ? BLOCK_SIZE : 2 * BLOCK_SIZE; /* 0x80, zeroes, length in bits */
    memcpy(state, initial_state, sizeof state);
    compress(state, data, len / BLOCK_SIZE);
    if (rest > 0)
        memcpy(tail, (const uint8_t *) data + whole, rest);
    memset(tail + rest, 0, tail_len - rest);
    tail[rest] = 0x80;
    put_u32be(tail + tail_len - 8, (uint32_t) ((uint64_t) len >> 29));
    put_u32be(tail + tail_len - 4, (uint32_t) ((uint64_t) len << 3));
    compress(state, tail, tail_len / BLOCK_SIZE);
    for (size_t i = 0; i < 8; i++)
        put_u32be(digest + 4 * i, state[i]);
}

const char *sha256_choose(unsigned long arm64_hwcap)
{
    hardware = processor_can(arm64_hwcap);
    return hardware ? HARDWARE_NAME : "portable";
}

void sha256(const void *data, size_t len, uint8_t digest[SHA256_SIZE])
{
    if (hardware)
        sha256_hardware(data, len, digest);
    else
        sha256_portable(data, len, digest);
}

#else

const char *sha256_choose(unsigned long arm64_hwcap)
{
    (void) arm64_hwcap;
    return "portable";
}

void sha256(const void *data, size_t len, uint8_t digest[SHA256_SIZE])
{
    sha256_portable(data, len, digest);
}

#endif
