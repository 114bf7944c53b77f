# musl, from Debian's musl-dev: headers, start files and libc.a, unpacked into the cache for either architecture.
#
# This does what Debian's musl-gcc wrapper does, for three things that it does not do: link a static-pie (its specs name
# start files for dynamic programs only; musl has rcrt1.o, which relocates the program before main), use the same musl on
# every distribution, and build for the other architecture without touching the system's package architectures.

# Debian 13's, on Debian 12 too: 12's has an unmended qsort (CVE-2026-40200), and cannot apply the packed relocations below.
MUSL_VERSION := 1.2.5-3.1~deb13u1
amd64_TRIPLE := x86_64-linux
arm64_TRIPLE := aarch64-linux

# Instead of 24 bytes for each pointer in a table, which makes 14 KB. (The linker for arm64 cannot, up to binutils 2.42.)
amd64_MUSL_RELOCATIONS := ,-z,pack-relative-relocs

# $1: architecture
define musl
$1_MUSL := $(CACHE)/musl-$1
$1_GCC  := $($1_TRIPLE)-gnu-gcc

$$($1_MUSL)/unpacked: third_party/pins third_party/fetch third_party/musl.mk | $(call deps,$1)
	$$(Q)third_party/fetch musl-dev_$(MUSL_VERSION)_$1.deb $(CACHE)
	$$(Q)rm -rf $$(@D) && mkdir -p $$(@D)/kernel
	$$(Q)dpkg-deb --fsys-tarfile $(CACHE)/musl-dev_$(MUSL_VERSION)_$1.deb | \
		tar -C $$(@D) --strip-components=2 -x ./usr/include ./usr/lib
	$$(Q)third_party/link-kernel-headers $($1_TRIPLE)-gnu $$(@D)/kernel
	$$(Q)touch $$@

$1_MUSL_INCLUDES = -nostdinc -isystem $$($1_MUSL)/include/$($1_TRIPLE)-musl \
	-isystem $$(shell $$($1_GCC) -print-file-name=include) -isystem $$($1_MUSL)/kernel
$1_MUSL_LINK = -static-pie -nostdlib -Wl,-static,--no-dynamic-linker,-z,text$($1_MUSL_RELOCATIONS) \
	$$(addprefix $$($1_MUSL)/lib/$($1_TRIPLE)-musl/,rcrt1.o crti.o)
$1_MUSL_LINK_END = -Wl,--start-group -lgcc -lgcc_eh $$($1_MUSL)/lib/$($1_TRIPLE)-musl/libc.a -Wl,--end-group \
	$$($1_MUSL)/lib/$($1_TRIPLE)-musl/crtn.o
endef
$(foreach a,amd64 arm64,$(eval $(call musl,$a)))
