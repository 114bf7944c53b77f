# fumidai: `make` builds build/fumidai, `make check` runs everything, `make help` lists the rest.
#
# Each variant (product, unit, asan, fuzz) compiles the same sources with its own compiler and flags into
# build/<variant>/. Sources, tests and fuzz targets are found by wildcard: adding one needs no edit here.

VERSION := 0.1.0
CACHE   := .cache
Q       := $(if $(V),,@)

SHELL         := /bin/sh
MAKEFLAGS     += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

# Goals that must work before anything was fetched.
GOALS_WITHOUT_SOURCES := help clean distclean deps

include third_party/bearssl.mk
include third_party/jsmn.mk

SOURCES := $(sort $(wildcard src/*.c src/*/*.c))
LIBRARY := $(filter-out src/main.c,$(SOURCES))
TESTLIB := $(sort $(wildcard tests/lib/*.c))

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Werror
CPPFLAGS := -D_GNU_SOURCE -DFUMIDAI_VERSION='"$(VERSION)"' -Isrc -Itests -I$(BEARSSL)/inc -isystem $(JSMN)
CFLAGS   := -std=c11 $(WARNINGS) -MMD -MP

# --- variants ---------------------------------------------------------------------------------------------------

# product: what ships. Static position-independent code, hardened, no unused sections.
HARDENING        := -fPIE -fstack-protector-strong -fno-plt -fcf-protection=none
product_CC       := musl-gcc
product_FLAGS    := -O2 $(HARDENING) -ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=.
product_BEARSSL  := -Os $(HARDENING) -ffunction-sections -fdata-sections
product_FAST     := -O2

unit_CC          := gcc
unit_FLAGS       := -O1 -g
unit_BEARSSL     := -O1 -g

# Misaligned loads are BearSSL's, on purpose, where the machine allows them; so it gets only the address sanitizer.
asan_CC          := gcc
asan_FLAGS       := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
asan_BEARSSL     := -O1 -g -fno-omit-frame-pointer -fsanitize=address

fuzz_CC          := clang
fuzz_FLAGS       := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
fuzz_BEARSSL     := -O1 -g -fsanitize=address

define variant
build/$1/obj/%.o: %.c Makefile | $(JSMN)/jsmn.h
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$(CPPFLAGS) $$(CFLAGS) $$($1_FLAGS) -c $$< -o $$@

build/$1/bearssl/%.o: $(BEARSSL)/src/%.c Makefile third_party/bearssl.mk
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$(BEARSSL_FLAGS) $$($1_BEARSSL) $$(if $$(filter $$(BEARSSL_FAST),$$*),$$($1_FAST)) -c $$< -o $$@

build/$1/libfumidai.a: $(LIBRARY:%.c=build/$1/obj/%.o)
build/$1/libtest.a:    $(TESTLIB:%.c=build/$1/obj/%.o)
build/$1/libbearssl.a: $(BEARSSL_SOURCES:$(BEARSSL)/src/%.c=build/$1/bearssl/%.o)

$1_LIBS := build/$1/libfumidai.a build/$1/libbearssl.a
-include $(shell find build/$1/obj -name '*.d' 2>/dev/null)
endef
$(foreach v,product unit asan fuzz,$(eval $(call variant,$v)))

# Made anew each time, so that an object whose source is gone does not stay. D: no timestamps.
build/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcsD $@ $^

# --- the product --------------------------------------------------------------------------------------------------

# musl-gcc knows static and position-independent programs but not both at once. musl itself does: rcrt1.o relocates
# the program before main. So the start files are named here, and no interpreter is.
MUSL_LIB := /usr/lib/$(shell uname -m)-linux-musl
STATIC_PIE := -static-pie -nostartfiles $(addprefix $(MUSL_LIB)/,rcrt1.o crti.o)
STATIC_PIE_END := $(MUSL_LIB)/crtn.o
LINK_FLAGS := -Wl,-static,--no-dynamic-linker,-z,text,-z,relro,-z,now,-z,noexecstack,--gc-sections,--build-id=none

.PHONY: all
all: build/fumidai

build/product/fumidai: build/product/obj/src/main.o $(product_LIBS)
	$(Q)$(product_CC) $(HARDENING) $(LINK_FLAGS) $(STATIC_PIE) $^ $(STATIC_PIE_END) -o $@

build/fumidai: build/product/fumidai
	$(Q)strip -s -R .comment -o $@ $<

include tests/tests.mk

.PHONY: clean distclean
clean:
	rm -rf build
distclean: clean
	rm -rf .cache dist
