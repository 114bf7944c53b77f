# The real tools that end-to-end tests and the demo drive, each in a module of its own under tests/tools/, pinned by version
# and sum and built from the module registry. One that the registry refuses to serve is left out, and said to be; another
# build of it can be named by an environment variable (FUMIDAI_TOOL_ECSPRESSO_2_3_2=/path/to/ecspresso), or be in PATH.

TOOLS := $(patsubst tests/tools/%/go.mod,%,$(sort $(wildcard tests/tools/*/go.mod)))

# A refused tool is asked for again when its pins change, or after `rm build/tools/NAME.built`.
.PHONY: tools
tools: $(TOOLS:%=build/tools/%.built) build/tools/dbt.built build/tools/aws.built

build/tools/%.built: tests/tools/%/go.mod tests/tools/%/go.sum tests/tools/build | $(call deps,go)
	$(Q)tests/tools/build $* build/tools/$* && touch $@

# dbt, for the example's project, in an environment of Python's that stays when build/ goes.
build/tools/dbt.built: examples/dbt/requirements.txt tests/tools/python | $(call deps,e2e)
	$(Q)tests/tools/python $< $(CACHE)/dbt build/tools/dbt && touch $@

# The AWS CLI (of its version 1: PyPI has no other), which drives AWS's session-manager-plugin as users have it.
build/tools/aws.built: tests/tools/aws-requirements.txt tests/tools/python | $(call deps,e2e)
	$(Q)tests/tools/python $< $(CACHE)/aws build/tools/aws && touch $@
