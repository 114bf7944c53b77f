# The real tools that end-to-end tests drive, each in a module of its own under tests/tools/, pinned by version and sum and
# built from the module registry. Another build of a tool, or one the registry does not serve (ecspresso,
# redshift-credentials), is named to the tests by an environment variable: FUMIDAI_TOOL_ECSPRESSO=/path/to/ecspresso.

TOOLS := $(patsubst tests/tools/%/go.mod,%,$(sort $(wildcard tests/tools/*/go.mod)))

.PHONY: tools
tools: $(TOOLS:%=build/tools/%)

build/tools/%: tests/tools/%/go.mod tests/tools/%/go.sum | $(call deps,go)
	@echo "  GO      $@"
	@go=$$(third_party/go) && cd tests/tools/$* && "$$go" build -trimpath -o $(CURDIR)/$@ tool
