# cmocka, the unit tests' framework. Tests on the machine itself use the distribution's library; this is the same, from
# Debian's source package, for unit tests that are linked as the product is: with musl, static, for either architecture.

CMOCKA      := $(CACHE)/cmocka-1.1.5
CMOCKA_ORIG := cmocka_1.1.5.orig.tar.xz
# What its cmake would find out.
CMOCKA_HAVE := $(addprefix -DHAVE_,SNPRINTF VSNPRINTF SIGNAL_H STRINGS_H INTTYPES_H MALLOC_H SIGLONGJMP STRSIGNAL \
               STRUCT_TIMESPEC CLOCK_REALTIME GCC_THREAD_LOCAL_STORAGE)

$(CMOCKA)/src/cmocka.c: third_party/pins third_party/fetch third_party/cmocka.mk | $(call deps,build)
	$(Q)third_party/fetch $(CMOCKA_ORIG) $(CACHE)
	$(Q)rm -rf $(CMOCKA) && tar -C $(CACHE) -xf $(CACHE)/$(CMOCKA_ORIG)
	$(Q)touch $@

define cmocka
build/$1/cmocka.o: $(CMOCKA)/src/cmocka.c Makefile third_party/cmocka.mk $$($1_LIBC)
	@mkdir -p $$(@D)
	$$(Q)$$($1_CC) $$($1_FLAGS) $(CMOCKA_HAVE) -D_UINTPTR_T_DEFINED -I$(CMOCKA)/include -c $$< -o $$@

# Its header knows uintptr_t of glibc only, by the macro that tells of it.
build/$1/obj/tests/%.o: CPPFLAGS += -isystem $(CMOCKA)/include -D_UINTPTR_T_DEFINED
$(patsubst %.c,build/$1/obj/%.o,$(wildcard tests/unit/*.c)): | $(CMOCKA)/src/cmocka.c
endef
$(foreach a,amd64 arm64,$(eval $(call cmocka,$a)))
