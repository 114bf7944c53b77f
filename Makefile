# fumidai: `make` builds build/fumidai, `make check` runs everything, `make help` lists the rest.
#
# Each variant (amd64, arm64: what ships; unit, asan, fuzz: for tests) compiles the same sources with its own compiler
# and flags into build/<variant>/. Sources, tests and fuzz targets are found by wildcard: adding one needs no edit here.

VERSION := 0.1.0
NATIVE  := $(shell dpkg --print-architecture)
ARCH    := $(NATIVE)
CACHE   := .cache
Q       := $(if $(V),,@)

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

# Packages are looked for once, and again when the list changes. $(call deps,GROUP...) is an order-only prerequisite. What is
# missing is installed for the goals that promise to work on a machine with git and make only, or with INSTALL=yes; for all
# others make says what is missing and stops.
export INSTALL := $(or $(INSTALL),$(if $(filter deps demo demo-tools demo-shell check,$(MAKECMDGOALS)),yes))
deps = $(1:%=$(CACHE)/deps/%)
$(CACHE)/deps/%: third_party/packages third_party/deps
	@mkdir -p $(@D)
	$(Q)third_party/deps $*
	@touch $@

# Goals that must work before anything was fetched.
GOALS_WITHOUT_SOURCES := help clean distclean deps

include third_party/bearssl.mk
include third_party/jsmn.mk
include third_party/musl.mk

