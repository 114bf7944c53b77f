# The image and what is released with it (image/build says what that is). Only the two programs and the commit go into it,
# so that anybody who checks out that commit can build it and compare the digest.

REVISION = $(shell git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null)
EPOCH    = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)

.PHONY: image image-check e2e-image e2e-arm64
image: build/amd64/fumidai build/arm64/fumidai
	$(Q)image/build $(VERSION) "$(REVISION)" $(EPOCH) dist

# What is in it, that it is the same each time, that Dockerfile.scratch gives the same, and that registries take it
# (docs/air-gapped.md).
image-check: image | $(call deps,go image)
	$(Q)FUMIDAI_DIST=$(abspath dist) tests/lib/run-go-tests $(abspath $(E2E_BINARY)) image -tags=image ./image/...

# The image as Fargate runs it, under runc: read-only root, no capabilities, no_new_privs, uid 65532, the task's memory and
# share of a CPU. Tests that drive the program without a task have nothing to do with it; sessions are shorter at that share.
e2e-image: image | $(call deps,go e2e image)
	$(Q)FUMIDAI_IMAGE=$(abspath dist/fumidai-$(VERSION).oci.tar) tests/lib/run-go-tests $(abspath $(E2E_BINARY)) e2e-image -short \
		-run='^Test(NeverConnected|Connected|MaxLife|SIGTERMDuring|Wrapped|Health|Definitions|TaskProtection|SessionSizes)' ./e2e

# The other platform, emulated: a task from its start to its end, health, a session with its bytes (unit-arm64 has the
# rest). qemu-user installs no seccomp filters, so this program is linked with a sandbox that does without.
build/arm64/without-filter/sandbox.o: src/host/sandbox.c build/arm64/obj/src/host/sandbox.o
	@mkdir -p $(@D)
	$(Q)$(arm64_CC) $(CPPFLAGS) $(CFLAGS) $(arm64_FLAGS) -DSANDBOX_WITHOUT_FILTER -c $< -o $@
build/arm64/without-filter/fumidai: build/arm64/obj/src/main.o build/arm64/without-filter/sandbox.o $(arm64_LIBS)
	$(Q)$(call link_product,arm64,$^,$@,$(arm64_FLAGS))

e2e-arm64: build/arm64/without-filter/fumidai | $(call deps,go e2e qemu)
	$(Q)tests/lib/emulated arm64 tests/lib/run-go-tests $(abspath $<) e2e-arm64 \
		-run='^(TestConnectedOnceAndGone|TestNeverConnected|TestSIGTERMDuringSession|TestHealth|TestTaskProtection)$$' ./e2e
