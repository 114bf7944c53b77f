# The CA roots, from the distribution's ca-certificates, as a C file.

CA_CERTIFICATES := /usr/share/ca-certificates/mozilla
ANCHOR_PINS     := third_party/trust_anchors/pins
TRUST_ANCHORS   := build/gen/trust_anchors.c

build/gen/generate_trust_anchors: third_party/trust_anchors/generate.c build/$(NATIVE)/libbearssl.a
	@mkdir -p $(@D)
	$(Q)$($(NATIVE)_CC) $(CPPFLAGS) $(CFLAGS) -MF $@.d $($(NATIVE)_FLAGS) -c $< -o $@.o
	$(Q)$(call link_product,$(NATIVE),$@.o build/$(NATIVE)/libbearssl.a,$@)

$(TRUST_ANCHORS): build/gen/generate_trust_anchors $(ANCHOR_PINS)
	$(Q)build/gen/generate_trust_anchors $(ANCHOR_PINS) $(CA_CERTIFICATES) >$@