SOURCES := $(sort $(wildcard src/*.c src/*/*.c))
TESTLIB := $(sort $(wildcard tests/lib/*.c))

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wformat=2
CPPFLAGS := -D_GNU_SOURCE -DFUMIDAI_VERSION='"$(VERSION)"' -Isrc -Itests -isystem $(BEARSSL)/inc -isystem $(JSMN)
# A newer compiler may warn of what today's does not: that stops `make check` and `make lint`, but nobody's build.
CFLAGS   := -std=c11 $(WARNINGS) $(if $(STRICT),-Werror) -MMD -MP

# What every tunnelled byte passes through. The product has these built for speed (and BearSSL's ciphers and hashes, see
# BEARSSL_FAST), and everything else for size: that is a fifth of it.
FAST := src/base/bytes src/channel/pool src/base/sha256 src/wire/agent_message src/wire/smux src/wire/websocket \
        src/channel/inbox

# --- variants: <name>_CC, _FLAGS for our sources, _BEARSSL for BearSSL's, _FAST on top for what is in the lists of both -

# No unwind tables: nothing here unwinds, and they are a tenth of the size.
HARDENING := -fPIE -fstack-protector-strong -fstack-clash-protection -fno-asynchronous-unwind-tables -fno-unwind-tables
SECTIONS  := -ffunction-sections -fdata-sections

# Ubuntu's gcc marks jump targets for a protection that Linux does not have for programs.
amd64_MACHINE := -fcf-protection=none

# Link-time optimisation of one partition: 14 KB. Objects carry code, too, for what reads them (`make lint`, ar).
LTO       := -flto -ffat-lto-objects -flto-partition=one
# -Oz where gcc has it (12 and later): another 3 KB. (There is a gcc: third_party/bearssl.mk sees to it before this counts.)
SMALL     := $(shell echo 'int x;' | gcc -Oz -c -x c -o /dev/null - 2>/dev/null && echo -Oz || echo -Os)

define product
$1_CC       = $$($1_GCC) $$($1_MUSL_INCLUDES) -ffile-prefix-map=$$(CURDIR)=.
$1_FLAGS   := $$(SMALL) $(HARDENING) $(SECTIONS) $(LTO) $($1_MACHINE)
$1_BEARSSL := $$($1_FLAGS)
$1_FAST    := -O2
$1_LIBC    := $$($1_MUSL)/unpacked
endef
$(foreach a,amd64 arm64,$(eval $(call product,$a)))

unit_CC      := gcc
unit_FLAGS   := -O2 -g
unit_BEARSSL := -O2 -g
unit_NEEDS   := $(call deps,unit)

# Misaligned loads are BearSSL's, on purpose, where the machine allows them: it gets only the address sanitizer.
# -Wno-conversion: gcc warns of the sanitizer's own conversions around a shift; every other variant has that warning.
asan_CC      := gcc
asan_FLAGS   := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
                -Wno-conversion -Wno-sign-conversion
asan_BEARSSL := -O1 -g -fno-omit-frame-pointer -fsanitize=address
asan_NEEDS   := $(call deps,unit)

fuzz_CC      := clang
fuzz_FLAGS   := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
fuzz_BEARSSL := -O1 -g -fsanitize=address
fuzz_NEEDS   := $(call deps,fuzz)

include third_party/trust_anchors.mk
include third_party/cmocka.mk

define variant
build/$1/obj/%.o: %.c Makefile $$($1_LIBC) | $(JSMN)/jsmn.h $$($1_NEEDS)
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$(CPPFLAGS) $$(CFLAGS) $$($1_FLAGS) $$(if $$(filter $$(FAST),$$*),$$($1_FAST)) -c $$< -o $$@ 2>$$@.warnings; \
		status=$$$$?; cat $$@.warnings >&2; exit $$$$status

build/$1/bearssl/%.o: $(BEARSSL)/src/%.c Makefile third_party/bearssl.mk $$($1_LIBC) | $$($1_NEEDS)
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$(BEARSSL_FLAGS) $$($1_BEARSSL) $$(if $$(filter $$(BEARSSL_FAST) $$($1_BEARSSL_FAST),$$*),$$($1_FAST)) -c $$< -o $$@

# Everything but main, so that tests can link it.
build/$1/libfumidai.a: $(patsubst %.c,build/$1/obj/%.o,$(filter-out src/main.c,$(SOURCES)) $(TRUST_ANCHORS))
build/$1/libbearssl.a: $(BEARSSL_SOURCES:$(BEARSSL)/src/%.c=build/$1/bearssl/%.o)
build/$1/libtest.a:    $(TESTLIB:%.c=build/$1/obj/%.o)
$1_LIBS := build/$1/libfumidai.a build/$1/libbearssl.a

-include $(shell find build/$1/obj -name '*.d' 2>/dev/null)
endef
$(foreach v,amd64 arm64 unit asan fuzz,$(eval $(call variant,$v)))

# Made anew each time, so that an object whose source is gone does not stay. D: without times and users.
build/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcsD $@ $^

# --- the product --------------------------------------------------------------------------------------------------------

# A symbol is bound before main and read-only after it, no page is both writable and executable, what nothing calls is
# left out. No build id: it would hash what `strip` throws away.
LINK_FLAGS := -Wl,-z,relro,-z,now,-z,noexecstack,-z,noseparate-code,--gc-sections,--build-id=none,--hash-style=gnu

# Relocations as a bit a pointer (RELR) instead of 24 bytes: 15 KB. For arm64 the linker learns it with binutils 2.44.
amd64_LINK_FLAGS := -Wl,-z,pack-relative-relocs

# $(call link_product,ARCHITECTURE,OBJECTS,OUTPUT,FLAGS)
link_product = $($1_GCC) $4 $(LINK_FLAGS) $($1_LINK_FLAGS) $($1_MUSL_LINK) $2 $($1_MUSL_LINK_END) -o $3

define product_program
build/$1/fumidai.full: build/$1/obj/src/main.o $$($1_LIBS)
	$$(Q)$$(call link_product,$1,$$^,$$@,$$($1_FLAGS)) -Wl,-Map=$$@.map

build/$1/fumidai: build/$1/fumidai.full
	$$(Q)$$($1_TRIPLE)-gnu-strip --strip-all --remove-section=.comment -o $$@ $$<
endef
$(foreach a,amd64 arm64,$(eval $(call product_program,$a)))

build/fumidai: build/$(NATIVE)/fumidai
	$(Q)cp $< $@.new && mv -f $@.new $@ # a program that runs is not written over

.PHONY: all
all: $(if $(filter $(NATIVE),$(ARCH)),build/fumidai,build/$(ARCH)/fumidai)

include tests/tests.mk
include image/image.mk
include tests/tools/tools.mk

.PHONY: clean distclean
clean:
	rm -rf build
distclean: clean
	rm -rf .cache dist

# Groups of third_party/packages: all but what only the image, arm64 and measurements need, which WITH= adds.
DEPS := build native unit lint fuzz e2e go

# The program, and the name under which the AWS CLI looks for it. AWS's plugin, if it is there, keeps serving shells.
PREFIX  := /usr/local
DESTDIR :=
BIN      = $(DESTDIR)$(PREFIX)/bin
PLUGIN   = $(BIN)/session-manager-plugin

.PHONY: install
install: build/fumidai
	install -d $(BIN)
	install -m 755 $< $(BIN)/fumidai
	@if [ -e $(PLUGIN) ] && ! [ $(PLUGIN) -ef $(BIN)/fumidai ]; then mv -v $(PLUGIN) $(PLUGIN).real; fi
	ln -sfn fumidai $(PLUGIN)

.PHONY: deps build help
deps: $(call deps,$(DEPS) $(WITH))
	$(Q)third_party/go >/dev/null

build: all

help:
	@echo "make            build/fumidai: the program, static, stripped"
	@echo "make ARCH=arm64 build/arm64/fumidai, from any machine (amd64 likewise)"
	@echo "make install    fumidai and session-manager-plugin in $(PREFIX)/bin; PREFIX and DESTDIR as usual"
	@echo "make demo       a whole run against an emulator of AWS: deploy, forward, query, shut down; demo-tools the same"
	@echo "                with separate tools, demo-shell leaves a shell in it"
	@echo "make unit       unit tests; T=json runs those of one module and shows each"
	@echo "make unit-product  the same, linked with musl as the program is; unit-arm64 under qemu"
	@echo "make sim        the whole stack over a simulated network and clock"
	@echo "make tools      the real tools that e2e and demo use, from the module registry"
	@echo "make e2e        the program against the emulator (some need root); e2e-asan with sanitizers"
	@echo "make asan       unit and sim with address and undefined-behaviour sanitizers"
	@echo "make fuzz       every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) each; T=json runs one"
	@echo "make lint       gcc, clang, clang-tidy, cppcheck, clang-format; layers, documents, policies, workflows"
	@echo "make image      dist/: the image for both platforms, its bill of materials, sums; image-check tests them"
	@echo "make soak       half an hour of sessions under faults"
	@echo "make e2e-image  end-to-end tests of the image under runc, as Fargate runs it"
	@echo "make e2e-arm64  some of the end-to-end tests with the program for arm64, emulated"
	@echo "make size       size, largest symbols, and whether the program is hardened"
	@echo "make repro      whether two builds in two directories have the same bytes"
	@echo "make bench      measurements"
	@echo "make check      all of these; this is what CI runs"
	@echo "make deps       install the packages that building and testing need (WITH=\"image qemu bench\" for these, too);"
	@echo "                demo and check do so by themselves, other targets only say what is missing"
	@echo "make clean      remove build/; distclean removes the downloads too. V=1 shows commands"
