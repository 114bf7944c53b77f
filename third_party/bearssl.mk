# BearSSL, from Debian's source package: Debian's library is built for glibc and does not link with musl. The
# static library holds every object; the linker takes what is used.

BEARSSL       := $(CACHE)/bearssl-0.6
BEARSSL_ORIG  := bearssl_0.6+dfsg.1.orig.tar.xz
BEARSSL_FILES := bearssl_0.6+dfsg.1-3.dsc bearssl_0.6+dfsg.1-3.debian.tar.xz $(BEARSSL_ORIG)

# Its sources are known only once they are unpacked. Make makes what it includes, and then starts over: now the wildcard
# finds them, and the Makefile's questions to the compiler have an answer on a machine that had none before. (Debian has no patches for it; its part of the package says so, and is kept beside it.)
$(CACHE)/bearssl.mk: third_party/pins third_party/fetch third_party/bearssl.mk | $(call deps,build native)
	$(Q)for file in $(BEARSSL_FILES); do third_party/fetch $$file $(CACHE) || exit 1; done
	$(Q)rm -rf $(BEARSSL) && tar -C $(CACHE) -xf $(CACHE)/$(BEARSSL_ORIG)
	$(Q)echo "# BearSSL is unpacked beside this file." >$@

ifneq ($(filter-out $(GOALS_WITHOUT_SOURCES),$(or $(MAKECMDGOALS),all)),)
include $(CACHE)/bearssl.mk
endif

BEARSSL_SOURCES := $(wildcard $(BEARSSL)/src/*.c $(BEARSSL)/src/*/*.c)

# Randomness and time are the host floor's to give (br_ssl_engine_inject_entropy, br_x509_minimal_set_time); without
# them a handshake fails, rather than fall back on what BearSSL finds by itself.
BEARSSL_FLAGS := -std=c99 -I$(BEARSSL)/inc -I$(BEARSSL)/src -DBR_USE_UNIX_TIME=0 -DBR_USE_URANDOM=0 -DBR_RDRAND=0

# What every TLS byte passes through is built for speed, the rest (handshakes, certificates) for size: AES-GCM 1.9 -> 3.4 GB/s
# (one core of a cloud VM, 2026). Without instructions for AES that is BearSSL's bit-sliced code; on amd64, where it is only
# a fallback, it stays small.
BEARSSL_FAST := symcipher/aes_x86ni% hash/ghash_pclmul ssl/ssl_rec_gcm codec/%
arm64_BEARSSL_FAST := symcipher/% hash/ghash% ssl/ssl_rec_%
