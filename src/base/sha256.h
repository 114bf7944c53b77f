/*
 * sha256: FIPS 180-4 in one call, by the processor's own instructions where it has them. Every stream message
 * carries the digest of its payload, so this is the most expensive line of the relay: 1,024 bytes take about
 * 0.6 µs with SHA-NI and five times that in portable code.
 */
#ifndef FUMIDAI_BASE_SHA256_H
#define FUMIDAI_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_SIZE = 32 /* FIPS 180-4 */ };

/*
 * Chooses the implementation; call it once, before any thread or engine starts. Until then the portable one
 * serves, so forgetting it costs speed and nothing else. arm64_hwcap is getauxval(AT_HWCAP) (pure code asks
 * the kernel nothing); x86-64 ignores it and asks CPUID. Returns what was chosen, for the log: "sha-ni",
 * "armv8" or "portable".
 */
const char *sha256_choose(unsigned long arm64_hwcap);

void sha256(const void *data, size_t len, uint8_t digest[SHA256_SIZE]);
void sha256_portable(const void *data, size_t len, uint8_t digest[SHA256_SIZE]); /* BearSSL's */

#endif
