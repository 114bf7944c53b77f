# The test steps. Each ends its output with a line "N passed, N failed, N skipped", and fails when something failed.

# --- unit, sim: cmocka programs, one per file; T=name picks one -----------------------------------------------------------
#
# unit: tests/unit/test_<name>.c. sim: tests/sim/<name>.c, with what they share in tests/sim/lib/. Every program is linked
# with what it needs of src/ (all but main.c) and tests/lib/.

UNIT_SOURCES := $(sort $(wildcard tests/unit/test_$(or $(T),*).c))
SIM_SOURCES  := $(sort $(wildcard tests/sim/$(or $(T),*).c))
SIM_LIBRARY  := $(sort $(wildcard tests/sim/lib/*.c))

define test_programs
$1_UNIT := $(UNIT_SOURCES:%.c=build/$1/%)
$1_SIM  := $(SIM_SOURCES:%.c=build/$1/%)

build/$1/libsim.a: $(SIM_LIBRARY:%.c=build/$1/obj/%.o)
build/$1/tests/unit/%: build/$1/obj/tests/unit/%.o build/$1/libtest.a $$($1_LIBS)
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$($1_FLAGS) $$^ -lcmocka -o $$@
build/$1/tests/sim/%: build/$1/obj/tests/sim/%.o build/$1/libsim.a build/$1/libtest.a $$($1_LIBS)
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$($1_FLAGS) $$^ -lcmocka -lm -o $$@
endef
$(foreach v,unit asan,$(eval $(call test_programs,$v)))

# The unit tests once more as the product is built (compiler, flags, musl), for ARCH: under qemu when that is not this
# machine's. What differs from the glibc build is found here.
UNIT_PRODUCT := $(UNIT_SOURCES:%.c=build/$(ARCH)/%)

build/$(ARCH)/tests/unit/%: build/$(ARCH)/obj/tests/unit/%.o build/$(ARCH)/libtest.a $($(ARCH)_LIBS) build/$(ARCH)/cmocka.o
	@mkdir -p $(@D)
	$(Q)$(call link_product,$(ARCH),$^,$@)

.PHONY: unit-product unit-arm64
unit-product: $(UNIT_PRODUCT) | $(if $(filter $(NATIVE),$(ARCH)),,$(call deps,qemu))
	$(Q)tests/lib/emulated $(ARCH) tests/lib/run-programs $(if $(T),--verbose) $^

unit-arm64:
	$(Q)$(MAKE) --no-print-directory unit-product ARCH=arm64

.PHONY: unit sim asan
unit: $(unit_UNIT)
	$(Q)tests/lib/run-programs $(if $(T),--verbose) $^

sim: $(unit_SIM)
	$(Q)tests/lib/run-programs $(if $(T),--verbose) $^

# The same programs with address and undefined-behaviour sanitizers, and the program itself for the end-to-end tests
# (`make e2e-asan`).
asan: $(asan_UNIT) $(asan_SIM) build/asan/fumidai
	$(Q)tests/lib/run-programs $(if $(T),--verbose) $(filter-out build/asan/fumidai,$^)

build/asan/fumidai: build/asan/obj/src/main.o $(asan_LIBS)
	$(Q)$(asan_CC) $(asan_FLAGS) $^ -o $@

# --- fuzz: libFuzzer targets tests/fuzz/fuzz_<name>.c, each for FUZZ_SECONDS; T=name picks one -----------------------------

FUZZ_SECONDS := 5
FUZZ_TARGETS := $(patsubst %.c,build/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_$(or $(T),*).c)))

build/fuzz/tests/fuzz/%: build/fuzz/obj/tests/fuzz/%.o build/fuzz/libtest.a $(fuzz_LIBS)
	@mkdir -p $(@D)
	$(Q)$(fuzz_CC) $(subst fuzzer-no-link,fuzzer,$(fuzz_FLAGS)) $^ -o $@

.PHONY: fuzz
fuzz: $(FUZZ_TARGETS)
	$(Q)tests/fuzz/run $(FUZZ_SECONDS) $^

# --- e2e: Go, the real binary against the emulator ------------------------------------------------------------------------

E2E_BINARY := build/fumidai

# The image for the registry that ecspresso verifies it in.
.PHONY: e2e e2e-asan
e2e: $(E2E_BINARY) tools image build/unit/tests/credentials/fetch | $(call deps,go e2e)
	$(Q)tests/lib/run-go-tests $(abspath $(E2E_BINARY))

# tests/credentials only: what a client makes of an environment and AWS's shared files, beside AWS's SDK for Go.
.PHONY: credentials
credentials: build/unit/tests/credentials/fetch | $(call deps,go)
	$(Q)tests/lib/run-go-tests none credentials ./credentials
build/unit/tests/credentials/fetch: build/unit/obj/tests/credentials/fetch/fetch.o $(unit_LIBS)
	@mkdir -p $(@D)
	$(Q)$(unit_CC) $(unit_FLAGS) $^ -o $@

# Half an hour of everything that can go wrong, instead of the minute that `make e2e` takes of it.
.PHONY: soak
soak: export SOAK_SECONDS ?= 1800
soak: $(E2E_BINARY) | $(call deps,go e2e)
	$(Q)cd tests && FUMIDAI_BINARY=$(abspath $(E2E_BINARY)) $$(../third_party/go) test ./e2e/ -count=1 -timeout 60m -run TestSessionSoak -v

e2e-asan:
	$(Q)$(MAKE) --no-print-directory e2e E2E_BINARY=build/asan/fumidai

# --- demo: all of it, on this machine, to look at -----------------------------------------------------------------------------

DEMO_TOOLS := ecspresso-2.3.2 ecsta-0.8.2 session-manager-plugin
DEMO       := build/fumidai $(DEMO_TOOLS:%=build/tools/%.built) | $(call deps,go e2e)
# Where a tool is not to be had, a stand-in is built, for which Go has to be in PATH.
run_demo    = go=$$(third_party/go) && cd tests && PATH="$$(dirname "$$go"):$$PATH" "$$go" run ./demo $1 $(abspath build/fumidai)

.PHONY: demo demo-tools demo-shell
demo: $(DEMO)
	$(Q)$(call run_demo,$(if $(RECORD),--record $(abspath $(RECORD))))
demo-tools: $(DEMO)
	$(Q)$(call run_demo,--tools)
demo-shell: $(DEMO)
	$(Q)$(call run_demo,--shell)

# --- size, repro, lint ----------------------------------------------------------------------------------------------------

# With the client in it.
SIZE_GOAL := 393216
SIZE_MAX  := 491520

.PHONY: size repro lint
size: build/$(ARCH)/fumidai
	$(Q)tests/lint/size $< $(SIZE_GOAL) $(SIZE_MAX) $($(ARCH)_TRIPLE)-gnu-

repro: $(CACHE)/bearssl.mk $(JSMN)/jsmn.h $($(NATIVE)_MUSL)/unpacked
	$(Q)tests/lint/repro $(CACHE)

# Everything in C that is ours. An object of the unit variant stands for "this file or a header of it changed", and what
# gcc said of it is in a file beside it; the checks below leave a stamp each.
LINT_SOURCES := $(SOURCES) third_party/trust_anchors/generate.c $(sort $(wildcard tests/*/*.c tests/*/*/*.c))
LINT_HEADERS := $(sort $(wildcard src/*.h src/*/*.h tests/*/*.h tests/*/*/*.h))
LINT_FLAGS    = $(CPPFLAGS) $(filter-out -MMD -MP,$(CFLAGS))

build/lint/%.clang: build/unit/obj/%.o | $(call deps,lint)
	@mkdir -p $(@D)
	$(Q)clang $(LINT_FLAGS) -Werror -fsyntax-only $*.c && touch $@
# Nearly all of clang-tidy's time goes into following the paths of each function, until there are so many nodes. Its own limit is
# 225000, which takes three times as long and found nothing more: `make lint-tidy TIDY_NODES=225000` is that.
TIDY_NODES := 60000
TIDY_FLAGS  = $(addprefix --extra-arg=-Xclang --extra-arg=,-analyzer-config max-nodes=$(TIDY_NODES))

build/lint/%.tidy: build/unit/obj/%.o .clang-tidy | build/compile_commands.json $(call deps,lint)
	@mkdir -p $(@D)
	$(Q)$(CLANG_TIDY) --quiet -p build $(TIDY_FLAGS) $*.c 2>build/lint/$*.log || { cat build/lint/$*.log; false; }
	@touch $@

# How each file is compiled, with the same flags for all: for clang-tidy, and for editors (clangd looks into build/).
build/compile_commands.json: FORCE
	@mkdir -p $(@D)
	$(Q)tests/lib/compile-commands "$(CURDIR)" "clang $(subst ",\",$(LINT_FLAGS))" $(LINT_SOURCES) >$@


# Its checks change from version to version; .clang-tidy is written for 14, and other versions are not asked.
CLANG_TIDY = $(shell command -v clang-tidy-14 clang-tidy | head -n 1)

.PHONY: FORCE lint lint-gcc lint-clang lint-tidy lint-cppcheck lint-format compile-commands
compile-commands: build/compile_commands.json
lint-gcc: $(LINT_SOURCES:%.c=build/unit/obj/%.o)
	$(Q)cat $(^:%=%.warnings); for file in $(^:%=%.warnings); do ! test -s "$$file" || exit 1; done
lint-clang: $(LINT_SOURCES:%.c=build/lint/%.clang)
lint-tidy: $(LINT_SOURCES:%.c=build/lint/%.tidy)
lint-cppcheck: | $(call deps,lint)
	@mkdir -p build/lint/cppcheck
	$(Q)cppcheck --quiet --std=c11 --enable=warning,performance,portability --error-exitcode=1 --suppressions-list=tests/lint/cppcheck-suppressions \
		--cppcheck-build-dir=build/lint/cppcheck -Isrc -Itests -D_GNU_SOURCE -D__x86_64__ -DFUMIDAI_VERSION='""' $(LINT_SOURCES)
lint-format: | $(call deps,lint)
	$(Q)tests/lint/format $(LINT_SOURCES) $(LINT_HEADERS)

lint: build/fumidai build/$(NATIVE)/fumidai build/tools/actionlint.built $(SOURCES:%.c=build/$(NATIVE)/obj/%.o) | $(call deps,lint)
	$(Q)MAKE="$(MAKE)" tests/lint/run build/$(NATIVE)

# --- bench, check ---------------------------------------------------------------------------------------------------------

# Microbenchmarks bench/<name>.c, built as the product is.
build/$(ARCH)/bench/%: build/$(ARCH)/obj/bench/%.o $($(ARCH)_LIBS)
	@mkdir -p $(@D)
	$(Q)$(call link_product,$(ARCH),$^,$@)

MICROBENCHMARKS := $(patsubst %.c,build/$(NATIVE)/%,$(sort $(wildcard bench/*.c)))

.PHONY: bench check
bench: build/fumidai build/tools/session-manager-plugin.built $(MICROBENCHMARKS) | $(call deps,go e2e bench)
	$(Q)bench/run build/fumidai build/$(NATIVE)/fumidai.full $(MICROBENCHMARKS)

CHECKS := deps build size lint unit unit-product unit-arm64 sim fuzz asan repro e2e e2e-arm64 e2e-image image-check

check:
	$(Q)MAKE="$(MAKE)" STRICT=yes tests/check $(CHECKS)
