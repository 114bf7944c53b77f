# jsmn: one header, from Debian's libjsmn-dev.

JSMN     := $(CACHE)/jsmn
JSMN_DEB := libjsmn-dev_1.1.0-2_all.deb

$(JSMN)/jsmn.h: third_party/pins third_party/fetch third_party/jsmn.mk | $(call deps,build)
	$(Q)third_party/fetch $(JSMN_DEB) $(CACHE)
	$(Q)rm -rf $(JSMN) && mkdir -p $(JSMN)
	$(Q)dpkg-deb --fsys-tarfile $(CACHE)/$(JSMN_DEB) | tar -C $(JSMN) --strip-components=3 -x ./usr/include
	$(Q)touch $@
