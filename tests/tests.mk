# The test steps. Each ends its output with a line "N passed, N failed, N skipped".

TESTS_RUN := tests/lib/run-programs

# --- unit: a program per module, all of them or `make unit T=json` -----------------------------------------------

UNIT_TESTS := $(patsubst tests/unit/%.c,%,$(sort $(wildcard $(if $(T),tests/unit/test_$(T).c,tests/unit/test_*.c))))

define unit_programs
build/$1/test_%: build/$1/obj/tests/unit/test_%.o build/$1/libtest.a $$($1_LIBS)
	$$(Q)$$($1_CC) $$($1_FLAGS) $$^ -lcmocka -o $$@
endef
$(foreach v,unit asan,$(eval $(call unit_programs,$v)))

.PHONY: unit
unit: $(UNIT_TESTS:%=build/unit/%)
	$(Q)$(TESTS_RUN) $(if $(T),--verbose) $^
